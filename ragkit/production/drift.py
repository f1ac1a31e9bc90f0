"""Do people ask other things than before, or does the index answer worse? Two tests on a log of queries.

The queries of a log are not independent: the same questions come again and again (Zipf's law), and a session stays on
its topic. When one question becomes popular, the mean score of all *queries* moves, and nothing has drifted; a
Kolmogorov-Smirnov test on the queries then fires. So both tests here count equal questions once.

``drift`` compares two windows. It is a paired-sign test on clusters (``evaluation.statistics``): what gets a random
sign is a whole question, or a whole session, with all its queries; of the two clusterings the less certain answer
counts. Wordings that find the same best passage are one question.

``detect_change`` may look after every query, for as long as one likes. It is a *conformal test martingale* (Vovk,
Gammerman &
Shafer, Algorithmic Learning in a Random World, 2005; Vovk et al. 2021, arXiv 2102.10439): rank each new value among all
before it, and bet on the rank. As long as nothing changes, every rank is as likely as every other, so the capital
(*evidence*) starts at 1 and reaches 20 at some time with a probability of 1 in 20 at most (Ville's inequality, 1939).
A question counts when it did not count among the ``WINDOW`` queries before; wordings count as different questions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

import numpy as np

from ragkit.base import InputError, question_key, require
from ragkit.evaluation import statistics

if TYPE_CHECKING:
    import pandas as pd

Column = Literal["top_score", "abstained"]

RESAMPLES = 1_999

LIMIT = 20.0
"""The evidence at which a watch fires: 1 in 20 quiet logs reaches it at most."""

WINDOW = 500
"""Queries after which a question that is asked again counts again."""

FEWEST = 30
"""Questions that count without which a reference says too little about what is usual."""

SLOPES = (-1.0, 0.0, 1.0)
"""Three bets on the next rank: it is low, no bet, it is high."""

JUMP = 0.001
"""The share of the capital that is dealt out anew before each step."""


@dataclass(frozen=True, repr=False)
class Drift:
    """How the mean of ``column`` differs between two windows.

    ``difference`` is ``after - before`` with its 95 % interval (``low``, ``high``), ``p`` is two-sided. ``queries`` and
    ``questions`` (the distinct ones) are those of the reference and of now. A true difference of ``detectable`` or more
    would be found 8 times in 10.
    """

    column: str
    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float
    queries: tuple[int, int]
    questions: tuple[int, int]
    detectable: float

    @property
    def found(self) -> bool:
        """Whether there is a difference that chance does not explain (p below .05)."""
        return self.p < statistics.ALPHA

    @property
    def verdict(self) -> Literal["higher", "lower", "no detectable difference"]:
        """The same in words."""
        if not self.found:
            return "no detectable difference"
        return "higher" if self.difference > 0 else "lower"

    def __repr__(self) -> str:
        return (
            f"{self.column}: {self.verdict}; {self.before:.2f} before, {self.after:.2f} now, difference "
            f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}], p {self.p:.4f}; {self.queries[0]} and "
            f"{self.queries[1]} queries, {self.questions[0]} and {self.questions[1]} distinct questions; "
            f"a difference of {self.detectable:.3f} would be found 8 times in 10"
        )


def drift(
    reference: pd.DataFrame, now: pd.DataFrame, column: Column = "top_score", *, resamples: int = RESAMPLES
) -> Drift:
    """Whether ``column`` of the queries ``now`` differs from the ``reference``: rows of ``TraceMonitor.dataframe()``.

    Queries without a value (nothing was found, an error) are left out: look at the rates of those by themselves.

    Raises:
        InputError: fewer than two queries with a value in one of the two, or a column is missing.
    """
    table = _both(reference, now, column)
    parts = table[["part"]].to_numpy() * len(table)  # so that their mean is the difference
    clusterings = [table[name].tolist() for name in ("intent", "session")]
    tests = [statistics.estimate(parts, clusters, resamples) for clusters in clusterings]
    windows = table.groupby("now")  # False: the reference
    before, after = windows["value"].mean()
    return Drift(
        column,
        float(before),
        float(after),
        float(parts.mean()),
        min(float(test.low[0]) for test in tests),
        max(float(test.high[0]) for test in tests),
        max(float(test.p[0]) for test in tests),
        _pair(windows.size()),
        _pair(windows["key"].nunique()),
        max(float(statistics.minimum_detectable(parts, clusters)[0]) for clusters in clusterings),
    )


def drift_contributions(
    reference: pd.DataFrame, now: pd.DataFrame, column: Column = "top_score", limit: int | None = 10
) -> pd.DataFrame:
    """Which questions make the difference: one row a distinct question; ``part`` sums to the whole difference.

    ``asked_before`` and ``asked_now`` count its queries, ``before`` and ``now`` are its mean values (NaN where it was
    not asked). The largest parts (without regard to their sign) come first, ``limit`` of them (None: all).

    Raises:
        InputError: as ``drift``.
    """
    table = _both(reference, now, column)
    questions = table.groupby("key", sort=False)
    result = questions.agg(question=("question", "first"), part=("part", "sum"))
    for name, rows in (("before", table[~table["now"]]), ("now", table[table["now"]])):
        own = rows.groupby("key")["value"]
        result[f"asked_{name}"] = own.size().reindex(result.index, fill_value=0)
        result[name] = own.mean().reindex(result.index)
    order = result["part"].abs().sort_values(ascending=False, kind="stable").index[:limit]
    return result.loc[order, ["question", "asked_before", "asked_now", "before", "now", "part"]].reset_index(drop=True)


def with_value(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The queries that have a value of ``column``. One that failed neither abstained nor answered."""
    rows = frame[frame["error"] == ""] if column == "abstained" else frame
    return rows[rows[column].notna()]


