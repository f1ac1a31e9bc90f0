"""Several retrievers as one: their lists are fused, by rank or by score.

Words find names and error messages, vectors find paraphrases; a chunk that both like is rarely wrong. Fusing by
**rank** needs nothing to be known about the scores. Fusing by **score** keeps how sure each retriever is, and
wins where a few labels are there to choose the weight (``fit``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Hit, InputError, Question, Retriever, best_first
from ragkit.retrieval.tuning import Fit, Lists, fit_weights

Floats = NDArray[np.float64]
RRF_K = 60
FETCH = 100


def reciprocal_rank(n: int) -> Floats:
    """``1 / (60 + rank)`` for ranks 1 to ``n`` (Cormack, Clarke and Büttcher, SIGIR 2009, reciprocal rank fusion).

    >>> reciprocal_rank(2).round(4).tolist()
    [0.0164, 0.0161]
    """
    return 1.0 / (RRF_K + np.arange(1, n + 1))


def minmax(scores: Floats) -> Floats:
    """To [0, 1], from the lowest to the highest of the list; a list without a difference is all 1."""
    low, high = scores.min(), scores.max()
    return np.asarray((scores - low) / (high - low)) if high > low else np.ones_like(scores)


class Hybrid(Retriever):
    """The fused results of ``inputs``, each asked for ``max(fetch, k)`` hits.

    - ``fusion="rrf"``: the weighted sum of ``1 / (60 + rank)``; a chunk that a list lacks gets nothing from it.
    - ``fusion="convex"``: the weighted sum of the scores, each list stretched to 0 to 1 (``minmax``). A chunk that a
      list lacks counts as the list's lowest, 0.

    Up to ``k = fetch`` a smaller ``k`` gives the beginning of a larger one's list. Above, the lists that are fused grow
    with ``k``, and with them the chunks that are in several of them and the lowest score of each: the first hits may
    then stand in another order ("convex": any of them), so choose ``fetch`` at least as large as any ``k``.

    ``weights`` are scaled to sum to 1 (default: equal). The hits' ``parts`` keep the score of every input under its
    name.

    >>> from ragkit.base import Chunk
    >>> from ragkit.retrieval.bm25 import BM25Retriever
    >>> a, b = Chunk("a", 0, 9, "red house"), Chunk("b", 0, 8, "red wine")
    >>> hybrid = Hybrid([BM25Retriever([a, b]), BM25Retriever([b])])
    >>> [hit.chunk.doc_id for hit in hybrid.search("red", 2)]
    ['b', 'a']

    Raises:
        InputError: no inputs, an unknown ``fusion``, weights that do not fit, ``fetch`` < 1.
    """

    def __init__(
        self,
        inputs: Sequence[Retriever],
        fusion: str = "rrf",
        weights: Sequence[float] | None = None,
        fetch: int = FETCH,
    ) -> None:
        if not inputs:
            raise InputError("Hybrid has no inputs: expected one retriever or more")
        if fusion not in ("rrf", "convex"):
            raise InputError(f"fusion {fusion!r}: expected 'rrf' or 'convex'")
        if fetch < 1:
            raise InputError(f"fetch is {fetch!r}: expected 1 or more")
        self.inputs, self.fusion, self.fetch = tuple(inputs), fusion, fetch
        self.weights = _checked_weights(weights, len(inputs))
        self.fitted: Fit | None = None

    def __repr__(self) -> str:
        return f"Hybrid({list(self.inputs)}, {self.fusion}, weights={[round(w, 3) for w in self.weights]})"

    def _search(self, query: str, k: int) -> list[Hit]:
        depth = max(self.fetch, k)
        return self._fuse([_unique(r.search(query, depth)) for r in self.inputs], k)

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        depth = max(self.fetch, k)
        found = [r.search_many(queries, depth) for r in self.inputs]
        return [self._fuse([_unique(hits) for hits in lists], k) for lists in zip(*found, strict=True)]

    def fit(self, questions: Iterable[Question], folds: int = 5) -> Hybrid:
        """The same hybrid with the weights that give ``questions`` the best MRR@10; this one stays as it is.

        ``.fitted`` of the result says how sure that is: the interval of the weight, and the score on questions
        that the weight was not chosen on. Questions without gold are left out.

        Raises:
            InputError: gold in fewer than two documents, or more than 4 inputs.
        """
        asked = [q for q in questions if q.gold]
        found = [r.search_many([q.text for q in asked], self.fetch) for r in self.inputs]
        tables = [self._values([_unique(h) for h in lists]) for lists in zip(*found, strict=True)]
        fit = fit_weights(tables, asked, len(self.inputs), folds)
        tuned = Hybrid(self.inputs, self.fusion, fit.weights, self.fetch)
        tuned.fitted = fit
        return tuned

    def _fuse(self, lists: Sequence[list[Hit]], k: int) -> list[Hit]:
        names, parts = _names(lists), dict[str, dict[str, float]]()
        for name, hits in zip(names, lists, strict=True):
            for hit in hits:
                parts.setdefault(hit.chunk.id, {}).update({**hit.parts, name: hit.score})
        chunks, values = self._values(lists)
        scores = (values @ np.array(self.weights)).tolist()
        source = f"hybrid:{self.fusion}"
        return best_first((Hit(c, s, source, parts[c.id]) for c, s in zip(chunks, scores, strict=True)), k)

    def _values(self, lists: Sequence[list[Hit]]) -> Lists:
        """All chunks of ``lists`` and what each input says of them, comparable: ``(chunks, inputs)``."""
        chunks = {hit.chunk.id: hit.chunk for hits in lists for hit in hits}
        row = {chunk_id: i for i, chunk_id in enumerate(chunks)}
        values = np.zeros((len(chunks), len(lists)))
        for j, hits in enumerate(lists):
            if hits:
                values[[row[hit.chunk.id] for hit in hits], j] = self._comparable(hits)
        return tuple(chunks.values()), values

    def _comparable(self, hits: Sequence[Hit]) -> Floats:
        """The values of one input's hits; a chunk that is not among them has 0."""
        if self.fusion == "rrf":
            return reciprocal_rank(len(hits))
        return minmax(np.array([hit.score for hit in hits], dtype=np.float64))


def _checked_weights(weights: Sequence[float] | None, n: int) -> tuple[float, ...]:
    given = [1.0] * n if weights is None else [float(w) for w in weights]
    if len(given) != n or not np.isfinite(given).all() or min(given) < 0 or sum(given) <= 0:
        raise InputError(f"weights {given} for {n} retrievers: expected {n} numbers, 0 or more, not all 0")
    return tuple(w / sum(given) for w in given)


def _unique(hits: Iterable[Hit]) -> list[Hit]:
    """Each chunk once, where it stands best."""
    return list({hit.chunk.id: hit for hit in reversed(list(hits))}.values())[::-1]


def _names(lists: Sequence[Sequence[Hit]]) -> list[str]:
    """What each list's scores are called: the source of its hits, numbered where two are called the same."""
    sources = [(hits[0].source if hits else "") or f"input {i}" for i, hits in enumerate(lists, 1)]
    return [s if sources.count(s) == 1 else f"{s} #{i}" for i, s in enumerate(sources, 1)]
