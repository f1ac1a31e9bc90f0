"""The exercises of ``06_hybrid_search``."""

from __future__ import annotations

from collections.abc import Callable
from math import isclose
from types import FunctionType
from typing import Any

from exercises.check import check_number, exercise


@exercise(
    "06.1",
    expects=FunctionType,
    hint="It is tf / (tf + something). That something is k1 for a chunk of mean length, and grows with the length.",
    praise="The more a word is repeated the less each repetition adds, and a long chunk has to repeat it more often.",
)
def term_weight(answer: Callable[[float, float, float, float], Any]) -> str | None:
    def right(tf: float, length: float, k1: float, b: float) -> float:
        return tf / (tf + k1 * (1 - b + b * length))

    # A likely wrong formula, and what its author should read. The first that the answer agrees with speaks.
    mistakes: list[tuple[Callable[[float, float, float, float], float], str]] = [
        (lambda tf, length, k1, b: tf, "you return tf itself, so ten repetitions count ten times as much as one."),
        (lambda tf, length, k1, b: tf / (tf + k1), "length has no effect: every chunk is treated as an average one."),
        (
            lambda tf, length, k1, b: right(tf, length, k1, b) * (k1 + 1),
            "you multiply by k1 + 1, as Okapi does. Leave it out: it changes no order.",
        ),
        (
            lambda tf, length, k1, b: tf / (tf + k1 * 1 - b + b * length),
            "k1 multiplies the whole bracket (1 - b + b * length), not only the 1.",
        ),
        (
            lambda tf, length, k1, b: tf / (tf + k1 * (1 - b + b / length)),
            "you divide by length, so a long chunk gets *more* for the same word. Multiply.",
        ),
        (
            lambda tf, length, k1, b: tf / (tf + k1 * (b + (1 - b) * length)),
            "b and 1 - b have changed places. With b = 0, length must have no effect.",
        ),
    ]
    tries = [(1.0, 1.0, 1.5, 0.75), (2.0, 3.0, 1.5, 0.75), (3.0, 0.5, 2.0, 0.25)]
    found = [answer(*values) for values in tries]
    if any(value is ... for value in found):
        return "your function still returns `...`: put your own expression there."
    if not all(isinstance(value, int | float) for value in found):
        return f"you returned {found[0]!r}. A weight is a number."
    if all(isclose(value, right(*values)) for value, values in zip(found, tries, strict=True)):
        return None
    for formula, problem in mistakes:
        if all(isclose(value, formula(*values)) for value, values in zip(found, tries, strict=True)):
            return problem
    return f"for tf=2, length=3, k1=1.5, b=0.75 you returned {found[1]:.3f}, and it should be {right(*tries[1]):.3f}."


@exercise(
    "06.2",
    expects=int,
    hint="The one chunk gets 1 / 61. The other gets 1 / (60 + rank) twice. Which rank makes this larger?",
    praise="Two votes for rank 61 beat one vote for rank 1. RRF asks who is mentioned, more than who is sure.",
)
def two_poor_votes(answer: int) -> str | None:
    return check_number(
        answer,
        61,
        [
            (62, "at rank 62 both get the same: 2 / 122 = 1 / 61. What is the last rank that gets *more*?"),
            (1, "that would hold without the 60. With it, rank 1 gets 1 / 61 and rank 10 still gets 1 / 70."),
            (2, "that would hold without the 60. With it, rank 1 gets 1 / 61 and rank 10 still gets 1 / 70."),
            (3, "that would hold without the 60. With it, rank 1 gets 1 / 61 and rank 10 still gets 1 / 70."),
            (60, "rank 60 in both gets 2 / 120, which is more than 1 / 61. And one rank further down?"),
            (121, "60 + rank may be almost 122. You have not taken away the 60."),
            (122, "60 + rank may be almost 122. You have not taken away the 60."),
        ],
        f"not {answer}. Solve 2 / (60 + rank) > 1 / 61 for the rank.",
    )
