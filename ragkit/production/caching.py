"""Answers that were given before: the same question, of the same pipeline, for the same tenant, is not answered twice.

    rag = advanced(corpus, cache=SQLiteCache())
    await rag.query("How do I purge all waiting tasks?")     # searches and generates
    await rag.query("How do I purge all waiting tasks?")     # reads it from the file

The cache is *exact*. Its keys (``ragkit.pipeline.trace.CacheKey``) are made by the pipeline and hold all that can
change an answer, so nothing has to be cleared when an index, a model or a prompt changes: old entries are never asked
for again. What the key can't know is what lies outside: a model that its provider changes behind an unchanged name. For
that there is ``ttl``. What is looked up and what is stored is decided in ``pipeline/rag.py`` (``_from_cache``,
``_to_cache``): the answer of a fallback (``Answer.fallback``: a model failed) is not stored, as the next try may do
better; every other answer is, also "not found". Of equal questions at the same time one is answered while the others
wait (single-flight).
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ragkit.base import Answer, Chunk, Citation, Hit, InputError, Usage, from_dict
from ragkit.files import Database, home
from ragkit.pipeline.trace import CachedAnswer, CacheKey

# `used` is a counter: the entry with the lowest was unused for longest. `model` and `vector` are a semantic cache's.
_SCHEMA = """
CREATE TABLE answers (
    number INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL UNIQUE, settings TEXT, tenant TEXT, question TEXT,
    answer TEXT NOT NULL, bytes INTEGER NOT NULL, written REAL NOT NULL, used INTEGER NOT NULL, model TEXT,
    vector BLOB);
CREATE INDEX answers_used ON answers (used, bytes);
"""
_NOW = "(SELECT coalesce(max(used), 0) + 1 FROM answers)"
_PUT = f"""
INSERT OR REPLACE INTO answers (digest, settings, tenant, question, answer, bytes, written, used, model, vector)
VALUES (?, ?, ?, ?, ?, ?, ?, {_NOW}, ?, ?)
"""
_EVICT = """
DELETE FROM answers WHERE number IN (
    SELECT number FROM (SELECT number, sum(bytes) OVER (ORDER BY used DESC) AS total FROM answers) WHERE total > ?)
