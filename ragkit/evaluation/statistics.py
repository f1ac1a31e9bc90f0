"""Is the difference between systems more than luck? One paired test, and the intervals that belong to it.

Questions about one document resemble each other, so they are not independent evidence: what is drawn again is
the **document** that a question's gold stands in, never the single question. Everything rests on one statistic,
the mean over its cluster-robust standard error, and on how large it becomes by chance:

- ``FEW`` documents or more: give each document's differences a random sign, which is to swap the two systems
  document by document. This is the paired randomisation test (Fisher 1935; Smucker, Allan & Carterette, CIKM
  2007), in other words the wild cluster bootstrap-t (Cameron, Gelbach & Miller 2008); p = (b + 1) / (B + 1) is
  never 0 (Phipson & Smyth 2010, arXiv 1603.05766).
- fewer: 5 documents can be swapped in only 32 ways, so p could never fall below .06. Student's t takes the
  place, with the degrees of freedom of Bell & McCaffrey (2002; Imbens & Kolesár, Review of Economics and Statistics
  98, 2016).
- fewer than ``TOO_FEW``: the questions themselves are the units, and the result speaks of other questions on
  these documents, not of other documents.

Several differences to one baseline are **one** simultaneous test: a wrong verdict anywhere in the table happens in 5 %
of tables, and all intervals hold their truth at once in 95 %. A column's statistic is compared with the largest of all
columns under the same random signs (single-step max-T: Westfall & Young, Resampling-Based Multiple Testing, 1993;
Romano & Wolf, JASA 2005), which takes account of systems that resemble each other. With Student's t the level is
shared out (Bonferroni).

The 95 % interval holds exactly the true differences that the same test does not reject: 0 lies outside it if and only
if p is below .05.

That is the interval of a *difference*. The mean of scores between 0 and 1 has ``level``, a share of independent
answers ``wilson``, an AUROC ``auroc_interval``.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ragkit.base import InputError, require

Floats = NDArray[np.float64]

FEW = 12
TOO_FEW = 3
RESAMPLES = 9_999
ALPHA = 0.05
POWER = 0.8
_BISECTIONS = 30
_ZERO = 1e-12  # smaller parts of a mean, and errors, are rounding
_ROUNDING = 1e-6  # of a score in single precision
_BLOCK = 4_000_000  # random signs that are in memory at a time


@dataclass(frozen=True)
class Estimate:
    """Means with their simultaneous 95 % intervals, p-values against a true mean of 0 and standard errors: ``(m,)``."""

    mean: Floats
    low: Floats
    high: Floats
    p: Floats
    error: Floats


@dataclass(frozen=True)
class Level:
    """Means of scores in [0, 1] with their 95 % intervals, each ``(m,)`` and each by itself."""

    mean: Floats
    low: Floats
    high: Floats


def cluster_codes(clusters: Sequence[Hashable]) -> NDArray[np.intp]:
    """The cluster of each question as a number from 0; each question is its own below ``TOO_FEW`` clusters.

    >>> cluster_codes(["a", "b", "a", "c"]).tolist(), cluster_codes(["a", "a", "b"]).tolist()
    ([0, 1, 0, 2], [0, 1, 2])
    """
    numbers = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    if len(numbers) < TOO_FEW:
        return np.arange(len(clusters), dtype=np.intp)
    return np.array([numbers[cluster] for cluster in clusters], dtype=np.intp)


def estimate(values: ArrayLike, clusters: Sequence[Hashable], resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean of each column of ``values`` ``(questions, m)``, its interval and its p-value, in one simultaneous test.

    For a comparison the values are the paired differences, one column a system. All columns share the
    random signs, so that their order does not matter. A column of zeros (the baseline) is no comparison.

    >>> estimate([[0.0], [0.0], [0.0]], ["a", "b", "c"]).p.tolist()
    [1.0]

    Raises:
        InputError: fewer than two questions, a value that is not finite, or lengths that differ.
    """
    sums, share = cluster_parts(values, clusters)
    mean, error = sums.sum(axis=0), standard_error(sums, share)
    if len(share) < FEW:
        p = _student_p(sums, share, resamples, _comparisons(sums))
        reach = _student("stdtrit", freedom(share), 1 - ALPHA / 2 / _comparisons(sums)) * error
        return Estimate(mean, mean - reach, mean + reach, p, error)
    tests = _sign_tests(sums, share, resamples, seed, simultaneous=True)
    low, high = np.array([[test.bound(-1), test.bound(1)] for test in tests]).T
    return Estimate(mean, low, high, np.array([test.p(0.0) for test in tests]), error)


