"""The exercises of ``08_grounded_answers``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exercises.check import check_number, exercise
from ragkit.base import Chunk, Span


def _chunk(doc_id: str, start: int, end: int) -> Chunk:
    return Chunk(doc_id, start, end, "x" * (end - start))


# The whole answer; only its edge; another document; half of it and little else; the right document, another place.
_CITED = [
    _chunk("g", 100, 200),
    _chunk("g", 190, 400),
    _chunk("x", 100, 200),
    _chunk("g", 90, 150),
    _chunk("h", 60, 90),
]
_GOLD = [Span("g", 100, 200), Span("h", 0, 50), Span("k", 0, 9)]


@exercise(
    "08.1",
    expects=FunctionType,
    hint="For each cited chunk: any(chunk.span.answers(g) for g in gold). Then the share for which this is true.",
    praise="A source that does not answer is noise with a number on it. Recall turns the same question around.",
)
def citation_precision(answer: Callable[[Sequence[Chunk], Sequence[Span]], Any]) -> str | None:
    found = answer(_CITED, _GOLD)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    if isinstance(found, list | tuple | np.ndarray):
        return "you returned one value for each chunk. Precision is one number: the mean of them."
    for wrong, problem in (
        (2, "2 is how many cited chunks answer. Divide by how many are cited."),
        (2 / 3, "you divide by the number of gold spans. Precision divides by the number of chunks that are cited."),
        (1 / 3, "this is recall: the share of the gold spans that are cited. Turn the question around."),
        (0.6, "you count a chunk that only touches the answer's edge. Use chunk.span.answers(gold)."),
        (0.8, "you count every chunk of the right document. Compare spans, with chunk.span.answers(gold)."),
    ):
        if np.isclose(float(found), wrong):
            return problem
    if not np.isclose(float(found), 0.4):
        return f"of five cited chunks two answer, and you return {float(found):.2f}; it should be 0.40."
    if not np.isclose(float(answer(_CITED[:1], _GOLD)), 1):
        return "one chunk is cited and it answers, so precision is 1. Divide by len(cited)."
    return None


_SCORES = np.array([0.9, 0.7, 0.5, 0.5, 0.2])
_RIGHT = np.array([True, False, True, False, False])


@exercise(
    "08.2",
    expects=FunctionType,
    hint="Answered are those with scores >= threshold. Coverage is their share, accuracy how many of them are right.",
    praise="One threshold, one point of the curve. Which point you want depends on what a wrong answer costs you.",
)
def coverage_and_accuracy(answer: Callable[[NDArray[np.float64], NDArray[np.bool_], float], Any]) -> str | None:
    found = answer(_SCORES, _RIGHT, 0.5)
    if found is ...:
        return "your function still returns `...`: put your own expression there."
    if not isinstance(found, tuple | list) or len(found) != 2:
        return "return two numbers: (coverage, accuracy)."
    pair = (round(float(found[0]), 6), round(float(found[1]), 6))
    return check_number(
        pair,
        (0.8, 0.5),
        [
            ((0.5, 0.8), "the two numbers have changed places: coverage comes first."),
            ((0.4, 0.5), "you leave out the answers whose score is the threshold itself: use >=."),
            ((0.8, 0.4), "your accuracy is a share of all questions. Of those that are answered, how many are right?"),
            ((4, 2), "these are counts. Divide the first by all questions, the second by those that are answered."),
            ((4, 0.5), "coverage is a share: divide by the number of questions."),
            ((0.2, 0.0), "you keep the answers below the threshold, which are the ones to withhold."),
        ],
        f"four of five are answered, two of these are right: expected (0.8, 0.5), you return {pair}.",
    )


@exercise(
    "08.3",
    expects=int,
    hint="With a rate of 1 %, n tries without a success have the probability 0.99 ** n. When is that below 0.05?",
    praise="The rule of three: with nothing in n tries, the rate may still be 3 / n. So 100 fixtures can promise 3 %.",
)
def tries_for_one_percent(answer: int) -> str | None:
    if answer in (298, 299, 300):
        return None
    if answer == 100:
        return "with a rate of 1 %, 100 tries find nothing in 37 % of the cases: 0.99 ** 100 is 0.37."
    if answer == 95:
        return "95 % is how sure you want to be, not how often you have to try."
    if answer == 59:
        return "0.95 ** 59 is below 0.05: that rules out a rate of 5 %. Put 0.99 there."
    if answer == 459:
        return "0.99 ** 459 is 0.01: that is 99 % sure. Here 95 % are enough."
    if answer < 298:
        return f"0.99 ** {answer} is {0.99 ** max(answer, 0):.2f}, still above 0.05: luck could explain it."
    return f"{answer} are more than needed: 0.99 ** {answer} is {0.99**answer:.4f}, well below 0.05. Fewer will do."