"""


@dataclass(frozen=True)
class CacheStats:
    """What a cache did since it was opened here (``hits``, ``misses``), and what its file holds."""

    hits: int
    misses: int
    entries: int
    bytes: int

    @property
    def hit_rate(self) -> float:
        """Hits among all questions; NaN before the first."""
        questions = self.hits + self.misses
        return self.hits / questions if questions else math.nan


class SQLiteCache:
    """An exact ``AnswerCache`` in one SQLite file, for several threads, processes and tenants.

    Questions, answers and passages stand in it in plain text. Tenants never see each other's answers, but they share
    ``max_bytes``: a busy one pushes out those of the others.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = SQLiteCache(Path(folder) / "cache.db")
    ...     cache.put(CacheKey("settings", "How?", "acme"), Answer("How?", "So."))
    ...     acme = cache.get(CacheKey("settings", "How?", "acme"))
    ...     globex = cache.get(CacheKey("settings", "How?", "globex"))
    ...     cache.close()
    >>> acme.answer.text, globex
    ('So.', None)

    Args:
        path: None is ``production/cache.db`` below ``ragkit.files.home()``.
        ttl: seconds that an answer is served; None for ever.
        max_bytes: past this, the answers that were not used for longest go.
        clock: seconds since 1970; it may be set back: an answer from the future is not served where there is a ``ttl``.

    Raises:
        InputError: ``ttl`` or ``max_bytes`` is not positive, or the file holds something else.
        sqlite3.Error: the file is locked, or can't be made or written.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        ttl: float | None = None,
        max_bytes: int = 500_000_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if (ttl is not None and ttl <= 0) or max_bytes < 1:
            raise InputError(f"ttl is {ttl!r}, max_bytes {max_bytes!r}: expected seconds (or None), and 1 or more")
        self.ttl, self.max_bytes, self.clock = ttl, max_bytes, clock
        self.database = Database(path or home() / "production" / "cache.db", "answers", 1, _SCHEMA, timeout=2)
        self._hits, self._misses, self._lock = 0, 0, threading.Lock()

    def __repr__(self) -> str:
        return f"SQLiteCache({str(self.database.path)!r}, {self._hits} hits, {self._misses} misses)"

    def get(self, key: CacheKey) -> CachedAnswer | None:
        """The answer under exactly this key; None where there is none, or none that is young enough.

        Raises:
            sqlite3.Error: the file can't be read.
        """
        answer = self.answer(key.digest)
        with self._lock:
            if answer is None:
                self._misses += 1
            else:
                self._hits += 1
        return None if answer is None else CachedAnswer(answer, key.digest)

    def answer(self, digest: str) -> Answer | None:
        """The answer under the key with this digest, as ``get``, without being counted as a hit or a miss."""
        now = self.clock()
        oldest, newest = (-math.inf, math.inf) if self.ttl is None else (now - self.ttl, now)
        with self.database.transaction() as connection:
            select = "SELECT answer FROM answers WHERE digest = ? AND written > ? AND written <= ?"
            row = connection.execute(select, (digest, oldest, newest)).fetchone()
        if row is None:
            return None
        # A file that can't be written, being locked or full, can still be read.
        with suppress(sqlite3.OperationalError), self.database.transaction() as connection:
            connection.execute(f"UPDATE answers SET used = {_NOW} WHERE digest = ?", (digest,))
        return answer_from_json(row["answer"])

    def put(self, key: CacheKey, answer: Answer, *, model: str = "", vector: bytes = b"") -> None:
        """Store ``answer``. When this returns, it survives a kill of the process.

        ``model`` and ``vector`` are for ``SemanticCache``: the question as a vector.

        Raises:
            InputError: ``answer`` holds what JSON can't give back equal, or is larger than ``max_bytes``.
            sqlite3.Error: nothing was stored: the file is locked, full, damaged, ...
        """
        text = answer_to_json(answer)
        tenant, question = json.dumps(key.tenant), json.dumps(key.question)  # they may hold half of a surrogate pair
        size = len(text) + len(question) + len(vector)
        if size > self.max_bytes:
            raise InputError(f"an answer of {size} bytes is not cached: max_bytes is {self.max_bytes}")
        row = (key.digest, key.settings, tenant, question, text, size, self.clock(), model, vector)
        with self.database.transaction() as connection:
            connection.execute(_PUT, row)
            if connection.execute("SELECT sum(bytes) FROM answers").fetchone()[0] > self.max_bytes:
                connection.execute(_EVICT, (self.max_bytes,))

    def invalidate(self, digest: str) -> bool:
        """Drop the answer whose key has this digest (``Trace.cache_key``): somebody said that it is wrong.

        Returns whether there was one. The next time, the question is answered anew.

        Raises:
            sqlite3.Error: nothing was dropped: the file is locked, damaged, ...
        """
        with self.database.transaction() as connection:
            return connection.execute("DELETE FROM answers WHERE digest = ?", (digest,)).rowcount > 0

    def stats(self) -> CacheStats:
        """Hits and misses since the cache was opened here; entries and bytes of the file.

        Raises:
            sqlite3.Error: the file can't be read.
        """
        with self.database.transaction() as connection:
            held = connection.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM answers").fetchone()
        return CacheStats(self._hits, self._misses, *held)

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        self.database.close()


def answer_to_json(answer: Answer) -> str:
    """``answer`` as ASCII JSON; ``answer_from_json`` gives back an equal one.

    >>> answer = Answer("How?", "So.", usage=Usage("m", 3, 1))
    >>> answer_from_json(answer_to_json(answer)) == answer
    True

    Raises:
        InputError: a chunk's metadata, or a score, is nothing that JSON gives back equal.
    """
    with suppress(TypeError, ValueError, AttributeError):
        text = json.dumps(asdict(answer), default=lambda number: number.item())  # a number of NumPy's
        if answer_from_json(text) == answer:
            return text
    raise InputError(
        "this answer can't be stored as JSON and given back equal: expected metadata of texts, numbers, lists and "
        "objects, and finite scores; make tuples lists, dates texts"
    )


def answer_from_json(text: str) -> Answer:
    """The answer that ``answer_to_json`` wrote."""
    fields = json.loads(text)
    hits = tuple(Hit(**hit | {"chunk": from_dict(Chunk, hit["chunk"])}) for hit in fields["hits"])
    citations = tuple(Citation(**each | {"chunk": from_dict(Chunk, each["chunk"])}) for each in fields["citations"])
    return Answer(**fields | {"hits": hits, "citations": citations, "usage": Usage(**fields["usage"])})
