"""Alert rules: what must not happen, in a file that people can read (``data/alerts.toml`` is the default)::

    [slow-answers]
    metric = "latency"
    above = 1000.0                # milliseconds
    message = "Look at monitor.dashboard(): which stage is it?"

A rule looks at a window of queries, and fires where the whole 95 % interval of what it measures lies beyond the limit:
1 error of 3 queries is an error rate of .33, and also one of .06 to .79. Then it is silent for a while. The intervals
of rates and quantiles are about one look, and take queries for independent: who looks all day sets the limit well away
from what is usual. A rule on drift may look after each query (``ragkit.production.drift.detect_change``).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ragkit.base import InputError, require
from ragkit.evaluation.statistics import wilson
from ragkit.files import atomic_write, data_file, home
from ragkit.production.drift import LIMIT, detect_change, with_value

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

REFERENCE = 1000
"""Queries that say what is usual, for a rule on drift."""

SHOWN = 5
"""Traces that an alert names."""

_RATES = ("abstentions", "errors", "cache hits")


# ---- what is measured


@dataclass(frozen=True)
class Measured:
    """``value`` with its 95 % interval, and what it was measured on: a number for each query, by its row."""

    value: float
    low: float
    high: float
    each: pd.Series[float]


def checked(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame``, if it is a table of queries.

    Raises:
        InputError: a column is missing.
    """
    if missing := [column for column in COLUMNS if column not in frame]:
        raise InputError(f"the frame has no column {missing[0]!r}: expected the table of TraceMonitor.dataframe()")
    return frame


def rate(frame: pd.DataFrame, what: Rate) -> Measured | None:
    """The share of queries that abstained, failed, or were answered by the cache; Wilson's interval (1927).

    A query that failed could neither abstain nor answer; where the cache was off it could not hit. None: no such query.
    """
    if what == "abstentions":
        each = frame.loc[frame["error"] == "", "abstained"].astype(bool)
    elif what == "errors":
        each = frame["error"] != ""
    else:
        each = frame.loc[frame["cache"] != "off", "cache"].isin(["hit", "near", "shared"])
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


# ---- rules


