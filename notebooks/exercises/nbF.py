"""The exercise of ``F_statistics``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from exercises.check import exercise


@exercise(
    "F.1",
    expects=FunctionType,
    hint="Half the difference takes four times the questions: questions * (detectable / wanted) ** 2, rounded up.",
    praise="Ask this before you label, not after: for a small gain the answer is often *more than we have*.",
)
def needed(answer: Callable[[float, int, float], Any]) -> str | None:
    found = answer(0.07, 360, 0.035)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    if isinstance(found, bool) or not isinstance(found, int | float):
        return f"you returned {found!r}: expected a number of questions."
    for value, mistake in (
        (720, "half the difference with twice as many questions: the error shrinks with the *root* of their number."),
        (180, "fewer questions for a smaller difference: you have divided where you should multiply."),
        (90, "fewer questions for a smaller difference: put `detectable` above `wanted`."),
        (509, "you have multiplied by the root of the ratio. It is its square."),
        (510, "you have multiplied by the root of the ratio. It is its square."),
        (4, "that is how many *times* as many. Multiply by the questions that you have."),
    ):
        if abs(found - value) < 1:
            return mistake
    if abs(found - 1440) > 1:
        return f"360 questions detect .07; for .035 you return {found:g}, expected 1440."
    found = answer(0.05, 100, 0.03)
    if abs(found - round(found)) > 1e-9:
        return f"{found:.1f} questions: round up to a whole number (math.ceil)."
    if not 277.5 < found < 279:
        return f"100 questions detect .05; for .03 you return {found:g}, expected 278, rounded up."
    return None
