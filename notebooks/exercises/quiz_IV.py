"""The questions at the end of part IV, *Compose* (notebook 10)."""

from __future__ import annotations

from exercises.check import quiz

closure = quiz(
    "IV.1",
    "Why can a fusion hold a router, the router a reranked list, and that one another fusion?",
    {
        "a": "each of them is a retriever: it takes a query and k, and returns hits, best first",
        "b": "they share one index",
        "c": "the router knows all the others by name",
        "d": "they are called in the order in which they were made",
    },
    right="a",
    why={
        "a": "One small contract, and everything that keeps it can be nested and compared.",
        "b": "each may have an index of its own, and a collection usually does.",
        "c": "a router knows only its routes, and does not ask what they are made of.",
        "d": "the outer one calls the inner ones, whenever they were made.",
    },
)

wrong_route = quiz(
    "IV.2",
    "A router sends a question to the wrong collection. What do you see?",
    {
        "a": "an exception",
        "b": "an empty list",
        "c": "a full list of hits, none of which can answer",
        "d": "hits of all collections",
    },
    right="c",
    why={
        "a": "nothing fails: the collection is searched as always.",
        "b": "the wrong collection has nearest passages, too.",
        "c": "A wrong route is silent. So a router has to be measured before it is trusted.",
        "d": "only the chosen collection is searched. Searching all of them is the fallback.",
    },
)

asymmetric = quiz(
    "IV.3",
    "A router is right for 95 of 100 questions. Is the pipeline better with it?",
    {
        "a": "yes, 95 is far more than 5",
        "b": "it depends on what a right route gains and what a wrong one loses",
        "c": "yes, because a smaller collection is searched faster",
        "d": "no, a router must be right always",
    },
    right="b",
    why={
        "a": "count the gains, not the questions: 95 small gains can be less than 5 answers that are lost.",
        "b": "Accuracy is not benefit. Multiply each share by what it is worth, or measure the whole with compare.",
        "c": "faster, perhaps; but the 5 lost answers have to be paid for by something.",
        "d": "it need not be. Unsure questions can go to a fallback that searches everything.",
    },
)

several = quiz(
    "IV.4",
    "A question needs one passage from each of two projects. Why do sub-questions help?",
    {
        "a": "two searches are faster than one",
        "b": "the language model understands short questions better",
        "c": "duplicates are removed",
        "d": "in one list, passages with a little of both crowd out those that answer one half well",
    },
    right="d",
    why={
        "a": "they take longer. What do they find that one search does not?",
        "b": "the language model has not been asked yet. Think of the ranking.",
        "c": "that is done, too, but it is not what brings the second passage up.",
        "d": "Each half gets a search of its own. The price is more searches for every such question.",
    },
)

worth = quiz(
    "IV.5",
    "Modular has a slightly higher mean than advanced: *no detectable difference*, and more time. What do you ship?",
    {
        "a": "modular, its mean is higher",
        "b": "advanced, until your own questions show a difference",
        "c": "both, and let users choose",
        "d": "modular, because it can be extended",
    },
    right="b",
    why={
        "a": "with other questions the means might change places: that is what the verdict says.",
        "b": "Start simple. Each part has to be built, kept up to date, and watched, and has to earn that.",
        "c": "users see answers, not architectures, and you would have two of them to run.",
        "d": "so can the other: it is made of the same retrievers, and a router can be added when it is needed.",
    },
)