class Rule(BaseModel):
    """One alert rule: a table of the file, under its name.

    Args:
        name: of the table.
        metric: what is measured: ``latency`` (the 95th percentile, in milliseconds), ``cost a day`` (as ``cost`` in the
            traces), ``drift`` (of ``top_score``), or a rate from 0 to 1.
        above: fire above this limit ...
        below: ... or below this one. A drift rule has neither.
        stage: for latency, which stage; ``total`` is the whole query.
        queries: the window: so many of the last queries. For ``cost a day`` it is the last 24 hours instead.
        least: say nothing about fewer queries. (A cost is a sum and no estimate: it speaks of a single query, too.)
        reference: for drift: the file, below ``production`` in ragkit's home, that holds what is usual. The first check
            of 1,000 queries or more writes the first 1,000 of them there. Delete it where something was changed on
            purpose, such as the documents.
        silent_hours: the cool-down after an alert.
        message: what the reader should do.

    Raises:
        pydantic.ValidationError: a value outside its range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    metric: Literal["latency", "abstentions", "errors", "cache hits", "cost a day", "drift"]
    above: float | None = Field(None, ge=0)
    below: float | None = Field(None, ge=0)
    stage: Literal["total", "cache", "rewrite", "retrieve", "rerank", "build", "generate"] = "total"
    queries: int = 200
    least: int = Field(30, ge=1)
    reference: str = "usual.json"
    silent_hours: float = Field(24.0, ge=0)
    message: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Rule:
        limits = [limit for limit in (self.above, self.below) if limit is not None]
        if self.metric == "drift" and limits:
            raise ValueError("expected no limit: a drift rule is wrong in one of twenty quiet logs at most")
        if self.metric != "drift" and len(limits) != 1:
            raise ValueError("expected exactly one limit, above or below")
        if self.metric in _RATES and limits[0] > 1:
            raise ValueError(f"the limit is {limits[0]:g}: expected a rate from 0 to 1, such as 0.05 for 5 %")
        if self.queries < self.least:
            raise ValueError(f"queries = {self.queries}: expected least ({self.least}) or more")
        return self

    @property
    def limit(self) -> float:
        """Where it fires; of drift, the evidence at which ``detect_change`` does."""
        return next((limit for limit in (self.above, self.below) if limit is not None), LIMIT)


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
        return tuple(_rule(name, table) for name, table in tables.items())
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file}: not TOML: {error}") from None
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(f"{file}: {error}") from None


def _rule(name: str, table: object) -> Rule:
    if not isinstance(table, dict):
        raise InputError(f"{name} = {table!r} stands outside any rule: expected tables such as [{name}]")
    if "name" in table:
        raise InputError(f"[{name}]: unknown 'name': the rule's name is that of its table")
    try:
        return Rule(name=name, **table)
    except ValidationError as error:
        problem = error.errors()[0]
    unknown = [str(key) for key in problem["loc"] if key not in Rule.model_fields]
    near = get_close_matches(unknown[0], Rule.model_fields, n=1) if unknown else []
    value = "" if isinstance(problem["input"], dict) else f" = {problem['input']!r}"
    hint = f", did you mean {near[0]!r}?" if near else ""
    where = ", ".join([f"[{name}]", *map(str, problem["loc"])])
    raise InputError(f"{where}{value}: {problem['msg'].removeprefix('Value error, ')}{hint}")


# ---- alerts


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
        what = {"latency": f"{rule.stage} p95 in milliseconds", "drift": "evidence of a drift of top_score"}
        interval = "" if self.low == self.high else f" [{self.low:.3g}, {self.high:.3g}]"
        return (
            f"{rule.name}: {what.get(rule.metric, rule.metric)} {self.value:.3g}{interval} is {way} {self.limit:g} "
            f"({self.queries} queries, since {self.since:%Y-%m-%d %H:%M}). {rule.message}".rstrip()
        )


def check(rules: Sequence[Rule], frame: pd.DataFrame, previous: Sequence[Alert] = ()) -> list[Alert]:
    """The rules that fire on the queries (rows of ``TraceMonitor.dataframe()``), at the moment of the last one.

    A rule that fired among ``previous`` less than its ``silent_hours`` before is silent. A rule on drift judges all
    queries of the frame that came after its reference.

    Raises:
        InputError: the frame has no column of that kind, or the file of a reference can't be read.
    """
    return _check(rules, frame, previous, None)


def history(rules: Sequence[Rule], frame: pd.DataFrame, every: int = 50) -> list[Alert]:
    """The alerts that would have come if somebody had looked after each ``every`` queries, cool-downs observed.

    Try rules on last month's traces before they may wake anybody. For a rule on drift the first 1,000 queries of the
    frame are what is usual; its file is neither read nor written.

    Raises:
        InputError: ``every`` < 1, or as ``check``.
    """
    if every < 1:
        raise InputError(f"every is {every!r}: expected 1 or more")
    alerts: list[Alert] = []
    for end in range(every, len(frame) + 1, every):
        alerts += _check(rules, frame.iloc[:end], alerts, frame.iloc[:REFERENCE])
    return alerts


def _check(
    rules: Sequence[Rule], frame: pd.DataFrame, previous: Sequence[Alert], reference: pd.DataFrame | None
) -> list[Alert]:
    if checked(frame).empty:
        return []
    frame, hour = frame.reset_index(drop=True), require("pandas", "notebook").Timedelta(hours=1)
    at, alerts = frame["began"].max(), []
    for rule in rules:
        if any(a.rule.name == rule.name and at - rule.silent_hours * hour < a.at <= at for a in previous):
            continue
        if rule.metric == "drift":
            alert = _drifted(rule, _stored_reference(rule, frame) if reference is None else reference, frame, at)
        elif rule.metric == "cost a day":
            alert = _beyond(rule, frame[frame["began"] > at - 24 * hour], at)
        else:
            alert = _beyond(rule, frame.tail(rule.queries), at)
        alerts += [alert] if alert is not None else []
    return alerts


def _beyond(rule: Rule, rows: pd.DataFrame, at: pd.Timestamp) -> Alert | None:
    if rule.metric == "cost a day":
        total = float(rows["cost"].sum())  # counted, and no estimate
        measured: Measured | None = Measured(total, total, total, rows["cost"].dropna())
    elif rule.metric == "latency":
        measured = quantile(rows["ms" if rule.stage == "total" else f"{rule.stage}_ms"])
    else:
        measured = rate(rows, rule.metric)  # type: ignore[arg-type]
    if measured is None or len(measured.each) < (1 if rule.metric == "cost a day" else rule.least):
        return None
    high = rule.above is not None
    if not (measured.low > rule.limit if high else measured.high < rule.limit):
        return None
    each = measured.each[::-1]  # the newest first
    if rule.metric != "cost a day":
        each = each[each > rule.limit] if high else each[each < rule.limit]
    worst = rows.loc[each.sort_values(ascending=not high, kind="stable").index]
    ids, interval = tuple(worst["trace_id"][:SHOWN]), (measured.value, measured.low, measured.high)
    return Alert(rule, at, *interval, rule.limit, len(measured.each), worst["began"].min(), ids)


def _drifted(rule: Rule, usual: pd.DataFrame, frame: pd.DataFrame, at: pd.Timestamp) -> Alert | None:
    later = frame[frame["began"] > usual["began"].max()]
    if len(usual) < REFERENCE or len(later) < rule.least:
        return None
    watched = detect_change(usual, later)
    if watched.fired is None:
        return None
    rows = with_value(later, "top_score").iloc[watched.began : watched.fired]
    worst = rows.sort_values("top_score", ascending=watched.lower, kind="stable")
    ids, evidence = tuple(worst["trace_id"][:SHOWN]), max(watched.evidence)
    interval = (evidence, evidence, evidence)
    return Alert(rule, at, *interval, rule.limit, len(watched.evidence), rows["began"].iloc[0], ids)


def _stored_reference(rule: Rule, frame: pd.DataFrame) -> pd.DataFrame:
    """What is usual for ``rule``: out of its file, or the first queries of ``frame``, which are written to it once
    there are enough. (The log itself forgets its oldest queries, and what is usual would move with it.)"""
    pandas, path = require("pandas", "notebook"), home() / "production" / rule.reference
    if not path.exists():
        usual = frame.head(REFERENCE)[["began", "question", "session", "top_score", "error"]]
        if len(usual) == REFERENCE:
            rows = usual.assign(began=usual["began"].map(lambda began: began.isoformat())).to_dict("list")
            atomic_write(path, json.dumps(rows).encode())
        return usual
    try:
        stored: pd.DataFrame = pandas.DataFrame(json.loads(path.read_bytes()))
        stored["began"] = pandas.to_datetime(stored["began"], format="ISO8601")
        return stored
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path} is no reference of a drift rule ({error}): delete it, and the next check writes another"
        ) from None
