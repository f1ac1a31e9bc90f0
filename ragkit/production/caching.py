"""Answers that were given before: the same question, of the same pipeline, for the same tenant, is not answered twice.

    rag = advanced(corpus, cache=SQLiteCache())
    await rag.query("How do I purge all waiting tasks?")     # searches and generates
    await rag.query("How do I purge all waiting tasks?")     # reads it from the file

The cache is *exact*. Its keys (``ragkit.pipeline.trace.CacheKey``) are made by the pipeline and hold all that can
change an answer, so nothing has to be cleared when an index, a model or a prompt changes: old entries are never asked
for again. What the key can't know is what lies outside: a model that its provider changes behind an unchanged name. For
that there is ``ttl``.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ragkit.base import Answer, Chunk, Citation, Hit, InputError, Usage
from ragkit.files import Database, home
from ragkit.pipeline.trace import CachedAnswer, CacheKey

# `used` counts up: the least is the entry that was not used for longest. `model` and `vector` are a semantic cache's.
# Triggers keep the sum of all bytes, or each put would have to add them up.
_SCHEMA = """
CREATE TABLE answers (
    number INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL UNIQUE, settings TEXT, tenant TEXT, question TEXT,
    answer TEXT NOT NULL, bytes INTEGER NOT NULL, written REAL NOT NULL, used INTEGER NOT NULL, model TEXT,
    vector BLOB);
CREATE INDEX answers_used ON answers (used, bytes);
CREATE TABLE total (entries INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO total VALUES (0, 0);
CREATE TRIGGER answers_added AFTER INSERT ON answers BEGIN
    UPDATE total SET entries = entries + 1, bytes = bytes + NEW.bytes; END;
CREATE TRIGGER answers_removed AFTER DELETE ON answers BEGIN
    UPDATE total SET entries = entries - 1, bytes = bytes - OLD.bytes; END;
"""
_NOW = "(SELECT coalesce(max(used), 0) + 1 FROM answers)"


@dataclass(frozen=True)
class CacheStats:
    """What a cache did since it was opened here (``hits``, ``misses``, ``evictions``), and what its file holds."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    entries: int = 0
    bytes: int = 0

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
        if (ttl is not None and not ttl > 0) or max_bytes < 1:
            raise InputError(f"ttl is {ttl!r}, max_bytes {max_bytes!r}: expected seconds (or None), and 1 or more")
        self.ttl, self.max_bytes, self.clock = ttl, max_bytes, clock
        self.database = Database(path or home() / "production" / "cache.db", "answers", 1, _SCHEMA, timeout=2)
        self._stats, self._lock = CacheStats(), threading.Lock()
        with (
            self.database.transaction() as connection
        ):  # whatever has happened to it: a wrong sum would empty the cache
            connection.execute("DELETE FROM total")
            connection.execute("INSERT INTO total SELECT count(*), coalesce(sum(bytes), 0) FROM answers")

    def __repr__(self) -> str:
        return f"SQLiteCache({str(self.database.path)!r}, {self._stats.hits} hits, {self._stats.misses} misses)"

    def get(self, key: CacheKey) -> CachedAnswer | None:
        """The answer under exactly this key; None where there is none, or none that is young enough.

        Raises:
            sqlite3.Error: the file can't be read.
        """
        answer = self.answer(key.digest)
        self._count(hits=int(answer is not None), misses=int(answer is None))
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
        question = json.dumps(key.question)  # JSON: a question may hold half of a surrogate pair
        size = len(text) + len(question) + len(vector)
        if size > self.max_bytes:
            raise InputError(f"an answer of {size} bytes is not cached: max_bytes is {self.max_bytes}")
        row = (key.digest, key.settings, json.dumps(key.tenant), question, text, size, self.clock(), model, vector)
        with self.database.transaction() as connection:
            connection.execute("DELETE FROM answers WHERE digest = ?", (key.digest,))
            connection.execute(
                "INSERT INTO answers (digest, settings, tenant, question, answer, bytes, written, used, model, vector) "
                f"VALUES (?, ?, ?, ?, ?, ?, ?, {_NOW}, ?, ?)",
                row,
            )
            evictions = 0
            while connection.execute("SELECT bytes FROM total").fetchone()["bytes"] > self.max_bytes:
                oldest = "(SELECT number FROM answers WHERE digest != ? ORDER BY used LIMIT 1)"
                if not connection.execute(f"DELETE FROM answers WHERE number = {oldest}", (key.digest,)).rowcount:
                    break
                evictions += 1
        self._count(evictions=evictions)

    def invalidate(self, digest: str) -> bool:
        """Drop the answer whose key has this digest (``Trace.cache_key``): somebody said that it is wrong.

        Returns whether there was one. The next time, the question is answered anew.

        Raises:
            sqlite3.Error: nothing was dropped: the file is locked, damaged, ...
        """
        with self.database.transaction() as connection:
            return connection.execute("DELETE FROM answers WHERE digest = ?", (digest,)).rowcount > 0

    def stats(self) -> CacheStats:
        """Hits, misses and evictions since the cache was opened here; entries and bytes of the file.

        Raises:
            sqlite3.Error: the file can't be read.
        """
        with self.database.transaction() as connection:
            entries, size = connection.execute("SELECT entries, bytes FROM total").fetchone()
        return replace(self._stats, entries=entries, bytes=size)

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        self.database.close()

    def _count(self, hits: int = 0, misses: int = 0, evictions: int = 0) -> None:
        with self._lock:
            done = self._stats
            self._stats = CacheStats(done.hits + hits, done.misses + misses, done.evictions + evictions)


def answer_to_json(answer: Answer) -> str:
    """``answer`` as ASCII JSON; ``answer_from_json`` gives back an equal one.

    >>> answer = Answer("How?", "So.", usage=Usage("m", 3, 1))
    >>> answer_from_json(answer_to_json(answer)) == answer
    True

    Raises:
        InputError: a chunk's metadata, or a score, is nothing that JSON gives back equal.
    """
    expected = (
        "expected metadata of texts, numbers, lists and objects, and finite scores; make tuples lists, dates texts"
    )
    try:
        text = json.dumps(asdict(answer), default=lambda number: number.item())  # a number of NumPy's
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"this answer can't be stored as JSON ({error}): {expected}") from error
    if answer_from_json(text) != answer:
        raise InputError(f"this answer can't be stored as JSON and given back equal: {expected}")
    return text


def answer_from_json(text: str) -> Answer:
    """The answer that ``answer_to_json`` wrote."""
    fields = json.loads(text)
    hits = tuple(Hit(**hit | {"chunk": _chunk(hit["chunk"])}) for hit in fields["hits"])
    citations = tuple(Citation(**each | {"chunk": _chunk(each["chunk"])}) for each in fields["citations"])
    return Answer(**fields | {"hits": hits, "citations": citations, "usage": Usage(**fields["usage"])})


def _chunk(fields: Mapping[str, Any]) -> Chunk:
    return Chunk(**{**fields, "section": tuple(fields["section"])})
