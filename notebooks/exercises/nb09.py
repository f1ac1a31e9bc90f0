"""The exercises of ``09_judging_answers``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import numpy as np

from exercises.check import check_number, exercise


@exercise(
    "09.1",
    expects=FunctionType,
    hint="Of 100 sentences, share * 100 are supported. How many of them are accepted, and how many of the others?",
    praise="The same scorer is precise where most sentences are supported, and not where few are.",
)
def precision(answer: Callable[[float, float, float], Any]) -> str | None:
    found = answer(0.2, 0.9, 0.3)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    return check_number(
        float(found),
        0.18 / (0.18 + 0.24),
        [
            (0.18, "0.18 is the share of all sentences that are supported and accepted. Divide by all the accepted."),
            (0.9 / (0.9 + 0.3), "0.75 forgets how few are supported: weight the rates with share and 1 - share."),
            (0.42, "0.42 is the share that is accepted. Which part of it is supported?"),
            (0.24 / 0.42, "this is the part of the accepted that is *not* supported."),
            (0.9, "0.9 is the recall itself."),
            (0.7, "1 - 0.3 is the share of the unsupported that is rejected."),
            (0.18 / (0.18 + 0.3), "only the unsupported can be accepted by mistake: weight 0.3 with 1 - share."),
        ],
        f"of 100 sentences 20 are supported: 18 of them and 24 others are accepted. You return {float(found):.3f}.",
        tolerance=1e-6,
    )


_VERDICTS = (1.0, None, 0.5, None, 0.0)


@exercise(
    "09.2",
    expects=FunctionType,
    hint="known = [v for v in verdicts if v is not None]. The mean is over these, the coverage is their share.",
    praise="Two numbers, always together. And where nothing could be read, there is no mean at all.",
)
def mean_and_coverage(answer: Callable[[Sequence[float | None]], Any]) -> str | None:
    found = answer(_VERDICTS)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    if not isinstance(found, tuple | list) or len(found) != 2:
        return "return two values: (mean, coverage)."
    problem = check_number(
        [float(found[0]), float(found[1])],
        [0.5, 0.6],
        [
            ([0.3, 0.6], "0.3 counts a missing verdict as 0. It is missing: leave it out of the mean."),
            ([0.3, 1.0], "0.3 counts a missing verdict as 0. It is missing: leave it out of the mean."),
            ([0.7, 0.6], "0.7 counts a missing verdict as 1. It is missing: leave it out of the mean."),
            ([0.6, 0.5], "the two values have changed places: the mean comes first."),
            ([0.5, 3], "coverage is a share: divide by the number of verdicts."),
            ([0.5, 0.4], "0.4 is the share of the missing ones. Coverage is the share of the others."),
            ([0.75, 0.4], "you leave out the verdict 0.0, which is a verdict. Compare with None: v is not None."),
        ],
        f"of five verdicts three are known, with a mean of 0.5: expected (0.5, 0.6), you return {tuple(found)}.",
    )
    if problem:
        return problem
    try:
        value, share = answer((None, None))
    except (ZeroDivisionError, ValueError) as error:
        return f"with no known verdict at all, your function raises {type(error).__name__}. Return (None, 0)."
    if (value is not None and not np.isnan(float(value))) or share:
        return f"with no known verdict there is no mean: expected (None, 0), you return {(value, share)}."
    return None
