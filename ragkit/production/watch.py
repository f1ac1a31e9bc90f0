"""Has the log begun to drift? An alert that may look after every query, and still rarely cries wolf.

A test at 5 % that is repeated each day is wrong in far more than 5 % of months: it gets a chance each day. What stands
here can be looked at after every query, for as long as one likes. It is a **conformal test martingale** (Vovk,
Gammerman & Shafer, Algorithmic Learning in a Random World, 2005; Vovk et al., Retrain or not retrain: conformal test
martingales for change-point detection, COPA 2021, arXiv 2102.10439):

1. Rank each new value among all values before it. As long as nothing changes, every rank is as likely as every other.
2. Bet against that. The capital (*evidence*) begins at 1, and in a fair game it reaches 20 at some time with a
   probability of at most 1 in 20 (Ville's inequality, 1939). So 20 is the limit for ``false_alarms=0.05``.

All this needs values that could have come in any order, and the queries of a log could not: see
``ragkit.production.drift``. So **a question counts when it is freshly asked**: it did not count among the ``FORGET``
queries before. (To count a question once for ever would be wrong, too: what is asked for the first time late is rare,
and rare wordings score less.) The first part of the reference, in which everything is fresh, is left out.

Measured (``tests/bench/bench_drift.py``: 91 simulated streams with the scores of the advanced preset, on which nothing
here was chosen; the first 1,000 queries are the reference, 2,000 are watched; 95 % intervals by Wilson):

- nothing changes: 3 of 91 ever fire (.03 [.01, .09]); only what is popular changes: 4 (.04 [.02, .11]).
- half of the sessions turn to a topic that the index lacks: 87 of 88 fire **within 500 queries** of its first question;
  half of them within 111, 95 % within 213. (``column="abstained"`` needs longer: 68 of 90 within 500.)
- new documents come that answer half of the sessions: 19 of 19 fire within 500 queries, half of them within 171. (The
  users of these streams are among those of the 29 below.)
- a Kolmogorov-Smirnov test of the last 500 queries after each 100: 48 of 91 quiet streams have a false alarm.

``FORGET``, ``SLOPES`` and ``JUMP`` were chosen on 29 other streams: memories of 200 to 1,000 queries, slopes up to 2,
jumps from .0001 to .01. With these, no quiet one of the 29 fired; longer memories fired in 1 to 3 of them, no memory at
all in 2 to 3 of 20, larger slopes were slower where it took longest. 300 and 500 queries did equally well.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from ragkit.base import InputError
from ragkit.production.drift import Column, window

if TYPE_CHECKING:
    import pandas as pd

SLOPES = (-1.0, 0.0, 1.0)
"""Three bets on the next rank: it is low, I do not bet, it is high."""

JUMP = 0.001
"""The share of the capital that changes to another bet at each step."""

FORGET = 500
"""Queries after which a question that is asked again counts again."""

FEWEST = 30
"""Freshly asked questions without which a reference says too little about what is usual."""


@dataclass(frozen=True, repr=False)
class Watch:
    """What a watch over ``column`` has seen.

    ``evidence`` is the capital after each query with a value, ``limit`` where it fires. ``fired`` counts the
    queries until then, that one included, and ``began`` those before the change by our best guess (both None: it
    did not fire). ``questions`` are the freshly asked ones of the reference and of the watched queries.
    """

    column: str
    evidence: tuple[float, ...]
    limit: float
    fired: int | None
    began: int | None
    lower: bool
    questions: tuple[int, int]

    def __repr__(self) -> str:
        seen = f"{len(self.evidence)} queries, {self.questions[1]} of them freshly asked"
        if self.fired is None:
            return (
                f"{self.column}: quiet after {seen} (evidence {max(self.evidence, default=1):.1f} of {self.limit:.0f})"
            )
        way = "lower" if self.lower else "higher"
        return f"{self.column}: {way} since about query {self.began}, fired at query {self.fired} of {seen}"


def watch(
    reference: pd.DataFrame,
    queries: pd.DataFrame,
    column: Column = "top_score",
    *,
    false_alarms: float = 0.05,
    forget: int = FORGET,
    seed: int = 0,
) -> Watch:
    """Look at ``queries`` one by one: does ``column`` stay what it was in the ``reference``?

    Both are rows of ``TraceMonitor.dataframe()``. Of ``1 / false_alarms`` logs in which nothing changes,
    at most one is expected ever to fire, however long they last, as far as fresh questions come in no special order.
    ``seed`` decides the ranks of equal values.

    Raises:
        InputError: a reference with fewer than ``FEWEST`` distinct questions, ``false_alarms`` outside (0, 1), or a
            column is missing.
    """
    if not 0 < false_alarms < 1:
        raise InputError(f"false_alarms is {false_alarms!r}: expected more than 0 and less than 1, such as 0.05")
    before = window(reference, column, "the reference", FEWEST)
    after = window(queries, column, "the watched queries", 0)
    keys, values = [*before["key"], *after["key"]], [*before["value"], *after["value"]]
    fresh = [i for i in freshly_asked(keys, forget) if i >= min(forget, len(before) // 2)]
    usual = sum(i < len(before) for i in fresh)
    if usual < FEWEST:
        raise InputError(
            f"the reference has {len(before)} queries, of which {usual} ask something fresh: expected {FEWEST} or "
            "more. Take a longer reference"
        )
    places = list(ranks([values[i] for i in fresh], Random(seed)))[usual:]
    positions = np.array(fresh[usual:], dtype=np.intp) - len(before)
    steps = np.array([1.0, *bet(places)])
    evidence = steps[np.searchsorted(positions, np.arange(len(after)), side="right")]
    limit = 1 / false_alarms
    above = np.flatnonzero(evidence >= limit)
    fired = int(above[0]) + 1 if len(above) else None
    began = None
    lower = False
    if fired is not None:
        began = int(fired - 1 - np.argmin(evidence[:fired][::-1]))
        since = [place for place, at in zip(places, positions, strict=True) if began <= at < fired]
        lower = float(np.mean(since)) < 0.5
    return Watch(column, tuple(evidence.tolist()), limit, fired, began, lower, (usual, len(places)))


def freshly_asked(questions: Sequence[str], forget: int = FORGET) -> list[int]:
    """The places of the questions that did not count among the ``forget`` queries before.

    >>> freshly_asked(["a", "b", "a", "a", "b"], forget=2)
    [0, 1, 3, 4]
    """
    last: dict[str, int] = {}
    places = []
    for i, question in enumerate(questions):
        if question not in last or i - last[question] > forget:
            places.append(i)
            last[question] = i
    return places


def ranks(values: Iterable[float], dice: Random) -> Iterator[float]:
    """The place of each value among all so far, from 0 (the lowest) to 1; equal values share their places by lot.

    Where the values could have come in any order, these are independent and uniform (Vovk et al. 2005).

    >>> [round(place, 2) for place in ranks([0.5, 0.7, 0.6], Random(0))]
    [0.84, 0.88, 0.47]
    """
    seen: list[float] = []
    for value in values:
        low, high = bisect_left(seen, value), bisect_right(seen, value)
        yield (low + dice.random() * (high - low + 1)) / (len(seen) + 1)
        insort(seen, value)


def bet(places: Iterable[float]) -> Iterator[float]:
    """The capital after each place, from 1: the *simple jumper* (Vovk et al. 2021).

    Each of the ``SLOPES`` e multiplies its share of the capital by ``1 + e (place - 0.5)``, whose mean over uniform
    places is 1: nobody can win in the long run. ``JUMP`` of the capital is dealt out anew before each step.

    >>> [round(capital, 2) for capital in bet([0.1, 0.1, 0.9])]
    [1.0, 1.11, 0.89]
    """
    shares = np.full(len(SLOPES), 1 / len(SLOPES))
    slopes = np.array(SLOPES)
    for place in places:
        shares = (1 - JUMP) * shares + JUMP * shares.mean()
        shares = shares * (1 + slopes * (place - 0.5))
        yield float(shares.sum())