def _valued(frame: pd.DataFrame, column: str, name: str, least: int) -> pd.DataFrame:
    """The queries with a value: ``question key session value hit``. One without a session is a session of its own, and
    without hits a question finds itself."""
    if missing := [each for each in (column, "question", "session", "error") if each not in frame]:
        raise InputError(f"{name} has no column {missing[0]!r}: expected the table of TraceMonitor.dataframe()")
    rows = with_value(frame, column)
    if len(rows) < least:
        raise InputError(f"{name} has {len(rows)} queries with a value of {column!r}: expected {least} or more")
    table = rows[["question"]].reset_index(drop=True)
    table["key"] = [question_key(question) for question in table["question"]]
    table["session"] = [session or f"{name}\0{row}" for row, session in enumerate(rows["session"])]
    table["value"] = rows[column].to_numpy(dtype="float64")
    hits = rows["hits"] if "hits" in rows else [()] * len(rows)
    table["hit"] = [found[0] if len(found) else key for found, key in zip(hits, table["key"], strict=True)]
    return table


def _both(reference: pd.DataFrame, now: pd.DataFrame, column: str) -> pd.DataFrame:
    """The queries of both windows, with ``now`` (bool), ``intent`` and the ``part`` of each in the difference.

    An intent is what is asked for: wordings that found the same best passage. (A wording keeps the passage that it
    found first, also where the index has changed since.) Values are taken from what is usual, the mean over the
    intents: a question with a usual value adds nothing, however often it is asked. The mean over the queries would
    itself move with what is popular, and every other question would seem to move the other way.
    """
    windows = {False: _valued(reference, column, "reference", 2), True: _valued(now, column, "now", 2)}
    table: pd.DataFrame = require("pandas", "notebook").concat(windows, names=["now"]).reset_index("now")
    first: dict[str, str] = {}
    table["intent"] = [first.setdefault(key, hit) for key, hit in zip(table["key"], table["hit"], strict=True)]
    usual = table.groupby("intent")["value"].mean().mean()
    share = np.where(table["now"], 1 / len(windows[True]), -1 / len(windows[False]))
    table["part"] = (table["value"] - usual) * share
    return table


def _pair(counts: pd.Series[int]) -> tuple[int, int]:
    before, after = counts
    return int(before), int(after)


@dataclass(frozen=True, repr=False)
class ChangePoint:
    """What a watch over ``column`` has seen.

    ``evidence`` is the capital after each query with a value. ``fired`` counts the queries until it reached ``LIMIT``,
    that one included, and ``began`` those before the change by our best guess (both None: it did not fire).
    ``questions`` are those that counted, of the reference and of the watched queries.
    """

    column: str
    evidence: tuple[float, ...]
    fired: int | None
    began: int | None
    lower: bool
    questions: tuple[int, int]

    def __repr__(self) -> str:
        seen = f"{len(self.evidence)} queries, {self.questions[1]} of them freshly asked"
        if self.fired is None:
            return f"{self.column}: quiet after {seen} (evidence {max(self.evidence, default=1):.1f} of {LIMIT:.0f})"
        way = "lower" if self.lower else "higher"
        return f"{self.column}: {way} since about query {self.began}, fired at query {self.fired} of {seen}"


