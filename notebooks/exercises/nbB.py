"""The exercises of ``B_fine_tuning``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exercises.check import check_number, exercise

Floats = NDArray[np.float64]


@exercise(
    "B.1",
    expects=FunctionType,
    hint="Divide the cosines by the temperature, take np.exp, and look at the right passage's share of the sum.",
    praise="That is the whole loss, for one query. A batch is the mean of its queries, and training makes it smaller.",
)
def loss(answer: Callable[[Floats, int, float], Any]) -> str | None:
    cosines, right, temperature = np.array([0.5, 0.4, 0.1]), 1, 0.1
    found = answer(cosines, right, temperature)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    value = np.asarray(found, dtype=float)
    if value.shape:
        return f"you returned {value.size} numbers of shape {value.shape}. The loss of one query is one number."
    expected = one_loss(cosines, right, temperature)
    weights = np.exp(cosines / temperature)
    return check_number(
        value,
        expected,
        [
            (
                -expected,
                "the sign is turned: a share below 1 has a negative logarithm, and a loss is to become smaller.",
            ),
            (weights[right] / weights.sum(), "this is the share itself. The loss is minus its logarithm."),
            (one_loss(cosines, right, 1.0), "the temperature has no effect: divide the cosines by it before np.exp."),
            (one_loss(cosines, right, 1 / temperature), "you multiply by the temperature. Divide by it."),
            (
                one_loss(cosines, 0, temperature),
                "you ask for the nearest passage. `right` says which one it should be.",
            ),
            (
                -cosines[right] / temperature,
                "you only look at the right passage. The others have to lose: divide by the sum.",
            ),
        ],
        f"for cosines .5, .4, .1, the second being right, and t = .1 you get {value:.3f}, expected {expected:.3f}.",
    )


def one_loss(cosines: Floats, right: int, temperature: float) -> float:
    """``-log(exp(c_right / t) / sum_j exp(c_j / t))``."""
    weights = np.exp(cosines / temperature)
    return float(-np.log(weights[right] / weights.sum()))


@exercise(
    "B.2",
    expects=int,
    hint="Which of the two curves would you know about a document that the model has not read?",
    praise="Training loss says how well it knows its lesson, held-out loss what the lesson was good for.",
)
def best_step(answer: int) -> str | None:
    return check_number(
        answer,
        100,
        [
            (
                300,
                "after 300 steps the training loss is the lowest, for these pairs are known by heart. And the others?",
            ),
            (200, "at 200 steps the two losses are 1.1 apart already. Their difference is not what counts."),
            (0, "0 is the untrained model. The held-out loss does fall at first."),
        ],
        f"{answer} is not a step at which the losses were measured, or not the best one: 0, 100, 200 or 300?",
    )


@exercise(
    "B.3",
    expects=str,
    hint="Which of the four would tell you what happens with a document that is written tomorrow?",
    praise="Whatever you want to claim something about must stay out of the training, all of it.",
)
def honest_split(answer: str) -> str | None:
    letter = answer.strip().lower()
    if letter == "a":
        return "two pairs of one section (its heading, its first sentence) land on both sides: the test has been seen."
    if letter == "b":
        return (
            "sections of one page speak of the same thing in the same words. New documents do not come with old pages."
        )
    if letter == "d":
        return "the labels are the test. A model that was trained on them has been told the answers."
    if letter != "c":
        return "answer with one of the letters a, b, c and d."
    return None
