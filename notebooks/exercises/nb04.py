"""The exercises of ``04_chunk_size_lab``."""

from __future__ import annotations

from collections.abc import Sequence

from exercises.check import exercise
from ragkit.base import Chunk, Retriever
from ragkit.evaluation.compare import Comparison


@exercise(
    "04.1",
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
