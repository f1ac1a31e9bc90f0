"""Do people ask other things than before, or does the index answer worse? Two windows of queries, compared.

What a log makes easy to get wrong: its queries are not independent. The same questions come again and again (Zipf's
law), and a session stays on its topic. When one question becomes popular, the mean score of all *queries* moves and
nothing has drifted. A Kolmogorov-Smirnov test on the queries takes each repetition for news, and fires. Here equal
questions, and wordings that find the same best passage, are **one** piece of evidence, and so is a session: the
statistic is the difference of the two means, and what is given a random sign is a whole question (or session) with all
its queries (``evaluation.statistics``). Of the two the less certain answer counts.

How often each fires (``tests/bench/bench_drift.py``: 60 simulated streams with the scores of the advanced preset; two
weeks, 1,000 queries, against a later week of 500; 95 % intervals by Wilson)::

                                                      KS on the queries     this module
    nothing changed                                    .05 [.02, .14]      .03 [.01, .11]
    only what is popular changed                       .93 [.84, .97]      .10 [.05, .20]
    half of the sessions ask what the index lacks     1.00 [.94, 1.0]     1.00 [.94, 1.0]
    of these the first 100 queries                     .97 [.89, .99]      .83 [.72, .91]

So a naive test is right as long as nothing changes at all, which is not how people are. The .10 is still more than the
promised .05, probably because questions of one topic become popular together, and are then no independent draws.

``ragkit.production.watch`` looks at every query as it comes, and still keeps false alarms rare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ragkit.base import InputError
from ragkit.evaluation import statistics

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Column = Literal["top_score", "abstained"]
Verdict = Literal["higher", "lower", "no detectable difference"]

RESAMPLES = 1_999
_SIGNS = 20_000_000  # random signs at a time: 160 MB


@dataclass(frozen=True, repr=False)
class Drift:
    """How the mean of ``column`` differs between two windows.

    ``difference`` is ``after - before`` with its 95 % interval (``low``, ``high``), ``statistic`` the difference over
    its standard error, ``p`` two-sided. ``queries`` and ``questions`` (the distinct ones) are those of the reference
    and of now. A true difference of ``detectable`` or more would be found 8 times in 10.
    """

    column: str
    before: float
    after: float
    difference: float
    low: float
    high: float
    statistic: float
    p: float
    queries: tuple[int, int]
    questions: tuple[int, int]
    detectable: float

    @property
    def found(self) -> bool:
        """Whether there is a difference that chance does not explain (p below .05)."""
        return self.p < statistics.ALPHA

    @property
    def verdict(self) -> Verdict:
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
    reference: pd.DataFrame,
    now: pd.DataFrame,
    column: Column = "top_score",
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Drift:
    """Whether ``column`` of the queries ``now`` differs from the ``reference``: rows of ``TraceMonitor.dataframe()``.

    Queries without a value (nothing was found, an error) are left out: look at the rates of those by themselves.

    Raises:
        InputError: fewer than two queries with a value in one of the two, or a column is missing.
    """
    before, after = window(reference, column, "reference"), window(now, column, "now")
    parts = influence(before, after)
    needs, sessions = same_needs(before, after), [*before["session"], *after["session"]]
    tests = [statistics.estimate(parts, units, _affordable(resamples, units), seed) for units in (needs, sessions)]
    at = int(np.argmax([float(test.error[0]) for test in tests]))
    difference, error = float(parts.mean()), float(tests[at].error[0])
    return Drift(
        column,
        float(before["value"].mean()),
        float(after["value"].mean()),
        difference,
        min(float(test.low[0]) for test in tests),
        max(float(test.high[0]) for test in tests),
        difference / error if error > 0 else math.copysign(math.inf, difference) if difference else 0.0,
        max(float(test.p[0]) for test in tests),
        (len(before), len(after)),
        (before["key"].nunique(), after["key"].nunique()),
        max(float(statistics.minimum_detectable(parts, units)[0]) for units in (needs, sessions)),
    )


def movers(
    reference: pd.DataFrame, now: pd.DataFrame, column: Column = "top_score", most: int | None = 10
) -> pd.DataFrame:
    """Which questions make the difference: one row a distinct question, ``part`` sums to the whole difference.

    ``asked_before`` and ``asked_now`` count its queries, ``before`` and ``now`` are its mean values (NaN where it was
    not asked). The largest parts (without regard to their sign) come first.

    Raises:
        InputError: as ``drift``.
    """
    import pandas as pd

    windows = {"before": window(reference, column, "reference"), "now": window(now, column, "now")}
    parts = influence(windows["before"], windows["now"])[:, 0]
    table = pd.concat(windows.values(), keys=windows, names=["window"]).reset_index()
    table["part"] = parts / len(parts)
    groups = table.groupby("key", sort=False)
    found = pd.DataFrame({"question": groups["question"].first(), "part": groups["part"].sum()})
    for name, rows in windows.items():
        own = rows.groupby("key")["value"]
        found[f"asked_{name}"] = own.size().reindex(found.index, fill_value=0)
        found[name] = own.mean().reindex(found.index)
    order = found["part"].abs().sort_values(ascending=False, kind="stable").index[:most]
    columns = ["question", "asked_before", "asked_now", "before", "now", "part"]
    return found.loc[order, columns].reset_index(drop=True)


def question_key(question: str) -> str:
    """Equal for questions that differ in case, white space and the punctuation around them only.

    >>> question_key("How do I  stop a worker?") == question_key("how do i stop a worker")
    True
    """
    return " ".join(question.casefold().split()).strip(" ?!.,;:")


def influence(before: pd.DataFrame, after: pd.DataFrame) -> Floats:
    """What each query contributes ``(n, 1)`` to ``mean(after) - mean(before)``, scaled so that their mean is that.

    The values are taken from what is usual, the mean over the distinct *needs* (``same_needs``): a question with a
    usual value contributes nothing, however often it is asked. (The mean over the queries is itself drawn towards what
    is popular, and every other question would then seem to move the other way.) Both are results of ``window``.
    """
    both = np.concatenate([before["value"], after["value"]])
    needs = np.unique(same_needs(before, after), return_inverse=True)[1]
    usual = (np.bincount(needs, both) / np.bincount(needs)).mean()
    share = np.concatenate([np.full(len(before), -1 / len(before)), np.full(len(after), 1 / len(after))])
    return np.asarray((both - usual) * share * len(both))[:, None]


def window(frame: pd.DataFrame, column: str, name: str, least: int = 2) -> pd.DataFrame:
    """The queries with a value, in order: ``question``, its ``key``, ``session``, ``value``, ``need``, from 0.

    A query without a session is a session of its own.

    Raises:
        InputError: fewer than ``least``, or a column is missing.
    """
    if missing := [each for each in (column, "question", "session", "error") if each not in frame]:
        raise InputError(f"{name} has no column {missing[0]!r}: expected the table of TraceMonitor.dataframe()")
    rows = valued(frame, column)
    if len(rows) < least:
        raise InputError(f"{name} has {len(rows)} queries with a value of {column!r}: expected {least} or more")
    kept = rows[["question", "session"]].reset_index(drop=True)
    kept["session"] = [str(said) or f"{name}\0{row}" for row, said in enumerate(kept["session"])]
    kept["key"] = [question_key(question) for question in kept["question"]]
    kept["value"] = rows[column].to_numpy(dtype="float64")
    found = rows["hits"] if "hits" in rows else [()] * len(rows)
    kept["need"] = [hits[0] if len(hits) else key for hits, key in zip(found, kept["key"], strict=True)]
    return kept


def same_needs(before: pd.DataFrame, after: pd.DataFrame) -> list[str]:
    """For each query what is asked for: wordings that found the same best passage count as one question.

    A wording keeps the passage that it found first, also where the index has changed since.
    """
    first: dict[str, str] = {}
    pairs = [*zip(before["key"], before["need"], strict=True), *zip(after["key"], after["need"], strict=True)]
    return [first.setdefault(key, need) for key, need in pairs]


def valued(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The queries that have a value of ``column``. One that failed neither abstained nor answered."""
    rows = frame[frame["error"] == ""] if column == "abstained" else frame
    return rows[rows[column].notna()]


def _affordable(resamples: int, units: list[str]) -> int:
    """Fewer resamples for a log of a hundred thousand units, where the statistic is all but normal anyway."""
    return min(resamples, max(199, _SIGNS // len(set(units))))
