"""The exercises of ``12_monitoring``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

from exercises.check import exercise


@exercise(
    "12.1",
    expects=FunctionType,
    hint="np.quantile(numbers, 0.95) of each stage; return the name whose quantile is the largest.",
    praise="The mean, the median and the largest number would each have named another stage.",
)
def slow_stage(answer: Callable[[Mapping[str, Sequence[float]]], Any]) -> str | None:
    stages = {
        "retrieve": [60.0] * 100,  # the largest mean and median
        "rerank": [5.0] * 90 + [300.0] * 10,
        "generate": [10.0] * 99 + [900.0],  # the largest number
    }
    found = answer(stages)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    if found == "retrieve":
        return "you name the stage with the largest mean or median. One query in ten waits elsewhere: take a quantile."
    if found == "generate":
        return "you name the stage with the largest number of all: one query in a hundred. Take the 95th percentile."
    if isinstance(found, int | float):
        return f"you return a number, {found:.1f}. Return the name of the stage: max(stages, key=...)."
    if found != "rerank":
        return f"you return {found!r}, expected the name of one of the stages: {', '.join(stages)}."
    return None


@exercise(
    "12.2",
    expects=(int, float),
    hint="On each of 365 days the test is wrong with a probability of 0.05. What do you expect in a year?",
    praise="More than one false alarm a month, and nothing had changed. `detect_change` fires in one quiet log of 20.",
)
def alarms_a_year(answer: float) -> str | None:
    if abs(answer - 0.05) < 1e-9:
        return "0.05 is a single look. You look 365 times."
    if answer == 1 or abs(answer - (1 - 0.95**365)) < 1e-9:
        return "that is the probability of one alarm at least, which is all but 1. How many do you expect?"
    if abs(answer - 20) < 1e-9:
        return "once in 20 looks. How many is that in 365?"
    if not 18 <= answer <= 18.5:
        return f"not {answer}: a share of 0.05 of 365 looks."
    return None


@exercise(
    "12.3",
    expects=int,
    hint="wilson(errors, 50)[0] is the lower end of the interval. Try errors = 5, 6, 7, ... until it is above 0.1.",
    praise="5 of 50 is exactly the limit. A few more could be luck: the rule waits until luck is a poor explanation.",
)
def errors_that_fire(answer: int) -> str | None:
    from ragkit.evaluation.statistics import wilson

    if answer <= 5:
        return f"{answer} of 50 is not above 0.1 at all. The whole interval has to be."
    if answer > 50:
        return f"there are only 50 queries, {answer} of them cannot fail."
    low, _ = wilson(answer, 50)
    if low <= 0.1:
        return f"with {answer} errors the interval begins at {low:.3f}: a rate of 0.1 is still possible."
    if wilson(answer - 1, 50)[0] > 0.1:
        return f"{answer} errors fire, but fewer do, too: {answer - 1} errors begin at {wilson(answer - 1, 50)[0]:.3f}."
    return None