def detect_change(reference: pd.DataFrame, queries: pd.DataFrame, column: Column = "top_score") -> ChangePoint:
    """Look at ``queries`` one by one: does ``column`` stay what it was in the ``reference``?

    Both are rows of ``TraceMonitor.dataframe()``. Of twenty logs in which nothing changes, one at most is expected ever
    to fire, however long they last, as far as fresh questions come in no special order. The beginning of the reference,
    where every question is fresh, is left out.

    Raises:
        InputError: a reference with fewer than ``FEWEST`` freshly asked questions, or a column is missing.
    """
    before, after = _valued(reference, column, "the reference", FEWEST), _valued(queries, column, "the log", 0)
    values = [*before["value"], *after["value"]]
    fresh = [i for i in first_in_window([*before["key"], *after["key"]]) if i >= min(WINDOW, len(before) // 2)]
    usual = sum(i < len(before) for i in fresh)
    if usual < FEWEST:
        raise InputError(
            f"the reference has {len(before)} queries, of which {usual} ask something fresh: expected {FEWEST} or "
            "more. Take a longer reference"
        )
    ranks = np.array(list(conformal_p_values([values[i] for i in fresh], Random(0))))[usual:]
    positions = np.array(fresh[usual:], dtype=np.intp) - len(before)
    capital = np.array([1.0, *simple_jumper(ranks)])
    evidence = capital[np.searchsorted(positions, np.arange(len(after)), side="right")]
    above = np.flatnonzero(evidence >= LIMIT)
    fired, began, lower = None, None, False
    if len(above):
        fired = int(above[0]) + 1
        began = int(fired - 1 - np.argmin(evidence[:fired][::-1]))
        lower = float(ranks[(positions >= began) & (positions < fired)].mean()) < 0.5
    return ChangePoint(column, tuple(evidence.tolist()), fired, began, lower, (usual, len(ranks)))


def first_in_window(questions: Sequence[str], window: int = WINDOW) -> list[int]:
    """The places of the questions that did not count among the ``window`` queries before.

    >>> first_in_window(["a", "b", "a", "a", "b"], window=2)
    [0, 1, 3, 4]
    """
    last: dict[str, int] = {}
    places = []
    for i, question in enumerate(questions):
        if question not in last or i - last[question] > window:
            places.append(i)
            last[question] = i
    return places


def conformal_p_values(values: Iterable[float], rng: Random) -> Iterator[float]:
    """The rank of each value among all so far, from 0 (the lowest) to 1; equal values share theirs by lot.

    Where the values could have come in any order, these are independent and uniform (Vovk et al. 2005).

    >>> [round(p, 2) for p in conformal_p_values([0.5, 0.7, 0.6], Random(0))]
    [0.84, 0.88, 0.47]
    """
    seen: list[float] = []
    for value in values:
        low, high = bisect_left(seen, value), bisect_right(seen, value)
        yield (low + rng.random() * (high - low + 1)) / (len(seen) + 1)
        insort(seen, value)


def simple_jumper(p_values: Iterable[float]) -> Iterator[float]:
    """The capital after each bet, from 1: the *simple jumper* martingale (Vovk et al. 2021).

    Each of the ``SLOPES`` e multiplies its share of the capital by ``1 + e (p - 0.5)``, whose mean over uniform p is 1:
    in the long run nobody can win. ``JUMP`` of the capital is dealt out anew before each step.

    >>> [round(capital, 2) for capital in simple_jumper([0.1, 0.1, 0.9])]
    [1.0, 1.11, 0.89]
    """
    shares = [1 / len(SLOPES)] * len(SLOPES)
    for p in p_values:
        dealt = JUMP * sum(shares) / len(SLOPES)
        bets = zip(SLOPES, shares, strict=True)
        shares = [((1 - JUMP) * share + dealt) * (1 + slope * (p - 0.5)) for slope, share in bets]
        yield sum(shares)
