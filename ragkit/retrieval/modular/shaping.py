"""What a search gives, changed: filtered, with its section or its neighbours, or without repetitions."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Corpus, Hit, InputError, Retriever, Section, Vectors, best_first
from ragkit.retrieval.hybrid import minmax


class Filtered(Retriever):
    """Only chunks that ``accept``: a function of the chunk, or metadata that it must have (a collection: any of it).

    Searches deeper until ``k`` chunks pass or the retriever has no more, so it works on any retriever. Where few
    chunks pass, an index of those alone is faster (``DenseRetriever.where``).

    >>> from ragkit.retrieval.bm25 import BM25Retriever
    >>> chunks = [Chunk(name, 0, 3, "tea", metadata={"project": name}) for name in ("a", "b")]
    >>> [hit.chunk.doc_id for hit in Filtered(BM25Retriever(chunks), {"project": ["b", "c"]}).search("tea")]
    ['b']
    """

    def __init__(self, retriever: Retriever, accept: Callable[[Chunk], bool] | Mapping[str, object]) -> None:
        self.retriever = retriever
        self.accept = _has(accept) if isinstance(accept, Mapping) else accept

    def _search(self, query: str, k: int) -> list[Hit]:
        return _deepened(self.retriever, query, k, lambda hits: [hit for hit in hits if self.accept(hit.chunk)])


def _has(metadata: Mapping[str, object]) -> Callable[[Chunk], bool]:
    wanted = {
        key: tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)
        for key, value in metadata.items()
    }
    return lambda chunk: all(chunk.metadata.get(key) in values for key, values in wanted.items())


def _deepened(retriever: Retriever, query: str, k: int, keep: Callable[[list[Hit]], list[Hit]]) -> list[Hit]:
    """The first ``k`` of what ``keep`` makes of a search that is deep enough for it."""
    depth = 4 * k
    while True:
        hits = retriever.search(query, depth)
        kept = keep(hits)
        if len(kept) >= k or len(hits) < depth:
            return kept[:k]
        depth *= 4


class Parent(Retriever):
    """Small chunks are found, the sections around them are returned: precise vectors, and context to read.

    A section scores as its best chunk; ``parts["chunks"]`` says how many of the chunks that were found it holds. A
    section of more than ``most`` characters is not returned whole: its chunk stays as it is.

    Raises:
        InputError: ``most`` < 1; (in a search) a chunk's document is not in ``corpus``.
    """

    def __init__(self, retriever: Retriever, corpus: Corpus, most: int = 6_000) -> None:
        if most < 1:
            raise InputError(f"most is {most}: expected 1 character or more")
        self.retriever, self.corpus, self.most = retriever, corpus, most

    def _search(self, query: str, k: int) -> list[Hit]:
        return _deepened(self.retriever, query, k, self._sections)

    def _sections(self, hits: Sequence[Hit]) -> list[Hit]:
        found: dict[str, Hit] = {}
        for hit in hits:
            parent = self._parent(hit.chunk)
            best = found.get(parent.id)
            chunks = 1 + (best.parts["chunks"] if best else 0)
            told = {**hit.parts, hit.source: hit.score} if best is None else best.parts
            score = hit.score if best is None else best.score
            found[parent.id] = Hit(parent, score, "parent", {**told, "chunks": chunks})
        return best_first(found.values(), len(found))

    def _parent(self, chunk: Chunk) -> Chunk:
        document = self.corpus.document(chunk.doc_id)
        sections = [s for s in document.sections if s.start < chunk.end and chunk.start < s.end]
        if not sections:
            return chunk
        section = max(sections, key=lambda s: _shared(s, chunk))
        text = document.text[section.start : section.end].rstrip()
        if not text or len(text) > self.most:
            return chunk
        return Chunk(chunk.doc_id, section.start, section.start + len(text), text, section.path, chunk.metadata)


def _shared(section: Section, chunk: Chunk) -> int:
    return min(section.end, chunk.end) - max(section.start, chunk.start)


class Neighbours(Retriever):
    """Every hit with the chunks that stand ``before`` and ``after`` it in its document, as one chunk.

    ``chunks`` are those of the index, ``corpus`` has the text between them. A chunk that already lies in a better
    hit's text is left out.

    Raises:
        InputError: a negative number of neighbours; (in a search) a chunk's document is not in ``corpus``.
    """

    def __init__(
        self, retriever: Retriever, chunks: Iterable[Chunk], corpus: Corpus, before: int = 1, after: int = 1
    ) -> None:
        if before < 0 or after < 0:
            raise InputError(f"before = {before}, after = {after}: expected 0 or more")
        self.retriever, self.corpus, self.before, self.after = retriever, corpus, before, after
        self._spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for chunk in chunks:
            self._spans[chunk.doc_id].append((chunk.start, chunk.end))
        for spans in self._spans.values():
            spans.sort()

    def _search(self, query: str, k: int) -> list[Hit]:
        return _deepened(self.retriever, query, k, self._widened)

    def _widened(self, hits: Sequence[Hit]) -> list[Hit]:
        found: list[Hit] = []
        for hit in hits:
            if any(hit.chunk.span.overlap(f.chunk.span) == len(hit.chunk.span) for f in found):
                continue
            chunk = self._with_neighbours(hit.chunk)
            found.append(Hit(chunk, hit.score, "neighbours", {**hit.parts, hit.source: hit.score}))
        return found

    def _with_neighbours(self, chunk: Chunk) -> Chunk:
        spans = self._spans.get(chunk.doc_id, [])
        if (chunk.start, chunk.end) not in spans:
            return chunk
        at = bisect_right(spans, (chunk.start, chunk.end)) - 1
        around = spans[max(0, at - self.before) : at + self.after + 1]
        start, end = around[0][0], max(end for _, end in around)
        text = self.corpus.document(chunk.doc_id).text[start:end]
        return replace(chunk, start=start, end=end, text=text)


class MMR(Retriever):
    """Maximal marginal relevance: each hit is relevant *and* unlike those before it.

    One after the other the chunk with the highest ``balance * relevance - (1 - balance) * likeness`` is taken, where
    relevance is the score, stretched to 0 to 1, and likeness its highest cosine with a chunk taken before, not below
    0 (Carbonell and Goldstein 1998, SIGIR). ``vectors`` gives the chunks' unit vectors, such as ``store.pool``.

    Raises:
        InputError: ``balance`` outside 0 to 1, or ``fetch`` < 1.
    """

    def __init__(
        self,
        retriever: Retriever,
        vectors: Callable[[Sequence[Chunk]], Vectors],
        balance: float = 0.7,
        fetch: int = 50,
    ) -> None:
        if not 0 <= balance <= 1 or fetch < 1:
            raise InputError(f"balance = {balance}, fetch = {fetch}: expected 0 to 1, and 1 or more")
        self.retriever, self.vectors, self.balance, self.fetch = retriever, vectors, balance, fetch

    def _search(self, query: str, k: int) -> list[Hit]:
        hits = self.retriever.search(query, max(self.fetch, k))
        if not hits:
            return []
        relevance = minmax(np.array([hit.score for hit in hits], dtype=np.float64))
        vectors = np.asarray(self.vectors([hit.chunk for hit in hits]), dtype=np.float64)
        order, values = marginal(relevance, vectors @ vectors.T, self.balance, k)
        return [
            Hit(hits[i].chunk, value, "mmr", {**hits[i].parts, hits[i].source: hits[i].score})
            for i, value in zip(order, values, strict=True)
        ]


def marginal(
    relevance: NDArray[np.float64], likeness: NDArray[np.float64], balance: float, k: int
) -> tuple[list[int], list[float]]:
    """The ``k`` items in the order of maximal marginal relevance, and the value at which each was taken.

    >>> marginal(np.array([1.0, 0.9, 0.5]), np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1.0]]), 0.5, 3)
    ([0, 2, 1], [0.5, 0.25, -0.05])
    """
    order: list[int] = []
    values: list[float] = []
    worst = np.zeros(len(relevance))
    while len(order) < min(k, len(relevance)):
        value = balance * relevance - (1 - balance) * worst
        value[order] = -np.inf
        best = int(np.argmax(value))
        order.append(best)
        values.append(round(float(value[best]), 12))
        worst = np.maximum(worst, likeness[best])
    return order, values