def p_values(
    values: ArrayLike, clusters: Sequence[Hashable], resamples: int = RESAMPLES, *, simultaneous: bool = True
) -> Floats:
    """The p-values of ``estimate``, ``(m,)`` in (0, 1]; without ``simultaneous``, each column tested by itself.

    Raises:
        InputError: as ``estimate``.
    """
    sums, share = cluster_parts(values, clusters)
    if len(share) < FEW:
        return _student_p(sums, share, resamples, _comparisons(sums) if simultaneous else 1)
    return np.array([test.p(0.0) for test in _sign_tests(sums, share, resamples, 0, simultaneous)])


def level(values: ArrayLike, clusters: Sequence[Hashable]) -> Level:
    """The mean of each column of scores in [0, 1], ``(questions, m)``, with an interval that stays in [0, 1].

    Clopper and Pearson's interval for as many yes/no answers as the questions are worth: mean (1 - mean) / squared
    standard error, times (t of questions - 1 / t of ``freedom``)^2, at most their number (Korn & Graubard, Survey
    Methodology 1998; NCHS, Vital and Health Statistics 2/175, 2017). Where all documents have the same mean, the
    error says nothing, and each document counts once. No scores in [0, 1] spread further than yes and no, so for
    scores in between it is wider than it need be. Not for differences: those have ``estimate``.

    >>> eight = level([[1.0]] * 8, list("abcdefgh"))
    >>> eight.low.round(2).tolist(), eight.high.tolist()
    ([0.63], [1.0])

    Raises:
        InputError: a value outside [0, 1], and as ``estimate``.
    """
    matrix = _checked(values, clusters)
    if (outside := matrix[(matrix < -_ROUNDING) | (matrix > 1 + _ROUNDING)]).size:
        raise InputError(f"a score is {outside[0]:g}: expected 0 to 1; a difference has `estimate`")
    sums, share = cluster_parts(matrix, clusters)
    mean, error = np.clip(sums.sum(axis=0), 0, 1), standard_error(sums, share)
    t = _student("stdtrit", np.array([len(matrix) - 1, freedom(share)]), 1 - ALPHA / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.minimum(mean * (1 - mean) / error**2 * (t[0] / t[1]) ** 2, len(matrix))
    size = np.where(error < _ZERO, len(share), size)
    yes, no = mean * size, (1 - mean) * size
    quantile = require("scipy.special", "notebook").betaincinv
    low = np.where(yes > 0, quantile(np.where(yes > 0, yes, 1), no + 1, ALPHA / 2), 0)
    high = np.where(no > 0, quantile(yes + 1, np.where(no > 0, no, 1), 1 - ALPHA / 2), 1)
    return Level(mean, np.minimum(low, mean), np.maximum(high, mean))


def _comparisons(sums: Floats) -> int:
    """How many columns are not zero everywhere."""
    return max(1, int(np.count_nonzero(sums.any(axis=0))))


def _student_p(sums: Floats, share: Floats, resamples: int, comparisons: int) -> Floats:
    statistic = _ratio(sums.sum(axis=0), standard_error(sums, share))
    p = 2 * _student("stdtr", freedom(share), -statistic) * comparisons
    return np.clip(p, 1 / (resamples + 1), 1)


def _sign_tests(sums: Floats, share: Floats, resamples: int, seed: int, simultaneous: bool) -> list[_SignTest]:
    pull = (share / (1 - share))[:, None]
    parts = np.hstack([sums, pull * sums, share[:, None], pull * share[:, None]])
    signed = np.concatenate([signs @ parts for signs in _signs(resamples, len(share), seed)])
    m = sums.shape[1]
    tests = [_SignTest(np.asarray(sums[:, j]), share, signed[:, [j, m + j, -2, -1]]) for j in range(m)]
    if simultaneous and len(tests) > 1:
        chance = np.stack([test.chance(0.0) for test in tests])
        for j, test in enumerate(tests):
            test.others = np.delete(chance, j, axis=0).max(axis=0)
    return tests


def _signs(resamples: int, clusters: int, seed: int) -> Iterator[Floats]:
    """Random signs ``(resamples, clusters)`` in blocks of rows; the blocks do not change them."""
    generator, rows = np.random.default_rng(seed), max(1, _BLOCK // clusters)
    for start in range(0, resamples, rows):
        yield generator.choice(np.array([-1.0, 1.0]), (min(rows, resamples - start), clusters))


def _checked(values: ArrayLike, clusters: Sequence[Hashable]) -> Floats:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or len(matrix) != len(clusters) or len(matrix) < 2 or not np.isfinite(matrix).all():
        raise InputError(
            f"values of shape {matrix.shape}, {np.sum(~np.isfinite(matrix))} of them NaN or infinite, and "
            f"{len(clusters)} clusters: expected finite scores (questions, systems) of two questions or more"
        )
    return matrix


def cluster_parts(values: ArrayLike, clusters: Sequence[Hashable]) -> tuple[Floats, Floats]:
    """Each cluster's part ``(clusters, m)`` of the means (its sum over the number of all questions), and its share
    ``(clusters,)`` of the questions."""
    matrix, codes = _checked(values, clusters), cluster_codes(clusters)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(codes.max() + 1))
    parts = np.add.reduceat(matrix[order], starts, axis=0) / len(matrix)
    return np.where(np.abs(parts) < _ZERO, 0.0, parts), np.asarray(np.bincount(codes) / len(codes), dtype=np.float64)


def standard_error(sums: Floats, share: Floats) -> Floats:
    """The cluster-robust standard error of each mean, bias-corrected (CR2 of Bell & McCaffrey 2002).

    ``sums`` ``(clusters, m)``: their parts of the mean; ``share`` ``(clusters,)``: their shares of the questions.
    """
    residual = sums - np.outer(share, sums.sum(axis=0))
    return np.asarray(np.sqrt((residual**2 / (1 - share)[:, None]).sum(axis=0)))


def freedom(share: Floats) -> float:
    """Degrees of freedom of that standard error: clusters - 1 when all have one size, fewer when some are large.

    Satterthwaite's formula for a mean, from Bell & McCaffrey (2002).

    >>> round(freedom(np.array([0.2] * 5)), 6), round(freedom(np.array([0.6, 0.1, 0.1, 0.1, 0.1])), 2)
    (4.0, 2.08)
    """
    pull = share**2 / (1 - share)
    return float(1 / (np.sum(share**2) + pull.sum() ** 2 - np.sum(pull**2)))


def _ratio(mean: ArrayLike, error: ArrayLike) -> Floats:
    """``|mean| / error``; 0 where both are 0 (identical systems), infinite where only the error is."""
    size, spread = np.abs(mean), np.asarray(error)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(size < _ZERO, 0.0, np.where(spread < _ZERO * size, np.inf, size / spread)))


