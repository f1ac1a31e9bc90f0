"""The exercises of ``03_measure_it``."""

from __future__ import annotations

from exercises.check import exercise
from ragkit.evaluation.compare import Comparison


@exercise(
    "03.1",
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
