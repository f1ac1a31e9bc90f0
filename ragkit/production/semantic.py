"""A semantic cache: similar questions share an answer. What it saves, and its false-hit rate.

**No preset uses it.** To a vector, "How do I enable cookies?" and "How do I disable cookies?" are more alike than two
wordings of one question (``data/cache_pairs.jsonl`` has 200 of each), so no threshold tells them apart. Measure it on
your own log before it serves anybody::

    false_hit_rate(log, embedder)                                  # by threshold: near hits, false ones, intervals
    choice = choose_threshold(log, embedder, precision=0.99)       # a threshold that keeps this promise, or none
    if choice.threshold is not None:
        cache = SemanticCache(SQLiteCache(), embedder, choice.threshold)

The idea is that of GPTCache (Bang 2023, NLP-OSS, https://aclanthology.org/2023.nlposs-1.24).

**What is measured.** Two questions may share an answer when their gold agrees: each span of the one is answered by a
span of the other (``Span.answers``), both ways. A log is replayed in its order, and each wording counts once, when it
is first asked: asked again, the exact cache knows it. A question that is not served is answered, and its answer cached,
also where it has no gold: no pipeline abstains from all of these. What is served from such a question to one with gold
is wrong, and the other way round; between two of them it is left out, as there is no right answer to miss. So for each
threshold the cache holds what it would hold. All questions are taken to be of one tenant.

**What is promised.** Wordings of one need are right or wrong together, so hits of one need are taken for one
observation: n hits count as ``n ** 2 / sum(hits of each need ** 2)`` (Kish 1965, Survey Sampling, section 8.2), and the
bound is Clopper and Pearson's for so many (Korn and Graubard 1998, Survey Methodology 24(2)). It holds for needs drawn
as those of the log were. A log in which nobody asked for the opposite says nothing about those who will: so look at
``cache_pairs()`` too.
"""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np

from ragkit.base import Answer, Embedder, InputError, Question, Span, Vectors, question_key, require
from ragkit.evaluation.faithfulness import Word, is_negation, numbers, opposites, quantifiers, words
from ragkit.files import data_file
from ragkit.pipeline.trace import CachedAnswer, CacheKey
from ragkit.production.caching import SQLiteCache

if TYPE_CHECKING:
    import pandas as pd

Guard = Callable[[str, str], bool]

CONFIDENCE = 0.95
THRESHOLDS = (0.80, 0.85, 0.90, 0.93, 0.95, 0.97, 0.98, 0.99)
"""The thresholds that are looked at, chosen before any log was seen."""


def lexical_guard(question: str, cached: str) -> bool:
    """Whether nothing that vectors overlook tells the two questions apart.

    Looked at are numbers, names of code, negations, words of opposite meaning, quantifiers
    (``evaluation.faithfulness``), and the order of the words where both have the same. What its lists do not hold, it
    does not see: "pause" and "resume".

    >>> lexical_guard("How do I enable cookies?", "How do I disable cookies?")
    False
    >>> lexical_guard("How do I enable cookies?", "How can I turn cookies on?")
    True
    """
    one, other = words(question), words(cached)
    terms, others = {word.term for word in one}, {word.term for word in other}
    content, contents = ([word.term for word in each if word.content] for each in (one, other))
    return not (
        numbers(question) != numbers(cached)
        or not _names(one) <= {word.text.lower() for word in other}
        or not _names(other) <= {word.text.lower() for word in one}
        or any(is_negation(word.text) for word in one) != any(is_negation(word.text) for word in other)
        or any(opposites().get(term, frozenset()) & (others - terms) for term in terms - others)
        or quantifiers(one) != quantifiers(other)
        or (content != contents and sorted(content) == sorted(contents))
    )


def _names(sentence: Sequence[Word]) -> set[str]:
    return {word.text.lower() for word in sentence if word.identifier}


