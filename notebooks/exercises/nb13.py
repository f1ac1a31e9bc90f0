"""The exercises of ``13_feedback``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from exercises.check import check_number, exercise


@exercise(
    "13.1",
    expects=FunctionType,
    hint="Three factors, multiplied: how many people asked, which share of them was unhappy, how sure the system was.",
    praise="Nobody can review everything. A queue says what comes first, and a formula can be argued about.",
)
def weight(answer: Callable[[int, int, int, float], Any]) -> str | None:
    found = answer(12, 1, 2, 0.5)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    value = float(found)
    for wrong, problem in (
        (
            12 * 2 / 3 * 0.5,
            "this is the plain share down / (down + up). Add 1 above and 2 below: one thumb is not all.",
        ),
        (12 * 3 / 5, "you have left out how sure the system was."),
        (3 / 5 * 0.5, "you have left out how often it was asked."),
        (12 * 2 / 5 * 0.5, "the share of thumbs *down* counts: (down + 1) / (down + up + 2)."),
        (2 * 3 / 5 * 0.5, "`asked` counts those who said nothing, too: they were told the same."),
        (12 * 3 / 5 / 0.5, "you divide by `sure`. An error that the system is sure of is the worse one: multiply."),
    ):
        if np.isclose(value, wrong, rtol=0, atol=1e-12):
            return problem
    right = 12 * 3 / 5 * 0.5
    if not np.isclose(value, right):
        return f"asked 12 times, 1 thumb up, 2 down, sure .5: you get {value:.2f}, expected {right:.2f}."
    if not np.isclose(float(answer(3, 4, 0, 0.9)), 3 * 1 / 6 * 0.9):
        return "it is right for one question, but not for asked 3 times, 4 thumbs up, none down, sure .9."
    return None


@exercise(
    "13.2",
    expects=str,
    hint="Which of the four sets has had no influence on what you changed?",
    praise="What you repaired by, you cannot be judged by. The regression set says only that nothing is broken again.",
)
def decides(answer: str) -> str | None:
    letter = answer.strip().lower().rstrip(".)")
    if letter == "a":
        return "a: the repair was made for these five. That they pass shows that it was made, and nothing else."
    if letter == "b":
        return "b: the five flagged questions are among them, and the repair was made for those. Take them out."
    if letter == "d":
        return "d: these are the questions that went well before. Nothing can be gained on them, so this can't show it."
    if letter != "c":
        return f"{answer!r} is none of a, b, c, d."
    return None


@exercise(
    "13.3",
    expects=(int, float),
    hint="How many of the 80 speak, and how many of the 20? Then: which share of those who speak are content?",
    praise="80 % are content, and 29 % of the thumbs point up. A dashboard of thumbs would have called it a disaster.",
)
def heard(answer: float) -> str | None:
    right = 80 * 0.05 / (80 * 0.05 + 20 * 0.5)
    if 1 < answer <= 100:
        return "shares are given as a number between 0 and 1."
    return check_number(
        answer,
        right,
        [
            (0.8, "0.8 of all are content. But not all of them speak."),
            (1 - right, "this is the share of thumbs down."),
            (0.05 / 0.55, "you compare the two shares that speak. How many people are behind each?"),
            (14 / 100, "14 of 100 speak. Which share of these 14 is content?"),
            (4 / 100, "4 of 100 speak and are content. But you do not hear from all 100."),
            (4 / 10, "4 against 10 is a ratio. The share is 4 of all that speak."),
        ],
        f"not {answer}. Count people: 80 who are content, of whom 5 % speak, and 20 who are not, of whom half do.",
        tolerance=0.006,
    )
