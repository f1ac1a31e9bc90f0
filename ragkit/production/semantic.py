"""A cache that takes similar questions for equal ones: what it saves, and how it lies.

**No preset uses it.** To a vector, "How do I enable cookies?" and "How do I disable cookies?" are more alike than two
wordings of one question: on our own 200 pairs (``data/cache_pairs.jsonl``) reversals have a median cosine of .94 and
paraphrases .91 (all-MiniLM-L6-v2), so no threshold tells them apart. ``ragkit.production.false_hits`` measures that on
your own log, and picks a threshold that keeps a promise, or says that there is none::

    choice = choose_threshold(questions, embedder, precision=0.99)
    if choice.threshold is not None:
        cache = SemanticCache(SQLiteCache(), embedder, choice.threshold)

The idea is that of GPTCache (Bang 2023, NLP-OSS, https://aclanthology.org/2023.nlposs-1.24).
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ragkit.base import Answer, Embedder, InputError, Vectors
from ragkit.evaluation.faithfulness import Word, is_cue, numbers, opposites, quantifiers, words
from ragkit.pipeline.trace import CachedAnswer, CacheKey
from ragkit.production.caching import SQLiteCache
from ragkit.production.entries import told
from ragkit.production.records import answer_of

Guard = Callable[[str, str], bool]

_TRIED = 10  # of the nearest questions, so many are looked at
_ENCODED = 256  # vectors of questions that were just asked: what was a miss is put a moment later


def reads_alike(asked: str, kept: str) -> bool:
    """Whether nothing that vectors overlook tells the two questions apart.

    Looked at are numbers, names of code, negations, words of opposite meaning, quantifiers (``faithfulness``,
    which was written for other texts), and the order of the words where both have the same. On the 400 pairs, at a
    cosine of .90 or more, it leaves 10 % of the reversals instead of 66 %, and 39 % of the paraphrases instead of 52 %
    (``tests/run_bench.py caching``). What its lists do not hold, it does not see: "pause" and "resume".

    >>> reads_alike("How do I enable cookies?", "How do I disable cookies?")
    False
    >>> reads_alike("How do I enable cookies?", "How can I turn cookies on?")
    True
    """
    one, other = words(asked), words(kept)
    terms, others = {word.term for word in one}, {word.term for word in other}
    content, contents = ([word.term for word in found if word.content] for found in (one, other))
    return not (
        numbers(asked) != numbers(kept)
        or _unknown_names(one, other)
        or _unknown_names(other, one)
        or any(is_cue(word.text) for word in one) != any(is_cue(word.text) for word in other)
        or any(opposites().get(term, frozenset()) & (others - terms) for term in terms - others)
        or quantifiers(one) != quantifiers(other)
        or (content != contents and sorted(content) == sorted(contents))
    )


def _unknown_names(found: Sequence[Word], other: Sequence[Word]) -> bool:
    known = {word.text.lower() for word in other}
    return any(word.identifier and word.text.lower() not in known for word in found)


@dataclass
class _Shelf:
    """The questions of the same settings and tenant, and their vectors."""

    vectors: dict[str, Vectors] = field(default_factory=dict)
    table: Vectors | None = None

    def add(self, question: str, vector: Vectors) -> None:
        if question not in self.vectors:
            self.vectors[question], self.table = vector, None

    def nearest(self, vector: Vectors) -> list[tuple[float, str]]:
        """The most similar questions, the nearest first."""
        if self.table is None:
            self.table = np.stack(list(self.vectors.values()))
        cosines, questions = self.table @ vector, list(self.vectors)
        return [(float(cosines[i]), questions[i]) for i in np.argsort(-cosines, kind="stable")[:_TRIED]]


class SemanticCache:
    """An ``AnswerCache``: first the exact one, then the nearest question of the same settings and tenant.

    Vectors stand in the exact cache's file and go with their answers. ``CachedAnswer.similarity`` is the cosine, and
    ``CachedAnswer.digest`` the entry that was served, so that a thumbs-down forgets the right one. With n answers of a
    pipeline and a tenant, a miss costs one encoding of the question and n products of vectors.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from ragkit.testing import FakeEmbedder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = SemanticCache(SQLiteCache(Path(folder) / "cache.db"), FakeEmbedder(), 0.8)
    ...     cache.put(CacheKey("s", "How do I keep cookies?"), Answer("How do I keep cookies?", "So."))
    ...     found = cache.get(CacheKey("s", "How can I keep cookies?"))
    ...     cache.exact.close()
    >>> found.answer.text, found.similarity < 1
    ('So.', True)

    Args:
        exact: where the answers are.
        embedder: makes vectors of length 1; its ``identity`` keeps those of two models apart.
        threshold: the least cosine at which an answer is served, above 0 and at most 1. Measure it first.
        guard: may still say no, to the question and the one that was kept; None says always yes.

    Raises:
        InputError: ``threshold`` is out of its range.
    """

    def __init__(
        self, exact: SQLiteCache, embedder: Embedder, threshold: float, guard: Guard | None = reads_alike
    ) -> None:
        if not 0 < threshold <= 1:
            raise InputError(f"threshold is {threshold!r}: expected a cosine above 0 and at most 1")
        self.exact, self.embedder, self.threshold, self.guard = exact, embedder, threshold, guard
        self.near = 0
        self._shelves: dict[tuple[str, str], _Shelf] = {}
        self._seen = 0
        self._encoded: OrderedDict[str, Vectors] = OrderedDict()
        self._turn = threading.RLock()

    def __repr__(self) -> str:
        guard = ", no guard" if self.guard is None else ""
        return f"SemanticCache({self.exact!r}, {self.embedder.name}, {self.threshold}{guard}, {self.near} near hits)"

    def get(self, key: CacheKey) -> CachedAnswer | None:
        """The answer to this question, else to the nearest that is near enough and still has one."""
        return self.exact.get(key) or self._near(key)

    def put(self, key: CacheKey, answer: Answer) -> None:
        """Keep ``answer``, and the vector of its question.

        Raises:
            InputError: as ``SQLiteCache.put``.
        """
        self.exact.put(key, answer)
        vector = self._vector(key.question).astype("<f4").tobytes()
        row = (key.digest, self.embedder.identity, vector, _checksum(key.digest, vector))
        insert = "INSERT OR IGNORE INTO vectors (digest, model, vector, checksum) VALUES (?, ?, ?, ?)"
        self.exact.entries.try_to(lambda: self.exact.entries.database.write(insert, row))

    def forget(self, digest: str) -> bool:
        """As ``SQLiteCache.forget``."""
        return self.exact.forget(digest)

    def _near(self, key: CacheKey) -> CachedAnswer | None:
        with self._turn:
            self._read_on()
            shelf = self._shelves.get((key.settings, key.tenant))
        if shelf is None:
            return None
        vector = self._vector(key.question)
        with self._turn:
            found = shelf.nearest(vector)
        for cosine, question in found:
            if cosine < self.threshold:
                break
            if question == key.question or (self.guard is not None and not self.guard(key.question, question)):
                continue
            other = CacheKey(key.settings, question, key.tenant)
            text = self.exact.entries.get(other, count=False)  # None: it was forgotten, has expired or gone since
            if text is not None:
                with self._turn:
                    self.near += 1
                return CachedAnswer(answer_of(text), other.digest, min(cosine, 1.0))
        return None

    def _read_on(self) -> None:
        """Take in the vectors that were written since the last time, by whichever process."""
        select = (
            "SELECT v.id, v.digest, v.vector, v.checksum, e.settings, e.tenant, e.question FROM vectors v "
            "JOIN entries e ON e.digest = v.digest WHERE v.id > ? AND v.model = ? ORDER BY v.id"
        )
        entries = self.exact.entries
        rows = entries.try_to(lambda: entries.database.read(select, (self._seen, self.embedder.identity))) or []
        for number, digest, vector, checksum, *whose in rows:
            self._seen = number
            if checksum == _checksum(digest, vector):
                settings, tenant, question = (told(each) for each in whose)
                shelf = self._shelves.setdefault((settings, tenant), _Shelf())
                shelf.add(question, np.frombuffer(vector, dtype="<f4"))

    def _vector(self, question: str) -> Vectors:
        with self._turn:
            if question in self._encoded:
                self._encoded.move_to_end(question)
                return self._encoded[question]
        vector: Vectors = np.asarray(self.embedder.encode([question], "query")[0], dtype=np.float32)
        with self._turn:
            self._encoded[question] = vector
            while len(self._encoded) > _ENCODED:
                self._encoded.popitem(last=False)
        return vector


def _checksum(digest: str, vector: bytes) -> bytes:
    return hashlib.sha256(digest.encode() + b"\n" + vector).digest()