def _student(function: str, df: ArrayLike, x: ArrayLike) -> Floats:
    return np.asarray(getattr(require("scipy.special", "notebook"), function)(df, x))


class _SignTest:
    """The randomisation test of one column against any true mean ``mu``, after one pass over the signs.

    ``signed`` ``(resamples, 4)`` are the products of the signs with ``sums``, ``c sums``, ``share`` and ``c share``.
    ``others``: in each resample the largest statistic of the columns that are tested with it, against 0.

    With parts ``s = sums - mu * share`` and signs ``w``, the resampled mean is ``w @ s`` and its squared error
    ``sum(s^2 / (1 - share)) - 2 (w @ s) (w @ c s) + (w @ s)^2 sum(c share)``, where ``c = share / (1 - share)``.
    All of it is linear or quadratic in ``mu``: moving ``mu`` costs a few operations a resample.
    """

    def __init__(self, sums: Floats, share: Floats, signed: Floats) -> None:
        self.sums, self.share, self.mean = sums, share, float(sums.sum())
        self.error = float(standard_error(sums[:, None], share)[0])
        self.total, self.pulled, self.total_share, self.pulled_share = signed.T
        self.weight = float(np.sum(share**2 / (1 - share)))
        self.others = np.zeros(len(signed))

    def chance(self, mu: float) -> Floats:
        """The statistic ``(resamples,)`` by chance."""
        mean = self.total - mu * self.total_share
        square = np.sum((self.sums - mu * self.share) ** 2 / (1 - self.share))
        variance = square - 2 * mean * (self.pulled - mu * self.pulled_share) + mean**2 * self.weight
        return _ratio(mean, np.sqrt(np.where(variance > _ZERO * square, variance, 0)))

    def p(self, mu: float) -> float:
        """The share of resamples whose largest statistic is as large as the observed one, as (b + 1) / (B + 1)."""
        chance = np.maximum(self.chance(mu), self.others)
        observed = float(_ratio(self.mean - mu, self.error))
        return float(1 + np.count_nonzero(chance >= observed * (1 - 1e-9))) / (1 + len(chance))

    def bound(self, side: int) -> float:
        """The last mean on one ``side`` (-1 below, 1 above) that is not rejected, by bisection. 0 is asked first,
        so that the interval leaves out 0 exactly when ``p(0)`` is below .05."""
        if self.error <= _ZERO * abs(self.mean):
            return self.mean
        inside, step = self.mean, 2 * self.error
        outside = inside + side * step
        if side * (0 - self.mean) > 0:
            inside, outside = (0.0, side * step) if self.p(0.0) >= ALPHA else (inside, 0.0)
        while self.p(outside) >= ALPHA:
            inside, step = outside, 2 * step
            outside = inside + side * step
        for _ in range(_BISECTIONS):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if self.p(middle) >= ALPHA else (inside, middle)
        return inside


