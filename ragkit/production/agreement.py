"""Do thumbs and offline scorers say the same? If not, one of them measures something else, and it may be the thumbs.

Offline scorers (faithfulness, relevance, the confidence with which a pipeline abstains) judge every answer; people
judge few of them, and not a fair sample. Where the two agree, the scorer can stand in for the people who said nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ragkit.base import InputError, require
from ragkit.evaluation.statistics import RESAMPLES, auroc, auroc_interval
from ragkit.production.opinions import Feedback, same

if TYPE_CHECKING:
    import pandas as pd


def cohen_kappa(one: ArrayLike, other: ArrayLike) -> float:
    """How much oftener two judges agree than by chance: ``(observed - expected) / (1 - expected)``.

    Cohen, A Coefficient of Agreement for Nominal Scales (1960). 1: always; 0: as by chance; NaN where both judges say
    the same of everything, so that there is nothing to agree on.

    >>> cohen_kappa([True, True, False, False], [True, True, False, True])
    0.5

    Raises:
        InputError: not as many judgements of one as of the other, or none.
    """
    a, b = np.asarray(one, dtype=bool), np.asarray(other, dtype=bool)
    if a.shape != b.shape or not a.size:
        raise InputError(f"{a.size} judgements and {b.size}: expected as many of both, and at least one")
    observed = float((a == b).mean())
    expected = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")


def agreement(
    feedback: Sequence[Feedback],
    scores: Mapping[str, Mapping[str, float]],
    thresholds: Mapping[str, float] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """One row a scorer: how well its scores of answers tell thumbs up from thumbs down.

    ``auroc`` is how often an answer with a thumb up scores higher than one with a thumb down; ``kappa`` is how thumbs
    agree with "scores ``threshold`` or more" (.5 unless given). Both with a 95 % interval, from drawing questions
    again: opinions on one question are not independent. ``verdict`` is about the AUROC.

    Args:
        feedback: opinions that count, as ``FeedbackStore.all()``.
        scores: for each scorer the scores by trace id. Answers without a score are left out (``n`` counts the others).
        thresholds: by scorer.

    Raises:
        InputError: no scorer, or one that has no scores for both a thumb up and a thumb down.
    """
    if not scores:
        raise InputError("no scorer: expected scores by name, such as {'faithfulness': {trace_id: 0.9}}")
    rows = {}
    for name, values in scores.items():
        said = [f for f in feedback if f.trace_id in values and np.isfinite(values[f.trace_id])]
        given, up = np.array([values[f.trace_id] for f in said]), np.array([f.thumb > 0 for f in said], dtype=bool)
        if up.all() or not up.any():
            raise InputError(f"{name}: {up.sum()} thumbs up, {(~up).sum()} down with a score: expected some of both")
        units = [same(f.question) or f.trace_id for f in said]
        cut = (thresholds or {}).get(name, 0.5)
        low, high = auroc_interval(given, up, units, seed=seed)
        rows[name] = {
            "n": len(said),
            "auroc": auroc(given[up], given[~up]),
            "low": low,
            "high": high,
            "kappa": cohen_kappa(given >= cut, up),
            **dict(zip(("kappa_low", "kappa_high"), kappa_interval(given >= cut, up, units, seed), strict=True)),
            "verdict": "agrees" if low > 0.5 else "contradicts" if high < 0.5 else "no detectable agreement",
        }
    return require("pandas", "notebook").DataFrame(rows).T.infer_objects()  # type: ignore[no-any-return]


def kappa_interval(
    one: NDArray[np.bool_], other: NDArray[np.bool_], units: Sequence[str], seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of kappa when the units are drawn again with replacement (cluster bootstrap, Efron 1979)."""
    _, owner = np.unique(np.asarray(units), return_inverse=True)
    n = int(owner.max()) + 1
    # Kappa needs only how often each pair of judgements occurs: count them once for each unit.
    table = np.zeros((n, 4))
    np.add.at(table, (owner, 2 * one.astype(int) + other.astype(int)), 1)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES // 5) @ table
    share = counts / counts.sum(axis=1, keepdims=True)
    a, b = share[:, 2] + share[:, 3], share[:, 1] + share[:, 3]
    expected = a * b + (1 - a) * (1 - b)
    there = expected < 1
    found = (share[there, 0] + share[there, 3] - expected[there]) / (1 - expected[there])
    low, high = np.quantile(found, [0.025, 0.975]) if len(found) else (np.nan, np.nan)
    return float(low), float(high)
