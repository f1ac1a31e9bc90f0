"""The exercises of ``08_grounded_answers``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exercises.check import check_number, exercise

_SURE = np.array([0.9, 0.8, 0.6, 0.4, 0.2])
_GOOD = np.array([True, True, False, True, False])


@exercise(
    "08.1",
    expects=FunctionType,
    hint="Try each score as threshold: given = scores >= t, then right[given].sum() - cost * (~right[given]).sum().",
    praise="What a wrong answer costs is not in the data. Ask those who have to live with it.",
)
def best_threshold(answer: Callable[[NDArray[np.float64], NDArray[np.bool_], float], Any]) -> str | None:
    found = answer(_SURE, _GOOD, 2)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    if np.ndim(found) or found is None:
        return f"return one threshold: a number. You return {found!r}."
    if problem := check_number(
        float(found),
        0.8,
        [
            (0.9, "0.9 gives one right answer, and 0.8 two. Do you maximise accuracy? Maximise right - cost * wrong."),
            (0.4, "with 0.4 a wrong answer is given, and it costs 2. Subtract cost * wrong."),
            (0.2, "with 0.2 two wrong answers are given, and each costs 2. Subtract cost * wrong."),
            (2.0, "2 is what the best threshold gains. Return the threshold itself."),
            (0.6, "an answer is given if its score is the threshold *or more*: use >=."),
        ],
        f"with a cost of 2 the best threshold is 0.8, and you return {float(found):g}.",
    ):
        return problem
    if not np.isclose(float(answer(_SURE, _GOOD, 0.5)), 0.4):
        return "with a cost of 0.5 the best threshold is 0.4: two right answers and a third pay for one wrong."
    return None
