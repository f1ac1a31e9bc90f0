"""The exercises of ``07_reranking``."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exercises.check import check_number, exercise

Floats = NDArray[np.float64]


@exercise(
    "07.1",
    expects=FunctionType,
    hint="cosines.max(axis=1) is what each word of the question found. Now the mean, weighted by `weights`.",
    praise="This line is the whole reranker: a maximum for every word of the question, and a weighted mean.",
)
def maxsim(answer: Callable[[Floats, Floats], Any]) -> str | None:
    cosines, weights = np.array([[0.9, 0.1, 0.2], [0.3, 0.6, 0.0]]), np.array([3.0, 1.0])
    found = answer(cosines, weights)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    value = np.asarray(found, dtype=float)
    if value.shape:
        return f"you returned {value.size} numbers of shape {value.shape}. A score is one number for the passage."
    best = cosines.max(axis=1)
    for wrong, problem in (
        (best @ weights, "this is the sum, and a longer question would get higher scores. Divide by weights.sum()."),
        (best.mean(), "every word counts the same here. Multiply by the weights, and divide by their sum."),
        (best.sum(), "every word counts the same here. Multiply by the weights, and divide by their sum."),
        (best @ weights / 2, "you divide by the number of words. Divide by the sum of the weights."),
        (
            cosines.mean(axis=1) @ weights / 4,
            "you take the mean of each row: that is the blur again. Take its maximum.",
        ),
        (cosines.max(), "you take one maximum of all. Each *row* has its own: axis=1."),
        (cosines.max(axis=0).mean(), "axis=0 lets the words of the passage ask. The question asks: axis=1."),
    ):
        if np.isclose(value, wrong):
            return problem
    right = float(best @ weights / weights.sum())
    if not np.isclose(value, right):
        return f"for rows with maxima 0.9 and 0.6 and weights 3 and 1 you get {float(value):.3f}, expected {right:.3f}."
    return None


@exercise(
    "07.2",
    expects=(int, float),
    hint="The reranker sees 50 candidates. For how many questions is the answer among them?",
    praise="Everything that was fetched comes to the top, and nothing else can. Recall of the search is the ceiling.",
)
def ceiling(answer: float) -> str | None:
    return check_number(
        answer,
        0.8,
        [
            (80, "metrics are given as a share between 0 and 1."),
            (60, "metrics are given as a share between 0 and 1."),
            (100, "metrics are given as a share between 0 and 1."),
            (0.6, "0.6 is what you had without it. The reranker brings up the answers that stood at ranks 11 to 50."),
            (1, "1 would need every answer among the candidates. For 20 % of the questions it is not there."),
            (0.2, "0.2 is what it gains. To what does hit@10 rise?"),
            (0.48, "0.8 * 0.6 multiplies two shares of the same questions. The 60 % are among the 80 %."),
        ],
        f"not {answer}. A perfect reranker puts each answer that it sees into first place. How many does it see?",
    )


@exercise(
    "07.3",
    expects=int,
    hint="How many milliseconds are left after the search, and how many candidates fit into them?",
    praise="Measure the two numbers on your own machine, and the fetch follows from what you may spend.",
)
def largest_fetch(answer: int) -> str | None:
    if answer == 75:
        return "30 / 0.4 = 75 forgets the search, which takes 10 of the 30 ms."
    if answer == 100:
        return "(30 + 10) / 0.4 = 100 adds the search to what you may spend. It has to be paid from it."
    if answer == 8:
        return "(30 - 10) * 0.4 multiplies. Each candidate costs 0.4 ms: how many fit into 20 ms?"
    if answer == 25:
        return "10 / 0.4 = 25 spends what the search takes. Left for reranking are 30 - 10."
    if answer > 50:
        return f"{answer} candidates take {10 + 0.4 * answer:.1f} ms in all, which is more than 30."
    if answer < 50:
        return f"{answer} candidates take {10 + 0.4 * answer:.1f} ms in all. There is room for more."
    return None
