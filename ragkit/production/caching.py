"""Answers that were given before: the same question, of the same pipeline, for the same tenant, is not answered twice.

    rag = advanced(corpus, cache=SQLiteCache())
    await rag.query("How do I purge all waiting tasks?")     # searches and generates
    await rag.query("How do I purge all waiting tasks?")     # reads it from the file

The cache is *exact*. Its keys (``ragkit.base.CacheKey``) are made by the pipeline and hold all that can change an
answer, so nothing has to be cleared when an index, a model or a prompt changes: old entries are never asked for again.
What the key can't know is what lies outside: a model that its provider changes behind an unchanged name. For that there
is ``ttl``.

Vectors are kept elsewhere: in ``ragkit.embedding.cache`` (texts) and ``TokenStore`` (a corpus).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ragkit.base import Answer
from ragkit.files import home
from ragkit.pipeline.trace import CachedAnswer, CacheKey
from ragkit.production.database import DatabaseTrouble
from ragkit.production.entries import MAX_BYTES, CacheStats, Entries
from ragkit.production.records import answer_json, answer_of

__all__ = ["CacheStats", "SQLiteCache"]


class SQLiteCache:
    """An exact ``AnswerCache`` in one SQLite file, for several threads, processes and tenants.

    A file that is locked, full or damaged never costs a user the answer: it makes misses, is logged once, and shows in
    ``trouble`` and in the ``repr``. Questions, answers and passages stand in it in plain text. Tenants never see each
    other's answers, but they share ``max_bytes``: a busy one pushes out those of the others.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = SQLiteCache(Path(folder) / "cache.db")
    ...     cache.put(CacheKey("settings", "How?", "acme"), Answer("How?", "So."))
    ...     found = cache.get(CacheKey("settings", "How?", "acme"))
    ...     other = cache.get(CacheKey("settings", "How?", "globex"))
    ...     cache.close()
    >>> found.answer.text, other
    ('So.', None)

    Args:
        path: None is ``production/cache.db`` below ``ragkit.files.home()``.
        ttl: seconds that an answer lives; None for ever.
        max_bytes: past this, the answers that were not used for longest go.
        clock: seconds since 1970; it may be set back: an answer from the future is not used.

    Raises:
        InputError: ``ttl`` or ``max_bytes`` is not positive.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        ttl: float | None = None,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        where = home() / "production" / "cache.db" if path is None else Path(path)
        self.entries = Entries(where, ttl=ttl, max_bytes=max_bytes, clock=clock)

    def __repr__(self) -> str:
        return f"SQLiteCache({self.entries!r})"

    @property
    def trouble(self) -> DatabaseTrouble | None:
        """What is wrong with the file; None while nothing is."""
        return self.entries.trouble

    def get(self, key: CacheKey) -> CachedAnswer | None:
        """The answer under exactly this key."""
        text = self.entries.get(key)
        return None if text is None else CachedAnswer(answer_of(text), key.digest)

    def put(self, key: CacheKey, answer: Answer) -> None:
        """Keep ``answer``. When this returns, it survives a kill of the process.

        Raises:
            InputError: ``answer`` holds what JSON can't give back equal.
        """
        self.entries.put(key, answer_json(answer))

    def forget(self, digest: str) -> bool:
        """Drop the answer whose key has this digest (``Trace.cache_key``): somebody said that it is wrong.

        Returns whether there was one. The next time, the question is answered anew.

        Raises:
            DatabaseTrouble: nothing was dropped: the file is locked, damaged, ...
        """
        return self.entries.forget(digest)

    def stats(self, tenant: str | None = None) -> CacheStats:
        """What was asked here and what is kept, for ``tenant`` or for all together."""
        by_tenant = self.entries.stats()
        if tenant is not None:
            return by_tenant.get(tenant, CacheStats())
        return sum(by_tenant.values(), CacheStats())

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        self.entries.close()
