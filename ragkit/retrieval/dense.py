"""Dense retrieval: chunks and queries as unit vectors, the nearest by cosine.

Vectors come from a token store (no run of the model) or from encoding each chunk. Two ways to score:

- ``pooled``: one vector a chunk, searched by FAISS;
- ``maxp``: a chunk scores as its best window of a few dozen tokens, so that long chunks do not dilute.

The FAISS indexes, all by inner product, so that unit vectors are compared by cosine:

========  ==========================================  ===========================  ==============================
name      what it is                                  bytes a vector of d numbers  when
========  ==========================================  ===========================  ==============================
flat      compares with every vector                  4 d                          exact; to some 50,000 vectors
int8      flat, each number in 8 bits                 d                            a quarter of the memory
hnsw      a graph of neighbours (arXiv 1603.09320)    4 d + 256                    fast up to some millions
ivfpq     cells of product-quantised codes            d / 8                        when memory is what is short
          (Jegou et al. 2011, IEEE TPAMI 33)
========  ==========================================  ===========================  ==============================
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ragkit.base import (
    Chunk,
    Embedder,
    Hit,
    InputError,
    Retriever,
    Vectors,
    build_identity,
    chunks_digest,
    require,
)
from ragkit.embedding import encode, load_embedder
from ragkit.retrieval.bm25 import unique_chunks
from ragkit.token_store import TokenStore, range_max

Scoring = Literal["pooled", "maxp"]
INDEXES = ("flat", "int8", "hnsw", "ivfpq")
_PQ_TRAINING = 39 * 256  # FAISS wants 39 examples for each of the 256 centroids of a code
_BATCH = 64  # queries at a time, so that the table of scores stays small


class DenseRetriever(Retriever):
    """The chunks whose vectors are nearest to the query's; a chunk that is given twice counts once.

    ``store`` gives the chunks' vectors; without it ``embedder`` (default: ``load_embedder()``) encodes them, long ones
    in windows that are averaged. ``scoring="maxp"`` needs a store; ``window`` is the length of its windows in tokens.
    ``index`` is the FAISS index of pooled vectors, one of ``INDEXES``. ``contextual=True`` encodes ``chunk.context``
    (project, title, section path) in front of each chunk, which a store has no vectors of.

    >>> from ragkit.testing import FakeEmbedder
    >>> chunks = [Chunk("a", 0, 8, "red wine"), Chunk("b", 0, 8, "blue sky")]
    >>> DenseRetriever(chunks, embedder=FakeEmbedder()).search("wine", 1)[0].chunk.doc_id
    'a'

    Raises:
        InputError: an unknown ``scoring`` or ``index``, ``maxp`` without a store or with another index than flat,
            ``contextual`` with a store, too few chunks to train "ivfpq", or two texts under one chunk id.
        ContractError: (also in a search) the embedder gave another shape than it promises, or NaN.
        StoreMismatchError: a chunk is not from the store's corpus.
    """

    def __init__(
        self,
        chunks: Sequence[Chunk],
        store: TokenStore | None = None,
        embedder: Embedder | None = None,
        scoring: Scoring = "pooled",
        index: str = "flat",
        window: int = 64,
        contextual: bool = False,
    ) -> None:
        if scoring not in ("pooled", "maxp"):
            raise InputError(f"scoring = {scoring!r}: expected 'pooled' or 'maxp'")
        if scoring == "maxp" and store is None:
            raise InputError("scoring='maxp' needs the vectors of windows: give store=TokenStore.open(corpus)")
        if scoring == "maxp" and index != "flat":
            raise InputError(f"scoring='maxp' compares with every window: index = {index!r}, expected 'flat'")
        if contextual and store is not None:
            raise InputError("contextual=True encodes every chunk with its headings in front: give embedder, not store")
        self.store = store
        self.embedder: Embedder = store.encoder if store else embedder or load_embedder()
        self.chunks = tuple(unique_chunks(chunks))
        self.scoring, self.index, self.window, self.contextual = scoring, index, window, contextual
        self._windows = store.windows(self.chunks, window) if store and scoring == "maxp" else None
        self._faiss = None if self._windows else make_index(index, self._encode_chunks())

    def __repr__(self) -> str:
        return f"DenseRetriever({len(self.chunks)} chunks, {self.embedder.name}, {self.scoring}, {self.index})"

    @cached_property
    def identity(self) -> str:
        vectors = self.store.identity if self.store else self.embedder.identity
        settings = (self.scoring, self.index, self.window, self.contextual)
        return build_identity(self, chunks_digest(self.chunks), vectors, *settings)

    def _encode_chunks(self) -> Vectors:
        if self.store:
            return self.store.pool(self.chunks)
        texts = [f"{c.context}\n\n{c.text}" if self.contextual else c.text for c in self.chunks]
        return encode(self.embedder, texts, "passage")

    def _encode_queries(self, queries: Sequence[str]) -> Vectors:
        if self.store is None:
            return encode(self.embedder, queries, "query")
        return self.store.encode_query(queries[0])[None] if len(queries) == 1 else self.store.encode_queries(queries)

    def _search(self, query: str, k: int) -> list[Hit]:
        return self._search_many([query], k)[0]

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        batches = [queries[at : at + _BATCH] for at in range(0, len(queries), _BATCH)]
        return [hits for batch in batches for hits in self._nearest(self._encode_queries(batch), k)]

    def _nearest(self, vectors: Vectors, k: int) -> list[list[Hit]]:
        """The ``k`` hits for each query vector of ``(queries, d)``."""
        k = min(int(k), len(self.chunks))
        if k == 0:
            return [[] for _ in vectors]
        if self._windows is None:
            scores, places = search_index(self._faiss, vectors, k)
        else:
            windows, ranges = self._windows
            scores, places = _best(range_max(vectors @ windows.T, ranges), k)
        source = f"dense:{self.scoring}"
        rows = zip(scores.tolist(), places.tolist(), strict=True)
        return [[Hit(self.chunks[i], s, source) for s, i in zip(*row, strict=True) if i >= 0] for row in rows]


def make_index(name: str, vectors: Vectors) -> Any:
    """The FAISS index ``name`` over ``vectors`` ``(n, d)``.

    Raises:
        InputError: no such index, or too few vectors to train it.
    """
    faiss = require("faiss", "search")
    n, d = vectors.shape
    if name not in INDEXES:
        raise InputError(f"index = {name!r}: expected one of {', '.join(INDEXES)}")
    if name == "ivfpq" and n < _PQ_TRAINING:
        raise InputError(
            f"index = 'ivfpq' learns its codes from at least {_PQ_TRAINING} vectors, found {n}: use 'flat'"
        )
    if name == "hnsw":
        index = faiss.IndexHNSWFlat(d, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 100
    elif name == "int8" and n:
        index = faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    elif name == "ivfpq":
        cells, codes = int(n**0.5), next(m for m in (d // 8, d // 4, 1) if m and d % m == 0)
        index = faiss.index_factory(d, f"IVF{cells},PQ{codes}x8", faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1
        index.do_polysemous_training = False  # most of the time, for codes that are compared in a way not used here
        index.nprobe = max(16, cells // 8)
    else:
        index = faiss.IndexFlatIP(d)
    if n:
        index.train(vectors)
        index.add(vectors)
    return index


def search_index(index: Any, queries: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Scores and places ``(len(queries), k)`` of the nearest vectors; place -1 where there is none."""
    faiss = require("faiss", "search")
    graph = isinstance(index, faiss.IndexHNSW)  # there, look at more of it for more hits
    params = faiss.SearchParametersHNSW(efSearch=max(128, 4 * k)) if graph else None
    threads = faiss.omp_get_max_threads()  # from OMP_NUM_THREADS, else the cores that this process may use
    try:
        if len(queries) == 1:  # threads cost a single query more than they bring
            faiss.omp_set_num_threads(1)
        scores, places = index.search(queries, k, params=params)
    finally:
        faiss.omp_set_num_threads(threads)
    return scores, places


def _best(scores: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
    """The ``k`` highest scores of each row, best first, and their places; of equal scores the first places, so that a
    shorter list is the beginning of a longer one."""
    rows = []
    for row in scores:
        least = np.partition(row, len(row) - k)[len(row) - k]
        able = np.flatnonzero(row >= least)
        rows.append(able[np.argsort(-row[able], kind="stable")[:k]])
    places = np.array(rows, dtype=np.int64)
    return np.take_along_axis(scores, places, axis=1), places