class SemanticCache:
    """An ``AnswerCache``: first the exact one, then the nearest question of the same settings and tenant.

    Vectors stand in the exact cache's file, beside their answers, and in one matrix in memory.
    ``CachedAnswer.similarity`` is the cosine, and ``CachedAnswer.digest`` the entry that was served, so that a thumb
    down forgets the right one. With n answers in the file, a miss costs one encoding of the question and n products of
    vectors.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from ragkit.testing import FakeEmbedder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = SemanticCache(SQLiteCache(Path(folder) / "cache.db"), FakeEmbedder(), 0.8)
    ...     cache.put(CacheKey("s", "How do I keep cookies?"), Answer("How do I keep cookies?", "So."))
    ...     near = cache.get(CacheKey("s", "How can I keep cookies?"))
    ...     cache.exact.close()
    >>> near.answer.text, near.similarity < 1
    ('So.', True)

    Args:
        exact: where the answers are.
        embedder: makes vectors of length 1; its ``identity`` keeps those of two models apart.
        threshold: the least cosine at which an answer is served, above 0 and at most 1. Measure it first.
        guard: may still say no, to the question and the one that was cached; None says always yes.

    Raises:
        InputError: ``threshold`` is out of its range.
    """

    def __init__(
        self, exact: SQLiteCache, embedder: Embedder, threshold: float, guard: Guard | None = lexical_guard
    ) -> None:
        if not 0 < threshold <= 1:
            raise InputError(f"threshold is {threshold!r}: expected a cosine above 0 and at most 1")
        self.exact, self.embedder, self.threshold, self.guard = exact, embedder, threshold, guard
        self._vectors: Vectors = np.zeros((0, embedder.dimension), dtype=np.float32)
        self._entries: list[tuple[int, str, str, str, str]] = []  # of the first vectors; those behind them are room
        self._lock = threading.Lock()
        # What was a miss is put a moment later.
        self._vector = lru_cache(maxsize=256)(lambda question: self.embedder.encode([question], "query")[0])

    def __repr__(self) -> str:
        return f"SemanticCache({self.exact!r}, {self.embedder.name}, {self.threshold})"

    def get(self, key: CacheKey) -> CachedAnswer | None:
        """The answer to this question, else to the nearest that is near enough and still has one.

        Raises:
            sqlite3.Error: as ``SQLiteCache.get``.
        """
        return self.exact.get(key) or self._nearest(key)

    def put(self, key: CacheKey, answer: Answer) -> None:
        """Store ``answer``, and the vector of its question.

        Raises:
            InputError, sqlite3.Error: as ``SQLiteCache.put``.
        """
        vector = self._vector(key.question).astype("<f4").tobytes()
        self.exact.put(key, answer, model=self.embedder.identity, vector=vector)

    def invalidate(self, digest: str) -> bool:
        """As ``SQLiteCache.invalidate``."""
        return self.exact.invalidate(digest)

    def _nearest(self, key: CacheKey) -> CachedAnswer | None:
        vector, owner = self._vector(key.question), (key.settings, json.dumps(key.tenant))
        with self._lock:
            self._read_new_entries()
            entries, cosines = self._entries, self._vectors[: len(self._entries)] @ vector
        near = np.flatnonzero(cosines >= self.threshold)
        for i in near[np.argsort(-cosines[near], kind="stable")]:
            _, digest, settings, tenant, question = entries[i]
            if (settings, tenant) != owner or (self.guard and not self.guard(key.question, json.loads(question))):
                continue
            if answer := self.exact.answer(digest):  # else it was forgotten or evicted, or has expired
                return CachedAnswer(answer, digest, min(float(cosines[i]), 1.0))
        return None

    def _read_new_entries(self) -> None:
        """Take in what was put since the last time, by whichever process.

        When there is no room for it, all that is left in the file is read anew, and room is made for as much again.
        """
        select = "SELECT number, digest, settings, tenant, question, vector FROM answers WHERE number > ? AND model = ?"
        last, model = self._entries[-1][0] if self._entries else 0, self.embedder.identity
        with self.exact.database.transaction() as connection:
            new = connection.execute(f"{select} ORDER BY number", (last, model)).fetchall()
            if len(self._entries) + len(new) > len(self._vectors):
                new, self._entries = connection.execute(f"{select} ORDER BY number", (0, model)).fetchall(), []
                self._vectors = np.zeros((2 * len(new) + 100, self.embedder.dimension), dtype=np.float32)
        for *entry, vector in new:
            self._vectors[len(self._entries)] = np.frombuffer(vector, dtype="<f4")
            self._entries.append(tuple(entry))


@dataclass(frozen=True)
class CachePair:
    """A new question, a cached one, and whether one answer is right for both."""

    asked: str
    kept: str
    same: bool


