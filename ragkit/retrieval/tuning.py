"""Choosing the weights of a fusion on labelled questions, and saying how sure the choice is.

A weight that was chosen on the questions it is judged by looks better than it is. So the score that is reported
is cross-validated: each document's questions are scored with weights chosen on the other documents' questions.
And the weight's interval shows how far it moves when other documents had been asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, InputError, Question

Floats = NDArray[np.float64]
Lists = tuple[tuple[Chunk, ...], Floats]
_RESAMPLES = 1_000
_DEPTH = 10


@dataclass(frozen=True, eq=False)
class Fit:
    """What was chosen, and how sure it is. All scores are MRR@10.

    ``weights``: the best on all questions; ``low``, ``high``: their 95 % intervals (percentile bootstrap over
    documents: wide intervals mean that the labels do not settle the weight). ``grid (m, inputs)`` and
    ``scores (m,)``: everything that was tried. ``held_out (questions,)``: each question's score with weights
    chosen without its document; ``cross_validated``: their mean with its interval ``score_low`` to
    ``score_high``. ``equal``: the score of equal weights.
    """

    weights: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    cross_validated: float
    score_low: float
    score_high: float
    equal: float
    grid: Floats
    scores: Floats
    held_out: Floats

    def __repr__(self) -> str:
        weights = ", ".join(
            f"{w:.2f} [{a:.2f}, {b:.2f}]" for w, a, b in zip(self.weights, self.low, self.high, strict=True)
        )
        return (
            f"Fit(weights {weights}; MRR@10 cross-validated {self.cross_validated:.3f} "
            f"[{self.score_low:.3f}, {self.score_high:.3f}], equal weights {self.equal:.3f})"
        )


def simplex(inputs: int) -> Floats:
    """Weights ``(m, inputs)`` that sum to 1, on a grid, the most equal first (it then wins ties).

    >>> simplex(2)[:3].tolist()
    [[0.5, 0.5], [0.45, 0.55], [0.55, 0.45]]
    """
    steps = {1: 1, 2: 20, 3: 10}.get(inputs, 6)
    rows = [row for row in product(range(steps + 1), repeat=inputs) if sum(row) == steps]
    return np.array(sorted(rows, key=lambda row: (sum(w * w for w in row), row)), dtype=np.float64) / steps


def fit_weights(tables: Sequence[Lists], questions: Sequence[Question], inputs: int, folds: int) -> Fit:
    """The best weights for ``tables`` (one per question: chunks, and their values ``(chunks, inputs)``).

    Raises:
        InputError: gold in fewer than two documents, fewer than two folds, or more than 4 inputs.
    """
    documents = sorted({q.gold[0].doc_id for q in questions})
    if len(documents) < 2 or folds < 2:
        raise InputError(
            f"gold in {len(documents)} document(s), {folds} folds: weights need questions about two documents or more, "
            "and two folds or more"
        )
    if inputs > 4:
        raise InputError(f"{inputs} inputs: the weights of at most 4 can be fitted")
    grid = simplex(inputs)
    scores = np.array([_reciprocal_ranks(t, q, grid) for t, q in zip(tables, questions, strict=True)])
    group = np.array([documents.index(q.gold[0].doc_id) for q in questions])
    held_out = _held_out(scores, group, min(folds, len(documents)))
    chosen, means = _resampled(scores, held_out, group, len(documents))
    low, high = np.quantile(grid[chosen], (0.025, 0.975), axis=0)
    score_low, score_high = np.quantile(means, (0.025, 0.975)).tolist()
    return Fit(
        weights=tuple(grid[int(np.argmax(scores.mean(axis=0)))].tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        cross_validated=float(held_out.mean()),
        score_low=score_low,
        score_high=score_high,
        equal=float(scores[:, 0].mean()),
        grid=grid,
        scores=scores.mean(axis=0),
        held_out=held_out,
    )


def _reciprocal_ranks(table: Lists, question: Question, grid: Floats) -> Floats:
    """``1 / rank`` of the best relevant chunk under every weighting ``(m,)``, 0 below the top 10."""
    chunks, values = table
    relevant = np.array([any(c.span.answers(gold) for gold in question.gold) for c in chunks], dtype=bool)
    if not relevant.any():
        return np.zeros(len(grid))
    order = np.argsort([c.id for c in chunks], kind="stable")  # equal scores stand in the order of ids, as in a search
    fused = values[order] @ grid.T
    ranking = np.argsort(-fused, axis=0, kind="stable")
    rank = np.argmax(relevant[order][ranking], axis=0) + 1
    return np.where(rank <= _DEPTH, 1.0 / rank, 0.0)


def _held_out(scores: Floats, group: NDArray[np.int64], folds: int) -> Floats:
    """Each question's score with the weights that are best on the other folds; a document is in one fold."""
    sizes = np.bincount(group)
    fold_of, load = np.zeros(len(sizes), dtype=int), np.zeros(folds)
    for document in np.argsort(-sizes, kind="stable"):
        fold_of[document] = np.argmin(load)
        load[fold_of[document]] += sizes[document]
    held_out = np.zeros(len(scores))
    for fold in range(folds):
        test = fold_of[group] == fold
        held_out[test] = scores[test][:, int(np.argmax(scores[~test].mean(axis=0)))]
    return held_out


def _resampled(
    scores: Floats, held_out: Floats, group: NDArray[np.int64], documents: int
) -> tuple[NDArray[np.int64], Floats]:
    """The weights chosen, and the mean held-out score, when documents are drawn with replacement."""
    sums = np.zeros((documents, scores.shape[1] + 2))
    np.add.at(sums, group, np.column_stack((scores, held_out, np.ones(len(scores)))))
    draws = np.random.default_rng(0).multinomial(documents, np.full(documents, 1 / documents), size=_RESAMPLES)
    totals = draws @ sums
    return np.argmax(totals[:, :-2], axis=1), totals[:, -2] / totals[:, -1]
