"""The exercises of ``13_feedback``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from exercises.check import check_number, exercise
from ragkit.evaluation.compare import Comparison

FEW = 20  # questions, below which a verdict is not worth asking for


@exercise(
    "13.1",
    expects=Comparison,
    hint='compare({"now": now.retriever, "yours": your_retriever}, others, same_budget=2000)',
    praise="Its verdict is about all users. The tests that your fix passes are about those who complained.",
)
def your_fix(answer: Comparison) -> str | None:
    others = set(answer.systems) - {answer.baseline}
    if not others:
        return "there is only one system. Compare your fix with `now.retriever`."
    if others <= {"pinned", "advanced"}:
        return "these are the fixes of the lesson. Change something yourself, and give it a name of its own."
    if answer.budget is None:
        return "you compared ten results of each. Give both systems the same tokens: same_budget=2000."
    if any("return JSON" in question.text for question in answer.questions):
        return "flagged questions are among yours, and the fix is for those. Take the others alone."
    if len(answer.questions) < FEW:
        return f"{len(answer.questions)} questions show very little. Take all of `others`."
    return None


@exercise(
    "13.2",
    expects=FunctionType,
    hint="How many readers stand for the thumbs up, if a share rate_up of them uses a thumb? And for the thumbs down?",
    praise="Each thumb stands for 1 / rate readers. It needs the rates, which the thumbs themselves do not show.",
)
def content_share(answer: Callable[[float, float, float, float], Any]) -> str | None:
    found = answer(4, 10, 0.05, 0.5)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    return check_number(
        float(found),
        0.8,
        [
            (4 / 14, "this is the share of the thumbs, without the rates."),
            (0.2, "this is the share of those who are not content."),
            (0.2 / 5.2, "if 5 % use a thumb, each stands for 20 readers: divide by the rate of its own group."),
            (80, "80 readers are content. Which share is that of all?"),
            (4, "80 against 20 is a ratio. The share is 80 of all 100."),
        ],
        f"4 thumbs up of 5 % of those who are content, 10 down of half of the others: you return {float(found):.3f}.",
        tolerance=1e-6,
    )
