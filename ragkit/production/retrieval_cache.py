"""Hits that were found before: a retriever in front of a retriever, for queries that come again.

    dense = CachedRetriever(dense, f"dense:{corpus.fingerprint}:{store.identity}:512:64")

Where a cached *answer* will not do (another model, another prompt, a stricter budget), the hits below it may still be
the same. What is saved is one search, so this pays where searching is dear: a cluster in the network, a rewriter or a
reranker that asks a model (wrap the ``Reranked``). It does not pay for BM25.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from time import time

from ragkit.base import CacheKey, Hit, InputError, Retriever
from ragkit.production.entries import MAX_BYTES, CacheStats, Entries
from ragkit.production.records import hits_json, hits_of


class CachedRetriever(Retriever):
    """``inner`` with a memory for its hits: in this process, or with ``path`` in a file that processes share.

    A query is remembered as it was typed, with its ``k``: what is given back is exactly what ``inner`` found. Hits that
    a file can't give back equal (metadata with tuples or dates) are not kept, and counted as ``refused``.

    >>> from ragkit.base import Chunk
    >>> from ragkit.retrieval.bm25 import BM25Retriever
    >>> cached = CachedRetriever(BM25Retriever([Chunk("a", 0, 10, "some tasks")]), "my chunks, version 1")
    >>> cached.search("tasks") == cached.search("tasks"), cached.stats().hits
    (True, 1)

    Args:
        inner: any retriever that finds the same for the same query.
        identity: names everything that can change its hits: corpus, chunks, models, settings. Two retrievers over one
            file that have the same identity share their hits.
        path: an SQLite file; None keeps hits in memory. Documents of the hits stand in it in plain text.
        entries: searches that are kept in memory; the least recently used goes.
        ttl: seconds that hits live in the file; None for ever.
        max_bytes: of the file's entries.
        clock: seconds since 1970, for ``ttl``.

    Raises:
        InputError: ``identity`` is blank; ``entries``, ``ttl`` or ``max_bytes`` is not positive; a ``ttl`` without a
            file.
    """

    def __init__(
        self,
        inner: Retriever,
        identity: str,
        path: str | Path | None = None,
        *,
        entries: int = 10_000,
        ttl: float | None = None,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time,
    ) -> None:
        if not identity.strip():
            raise InputError("identity is blank: expected a name for all that can change the hits of the retriever")
        if entries < 1 or (path is None and ttl is not None):
            raise InputError(f"entries is {entries!r}, ttl {ttl!r}: expected 1 or more; a ttl needs a path")
        self.retriever, self.identity = inner, identity
        self._most = entries
        self._file = None if path is None else Entries(Path(path), ttl=ttl, max_bytes=max_bytes, clock=clock)
        self._memory: dict[CacheKey, tuple[Hit, ...]] = {}  # the last used stands last
        self._counts: Counter[str] = Counter()
        self._turn = threading.Lock()

    def __repr__(self) -> str:
        trouble = f", TROUBLE: {self._file.trouble}" if self._file and self._file.trouble else ""
        return f"CachedRetriever({self.retriever!r}{trouble})"

    def stats(self) -> CacheStats:
        """What was asked here and what is kept; in memory, nobody counts bytes."""
        if self._file is not None:
            return self._file.stats().get("", CacheStats())
        with self._turn:
            return CacheStats(**self._counts, entries=len(self._memory))

    def close(self) -> None:
        """Close the file, where there is one."""
        if self._file is not None:
            self._file.close()

    def _search(self, query: str, k: int) -> list[Hit]:
        return self._search_many([query], k)[0]

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        keys = [CacheKey(self.identity, json.dumps([query, k])) for query in queries]
        found = {key: self._get(key) for key in dict.fromkeys(keys)}
        missing = {key: query for key, query in zip(keys, queries, strict=True) if found[key] is None}
        if missing:
            asked = list(missing.values())
            # One alone is asked alone: a batch may differ from it in a score's last digits.
            lists = [self.retriever.search(asked[0], k)] if len(asked) == 1 else self.retriever.search_many(asked, k)
            for key, hits in zip(missing, lists, strict=True):
                found[key] = list(hits)
                self._put(key, hits)
        return [list(found[key] or ()) for key in keys]

    def _get(self, key: CacheKey) -> list[Hit] | None:
        if self._file is not None:
            text = self._file.get(key)
            return None if text is None else hits_of(text)
        with self._turn:
            hits = self._memory.pop(key, None)
            self._counts["misses" if hits is None else "hits"] += 1
            if hits is None:
                return None
            self._memory[key] = hits
            return list(hits)

    def _put(self, key: CacheKey, hits: Sequence[Hit]) -> None:
        if self._file is not None:
            try:
                text = hits_json(hits)
            except InputError:  # odd metadata: then it is searched each time, which costs time and no answer
                self._file.count("", "refused")
            else:
                self._file.put(key, text)
            return
        with self._turn:
            self._memory.pop(key, None)
            self._memory[key] = tuple(hits)
            while len(self._memory) > self._most:
                del self._memory[next(iter(self._memory))]
                self._counts["evictions"] += 1