def minimum_detectable(values: ArrayLike, clusters: Sequence[Hashable], comparisons: int = 1) -> Floats:
    """The true differences ``(m,)`` that a test on data like ``values`` would find 8 times in 10.

    (t at 1 - .025 / comparisons + t at .8) standard errors (Bloom 1995). The level is shared out
    among the comparisons; with many documents, where ``estimate`` is less strict, a little less is detected.

    Raises:
        InputError: as ``estimate``.
    """
    sums, share = cluster_parts(values, clusters)
    strict = 1 - ALPHA / 2 / max(comparisons, 1)
    reach = _student("stdtrit", freedom(share), [strict, POWER]).sum()
    return np.asarray(reach * standard_error(sums, share))


def questions_needed(questions: int, detectable: float, difference: float) -> int:
    """About how many questions would find ``difference`` 8 times in 10, where ``questions`` find ``detectable``.

    The standard error falls with the square root of their number. 0 for no difference.

    >>> questions_needed(40, detectable=0.10, difference=-0.05)
    160
    """
    return math.ceil(questions * (detectable / difference) ** 2) if difference else 0


def resampled_means(values: ArrayLike, clusters: Sequence[Hashable], resamples: int = RESAMPLES) -> Floats:
    """Means ``(resamples, m)`` over documents drawn with replacement (the pairs cluster bootstrap, Efron 1979).

    It shows how far a score moves when the questions are drawn again; for a verdict use ``estimate``.

    Raises:
        InputError: as ``estimate``.
    """
    sums, share = cluster_parts(values, clusters)
    counts = np.random.default_rng(0).multinomial(len(share), np.full(len(share), 1 / len(share)), resamples)
    return np.asarray((counts @ sums) / (counts @ share)[:, None])


