"""What an alert rule or a dashboard reads off a window of queries: a value, its interval, and the queries behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from ragkit.base import InputError, require
from ragkit.evaluation.statistics import wilson

if TYPE_CHECKING:
    import pandas as pd

Rate = Literal["abstentions", "errors", "cache hits"]

STAGES = ("cache", "rewrite", "retrieve", "rerank", "build", "generate")
"""The stages of a query, in order: columns ``cache_ms``, ``rewrite_ms``, ... of ``TraceMonitor.dataframe()``."""

COLUMNS = (
    *("trace_id", "began", "question", "session", "ms", *(f"{stage}_ms" for stage in STAGES)),
    *("top_score", "cache", "cost", "abstained", "error"),
)
"""The columns that alerts and dashboard read."""


@dataclass(frozen=True)
class Reading:
    """``value`` with its 95 % interval over ``queries`` queries; ``guilty`` are the traces that speak for a high value,
    ``innocent`` the others, in order. A value that was counted and not estimated is its own interval."""

    value: float
    low: float
    high: float
    queries: int
    guilty: tuple[str, ...] = ()
    innocent: tuple[str, ...] = ()


def checked(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame``, if it is a table of queries.

    Raises:
        InputError: a column is missing.
    """
    if missing := [column for column in COLUMNS if column not in frame]:
        raise InputError(f"the frame has no column {missing[0]!r}: expected the table of TraceMonitor.dataframe()")
    return frame


def rate(frame: pd.DataFrame, what: Rate) -> Reading | None:
    """The share of queries that abstained, failed, or were answered by the cache; Wilson's interval (1927).

    A query that failed could neither abstain nor answer; where the cache was off it could not hit. None: no such query.
    """
    if what == "abstentions":
        rows = frame[frame["error"] == ""]
        counted = rows["abstained"].astype(bool)
    elif what == "errors":
        rows, counted = frame, frame["error"] != ""
    else:
        rows = frame[frame["cache"] != "off"]
        counted = rows["cache"].isin(["hit", "near", "shared"])
    if rows.empty:
        return None
    low, high = wilson(int(counted.sum()), len(rows))
    ids = rows["trace_id"]
    return Reading(float(counted.mean()), low, high, len(rows), tuple(ids[counted]), tuple(ids[~counted]))


def latency(frame: pd.DataFrame, stage: str = "total", quantile: float = 0.95) -> Reading | None:
    """A quantile of the milliseconds of a ``stage`` (or ``total``), of the queries in which it ran; None: of none.

    ``guilty`` are all of them, the slowest first.
    """
    timed = frame[["trace_id"]].assign(ms=frame["ms" if stage == "total" else f"{stage}_ms"]).dropna()
    if timed.empty:
        return None
    low, high = quantile_interval(timed["ms"].to_numpy(), quantile)
    slowest = timed.sort_values("ms", ascending=False, kind="stable")
    value = float(np.quantile(timed["ms"].to_numpy(), quantile))
    return Reading(value, low, high, len(timed), tuple(slowest["trace_id"]))


def spent(frame: pd.DataFrame) -> Reading | None:
    """What the queries cost together; None: no cost is known. The dearest come first."""
    known = frame[frame["cost"].notna()]
    if known.empty:
        return None
    value = float(known["cost"].sum())
    dearest = known.sort_values("cost", ascending=False, kind="stable")
    return Reading(value, value, value, len(known), tuple(dearest["trace_id"]))


def quantile_interval(values: ArrayLike, quantile: float) -> tuple[float, float]:
    """The 95 % interval of a quantile, whatever the distribution: two of the sorted values (Conover, Practical
    Nonparametric Statistics, 1999, section 3.2). Infinite on a side on which there are too few values.

    >>> quantile_interval(range(1, 101), 0.5)
    (40.0, 61.0)
    >>> quantile_interval(range(1, 11), 0.95)
    (8.0, inf)
    """
    stats = require("scipy.stats", "notebook")
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    below, above = (int(n) for n in stats.binom.ppf([0.025, 0.975], len(ordered), quantile))
    low = float(ordered[below - 1]) if below > 0 else -np.inf
    return low, float(ordered[above]) if above < len(ordered) else np.inf
