"""How often would a semantic cache serve a wrong answer? Measured on your own log, before it serves one.

    log = [question, ...]                           # with gold, in the order in which they were asked
    false_hit_rate(log, embedder)                   # threshold, hits, false hits, with intervals
    choose_threshold(log, embedder, precision=0.99) # a threshold that keeps this promise, or none

**The rule.** Two questions may share an answer when their gold agrees: each span of the one is answered by a span of
the other (``Span.answers``), both ways. An answer served to a question without gold is wrong: it has none.

**What is replayed.** Each wording counts once, when it is first asked: asked again, the exact cache knows it, or the
same near answer is served again. A question that is not served is answered, and kept if it has gold. So for each
threshold the cache holds what it would hold. All are taken to be of one tenant.

**The promise** holds for questions drawn as those of the log were. A log in which nobody asked for the opposite says
nothing about those who will: so look at ``cache_pairs()`` too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from ragkit.base import Embedder, InputError, Question, Span, require
from ragkit.files import data_file

if TYPE_CHECKING:
    import pandas as pd

THRESHOLDS = (0.80, 0.85, 0.90, 0.93, 0.95, 0.97, 0.98, 0.99)
"""The thresholds that are looked at, chosen before any log was seen."""

_ROUNDS = 60  # of bisection: more than the digits of a float


@dataclass(frozen=True)
class Pair:
    """A question that is asked, one that was kept, and whether the same answer is right for both."""

    asked: str
    kept: str
    same: bool
    kind: str = ""


def cache_pairs() -> tuple[Pair, ...]:
    """Our 400 pairs about the core projects: 200 questions, each with a paraphrase and with a reversal.

    ``kind`` is ``same`` for a paraphrase; for a reversal it says how it is made: ``negation``, ``opposite``, ``order``
    (before, after), ``extreme`` (most, least), ``with`` (or without), ``only`` (or all), ``swap`` (of two roles).
    """
    lines = data_file("cache_pairs.jsonl").read_text(encoding="utf-8").splitlines()
    found: list[Pair] = []
    for entry in map(json.loads, lines):
        found.append(Pair(entry["same"], entry["question"], True, "same"))
        found.append(Pair(entry["other"], entry["question"], False, entry["kind"]))
    return tuple(found)


def agree(gold: Sequence[Span], other: Sequence[Span]) -> bool:
    """Whether two questions with this gold may share an answer: each span is answered by one of the other, both ways.

    >>> agree([Span("a", 0, 10)], [Span("a", 5, 10)]), agree([Span("a", 0, 10)], [Span("a", 0, 10), Span("b", 0, 5)])
    (True, False)
    >>> agree([], [])
    False
    """
    if not gold or not other:
        return False
    there = all(any(span.answers(each) for each in other) for span in gold)
    return there and all(any(span.answers(each) for each in gold) for span in other)


def clopper_pearson(wrong: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a rate, ``wrong`` of ``n``: each end leaves out at most ``(1 - confidence) / 2``.

    Clopper and Pearson 1934, The use of confidence or fiducial limits illustrated in the case of the binomial,
    Biometrika 26(4). Without any data it is (0, 1).

    >>> [round(x, 4) for x in clopper_pearson(0, 100)]
    [0.0, 0.0362]
    """
    tail = (1 - confidence) / 2
    return 1 - upper_bound(n - wrong, n, 1 - tail), upper_bound(wrong, n, 1 - tail)


