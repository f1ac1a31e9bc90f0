"""BM25: keyword search, the baseline that a new retriever has to beat.

A chunk's score for a query is the sum, over the query's terms that it contains, of

    idf(term) * tf / (tf + k1 * (1 - b + b * length / mean length))

where ``tf`` is how often the chunk has the term. This weight does not depend on the query, so all weights are computed
when the index is built, and a query only adds up a few rows: the idea of bm25s (Lù 2024, arXiv 2407.03618). They are
computed in arrays here, because bm25s goes through the chunks one by one: too slow while a slider moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Hit, InputError, Retriever, build_identity, chunks_digest
from ragkit.retrieval.analysis import AnalyzedCorpus, Analyzer

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
VARIANTS = ("lucene", "okapi")
_LEAST = 1e-9


def lucene_idf(df: Counts, n: int) -> Floats:
    """Apache Lucene's: ln(1 + (N - df + .5) / (df + .5)), never negative."""
    return np.asarray(np.log1p((n - df + 0.5) / (df + 0.5)))


def okapi_idf(df: Counts, n: int) -> Floats:
    """Robertson et al. 1994 (TREC-3), as in ``rank_bm25.BM25Okapi``: a negative idf becomes a quarter of the mean idf.

    In a corpus of one or two texts that mean is not above 0 either, and a match would count against a chunk: Lucene's
    idf is used there. An idf of 0 (a term that exactly half of the texts have) becomes 1e-9, so that they are found.

    >>> okapi_idf(np.array([1, 1, 3]), 4).round(3).tolist()
    [0.847, 0.847, 0.071]
    """
    idf = np.log((n - df + 0.5) / (df + 0.5))
    if idf.mean() <= 0:
        return lucene_idf(df, n)
    return np.asarray(np.maximum(np.where(idf < 0, 0.25 * idf.mean(), idf), _LEAST))


