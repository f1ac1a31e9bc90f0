"""Dense retrieval: chunks and queries as unit vectors, the nearest by cosine.

Vectors come from a token store (no run of the model) or from encoding each chunk. Two ways to score:

- ``pooled``: one vector a chunk, searched by FAISS;
- ``maxp``: a chunk scores as its best window of 64 tokens, so that long chunks do not dilute.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Embedder, Hit, InputError, Retriever, Vectors
from ragkit.embedding import load_embedder
from ragkit.retrieval.records import read_chunks, write_chunks
from ragkit.storage import atomic_folder, read_manifest, write_manifest
from ragkit.token_store import TokenStore
from ragkit.token_store.store import range_max

Scoring = Literal["pooled", "maxp"]
_QUERIES = 64  # a batch of queries, so that the table of scores stays small


class DenseRetriever(Retriever):
    """The chunks whose vectors are nearest to the query's.

    ``store`` gives the chunks' vectors; without it ``embedder`` (default: ``load_embedder()``) encodes them,
    long ones in windows that are averaged. ``scoring="maxp"`` needs a store. ``index`` names the FAISS index.

    >>> from ragkit.testing import FakeEmbedder
    >>> chunks = [Chunk("a", 0, 8, "red wine"), Chunk("b", 0, 8, "blue sky")]
    >>> DenseRetriever(chunks, embedder=FakeEmbedder()).search("wine", 1)[0].chunk.doc_id
    'a'

    Raises:
        InputError: an unknown ``scoring`` or ``index``, or ``maxp`` without a store.
        StoreMismatchError: a chunk is not from the store's corpus.
    """

    def __init__(
        self,
        chunks: Sequence[Chunk],
        store: TokenStore | None = None,
        embedder: Embedder | None = None,
        scoring: Scoring = "pooled",
        index: str = "flat",
    ) -> None:
        if scoring not in ("pooled", "maxp"):
            raise InputError(f"scoring = {scoring!r}: expected 'pooled' or 'maxp'")
        if index != "flat":
            raise InputError(f"index = {index!r}: expected 'flat'")
        if scoring == "maxp" and store is None:
            raise InputError("scoring='maxp' needs the vectors of windows: give store=TokenStore.open(corpus)")
        self.chunks = tuple(chunks)
        self.scoring, self.index = scoring, index
        self.store = store
        self.embedder: Embedder = store.encoder if store else embedder or load_embedder()
        self._ranges: NDArray[np.int64] | None = None
        if store and scoring == "maxp":
            self._vectors, self._ranges = store.windows(self.chunks)
        else:
            vectors = store.pool(self.chunks) if store else self.embedder.encode([c.text for c in self.chunks])
            self._faiss = _flat(vectors.reshape(-1, self.embedder.dimension))

    def __repr__(self) -> str:
        return f"DenseRetriever({len(self.chunks)} chunks, {self.embedder.name}, {self.scoring}, {self.index})"

    def _search(self, query: str, k: int) -> list[Hit]:
        vector = self.store.encode_query(query)[None] if self.store else self.embedder.encode([query], "query")
        return self._nearest(vector, k)[0]

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        found: list[list[Hit]] = []
        for at in range(0, len(queries), _QUERIES):
            part = queries[at : at + _QUERIES]
            found += self._nearest(
                self.store.encode_queries(part) if self.store else self.embedder.encode(part, "query"), k
            )
        return found

    def _nearest(self, vectors: Vectors, k: int) -> list[list[Hit]]:
        k = min(k, len(self.chunks))
        if k == 0:
            return [[] for _ in vectors]
        if self._ranges is not None:
            scores, places = _best(range_max(vectors @ self._vectors.T, self._ranges), k)
        else:
            import faiss

            faiss.omp_set_num_threads(1 if len(vectors) == 1 else os.cpu_count() or 1)  # threads cost one query more
            scores, places = self._faiss.search(vectors, k)
        name = f"dense:{self.scoring}"
        return [
            [Hit(self.chunks[i], float(s), name) for s, i in zip(*row, strict=True) if i >= 0]
            for row in zip(scores, places, strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Write index and chunks to ``folder`` in one step, with the sha256 of every file."""
        settings = {"kind": "dense", "scoring": self.scoring, "index": self.index, "embedder": self.embedder.identity}
        with atomic_folder(Path(folder)) as fresh:
            write_chunks(fresh / "chunks.jsonl", self.chunks)
            if self._ranges is not None:
                np.save(fresh / "vectors.npy", self._vectors)
                np.save(fresh / "ranges.npy", self._ranges)
            else:
                import faiss

                faiss.write_index(self._faiss, str(fresh / "index.faiss"))
            write_manifest(fresh, settings)

    @classmethod
    def load(cls, folder: Path, store: TokenStore | None = None, embedder: Embedder | None = None) -> DenseRetriever:
        """The retriever that was saved in ``folder``. ``store`` or ``embedder`` only encode the queries.

        Raises:
            IntegrityError: a file is missing, cut or changed.
            StoreMismatchError: it was made with another model.
        """
        folder = Path(folder)
        encoder: Embedder = store.encoder if store else embedder or load_embedder()
        settings = read_manifest(folder, {"kind": "dense", "embedder": encoder.identity})
        self = cls.__new__(cls)
        self.chunks = tuple(read_chunks(folder / "chunks.jsonl"))
        self.scoring, self.index = settings["scoring"], settings["index"]
        self.store, self.embedder, self._ranges = store, encoder, None
        if self.scoring == "maxp":
            self._vectors = np.load(folder / "vectors.npy", allow_pickle=False)
            self._ranges = np.load(folder / "ranges.npy", allow_pickle=False)
        else:
            import faiss

            self._faiss = faiss.read_index(str(folder / "index.faiss"))
        return self


def _flat(vectors: Vectors) -> Any:
    """A FAISS index that compares the query with every vector."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def _best(scores: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
    """The ``k`` highest scores of each row, best first, and their places."""
    places = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1)
    return np.take_along_axis(scores, places, axis=1), places
