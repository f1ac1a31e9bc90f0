"""The exercises of ``09_judging_answers``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

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