def cache_pairs() -> tuple[CachePair, ...]:
    """Our 400 pairs about the core projects: 200 questions, each with a paraphrase and with a reversal."""
    lines = data_file("cache_pairs.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(
        CachePair(entry[side], entry["question"], side == "same")
        for entry in map(json.loads, lines)
        for side in ("same", "other")
    )


def same_gold(gold: Sequence[Span], other: Sequence[Span]) -> bool:
    """Whether two questions with this gold may share an answer: each span is answered by one of the other, both ways.

    >>> one, two = [Span("a", 0, 10)], [Span("a", 0, 10), Span("b", 0, 5)]
    >>> same_gold(one, [Span("a", 5, 10)]), same_gold(one, two)
    (True, False)
    >>> same_gold([], [])
    False
    """
    if not gold or not other:
        return False
    there = all(any(span.answers(each) for each in other) for span in gold)
    return there and all(any(span.answers(each) for each in gold) for span in other)


def upper_bound(wrong: float, n: float, confidence: float = CONFIDENCE) -> float:
    """The rate of which ``wrong`` or fewer of ``n`` independent observations have only a chance of 1 - ``confidence``.

    Clopper and Pearson 1934, The use of confidence or fiducial limits illustrated in the case of the binomial,
    Biometrika 26(4), one-sided. Numbers need not be whole: those of clustered observations are not.

    >>> round(upper_bound(0, 299), 4)
    0.01
    """
    if not wrong < n:
        return 1.0
    return float(require("scipy.special", "notebook").betaincinv(wrong + 1, n - wrong, confidence))


def false_hit_rate(
    asked: Sequence[Question] | Sequence[CachePair],
    embedder: Embedder,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    guard: Guard | None = None,
) -> pd.DataFrame:
    """What a semantic cache would do, a row for each threshold.

    Args:
        asked: a log, as the questions with their gold in the order in which they were asked; or labelled pairs.
        embedder: makes vectors of length 1.
        thresholds: cosines at which an answer would be served.
        guard: as in ``SemanticCache``; None says always yes.

    Returns:
        Columns ``asked`` (different wordings, or pairs), ``hits`` (near ones; equal wordings are not asked twice),
        ``hit_rate``, ``false`` (hits with a wrong answer), ``false_hit_rate`` (of the hits; NaN without) and its
        95 % interval from ``low`` to ``high``, and ``needs``: as how many independent hits they count. Questions with
        the same gold are one need, and pairs with the same cached question.

    Raises:
        InputError: nothing is asked.
    """
    if not asked:
        raise InputError("nothing was asked: expected questions with their gold, or labelled pairs")
    if isinstance(asked[0], CachePair):
        n, served = _served_pairs(cast("Sequence[CachePair]", asked), embedder, thresholds, guard)
    else:
        n, served = _served_log(cast("Sequence[Question]", asked), embedder, thresholds, guard)
    rows = []
    for hits in served:
        wrong, needs = sum(wrong for _, wrong in hits), _independent(hits)
        rate = wrong / len(hits) if hits else math.nan
        low, high = 1 - upper_bound((1 - rate) * needs, needs, 0.975), upper_bound(rate * needs, needs, 0.975)
        rows.append((n, len(hits), len(hits) / n, wrong, rate, low, high, needs))
    columns = ["asked", "hits", "hit_rate", "false", "false_hit_rate", "low", "high", "needs"]
    frame = require("pandas", "notebook").DataFrame(rows, columns=columns, index=list(thresholds))
    return cast("pd.DataFrame", frame.rename_axis("threshold"))


@dataclass(frozen=True)
class ThresholdChoice:
    """The threshold that keeps a promise, or None, and what that was decided by."""

    threshold: float | None
    precision: float
    table: pd.DataFrame
    """As of ``false_hit_rate``, and ``at_most``: the false-hit rate that is not exceeded, at any threshold of the
    table, with ``CONFIDENCE``."""

    def __repr__(self) -> str:
        promise = f"{self.precision:.1%} of the near hits right, with {CONFIDENCE:.0%} confidence"
        if self.threshold is not None:
            row = self.table.loc[self.threshold]
            seen = f"in the log {row['false']:.0f} of {row['hits']:.0f} were wrong"
            return f"threshold {self.threshold}: {promise} ({seen}); it serves {row['hit_rate']:.1%} of new wordings"
        row = self.table.sort_values("at_most", kind="stable").iloc[0]
        enough = math.ceil(math.log((1 - CONFIDENCE) / len(self.table)) / math.log(self.precision))
        return (
            f"none: no threshold promises {promise}. Nearest comes {row.name}: {row['false']:.0f} of {row['hits']:.0f} "
            f"were wrong, which count as {row['needs']:.0f} needs, so at most {row['at_most']:.1%} are; {enough} needs "
            "without a wrong hit would be enough"
        )


