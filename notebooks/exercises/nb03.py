"""The exercises of ``03_measure_it``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from exercises.check import exercise
from ragkit.base import Span
from ragkit.evaluation.compare import Comparison


@exercise(
    "03.1",
    expects=FunctionType,
    hint="len(chunk) and len(gold) are lengths in characters, chunk.overlap(gold) is what they have in common.",
    praise="At least half of the shorter one. This one line decides every rank in the course.",
)
def rule(answer: Callable[[Span, Span], Any]) -> str | None:
    gold = Span("guide", 100, 200)
    for chunk, expected, problem in (
        (gold, True, "the chunk is exactly the gold, and you say that it is no answer."),
        (
            Span("news", 100, 200),
            False,
            "these characters stand in another document, so they are another text. Span.overlap compares documents.",
        ),
        (Span("guide", 300, 400), False, "a chunk that does not touch the gold cannot answer."),
        (Span("guide", 190, 290), False, "10 of 100 characters in common is less than half: touching is not enough."),
        (
            Span("guide", 120, 140),
            True,
            "a chunk of 20 characters lies inside the gold. The shorter of the two is the chunk, so its length counts.",
        ),
        (
            Span("guide", 0, 1000),
            True,
            "a long chunk holds the whole gold. The shorter of the two is the gold, so its length counts.",
        ),
        (Span("guide", 150, 250), True, "50 of 100 characters is exactly half, and the rule says *at least* half."),
    ):
        found = answer(chunk, gold)
        if found is ...:
            return "your function still returns `...`: put your own expression there."
        if not isinstance(found, bool):
            return f"you returned {found!r}. The question is yes or no: return True or False."
        if found != expected:
            return f"chunk [{chunk.start}, {chunk.end}) of {chunk.doc_id!r}, gold [100, 200) of 'guide': {problem}"
    return None


@exercise(
    "03.2",
    expects=Comparison,
    hint="compare({'bm25': bm25, 'changed': ...}, questions, same_budget=2_000)",
    praise="One change, the same text for both, and a verdict. Note it down, also if it is not the one you hoped for.",
)
def one_change(answer: Comparison) -> str | None:
    if len(answer.systems) != 2:
        return f"you compared {len(answer.systems)} systems. Take two: what you have, and one change to it."
    if answer.budget is None:
        return f"the systems returned {answer.k} results each, and these can hold more text in one of them."
    one, other = (answer.per_question.xs(name, level="system") for name in answer.systems)
    if one[answer.metric].equals(other[answer.metric]):
        return "both systems have the same score for each question: your change changed nothing. Try a larger one."
    return None
