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


_SURE = np.array([0.9, 0.8, 0.6, 0.4, 0.2])
_GOOD = np.array([True, True, False, True, False])


@exercise(
    "08.2",
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