class BM25Retriever(Retriever):
    """Keyword search over ``chunks``; a chunk that is given twice counts once.

    ``variant``: "lucene", or "okapi" (with the idf of ``okapi_idf`` and the factor ``k1 + 1``), which are compared by
    Kamphuis et al. 2020, "Which BM25 do you mean?" (ECIR). ``contextual=True`` indexes ``chunk.context`` (project,
    title, section path) in front of each chunk. ``analyzed`` lends the terms of a corpus analyzed before (then
    ``analyzer`` is its own).

    A query returns the chunks that share a term with it, so a query of unknown words or stop words returns nothing.

    >>> chunks = [Chunk("a", 0, 15, "retry the tasks"), Chunk("b", 0, 16, "stop the workers")]
    >>> [hit.chunk.doc_id for hit in BM25Retriever(chunks).search("How do I stop a worker?")]
    ['b']

    Raises:
        InputError: an unknown variant, ``k1`` below 0, ``b`` outside 0 to 1, or two texts under one chunk id.
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
        self.chunks = unique_chunks(chunks)
        self.variant, self.k1, self.b, self.contextual = variant, k1, b, contextual
        self.analyzed = analyzed or AnalyzedCorpus(analyzer=analyzer)
        self._weights, self._rows, self._starts = self._index()

    def __repr__(self) -> str:
        return f"BM25Retriever({len(self.chunks)} chunks, {self.variant})"

    @cached_property
    def identity(self) -> str:
        settings = (self.variant, self.k1, self.b, self.contextual, self.analyzed.analyzer)
        return build_identity(self, chunks_digest(self.chunks), *settings)

    def _index(self) -> tuple[Floats, NDArray[np.int64], list[int]]:
        """The weights of all (term, chunk) pairs by term, the chunk of each, and where each term's pairs start."""
        ids = [self.analyzed.ids(chunk) for chunk in self.chunks]
        if self.contextual:
            context = {c: self.analyzed.text_ids(c) for c in {chunk.context for chunk in self.chunks}}
            ids = [np.concatenate((context[chunk.context], own)) for chunk, own in zip(self.chunks, ids, strict=True)]
        if not any(map(len, ids)):
            return np.empty(0), np.empty(0, dtype=np.int64), [0]
        n, lengths = len(ids), np.array([len(own) for own in ids])
        pairs = np.concatenate(ids).astype(np.int64) * n + np.repeat(np.arange(n), lengths)
        pairs, tf = np.unique(pairs, return_counts=True)
        term, row = np.divmod(pairs, n)
        df = np.bincount(term, minlength=len(self.analyzed.vocabulary))
        idf, seen = np.zeros(len(df)), df > 0
        idf[seen] = lucene_idf(df[seen], n) if self.variant == "lucene" else (self.k1 + 1) * okapi_idf(df[seen], n)
        weights = idf[term] * tf / (tf + self.k1 * (1 - self.b + self.b * lengths[row] / lengths.mean()))
        return weights, row, [0, *np.cumsum(df).tolist()]

    @cached_property
    def _rank(self) -> NDArray[np.int64]:
        """The rank of each chunk by id, which decides between equal scores."""
        return np.argsort(np.argsort([chunk.id for chunk in self.chunks], kind="stable"), kind="stable")

    def scores(self, query: str) -> Floats:
        """The score of every chunk ``(n,)`` for ``query``, in the order of ``self.chunks``."""
        return self._sum(Counter(self.analyzed.known(query)))

    def _sum(self, terms: Mapping[int, int]) -> Floats:
        """The scores for terms, by number, and how often each is asked for."""
        scores = np.zeros(len(self.chunks))
        for term, count in terms.items():
            if term < len(self._starts) - 1:  # a lent vocabulary may have grown since
                own = slice(self._starts[term], self._starts[term + 1])
                scores[self._rows[own]] += count * self._weights[own]
        return scores

    def _search(self, query: str, k: int) -> list[Hit]:
        return self._best(self.scores(query), k)

    def _best(self, scores: Floats, k: int) -> list[Hit]:
        return [Hit(self.chunks[i], float(scores[i]), "bm25") for i in top(scores, self._rank, k)]

    def explain(self, query: str, chunk: Chunk) -> dict[str, float]:
        """What each term of ``query`` adds to the score of ``chunk``; they sum to its score.

        Raises:
            InputError: ``chunk`` is not in the index.
        """
        if chunk not in self.chunks:
            raise InputError(f"chunk {chunk.id!r} is not in this index")
        row, counts = self.chunks.index(chunk), Counter(self.analyzed.known(query))
        parts = {self.analyzed.term(i): float(self._sum({i: n})[row]) for i, n in counts.items()}
        return {term: score for term, score in parts.items() if score > 0}


def unique_chunks(chunks: Iterable[Chunk]) -> list[Chunk]:
    """Each chunk once, in order.

    Raises:
        InputError: two chunks have one id and different texts, as those of two folders may have.
    """
    by_id: dict[str, Chunk] = {}
    for chunk in chunks:
        if by_id.setdefault(chunk.id, chunk).text != chunk.text:
            raise InputError(
                f"two chunks are called {chunk.id!r} and have different texts, as files of one name in two folders do: "
                "load both folders as one corpus, or rename one of the documents"
            )
    return list(by_id.values())


def top(scores: Floats, rank: NDArray[np.int64], k: int) -> list[int]:
    """Positions of the ``k`` highest scores above 0, best first, equal scores in the order of ``rank``.

    >>> top(np.array([0.0, 2.0, 1.0, 2.0]), np.array([0, 3, 2, 1]), k=3)
    [3, 1, 2]
    """
    matching = np.flatnonzero(scores > 0)
    if len(matching) > k:
        least = np.partition(scores[matching], len(matching) - k)[len(matching) - k]
        matching = matching[scores[matching] >= least]
    order: list[int] = matching[np.lexsort((rank[matching], -scores[matching]))][:k].tolist()
    return order
