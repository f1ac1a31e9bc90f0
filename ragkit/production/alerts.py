"""Alert rules: what must not happen, in a file that people can read (``data/alerts.toml`` is the default)::

    [slow-answers]
    metric = "latency"
    above = 1000.0                # milliseconds
    message = "Look at monitor.dashboard(): which stage is it?"

An alarm that is wrong a few times is one that nobody reads. So a rule looks at a window of queries, and fires only
where the whole 95 % interval of what it measures lies beyond the limit: 1 error of 3 queries is an error rate of .33,
and also one of .06 to .79. Then it is silent for a while. The intervals of rates and quantiles are about one look, and
take queries for independent: who looks all day sets the limit well away from what is usual. A rule on drift may look
after each query (``ragkit.production.watch``).
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ragkit.base import InputError, require
from ragkit.files import data_file
from ragkit.pipeline.config import read_record
from ragkit.production.drift import valued
from ragkit.production.readings import checked, latency, rate, spent
from ragkit.production.watch import watch

if TYPE_CHECKING:
    import pandas as pd

Metric = Literal["latency", "abstentions", "errors", "cache hits", "cost a day", "drift"]
Timed = Literal["total", "cache", "rewrite", "retrieve", "rerank", "build", "generate"]
SHOWN = 5
"""Traces that an alert names."""

_RATES = ("abstentions", "errors", "cache hits")


@dataclass(frozen=True)
class Rule:
    """One alert rule: a table of the file, under its name.

    Args:
        name: of the table.
        metric: what is measured: ``latency`` (milliseconds), ``cost a day`` (as ``cost`` in the traces), ``drift``, or
            a rate from 0 to 1.
        above: fire above this limit ...
        below: ... or below this one. A drift rule has neither.
        stage: for latency, of which the 95th percentile is measured: which stage; ``total`` is the whole query.
        queries: the window: so many of the last queries. For ``cost a day`` it is the last 24 hours instead.
        least: say nothing about fewer queries.
        reference: for drift: the first so many queries of the log are what is usual.
        silent_hours: the cool-down after an alert.
        message: what the reader should do.

    Raises:
        InputError: a value outside its range; says which key, what was found and what was expected.
    """

    name: str
    metric: Metric
    above: float | None = None
    below: float | None = None
    stage: Timed = "total"
    queries: int = 200
    least: int = 30
    reference: int = 1000
    silent_hours: float = 24.0
    message: str = ""

    def __post_init__(self) -> None:
        self._expect("metric", self.metric in get_args(Metric), f"one of {', '.join(get_args(Metric))}")
        limits = [limit for limit in (self.above, self.below) if limit is not None]
        if self.metric == "drift":
            self._expect("above", not limits, "no limit: a drift rule is wrong in one of twenty quiet logs at most")
        else:
            self._expect("above", len(limits) == 1, "exactly one limit, above or below")
            highest = 1.0 if self.metric in _RATES else math.inf
            key = "above" if self.below is None else "below"
            words = "a rate from 0 to 1, such as 0.05 for 5 %" if self.metric in _RATES else "0 or more"
            self._expect(key, 0 <= limits[0] <= highest, words)
        self._expect("stage", self.stage in get_args(Timed), f"one of {', '.join(get_args(Timed))}")
        self._expect("silent_hours", self.silent_hours >= 0, "0 or more")
        self._expect("least", self.least >= 1, "1 or more")
        self._expect("reference", self.reference >= 1, "1 or more")
        self._expect("queries", self.least <= self.queries, f"least ({self.least}) or more")

    def _expect(self, key: str, fine: bool, expected: str) -> None:
        if not fine:
            raise InputError(f"{key} = {getattr(self, key)!r}: expected {expected}")


@dataclass(frozen=True, repr=False)
class Alert:
    """A rule that fired at time ``at``: ``value`` with its 95 % interval (``low``, ``high``) against ``limit``.

    ``queries`` are those it was measured on, ``since`` is when the first query came that speaks for it, ``trace_ids``
    are a few to look at, the worst or newest first. Of a drift alert, ``value`` is the evidence, which has no interval.
    """

    rule: Rule
    at: pd.Timestamp
    value: float
    low: float
    high: float
    limit: float
    queries: int
    since: pd.Timestamp
    trace_ids: tuple[str, ...]

    def __repr__(self) -> str:
        rule, way = self.rule, "below" if self.rule.below is not None else "above"
        what = {
            "latency": f"{rule.stage} p95 in milliseconds",
            "drift": "evidence of a drift of top_score",
        }
        interval = "" if self.low == self.high else f" [{self.low:.3g}, {self.high:.3g}]"
        return (
            f"{rule.name}: {what.get(rule.metric, rule.metric)} {self.value:.3g}{interval} is {way} {self.limit:g} "
            f"({self.queries} queries, since {self.since:%Y-%m-%d %H:%M}). {rule.message}".rstrip()
        )


def load_alerts(path: str | Path | None = None) -> tuple[Rule, ...]:
    """The rules of a TOML file, one a table; without ``path`` those of ``data/alerts.toml``.

    >>> [rule.name for rule in load_alerts()][:2]
    ['slow-answers', 'slow-reranking']

    Raises:
        InputError: names the file, the rule and the key, what was found and what was expected.
    """
    file = Path(path).expanduser() if path is not None else data_file("alerts.toml")
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file}: not TOML: {error}") from None
    try:
        return tuple(_rule(name, table) for name, table in said.items())
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def _rule(name: str, table: object) -> Rule:
    if not isinstance(table, dict):
        raise InputError(f"{name} = {table!r} stands outside any rule: expected tables such as [{name}]")
    if "name" in table:
        raise InputError(f"[{name}]: unknown 'name': the rule's name is that of its table")
    return read_record(Rule, {**table, "name": name}, name)


def check(rules: Sequence[Rule], frame: pd.DataFrame, previous: Sequence[Alert] = ()) -> list[Alert]:
    """The rules that fire on the queries (rows of ``TraceMonitor.dataframe()``), at the moment of the last one.

    A rule that fired among ``previous`` less than its ``silent_hours`` before is silent. A drift rule judges the whole
    frame: hand over the part that begins where things were as they should be.

    Raises:
        InputError: the frame has no column of that kind.
    """
    pd = require("pandas", "notebook")
    if checked(frame).empty:
        return []
    at = frame["began"].max()
    found = []
    for rule in rules:
        silent = pd.Timedelta(hours=rule.silent_hours)
        if any(alert.rule.name == rule.name and at - silent < alert.at <= at for alert in previous):
            continue
        if (alert := _judged(rule, frame, at)) is not None:
            found.append(alert)
    return found


def history(rules: Sequence[Rule], frame: pd.DataFrame, every: int = 50) -> list[Alert]:
    """The alerts that would have come if somebody had looked after each ``every`` queries, cool-downs observed.

    Try rules on last month's traces before they may wake anybody.

    Raises:
        InputError: ``every`` < 1, or as ``check``.
    """
    if every < 1:
        raise InputError(f"every is {every!r}: expected 1 or more")
    found: list[Alert] = []
    for end in range(every, len(frame) + 1, every):
        found += check(rules, frame.iloc[:end], previous=found)
    return found


def _judged(rule: Rule, seen: pd.DataFrame, at: pd.Timestamp) -> Alert | None:
    if rule.metric == "drift":
        return _drifted(rule, seen, at)
    rows = _windowed(rule, seen, at)
    if rule.metric == "latency":
        reading = latency(rows, rule.stage)
    elif rule.metric == "cost a day":
        reading = spent(rows)
    else:
        reading = rate(rows, rule.metric)
    if reading is None or reading.queries < rule.least:
        return None
    if rule.above is not None:
        limit, guilty, fires = rule.above, reading.guilty, reading.low > rule.above
    else:
        assert rule.below is not None
        limit, guilty, fires = rule.below, reading.innocent or reading.guilty[::-1], reading.high < rule.below
    if not fires:
        return None
    if rule.metric in _RATES:
        guilty = guilty[::-1]  # the newest first
    since = rows.loc[rows["trace_id"].isin(_beyond(rule, rows, guilty)), "began"].min()
    return Alert(rule, at, reading.value, reading.low, reading.high, limit, reading.queries, since, guilty[:SHOWN])


def _beyond(rule: Rule, rows: pd.DataFrame, guilty: Sequence[str]) -> Sequence[str]:
    """The traces of which the first one says since when: for latency those on the wrong side of the limit."""
    if rule.metric != "latency":
        return guilty
    ms = rows["ms" if rule.stage == "total" else f"{rule.stage}_ms"]
    beyond = ms > rule.above if rule.above is not None else ms < rule.below
    return list(rows.loc[beyond, "trace_id"])


def _windowed(rule: Rule, seen: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    if rule.metric == "cost a day":
        rows: pd.DataFrame = seen[seen["began"] > at - require("pandas", "notebook").Timedelta(days=1)]
        return rows
    return seen.tail(rule.queries)


def _drifted(rule: Rule, seen: pd.DataFrame, at: pd.Timestamp) -> Alert | None:
    reference, rest = seen.iloc[: rule.reference], seen.iloc[rule.reference :]
    if len(rest) < rule.least:
        return None
    watched = watch(reference, rest)
    if watched.fired is None or watched.began is None:
        return None
    rows = valued(rest, "top_score").iloc[watched.began : watched.fired]
    worst = rows.sort_values("top_score", ascending=watched.lower, kind="stable")["trace_id"]
    evidence = max(watched.evidence)
    limit = watched.limit
    ids = tuple(worst.drop_duplicates()[:SHOWN])
    return Alert(rule, at, evidence, evidence, evidence, limit, len(watched.evidence), rows["began"].iloc[0], ids)
