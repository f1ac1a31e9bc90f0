"""BM25: keyword search, the baseline that a new retriever has to beat.

A chunk's score for a query is the sum, over the query's terms that it contains, of a weight. The weight of
a term in a chunk does not depend on the query, so all weights are computed when the index is built and a
query only adds up a few rows: the idea of bm25s (Lù 2024, arXiv 2407.03618), whose engine does the adding.
The weights are computed here, all at once, because bm25s reads every chunk in a Python loop (too slow while
a slider moves) and has no Okapi with rank_bm25's floor.

Variants as compared by Kamphuis et al. 2020, "Which BM25 do you mean?" (ECIR).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Hit, InputError, Retriever, require
from ragkit.retrieval.analysis import AnalyzedCorpus, Analyzer

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Postings:
    """All (term, chunk) pairs of an index with what the formulas need, one array entry a pair.

    ``tf``: occurrences of the term in the chunk; ``length``: terms in the chunk divided by the mean;
    ``term``: its number; ``df (vocabulary,)``: chunks that contain each term; ``n``: chunks in all.
    """

    tf: Floats
    length: Floats
    term: NDArray[np.int64]
    df: Floats
    n: int


def okapi(p: Postings, k1: float, b: float) -> Floats:
    """Robertson et al. 1994 (TREC-3), as in ``rank_bm25.BM25Okapi``: a negative idf becomes a quarter of the
    mean idf. Where that is negative too it becomes 0, so that a match never counts against a chunk."""
    seen = np.maximum(p.df, 1)
    idf = np.log((p.n - seen + 0.5) / (seen + 0.5))
    floor = max(0.0, 0.25 * float(idf[p.df > 0].mean()))
    idf = np.where(idf < 0, floor, idf)
    return np.asarray(idf[p.term] * p.tf * (k1 + 1) / (p.tf + k1 * (1 - b + b * p.length)))


def lucene(p: Postings, k1: float, b: float) -> Floats:
    """Apache Lucene's: idf = ln(1 + (N - df + .5) / (df + .5)), never negative, without the factor k1 + 1."""
    idf = np.log1p((p.n - p.df + 0.5) / (p.df + 0.5))
    return np.asarray(idf[p.term] * p.tf / (p.tf + k1 * (1 - b + b * p.length)))


VARIANTS: dict[str, Callable[[Postings, float, float], Floats]] = {"lucene": lucene, "okapi": okapi}


