"""Search and rerank once for many configurations: what was computed before is handed out again.

Nothing here changes a result. A ``Ledger`` counts what was spared, and how long it took when it was computed, so that
the latency of a configuration can be told though most of its work was shared.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Hit, Mean, Retriever, Vectors
from ragkit.retrieval.rerank import MaxSim


@dataclass
class Ledger:
    """What was computed and what was handed out again: searches, and chunks that were scored by late interaction.

    ``spared`` are the milliseconds that the shared work took when it was done.
    """

    searched: int = 0
    searches_shared: int = 0
    scored: int = 0
    scores_shared: int = 0
    spared: float = 0.0


class Shared(Retriever):
    """``retriever``, asked once for each query: a deeper list answers shallower searches, too.

    For retrievers whose shorter list is the beginning of their longer one. ``depth`` is how deep the first search goes.
    """

    def __init__(self, retriever: Retriever, ledger: Ledger, depth: int) -> None:
        self.retriever, self.ledger, self.depth = retriever, ledger, depth
        self._known: dict[str, tuple[int, list[Hit], float]] = {}

    def _search(self, query: str, k: int) -> list[Hit]:
        depth, hits, milliseconds = self._known.get(query, (0, [], 0.0))
        if depth >= k:
            self.ledger.searches_shared += 1
            self.ledger.spared += milliseconds
            return hits[:k]
        depth, spared, start = max(k, self.depth), self.ledger.spared, time.perf_counter()
        hits = self.retriever.search(query, depth)
        took = (time.perf_counter() - start) * 1000 + self.ledger.spared - spared
        self.ledger.searched += 1
        self._known[query] = depth, hits, took
        return hits[:k]


class SharedMaxSim:
    """``TokenStore.maxsim`` computed once for each query and chunk. What a chunk took is its part of its batch."""

    def __init__(self, store: MaxSim, ledger: Ledger) -> None:
        self.store, self.ledger = store, ledger
        self._known: dict[tuple[str, Mean], dict[str, tuple[float, float]]] = {}

    def maxsim(self, query: str, chunks: Sequence[Chunk], mean: Mean = "arithmetic") -> NDArray[np.float32]:
        """Late-interaction scores ``(len(chunks),)``."""
        known = self._known.setdefault((query, mean), {})
        new = list({chunk.id: chunk for chunk in chunks if chunk.id not in known}.values())
        self.ledger.spared += sum(known[chunk.id][1] for chunk in chunks if chunk.id in known)
        if new:
            start = time.perf_counter()
            scores = self.store.maxsim(query, new, mean)
            each = (time.perf_counter() - start) * 1000 / len(new)
            known |= {chunk.id: (float(score), each) for chunk, score in zip(new, scores, strict=True)}
        self.ledger.scored += len(new)
        self.ledger.scores_shared += len(chunks) - len(new)
        return np.array([known[chunk.id][0] for chunk in chunks], dtype=np.float32)

    def encode_query(self, query: str) -> Vectors:
        """The unit vector ``(d,)`` of a query."""
        return self.store.encode_query(query)

    def pool(self, chunks: Sequence[Chunk]) -> Vectors:
        """Unit vectors ``(len(chunks), d)``."""
        return self.store.pool(chunks)
