"""Pseudo-relevance feedback: search, trust the first few hits, and search again with what they have in common.

It needs no labels and no model. It also believes whatever came first: a wrong first page makes the second one worse.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Hit, InputError, Retriever, Vectors
from ragkit.embedding import unit
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever

Floats = NDArray[np.float64]


def relevance_model(counts: Floats, scores: Floats) -> Floats:
    """P(term | relevant) ``(terms,)``: the mean of the chunks' word shares, weighted by how well each chunk matched.

    ``counts (chunks, terms)`` and ``scores (chunks,)``, 0 or more, not all 0. This is RM1 (Lavrenko and Croft 2001,
    "Relevance-based language models", SIGIR) with P(term | chunk) = tf / length and P(chunk | query) ~ its score.

    >>> relevance_model(np.array([[2.0, 0.0], [1.0, 3.0]]), np.array([3.0, 1.0])).round(4).tolist()
    [0.8125, 0.1875]
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.asarray(scores / scores.sum() @ shares)


class RM3(Retriever):
    """BM25 with a query that its first hits have extended.

    The new query gives each of the ``terms`` most typical terms of the first ``documents`` hits a weight and keeps
    the old ones: ``(1 - weight) * question + weight * relevance model``, both of the same length (Abdul-Jaleel et al.
    2004, "UMass at TREC 2004: Novelty and HARD"). ``weight=0`` is ``bm25`` itself. Terms of more than a tenth of all
    chunks are never added, as in Anserini. The usual weight of .5 loses on ``core`` (MRR@10 of 360 questions .405,
    BM25 .463); the defaults are the best of 36 settings there (.469). Cross-validated by document that is .460, no
    detectable difference (``tests/bench/bench_rewriting.py``).

    ``source`` may be another retriever: it then finds the chunks that are learnt from, and ``bm25`` searches.

    >>> texts = {"a": "kill means terminate", "b": "terminate the pool", "c": "start it"}
    >>> chunks = [Chunk(name, 0, len(text), text) for name, text in texts.items()]
    >>> bm25 = BM25Retriever(chunks)
    >>> [[hit.chunk.doc_id for hit in r.search("kill")] for r in (bm25, RM3(bm25, weight=0.5, common=1))]
    [['a'], ['a', 'b']]

    Raises:
        InputError: ``documents`` or ``terms`` < 1, ``weight`` or ``common`` outside 0 to 1.
    """

    def __init__(
        self,
        bm25: BM25Retriever,
        documents: int = 10,
        terms: int = 20,
        weight: float = 0.1,
        source: Retriever | None = None,
        common: float = 0.1,
    ) -> None:
        if documents < 1 or terms < 1 or not 0 <= weight <= 1 or not 0 <= common <= 1:
            raise InputError(
                f"documents={documents}, terms={terms}, weight={weight}, common={common}: "
                "expected documents and terms of 1 or more, weight and common from 0 to 1"
            )
        self.bm25, self.source, self.chunks = bm25, source or bm25, bm25.chunks
        self.documents, self.terms, self.weight, self.common = documents, terms, weight, common

    def __repr__(self) -> str:
        return f"RM3({self.documents} documents, {self.terms} terms, weight={self.weight})"

    def expanded(self, query: str) -> dict[str, float]:
        """The terms of the new query with their weights, heaviest first."""
        weights = self._weights(query)
        return {self.bm25.analyzed.term(t): w for t, w in sorted(weights.items(), key=lambda pair: -pair[1])}

    def _search(self, query: str, k: int) -> list[Hit]:
        return self.bm25.search_weighted(self._weights(query), k) if self.weight else self.bm25.search(query, k)

    def _weights(self, query: str) -> dict[int, float]:
        """By term number. They sum to the number of the question's known terms, as the weights of BM25 do."""
        asked = self.bm25.analyzed.known(query)
        numbers, learnt = self._learnt(query) if self.weight else (np.empty(0, dtype=np.int64), np.empty(0))
        if not len(numbers):
            return {t: float(asked.count(t)) for t in dict.fromkeys(asked)}
        length = max(len(asked), 1)
        weights = {t: (1 - self.weight) * asked.count(t) for t in dict.fromkeys(asked)}
        for t, w in zip(numbers.tolist(), (self.weight * length * learnt).tolist(), strict=True):
            weights[t] = weights.get(t, 0.0) + w
        return weights

    def _learnt(self, query: str) -> tuple[NDArray[np.int64], Floats]:
        """The most typical terms of the first hits, by number, and their weights, which sum to 1."""
        hits = self.source.search(query, self.documents)
        if not hits:
            return np.empty(0, dtype=np.int64), np.empty(0)
        own = [self.bm25.analyzed.ids(hit.chunk) for hit in hits]
        numbers, places = np.unique(np.concatenate(own), return_inverse=True)
        counts = np.zeros((len(own), len(numbers)))
        np.add.at(counts, (np.repeat(np.arange(len(own)), [len(ids) for ids in own]), places), 1)
        scores = np.maximum([hit.score for hit in hits], 0.0)
        model = relevance_model(counts, scores if scores.any() else np.ones(len(hits)))
        model[self.bm25.frequency(numbers) > self.common] = 0
        best = np.lexsort((numbers, -model))[: self.terms]
        best = best[model[best] > 0]
        return numbers[best].astype(np.int64), model[best] / model[best].sum()


class Rocchio(Retriever):
    """Dense retrieval with a query vector that moved towards its first hits.

    ``(1 - weight) * question + weight * mean of the first hits`` (Rocchio 1971, without negative examples; on
    dense vectors: Li et al. 2021, arXiv 2108.11044). ``weight=0`` is ``dense`` itself.

    Raises:
        InputError: ``dense`` has no token store, ``documents`` < 1, ``weight`` outside 0 to 1.
    """

    def __init__(self, dense: DenseRetriever, documents: int = 3, weight: float = 0.3) -> None:
        if dense.store is None:
            raise InputError("Rocchio needs the vectors of chunks: give the DenseRetriever a store")
        if documents < 1 or not 0 <= weight <= 1:
            raise InputError(f"documents={documents}, weight={weight}: expected 1 or more, and 0 to 1")
        self.dense, self.store, self.chunks = dense, dense.store, dense.chunks
        self.documents, self.weight = documents, weight

    def __repr__(self) -> str:
        return f"Rocchio({self.dense!r}, {self.documents} documents, weight={self.weight})"

    def _search(self, query: str, k: int) -> list[Hit]:
        vector = self.store.encode_query(query)
        learnt = [hit.chunk for hit in self.dense.nearest(vector[None], self.documents)[0]]
        return self.dense.nearest(self._moved(vector, learnt)[None], k)[0]

    def _moved(self, vector: Vectors, chunks: Sequence[Chunk]) -> Vectors:
        if not chunks or not self.weight:
            return vector
        mean = self.store.pool(chunks).mean(axis=0)
        return unit((1 - self.weight) * vector + self.weight * mean)