def upper_bound(wrong: int, n: int, confidence: float = 0.95) -> float:
    """The rate that is exceeded only if something less likely than ``1 - confidence`` has happened (one-sided).

    The largest p at which ``wrong`` or fewer of ``n`` are that likely; as ``clopper_pearson``.

    >>> round(upper_bound(0, 299), 4)
    0.01

    Raises:
        InputError: not ``0 <= wrong <= n``, or ``confidence`` is not between 0 and 1.
    """
    if not 0 <= wrong <= n or not 0 < confidence < 1:
        raise InputError(f"wrong is {wrong} of {n}, confidence {confidence}: expected 0 <= wrong <= n, 0 < it < 1")
    if wrong == n:
        return 1.0
    low, high = wrong / n, 1.0
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(wrong, n, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(wrong: int, n: int, p: float) -> float:
    """The probability of ``wrong`` or fewer of ``n``, each with probability ``p`` between 0 and 1."""
    if p >= 1:
        return 0.0
    odds = math.log(p) - math.log1p(-p) if p > 0 else -math.inf
    log, total = n * math.log1p(-p), 0.0
    for i in range(wrong + 1):
        total += math.exp(log)
        log += math.log(n - i) - math.log(i + 1) + odds
    return min(total, 1.0)


def false_hit_rate(
    asked: Sequence[Question] | Sequence[Pair],
    embedder: Embedder,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    guard: Callable[[str, str], bool] | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """What a semantic cache would do, a row for each threshold.

    Args:
        asked: a log, as the questions with their gold in the order in which they were asked; or labelled pairs.
        embedder: makes vectors of length 1.
        thresholds: cosines at which an answer would be served.
        guard: as in ``SemanticCache``; None says always yes.
        confidence: of the interval.

    Returns:
        Columns ``asked`` (different wordings, or pairs), ``hits`` (near ones; equal wordings are not asked twice),
        ``hit_rate``, ``false`` (hits with a wrong answer), ``false_hit_rate`` (of the hits; NaN without) and its exact
        interval from ``low`` to ``high`` (Clopper and Pearson).

    Raises:
        InputError: nothing is asked, a threshold is not above 0 and at most 1, or there is none.
    """
    counts = _counts(asked, embedder, thresholds, guard)
    rows = []
    for n, hits, wrong in counts:
        low, high = clopper_pearson(wrong, hits, confidence)
        rate = wrong / hits if hits else math.nan
        rows.append((n, hits, hits / n, wrong, rate, low, high))
    columns = ["asked", "hits", "hit_rate", "false", "false_hit_rate", "low", "high"]
    frame = require("pandas", "notebook").DataFrame(rows, columns=columns, index=list(thresholds))
    return cast("pd.DataFrame", frame.rename_axis("threshold"))


@dataclass(frozen=True)
class Choice:
    """The threshold that keeps a promise, or None, and what that was decided by."""

    threshold: float | None
    precision: float
    confidence: float
    table: pd.DataFrame
    """As of ``false_hit_rate``, and ``at_most``: the false-hit rate that is not exceeded, at any threshold of the
    table, with this confidence."""

    def __repr__(self) -> str:
        promise = f"{self.precision:.1%} of the near hits right, with {self.confidence:.0%} confidence"
        rows: dict[float, dict[str, float]] = self.table.to_dict("index")  # type: ignore[assignment]
        if self.threshold is not None:
            row = rows[self.threshold]
            seen = f"in the log {row['false']:.0f} of {row['hits']:.0f} were wrong"
            return f"threshold {self.threshold}: {promise} ({seen}); it serves {row['hit_rate']:.1%} of new wordings"
        best = min(rows, key=lambda threshold: rows[threshold]["at_most"])
        row, need = rows[best], enough(self.precision, self.confidence, len(rows))
        return (
            f"none: no threshold promises {promise}. Nearest comes {best}: {row['false']:.0f} of {row['hits']:.0f} "
            f"were wrong, so at most {row['at_most']:.1%} are; {need} near hits without a wrong one would be enough"
        )


def choose_threshold(
    asked: Sequence[Question] | Sequence[Pair],
    embedder: Embedder,
    precision: float = 0.99,
    confidence: float = 0.95,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    guard: Callable[[str, str], bool] | None = None,
) -> Choice:
    """The threshold with the most hits at which ``precision`` of them are right, with ``confidence``; or None.

    Each threshold gets an exact upper bound of its false-hit rate. All bounds have to hold together, because the best
    is picked after looking: so each may fail with ``(1 - confidence) / len(thresholds)`` only (Bonferroni). This is
    the simplest form of Learn then Test (Angelopoulos, Bates, Candès, Jordan and Lei 2021, arXiv 2110.01052).
    Fewer thresholds need fewer data; choose them before you look.

    Raises:
        InputError: as ``false_hit_rate``; ``precision`` or ``confidence`` is not between 0 and 1.
    """
    if not 0 < precision < 1 or not 0 < confidence < 1:
        raise InputError(f"precision is {precision}, confidence {confidence}: expected more than 0 and less than 1")
    table = false_hit_rate(asked, embedder, thresholds, guard=guard)
    each = 1 - (1 - confidence) / len(table)
    table["at_most"] = [
        upper_bound(int(wrong), int(hits), each) for wrong, hits in zip(table["false"], table["hits"], strict=True)
    ]
    hits = zip(table["at_most"], table["hits"], thresholds, strict=True)
    # Of several with as many hits, the strictest.
    best = max(((n, t) for most, n, t in hits if most <= 1 - precision), default=(0, None))[1]
    return Choice(best, precision, confidence, table)


def enough(precision: float, confidence: float = 0.95, thresholds: int = 1) -> int:
    """How many hits, all of them right, promise ``precision`` at one of so many thresholds.

    >>> enough(0.99), enough(0.99, thresholds=8), enough(0.95)
    (299, 505, 59)
    """
    return math.ceil(math.log((1 - confidence) / thresholds) / math.log(precision))


def _counts(
    asked: Sequence[Question] | Sequence[Pair],
    embedder: Embedder,
    thresholds: Sequence[float],
    guard: Callable[[str, str], bool] | None,
) -> list[tuple[int, int, int]]:
    """For each threshold: how many were asked, served, and served wrongly."""
    if not asked or not thresholds or not all(0 < t <= 1 for t in thresholds):
        raise InputError(
            f"{len(asked)} asked, thresholds {list(thresholds)}: expected some of both, above 0, at most 1"
        )
    if len(set(thresholds)) < len(thresholds):
        raise InputError(f"thresholds {list(thresholds)}: expected each once")
    if isinstance(asked[0], Pair):
        return _of_pairs(cast("Sequence[Pair]", asked), embedder, thresholds, guard)
    return _of_log(cast("Sequence[Question]", asked), embedder, thresholds, guard)


def _of_pairs(
    pairs: Sequence[Pair], embedder: Embedder, thresholds: Sequence[float], guard: Callable[[str, str], bool] | None
) -> list[tuple[int, int, int]]:
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.asked, pair.kept)))
    vectors = dict(zip(texts, embedder.encode(texts, "query"), strict=True))
    cosines = np.array([float(vectors[pair.asked] @ vectors[pair.kept]) for pair in pairs])
    allowed = np.array([guard is None or guard(pair.asked, pair.kept) for pair in pairs])
    wrong = np.array([not pair.same for pair in pairs])
    served = [(cosines >= t) & allowed for t in thresholds]
    return [(len(pairs), int(hits.sum()), int((hits & wrong).sum())) for hits in served]


def _of_log(
    log: Sequence[Question], embedder: Embedder, thresholds: Sequence[float], guard: Callable[[str, str], bool] | None
) -> list[tuple[int, int, int]]:
    first: dict[str, Question] = {}
    for question in log:
        first.setdefault(" ".join(question.text.split()), question)
    texts, questions = list(first), list(first.values())
    vectors = embedder.encode(texts, "query")
    kept = np.zeros((len(thresholds), len(texts)), dtype=bool)
    hits, wrong = [0] * len(thresholds), [0] * len(thresholds)
    for i, question in enumerate(questions):
        cosines = vectors[:i] @ vectors[i]
        for row, threshold in enumerate(thresholds):
            near = np.flatnonzero(kept[row, :i] & (cosines >= threshold))
            ordered = near[np.argsort(-cosines[near], kind="stable")]
            served = next((j for j in ordered if guard is None or guard(texts[i], texts[j])), None)
            if served is None:
                kept[row, i] = bool(question.gold)
            else:
                hits[row] += 1
                wrong[row] += not agree(question.gold, questions[served].gold)
    return [(len(texts), h, w) for h, w in zip(hits, wrong, strict=True)]
