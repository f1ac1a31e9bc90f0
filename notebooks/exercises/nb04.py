"""The exercises of ``04_chunk_size_lab``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType

from exercises.check import exercise
from ragkit.base import Chunk, Retriever
from ragkit.evaluation.compare import Comparison

Sentences = list[tuple[str, int]]
SENTENCES: Sentences = [("A.", 6), ("B.", 3), ("C.", 7), ("D.", 3), ("E.", 9), ("F.", 4)]
PACKED = [["A.", "B."], ["C.", "D."], ["E."], ["F."]]  # in 10 tokens


@exercise(
    "04.1",
    expects=FunctionType,
    hint="Keep a list and its number of tokens. Where the next sentence does not fit, begin a new list.",
    praise="This is a sentence chunker. ragkit's also counts overlap, in whole sentences.",
)
def pack(answer: Callable[[Sentences, int], object]) -> str | None:
    chunks = answer(SENTENCES, 10)
    if chunks is ...:
        return "your function still returns `...`: put your own lines there."
    if not isinstance(chunks, Sequence) or not all(isinstance(chunk, list) for chunk in chunks):
        return f"expected a list of lists of texts, such as {PACKED}, and got {chunks!r}."
    texts = [text for chunk in chunks for text in chunk]
    if not all(isinstance(text, str) for text in texts):
        return "the inner lists hold the texts alone, without their tokens."
    if [] in chunks:
        return "one of your chunks is empty: begin a new one only if the last one has a sentence."
    if texts != [text for text, _ in SENTENCES]:
        missing = [text for text, _ in SENTENCES if text not in texts]
        return f"the sentences {missing} are in no chunk." if missing else "some sentences come twice, or out of order."
    tokens = dict(SENTENCES)
    counts = [sum(tokens[text] for text in chunk) for chunk in chunks]
    if max(counts) > 10:
        return f"your chunks have {counts} tokens, and at most 10 are allowed: look before you add a sentence."
    if len(chunks) > len(PACKED):
        return f"your chunks have {counts} tokens: some of them have room for the next sentence, also for 10 of 10."
    if answer([("A.", 12), ("B.", 3)], 10) != [["A."], ["B."]]:
        return "a sentence of more than 10 tokens is a chunk of its own, and no text may be lost."
    return None if answer([], 10) == [] else "a page without sentences has no chunks."


@exercise(
    "04.2",
    expects=Comparison,
    hint="Build both systems from the same line of code, change one word in the second, and give same_budget=2000.",
    praise="A fair experiment: one thing was changed, and both sides read as many tokens. The verdict is about that.",
)
def fair(answer: Comparison) -> str | None:
    systems = list(answer.systems.values())
    if len(systems) < 2:
        return "there is one system. A comparison needs a second one to compare it with."
    if answer.budget is None:
        return f"each system gives its best {answer.k} results, so long chunks read more. Give same_budget=2000."
    cuts, ways = [_cut(system) for system in systems], [_way(system) for system in systems]
    for name, cut, way in list(zip(answer.systems, cuts, ways, strict=True))[1:]:
        if cut == cuts[0] and way == ways[0]:
            return f"{name!r} has the same chunks as the first system, and the same search: nothing was changed."
        if cut != cuts[0] and way != ways[0]:
            return f"{name!r} has other chunks and another search: two things changed. Which one made the difference?"
    return None


def _cut(system: Retriever) -> frozenset[tuple[str, int, int]]:
    """What distinguishes the chunks of ``system``."""
    chunks: Sequence[Chunk] = getattr(system, "chunks", ())
    return frozenset((chunk.doc_id, chunk.start, chunk.end) for chunk in chunks)


def _way(system: Retriever) -> tuple[object, ...]:
    """What distinguishes how ``system`` searches."""
    return (type(system), *(getattr(system, name, None) for name in ("scoring", "contextual", "window", "variant")))
