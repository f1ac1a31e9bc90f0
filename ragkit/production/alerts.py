"""Alert rules: what must not happen, in a file that people can read (``data/alerts.toml`` is the default)::

    [slow-answers]
    metric = "latency"
    above = 1000.0                # milliseconds
    message = "Look at monitor.dashboard(): which stage is it?"

A rule looks at a window of queries, and fires where the whole 95 % interval of what it measures lies above the limit:
1 error of 3 queries is an error rate of .33, and also one of .06 to .79. Then it is silent for a while. The intervals
are about one look, and take queries for independent: who looks all day sets the limit well away from what is usual. For
scores, which have no such limit, there is a test that may look after each query
(``ragkit.production.drift.detect_change``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from ragkit.base import InputError, require
from ragkit.evaluation.statistics import wilson
from ragkit.files import data_file
from ragkit.pipeline.config import Table, read_table

if TYPE_CHECKING:
    import pandas as pd

RATES = ("abstentions", "errors", "cache misses")
"""The metrics that go from 0 to 1."""

SHOWN = 5
"""Traces that an alert names."""


# ---- what is measured


@dataclass(frozen=True)
class Measured:
    """``value`` with its 95 % interval, and what it was measured on: a number for each query, by its row."""

    value: float
    low: float
    high: float
    each: pd.Series[float]


def rate(frame: pd.DataFrame, what: str) -> Measured | None:
    """One of the ``RATES``: the share of queries that abstained, failed, or were new to the cache; Wilson's interval
    (1927).

    A query that failed could neither abstain nor answer; where the cache was off it could not miss. None: no such
    query."""
    if what == "abstentions":
        each = frame.loc[frame["error"] == "", "abstained"].astype(bool)
    elif what == "errors":
        each = frame["error"] != ""
    else:
        each = frame.loc[frame["cache"] != "off", "cache"] == "miss"
    if each.empty:
        return None
    return Measured(float(each.mean()), *wilson(int(each.sum()), len(each)), each.astype(float))


def quantile(values: pd.Series[float], q: float = 0.95) -> Measured | None:
    """A quantile of the values that there are; its interval, two of the sorted values, holds for any distribution
    (Conover, Practical Nonparametric Statistics, 1999, section 3.2), and has no end on a side on which there are too
    few values. None: there is no value."""
    each = values.dropna()
    if each.empty:
        return None
    below, above = require("scipy.stats", "notebook").binom.ppf([0.025, 0.975], len(each), q).astype(int)
    ends = [-np.inf, *sorted(each), np.inf]
    return Measured(float(np.quantile(each, q)), float(ends[below]), float(ends[above + 1]), each)


def total(values: pd.Series[float]) -> Measured | None:
    """The sum of the values that there are: counted, so there is nothing to estimate. None: there is no value."""
    each, value = values.dropna(), float(values.sum())
    return None if each.empty else Measured(value, value, value, each)


# ---- rules


class Rule(Table):
    """One alert rule: a table of the file, under its name.

    Args:
        name: of the table.
        metric: what is measured: ``latency`` (the 95th percentile, in milliseconds), ``cost a day`` (as ``cost`` in the
            traces), or a rate from 0 to 1.
        above: the limit.
        stage: for latency, which stage; ``total`` is the whole query.
        queries: the window: so many of the last queries. For ``cost a day`` it is the last 24 hours instead.
        least: say nothing about fewer queries. (A cost is a sum and no estimate: it speaks of a single query, too.)
        silent_hours: the cool-down after an alert.
        message: what the reader should do.
    """

    name: str
    metric: Literal["latency", "abstentions", "errors", "cache misses", "cost a day"]
    above: float = Field(ge=0)
    stage: Literal["total", "cache", "rewrite", "retrieve", "rerank", "build", "generate"] = "total"
    queries: int = 200
    least: int = 30
    silent_hours: float = 24.0
    message: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Rule:
        if self.metric in RATES and self.above > 1:
            raise ValueError(f"[{self.name}], above = {self.above:g}: expected a rate, such as 0.05 for 5 %")
        if self.queries < self.least:
            raise ValueError(f"[{self.name}], queries = {self.queries}: expected least ({self.least}) or more")
        return self

    def measure(self, frame: pd.DataFrame) -> Measured | None:
        """What the rule looks at in the last queries of ``frame``; None: there are too few."""
        if self.metric == "cost a day":
            return total(frame.loc[frame["began"] > frame["began"].max() - timedelta(days=1), "cost"])
        rows = frame.tail(self.queries)
        if self.metric == "latency":
            measured = quantile(rows["ms" if self.stage == "total" else f"{self.stage}_ms"])
        else:
            measured = rate(rows, self.metric)
        return measured if measured and len(measured.each) >= self.least else None


def load_alerts(path: str | Path | None = None) -> tuple[Rule, ...]:
    """The rules of a TOML file, one a table; without ``path`` those of ``data/alerts.toml``.

    >>> [rule.name for rule in load_alerts()][:2]
    ['slow-answers', 'slow-reranking']

    Raises:
        InputError: names the file, the rule and the key, what was found and what was expected.
    """
    file = Path(path).expanduser() if path is not None else data_file("alerts.toml")
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
        named = {name: {**table, "name": name} if isinstance(table, dict) else table for name, table in tables.items()}
        return tuple(read_table(Rule, table, name) for name, table in named.items())
    except (OSError, ValueError, InputError) as error:  # no such file, no TOML, no rule
        raise InputError(f"{file}: {error}") from None


# ---- alerts


@dataclass(frozen=True, repr=False)
class Alert:
    """A rule that fired at time ``at``, and what it ``measured``.

    ``since`` is when the first query came that speaks for it, ``trace_ids`` are a few to look at, the worst or newest
    first.
    """

    rule: Rule
    at: pd.Timestamp
    measured: Measured
    since: pd.Timestamp
    trace_ids: tuple[str, ...]

    def __repr__(self) -> str:
        rule, m = self.rule, self.measured
        what = f"{rule.stage} p95 in milliseconds" if rule.metric == "latency" else rule.metric
        interval = "" if m.low == m.high else f" [{m.low:.3g}, {m.high:.3g}]"
        return (
            f"{rule.name}: {what} {m.value:.3g}{interval} is above {rule.above:g} "
            f"({len(m.each)} queries, since {self.since:%Y-%m-%d %H:%M}). {rule.message}".rstrip()
        )


def check(rules: Sequence[Rule], frame: pd.DataFrame, previous: Sequence[Alert] = ()) -> list[Alert]:
    """The rules that fire on the queries (rows of ``TraceMonitor.dataframe()``), at the moment of the last one.

    A rule that fired among ``previous`` less than its ``silent_hours`` before is silent.
    """
    frame = frame.reset_index(drop=True)
    at = frame["began"].max()
    alerts = []
    for rule in rules:
        ago = [at - alert.at for alert in previous if alert.rule.name == rule.name]
        silent = any(timedelta(0) <= each < timedelta(hours=rule.silent_hours) for each in ago)
        measured = rule.measure(frame)
        if measured and measured.low > rule.above and not silent:
            since, ids = _evidence(rule, measured, frame)
            alerts.append(Alert(rule, at, measured, since, ids))
    return alerts


def history(rules: Sequence[Rule], frame: pd.DataFrame, every: int = 50) -> list[Alert]:
    """The alerts that would have come if somebody had looked after each ``every`` queries, cool-downs observed.

    Try rules on last month's traces before they may wake anybody.
    """
    alerts: list[Alert] = []
    for end in range(every, len(frame) + 1, every):
        alerts += check(rules, frame.iloc[:end], alerts)
    return alerts


def _evidence(rule: Rule, measured: Measured, frame: pd.DataFrame) -> tuple[pd.Timestamp, tuple[str, ...]]:
    """When the first query came that is above the limit, and a few of them."""
    each = measured.each[::-1]  # the newest first
    if rule.metric != "cost a day":  # where each query has its part in the sum
        each = each[each > rule.above]
    worst = frame.loc[each.sort_values(ascending=False, kind="stable").index]
    return worst["began"].min(), tuple(worst["trace_id"][:SHOWN])
