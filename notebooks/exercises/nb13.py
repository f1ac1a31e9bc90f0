"""The exercises of ``13_feedback``."""

from __future__ import annotations

from exercises.check import exercise
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