def choose_threshold(
    asked: Sequence[Question] | Sequence[CachePair],
    embedder: Embedder,
    precision: float = 0.99,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    guard: Guard | None = None,
) -> ThresholdChoice:
    """The threshold with the most hits at which ``precision`` of them are right, with ``CONFIDENCE``; or None.

    Each threshold gets an upper bound of its false-hit rate. All bounds have to hold together, because the best is
    picked after looking: so each may fail with ``(1 - CONFIDENCE) / len(thresholds)`` only (Bonferroni). This is the
    simplest form of Learn then Test (Angelopoulos, Bates, Candès, Jordan and Lei 2021, arXiv 2110.01052). Fewer
    thresholds need fewer data; choose them before you look.

    Raises:
        InputError: nothing is asked; ``precision`` is not between 0 and 1.
    """
    if not 0 < precision < 1:
        raise InputError(f"precision is {precision}: expected more than 0 and less than 1")
    table = false_hit_rate(asked, embedder, thresholds, guard=guard)
    each = 1 - (1 - CONFIDENCE) / len(table)
    rates = table["false_hit_rate"].fillna(1.0)
    table["at_most"] = [upper_bound(rate * n, n, each) for rate, n in zip(rates, table["needs"], strict=True)]
    safe = table[table["at_most"] <= 1 - precision]
    # Of several with as many hits, the strictest.
    best = max(zip(safe["hits"], safe.index, strict=True), default=(0, None))[1]
    return ThresholdChoice(best, precision, table)


_NearHit = tuple[Hashable, bool]  # whose need it was, and whether the answer was wrong


def _independent(hits: Sequence[_NearHit]) -> float:
    """As how many independent hits these count, if those of one need are right or wrong together."""
    return len(hits) ** 2 / max(1, sum(n**2 for n in Counter(need for need, _ in hits).values()))


def _served_pairs(
    pairs: Sequence[CachePair], embedder: Embedder, thresholds: Sequence[float], guard: Guard | None
) -> tuple[int, list[list[_NearHit]]]:
    """How many pairs there are, and the hits at each threshold."""
    keys = [(question_key(pair.asked), question_key(pair.kept)) for pair in pairs]
    texts = list(dict.fromkeys(text for both in keys for text in both))
    vectors = dict(zip(texts, embedder.encode(texts, "query"), strict=True))
    near = [
        (float(vectors[one] @ vectors[other]), (other, not pair.same))
        for pair, (one, other) in zip(pairs, keys, strict=True)
        if guard is None or guard(one, other)
    ]
    return len(pairs), [[hit for cosine, hit in near if cosine >= threshold] for threshold in thresholds]


def _served_log(
    log: Sequence[Question], embedder: Embedder, thresholds: Sequence[float], guard: Guard | None
) -> tuple[int, list[list[_NearHit]]]:
    """How many different questions were asked, and the hits at each threshold."""
    first: dict[str, Question] = {}
    for question in log:
        first.setdefault(question_key(question.text), question)
    texts, questions = list(first), list(first.values())
    vectors = embedder.encode(texts, "query")
    cached = np.zeros((len(thresholds), len(texts)), dtype=bool)
    hits: list[list[_NearHit]] = [[] for _ in thresholds]
    for i, question in enumerate(questions):
        cosines = vectors[:i] @ vectors[i]
        for row, threshold in enumerate(thresholds):
            near = np.flatnonzero(cached[row, :i] & (cosines >= threshold))
            ordered = near[np.argsort(-cosines[near], kind="stable")]
            served = next((int(j) for j in ordered if guard is None or guard(texts[i], texts[j])), None)
            if served is None:
                cached[row, i] = True
            elif question.gold or questions[served].gold:
                need = frozenset(question.gold) or served
                hits[row].append((need, not same_gold(question.gold, questions[served].gold)))
    return len(texts), hits
