"""Dense retrieval: chunks and queries as unit vectors, the nearest by cosine.

Vectors come from a token store (no run of the model) or from encoding each chunk. Two ways to score:

- ``pooled``: one vector a chunk, searched by FAISS;
- ``maxp``: a chunk scores as its best window of a few dozen tokens, so that long chunks do not dilute.

Either can look at where a chunk stands, too (``contextual``). On ``core``, chunks of 512 tokens, 360 questions of five
kinds, this changed the MRR@10 of ``maxp`` from .413 to .433, interval -.005 to +.047: names, paraphrases and questions
over two pages gain .03 to .07; the FAQ, whose headings became the questions and are missing from the page, loses .025.
``pooled`` went from .374 to .380. The textbook's way, to encode each chunk anew with its context in front (256 tokens),
brought +.019, interval -.003 to +.042: no more than a tenth of the context's own vector, which is read once. After
the advanced preset's reranking nothing is left of either, so it is off there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Embedder, Hit, InputError, Retriever, Vectors
from ragkit.embedding import load_embedder, unit
from ragkit.retrieval.faiss_index import choose, make_index, search
from ragkit.token_store import TokenStore, range_max

Scoring = Literal["pooled", "maxp"]
_CONTEXT = 0.1  # the weight of a chunk's context beside its text: .05 to .15 are alike, from .2 on the text loses
_QUERIES = 64  # a batch of queries, so that the table of scores stays small


class DenseRetriever(Retriever):
    """The chunks whose vectors are nearest to the query's.

    ``store`` gives the chunks' vectors; without it ``embedder`` (default: ``load_embedder()``) encodes them,
    long ones in windows that are averaged. ``scoring="maxp"`` needs a store; ``window`` is the length of its
    windows in tokens. ``index`` names the FAISS index of pooled vectors (see ``ragkit.retrieval.faiss_index``).
    ``contextual=True`` compares ``chunk.context`` (project, title, section path) as well, with a tenth of the weight:
    each different context is encoded once, and its vector added to its chunks' vectors (``pooled``), its cosine to
    their scores (``maxp``).

    >>> from ragkit.testing import FakeEmbedder
    >>> chunks = [Chunk("a", 0, 8, "red wine"), Chunk("b", 0, 8, "blue sky")]
    >>> DenseRetriever(chunks, embedder=FakeEmbedder()).search("wine", 1)[0].chunk.doc_id
    'a'

    Raises:
        InputError: an unknown ``scoring`` or ``index``, or ``maxp`` without a store or with another index than flat.
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
        if scoring == "maxp" and index not in ("flat", "auto"):
            raise InputError(f"scoring='maxp' compares with every window: index = {index!r}, expected 'flat'")
        self.store = store
        self.embedder: Embedder = store.encoder if store else embedder or load_embedder()
        self.chunks = tuple(chunks)
        self.scoring, self.window, self.contextual = scoring, window, contextual
        self.index = "flat" if scoring == "maxp" else choose(index, len(self.chunks))
        self._allowed = np.ones(len(self.chunks), dtype=bool)
        self._faiss: Any = None
        self._windows: tuple[Vectors, NDArray[np.int64]] | None = None
        self._contexts: tuple[Vectors, NDArray[np.int64]] | None = None
        if store and scoring == "maxp":
            self._windows = store.windows(self.chunks, window)
            self._contexts = self._encode_contexts(self.chunks)
        else:
            self._faiss = make_index(self.index, self._encode(self.chunks))

    def __repr__(self) -> str:
        how = f"{self.scoring}{', contextual' if self.contextual else ''}, {self.index}"
        return f"DenseRetriever({len(self)} chunks, {self.embedder.name}, {how})"

    def __len__(self) -> int:
        """The number of chunks that a search can return."""
        return int(self._allowed.sum())

    def _encode(self, chunks: Sequence[Chunk]) -> Vectors:
        vectors = self.store.pool(chunks) if self.store else self.embedder.encode([c.text for c in chunks])
        vectors = vectors.reshape(-1, self.embedder.dimension)
        if (contexts := self._encode_contexts(chunks)) is None:
            return vectors
        return unit((1 - _CONTEXT) * vectors + _CONTEXT * contexts[0][contexts[1]])

    def _encode_contexts(self, chunks: Sequence[Chunk]) -> tuple[Vectors, NDArray[np.int64]] | None:
        """The vectors of the different contexts, and which of them is each chunk's; zero for no context."""
        if not self.contextual:
            return None
        number: dict[str, int] = {}
        places = np.array([number.setdefault(chunk.context, len(number)) for chunk in chunks], dtype=np.int64)
        vectors = self.embedder.encode([context or "-" for context in number]).reshape(-1, self.embedder.dimension)
        return vectors * np.array([bool(context) for context in number], dtype=np.float32)[:, None], places

    def _search(self, query: str, k: int) -> list[Hit]:
        vector = self.store.encode_query(query)[None] if self.store else self.embedder.encode([query], "query")
        return self.nearest(vector, k)[0]

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        found: list[list[Hit]] = []
        for at in range(0, len(queries), _QUERIES):
            part = queries[at : at + _QUERIES]
            found += self.nearest(
                self.store.encode_queries(part) if self.store else self.embedder.encode(part, "query"), k
            )
        return found

    def nearest(self, vectors: Vectors, k: int) -> list[list[Hit]]:
        """The ``k`` hits for each query vector of ``(queries, d)``: a search for who makes the vectors himself."""
        k = min(k, len(self))
        if k == 0:
            return [[] for _ in vectors]
        if self._windows is not None:
            windows, ranges = self._windows
            scores = range_max(vectors @ windows.T, ranges)
            if self._contexts is not None:
                contexts, places = self._contexts
                scores = (1 - _CONTEXT) * scores + _CONTEXT * (vectors @ contexts.T)[:, places]
            scores = np.where(self._allowed, scores, -np.inf)
            scores, places = _best(scores, k)
        else:
            scores, places = search(self._faiss, vectors, k, self._allowed)
        name = f"dense:{self.scoring}"
        return [
            [Hit(self.chunks[i], float(s), name) for s, i in zip(*row, strict=True) if i >= 0]
            for row in zip(scores, places, strict=True)
        ]

    def where(self, metadata: Mapping[str, object]) -> Self:
        """A retriever over the chunks whose metadata has all these values; a collection means any of its members.

        It shares the index and costs nothing.

        >>> from ragkit.testing import FakeEmbedder
        >>> chunks = [Chunk(name, 0, 3, "tea", metadata={"project": name}) for name in ("a", "b")]
        >>> both = DenseRetriever(chunks, embedder=FakeEmbedder())
        >>> [hit.chunk.doc_id for hit in both.where({"project": "b"}).search("tea")]
        ['b']
        """
        wanted = {key: _accepted(value) for key, value in metadata.items()}
        fits = [all(c.metadata.get(key) in values for key, values in wanted.items()) for c in self.chunks]
        view = copy(self)
        view._allowed = self._allowed & np.array(fits, dtype=np.bool_)
        return view


def _accepted(value: object) -> Collection[object]:
    """The values that a filter on ``value`` lets through."""
    return value if isinstance(value, Collection) and not isinstance(value, str) else (value,)


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