def probability_best(values: ArrayLike, clusters: Sequence[Hashable], resamples: int = RESAMPLES) -> Floats:
    """How often each of m systems ``(questions, m)`` is the best when the documents are drawn again: ``(m,)``, sum 1.

    For a grid of settings: the winner of 30 may be best in only a tenth of the draws. Ties share the win.

    >>> probability_best([[1, 0], [1, 0], [1, 0]], ["a", "b", "c"]).tolist()
    [1.0, 0.0]

    Raises:
        InputError: as ``estimate``.
    """
    means = resampled_means(values, clusters, resamples)
    best = np.isclose(means, means.max(axis=1, keepdims=True), rtol=0, atol=1e-12)
    return np.asarray((best / best.sum(axis=1, keepdims=True)).mean(axis=0))


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share of independent yes/no answers (Wilson, JASA 1927): right on average.

    >>> [round(bound, 3) for bound in wilson(0, 100)]
    [0.0, 0.037]

    Raises:
        InputError: not 0 <= ``successes`` <= ``trials``, or no trial.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise InputError(f"{successes} of {trials}: expected 0 <= successes <= trials, and 1 trial or more")
    interval = require("scipy.stats", "notebook").binomtest(successes, trials).proportion_ci(1 - ALPHA, "wilson")
    return max(0.0, float(interval.low)), min(1.0, float(interval.high))


def auroc(positive: ArrayLike, negative: ArrayLike) -> float:
    """How often a positive example scores higher than a negative one; ties count half.

    The area under the ROC curve (Hanley & McNeil, Radiology 1982): .5 is chance, 1 tells all apart.

    >>> auroc([3, 2], [1, 2])
    0.875

    Raises:
        InputError: there are no positive or no negative examples.
    """
    high, low = np.asarray(positive, dtype=np.float64), np.asarray(negative, dtype=np.float64)
    if not high.size or not low.size:
        raise InputError(f"AUROC of {high.size} positive and {low.size} negative examples: expected some of both")
    return float(_in_order(high, low).mean())


def auroc_interval(
    scores: ArrayLike, labels: ArrayLike, clusters: Sequence[Hashable], resamples: int = 1_999, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of the AUROC when clusters are drawn again with replacement (cluster bootstrap, Efron 1979).

    ``clusters``: the document, or the question, of each score. Scores of one cluster are not independent.

    Raises:
        InputError: as ``auroc``.
    """
    values, positive = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    auroc(values[positive], values[~positive])
    numbers = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    members = np.eye(len(numbers))[[numbers[cluster] for cluster in clusters]]  # (scores, clusters)
    wins = members[positive].T @ _in_order(values[positive], values[~positive]) @ members[~positive]
    drawn = np.random.default_rng(seed).multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), resamples)
    pairs = (drawn @ members[positive].sum(axis=0)) * (drawn @ members[~positive].sum(axis=0))
    won = np.einsum("rc,cd,rd->r", drawn, wins, drawn, optimize=True)
    low, high = np.quantile(won[pairs > 0] / pairs[pairs > 0], [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def _in_order(high: Floats, low: Floats) -> Floats:
    """1 for each pair in which the first is larger, .5 for a tie, 0 otherwise: ``(len(high), len(low))``."""
    return np.asarray((high[:, None] > low) + 0.5 * (high[:, None] == low))
