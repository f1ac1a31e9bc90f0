"""Do people ask other things than before, or does the index answer worse? Two tests on a log of queries.

The queries of a log are not independent: the same questions come again and again (Zipf's law), and a session stays on
its topic. When one question becomes popular, the mean score of all *queries* moves, and nothing has drifted; a
Kolmogorov-Smirnov test on the queries then fires. So both tests here count equal questions once.

``drift`` compares two windows. It is a paired-sign test on clusters (``evaluation.statistics``): what gets a random
sign is a whole question, or a whole session, with all its queries; of the two clusterings the less certain answer
counts. Wordings that find the same best passage are one question.

``detect_change`` may look after every query, for as long as one likes. It is a *conformal test martingale* (Vovk,
Gammerman & Shafer, Algorithmic Learning in a Random World, 2005; Vovk et al. 2021, arXiv 2102.10439): rank each new
value among all before it, and bet on the rank. As long as nothing changes, every rank is as likely as every other, so
the capital (*evidence*) starts at 1 and reaches 20 at some time with a probability of 1 in 20 at most (Ville's
inequality, 1939). A question counts when it did not count among the ``WINDOW`` queries before; wordings count as
different questions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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

SLOPES = np.array([-1.0, 0.0, 1.0])
"""Three bets on the next rank: it is low, no bet, it is high."""

JUMP = 0.001
"""The share of the capital that is dealt out anew before each step."""


# ---- two windows


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
    queries: tuple[int, ...]
    questions: tuple[int, ...]
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
        InputError: one of the two has fewer than two queries with a value.
    """
    table = _both(reference, now, column)
    parts = table[["part"]].to_numpy() * len(table)  # so that their mean is the difference
    clusterings = [table["intent"].tolist(), table["session"].tolist()]
    tests = [statistics.estimate(parts, clusters, resamples) for clusters in clusterings]
    windows = table.groupby("now")  # False: the reference
    before, after = windows["value"].mean()
    return Drift(
        column,
        before=float(before),
        after=float(after),
        difference=float(parts.mean()),
        low=min(float(test.low[0]) for test in tests),
        high=max(float(test.high[0]) for test in tests),
        p=max(float(test.p[0]) for test in tests),
        queries=tuple(windows.size().tolist()),
        questions=tuple(windows["key"].nunique().tolist()),
        detectable=max(float(statistics.minimum_detectable(parts, clusters)[0]) for clusters in clusterings),
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
    table = table.assign(before=table["value"].mask(table["now"]), after=table["value"].where(table["now"]))
    result = table.groupby("key", sort=False).agg(
        question=("question", "first"),
        asked_before=("before", "count"),
        asked_now=("after", "count"),
        before=("before", "mean"),
        now=("after", "mean"),
        part=("part", "sum"),
    )
    order = result["part"].abs().sort_values(ascending=False, kind="stable").index[:limit]
    return result.loc[order].reset_index(drop=True)


def _valued(frame: pd.DataFrame, column: Column, name: str) -> pd.DataFrame:
    """The queries with a ``value``, and the ``key`` of each question. A query that failed did not abstain either, and
    one without a session is a session of its own."""
    rows = frame[frame["error"] == ""] if column == "abstained" else frame
    rows = rows[rows[column].notna()].reset_index(drop=True)
    key, sessions = rows["question"].map(question_key), zip(rows["session"], rows.index, strict=True)
    session = [session or f"{name}, {row}" for session, row in sessions]
    return rows.assign(key=key, session=session, value=rows[column].astype("float64"))


def _both(reference: pd.DataFrame, now: pd.DataFrame, column: Column) -> pd.DataFrame:
    """The queries of both windows, with ``now`` (bool), ``intent`` and the ``part`` of each in the difference.

    An intent is what is asked for: wordings that found the same best passage. (A wording keeps the passage that it
    found first, also where the index has changed since.) Values are taken from what is usual, the mean over the
    intents: a question with a usual value adds nothing, however often it is asked. The mean over the queries would
    itself move with what is popular, and every other question would seem to move the other way.
    """
    windows = {False: _valued(reference, column, "reference"), True: _valued(now, column, "now")}
    if min(map(len, windows.values())) < 2:  # the parts of one query each are equal: no spread, and always a drift
        raise InputError(
            f"{len(windows[False])} queries of the reference and {len(windows[True])} of now have a value of "
            f"{column!r}: expected 2 or more of both"
        )
    table: pd.DataFrame = require("pandas", "notebook").concat(windows, names=["now"]).reset_index("now")
    passages = [hits[0] if hits else key for hits, key in zip(table["hits"], table["key"], strict=True)]
    table["intent"] = table.assign(passage=passages).groupby("key")["passage"].transform("first")
    usual = table.groupby("intent")["value"].mean().mean()
    share = np.where(table["now"], 1 / len(windows[True]), -1 / len(windows[False]))
    return table.assign(part=(table["value"] - usual) * share)


# ---- every query


@dataclass(frozen=True)
class ChangePoint:
    """What a watch over ``column`` has seen.

    ``evidence`` is the capital after each query with a value. ``fired`` counts the queries until it reached ``LIMIT``,
    that one included, and ``began`` those before the change by our best guess (both None: it did not fire). ``lower``
    says which way.
    """

    column: str
    evidence: tuple[float, ...] = field(repr=False)
    fired: int | None = None
    began: int | None = None
    lower: bool = False


def detect_change(reference: pd.DataFrame, queries: pd.DataFrame, column: Column = "top_score") -> ChangePoint:
    """Look at ``queries`` one by one: does ``column`` stay what it was in the ``reference``?

    Both are rows of ``TraceMonitor.dataframe()``. Of twenty logs in which nothing changes, one at most is expected ever
    to fire, however long they last, as far as fresh questions come in no special order. The beginning of the reference,
    where every question is fresh, is left out.

    Raises:
        InputError: a reference with fewer than ``FEWEST`` freshly asked questions.
    """
    before, after = _valued(reference, column, "reference"), _valued(queries, column, "queries")
    values, start = [*before["value"], *after["value"]], min(WINDOW, len(before) // 2)
    fresh = np.array([i for i in first_in_window([*before["key"], *after["key"]]) if i >= start], dtype=np.intp)
    usual = int(np.searchsorted(fresh, len(before)))
    if usual < FEWEST:
        raise InputError(
            f"the reference has {len(before)} queries, of which {usual} ask something fresh: expected {FEWEST} or "
            "more. Take a longer reference"
        )
    ranks = np.array(list(conformal_p_values([values[i] for i in fresh], Random(0))))[usual:]
    places = fresh[usual:] - len(before)
    capital = np.array([1.0, *simple_jumper(ranks)])
    evidence = capital[np.searchsorted(places, np.arange(len(after)), side="right")]
    if not (evidence >= LIMIT).any():
        return ChangePoint(column, tuple(evidence.tolist()))
    fired = int(np.argmax(evidence >= LIMIT)) + 1
    began = int(fired - 1 - np.argmin(evidence[:fired][::-1]))
    lower = bool(ranks[(places >= began) & (places < fired)].mean() < 0.5)
    return ChangePoint(column, tuple(evidence.tolist()), fired, began, lower)


def first_in_window(questions: Sequence[str], window: int = WINDOW) -> list[int]:
    """The places of the questions that did not count among the ``window`` queries before.

    >>> first_in_window(["a", "b", "a", "a", "b"], window=2)
    [0, 1, 3, 4]
    """
    last: dict[str, int] = {}
    places = []
    for i, question in enumerate(questions):
        if question not in last or i - last[question] > window:
            last[question] = i
            places.append(i)
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
    shares = np.full(len(SLOPES), 1 / len(SLOPES))
    for p in p_values:
        shares = (1 - JUMP) * shares + JUMP * shares.mean()
        shares *= 1 + SLOPES * (p - 0.5)
        yield float(shares.sum())
