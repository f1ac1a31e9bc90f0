"""The questions at the end of part I, *Understand* (notebooks 00 to 03)."""

from __future__ import annotations

from exercises.check import quiz

silence = quiz(
    "I.1",
    "You ask the documentation of three Python tools how to roast coffee. What does the retrieval step return?",
    {
        "a": "nothing, because no passage is about coffee",
        "b": "the nearest passages, however far away they are",
        "c": "an error, which the generator turns into *not found*",
        "d": "passages drawn at random",
    },
    right="b",
    why={
        "a": "a search for the k nearest passages has no idea of *too far*: there are always k nearest ones.",
        "b": "Near is always relative. To be silent, a later step must see that the nearest is not near enough.",
        "c": "nothing failed. The search did what it always does, and returned k passages.",
        "d": "they are in order of their scores; only the scores are low.",
    },
)

missed = quiz(
    "I.2",
    "The passage that answers is in the corpus, but not among the ten that were retrieved. What helps?",
    {
        "a": "a larger language model",
        "b": "a prompt that asks for more care",
        "c": "a better search, or better chunks",
        "d": "a lower temperature",
    },
    right="c",
    why={
        "a": "a larger model reads the same ten passages. It may know the answer by heart, but cannot cite it.",
        "b": "a careful reader of the wrong passages can at best say that the answer is not there.",
        "c": "What is not retrieved can be neither quoted nor cited. First find out at which step an answer was lost.",
        "d": "the temperature changes how the model chooses words, and not what it gets to read.",
    },
)

truncation = quiz(
    "I.3",
    "A model reads 256 tokens. A wrapper gives it chunks of 512 tokens and raises no error. What happens?",
    {
        "a": "the vector stands for the first half of the chunk, and the rest cannot be found by it",
        "b": "the wrapper makes two vectors of the chunk",
        "c": "the chunk gets a vector of zeros",
        "d": "the model reads every second token",
    },
    right="a",
    why={
        "a": "Text is cut off without a word. Compare your chunk size with what your model reads before anything else.",
        "b": "that would be a good idea, but such a wrapper returns one vector for each text.",
        "c": "the vector looks like any other. That is why nobody notices.",
        "d": "a model reads from the beginning up to its limit; it leaves nothing out in between.",
    },
)

spans = quiz(
    "I.4",
    "Why is the right answer to a question stored as a span of characters, and not as the id of a chunk?",
    {
        "a": "spans take less room",
        "b": "an id does not say which document it is from",
        "c": "spans can be compared faster",
        "d": "with another chunk size the ids change, and the span does not",
    },
    right="d",
    why={
        "a": "the room that labels take does not matter. Think of what you want to change next.",
        "b": "an id may well hold the document. But what happens to it when you cut differently?",
        "c": "comparing two ids is the faster of the two. Speed is not the reason.",
        "d": "Labels must survive the change that they are to judge.",
    },
)

verdict = quiz(
    "I.5",
    "compare says *no detectable difference* between two systems. What do you know?",
    {
        "a": "the systems are equally good",
        "b": "if there is a difference, these questions are too few to show it",
        "c": "the questions were badly chosen, and the comparison is void",
        "d": "the system with the higher mean is probably the better one, so take it",
    },
    right="b",
    why={
        "a": "not to see a difference is not to see that there is none. Look at the interval.",
        "b": "The interval says how large it may be. For now, choose by something else: cost, or speed.",
        "c": "they may be good questions. There are too few of them for a difference as small as this one.",
        "d": "one mean is always the higher one, also when luck alone decides. That is what the verdict is about.",
    },
)