class BM25Retriever(Retriever):
    """Keyword search over ``chunks``.

    ``variant`` is one of ``VARIANTS``.
    ``contextual=True`` indexes ``chunk.context`` (project, title, section path) in front of each chunk.
    ``analyzed`` lends the terms of a corpus analyzed before (then ``analyzer`` is its own).

    A query returns the chunks that share a term with it and score above 0, so a query of unknown words
    or stop words returns nothing.

    >>> chunks = [Chunk("a", 0, 15, "retry the tasks"), Chunk("b", 0, 16, "stop the workers")]
    >>> [hit.chunk.doc_id for hit in BM25Retriever(chunks).search("How do I stop a worker?")]
    ['b']

    Raises:
        InputError: an unknown variant, ``k1`` below 0, ``b`` outside 0 to 1.
    """

    def __init__(
        self,
        chunks: Iterable[Chunk],
        variant: str = "lucene",
        k1: float = 1.5,
        b: float = 0.75,
        analyzer: Analyzer | None = None,
        contextual: bool = False,
        analyzed: AnalyzedCorpus | None = None,
    ) -> None:
        if variant not in VARIANTS:
            raise InputError(f"BM25 variant {variant!r}: expected one of {', '.join(VARIANTS)}")
        if not (0 <= k1 < np.inf and 0 <= b <= 1):
            raise InputError(f"k1={k1}, b={b}: expected k1 >= 0, 0 <= b <= 1")
        self.chunks = list({(c.doc_id, c.start, c.end): c for c in chunks}.values())
        self.variant, self.k1, self.b, self.contextual = variant, k1, b, contextual
        self._terms = analyzed or AnalyzedCorpus(analyzer=analyzer)
        self._engine = self._index()

    def _index(self) -> Any:
        """A ``bm25s.BM25`` that holds our weights as its matrix (a row a chunk, a column a term)."""
        ids = [self._terms.ids(chunk) for chunk in self.chunks]
        if self.contextual:
            context = {c: self._terms.text_ids(c) for c in {chunk.context for chunk in self.chunks}}
            ids = [np.concatenate((context[c.context], own)) for c, own in zip(self.chunks, ids, strict=True)]
        n, lengths = len(ids), np.array([len(i) for i in ids], dtype=np.int64)
        flat = np.concatenate(ids) if ids else np.empty(0, dtype=np.int32)
        pairs, tf = np.unique(flat.astype(np.int64) * max(n, 1) + np.repeat(np.arange(n), lengths), return_counts=True)
        term, row = np.divmod(pairs, max(n, 1))
        df = np.bincount(term, minlength=len(self._terms))
        postings = Postings(
            tf.astype(np.float64),
            lengths[row] / max(float(lengths.mean()) if n else 0, 1e-9),
            term,
            df.astype(float),
            n,
        )
        weights = VARIANTS[self.variant](postings, self.k1, self.b) if len(term) else np.empty(0)
        engine = require("bm25s", "search").BM25(method="lucene", dtype="float64", backend="numpy")
        engine.nonoccurrence_array = None
        starts = np.concatenate(([0], np.cumsum(df)))
        engine.scores = {"data": weights, "indices": row.astype(np.int32), "indptr": starts, "num_docs": n}
        return engine

    @cached_property
    def _rank(self) -> NDArray[np.int64]:
        """The rank of each chunk by id, which decides between equal scores."""
        ids = [chunk.id for chunk in self.chunks]
        rank = np.empty(len(ids), dtype=np.int64)
        rank[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
        return rank

    def scores(self, query: str) -> Floats:
        """The score of every chunk ``(n,)`` for ``query``, in the order of ``self.chunks``."""
        return self._add_up(self._terms.known(query))

    def _add_up(self, terms: Iterable[int]) -> Floats:
        size = len(self._engine.scores["indptr"]) - 1  # a lent vocabulary may have grown since
        own = [i for i in terms if i < size]
        return np.asarray(self._engine.get_scores_from_ids(own)) if own else np.zeros(len(self.chunks))

    def _search(self, query: str, k: int) -> list[Hit]:
        return self._best(self.scores(query), k)

    def search_weighted(self, weights: Mapping[int, float], k: int) -> list[Hit]:
        """As ``search``, for terms (by their number in ``analyzed``) that count ``weight`` times instead of once."""
        parts, scores = self._engine.scores, np.zeros(len(self.chunks))
        for term, weight in weights.items():
            if 0 <= term < len(parts["indptr"]) - 1:
                own = slice(int(parts["indptr"][term]), int(parts["indptr"][term + 1]))
                scores[parts["indices"][own]] += weight * parts["data"][own]
        return self._best(scores, k)

    def frequency(self, terms: NDArray[np.integer[Any]]) -> Floats:
        """The share of chunks that contain each term (by number); 0 for terms that are not in the index."""
        starts = self._engine.scores["indptr"]
        inside = np.minimum(terms, len(starts) - 2)
        return np.where(terms < len(starts) - 1, starts[inside + 1] - starts[inside], 0) / max(len(self.chunks), 1)

    @property
    def analyzed(self) -> AnalyzedCorpus:
        """The terms of the index and their numbers."""
        return self._terms

    def _best(self, scores: Floats, k: int) -> list[Hit]:
        return [Hit(self.chunks[i], float(scores[i]), "bm25") for i in top(scores, self._rank, k)]

    def explain(self, query: str, chunk: Chunk) -> dict[str, float]:
        """What each term of ``query`` adds to the score of ``chunk``; they sum to its score.

        Raises:
            InputError: ``chunk`` is not in the index.
        """
        if chunk not in self.chunks:
            raise InputError(f"chunk {chunk.id!r} is not in this index")
        row, counts = self.chunks.index(chunk), Counter(self._terms.analyzer.terms(query))
        number = self._terms.vocabulary
        parts = {t: n * float(self._add_up([number[t]])[row]) for t, n in counts.items() if t in number}
        return {term: score for term, score in parts.items() if score > 0}


def top(scores: Floats, rank: NDArray[np.int64], k: int) -> list[int]:
    """Positions of the ``k`` highest scores above 0, best first, equal scores in the order of ``rank``.

    >>> top(np.array([0.0, 2.0, 1.0, 2.0]), np.array([0, 3, 2, 1]), k=3)
    [3, 1, 2]
    """
    found = np.flatnonzero(scores > 0)
    if len(found) > k:
        least = np.partition(scores[found], len(found) - k)[len(found) - k]
        found = found[scores[found] >= least]
    order: list[int] = found[np.lexsort((rank[found], -scores[found]))][:k].tolist()
    return order
