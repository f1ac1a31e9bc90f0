"""Several retrievers as one: their lists are fused, by rank or by score.

Words find names and error messages, vectors find paraphrases; a chunk that both like is rarely wrong. Fusing by
**rank** needs nothing to be known about the scores. Fusing by **score** keeps how sure each retriever is, and
wins where a few labels are there to choose the weight (``fit``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

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


def minmax(scores: Floats, minimum: float) -> Floats:
    """To [0, 1], from the lowest to the highest of the list; a list without a difference is all 1."""
    low, high = scores.min(), scores.max()
    return np.asarray((scores - low) / (high - low)) if high > low else np.ones_like(scores)


def zscore(scores: Floats, minimum: float) -> Floats:
    """Standard deviations above the mean of the list; a list without a difference is all 0."""
    spread = scores.std()
    return np.asarray((scores - scores.mean()) / spread) if spread > 0 else np.zeros_like(scores)


def tmm(scores: Floats, minimum: float) -> Floats:
    """Theoretical minimum to highest: as ``minmax``, but 0 is the lowest score that the retriever could ever give,
    so a list of bad hits is not stretched (Bruch, Gai and Ingber 2023, arXiv 2210.11934)."""
    high = scores.max()
    return np.asarray((scores - minimum) / (high - minimum)) if high > minimum else np.ones_like(scores)


NORMALISE: dict[str, Callable[[Floats, float], Floats]] = {"minmax": minmax, "zscore": zscore, "tmm": tmm}


class Hybrid(Retriever):
    """The fused results of ``inputs``, each asked for ``max(fetch, k)`` hits.

    - ``fusion="rrf"``: the weighted sum of ``1 / (60 + rank)``; a chunk that a list lacks gets nothing from it.
    - ``fusion="convex"``: the weighted sum of the scores, made comparable by ``normalise`` ("minmax", "zscore" or
      "tmm"). A chunk that a list lacks counts as the list's lowest; for "tmm", where the list was not full (so
      the retriever has nothing else), as the theoretical minimum.

    Up to ``k = fetch`` a smaller ``k`` gives the beginning of a larger one's list. Above, the lists that are fused grow
    with ``k``, and with them the chunks that are in several of them and the lowest score of each: the first hits may
    then stand in another order ("convex": any of them), so choose ``fetch`` at least as large as any ``k``.

    ``weights`` are scaled to sum to 1 (default: equal). ``minimums`` are the lowest possible scores of ``inputs``
    for "tmm": by default -1 (a cosine) for a retriever that returned a negative score or calls itself dense,
    else 0. The hits' ``parts`` keep the score of every input under its name.

    >>> from ragkit.base import Chunk
    >>> from ragkit.retrieval.bm25 import BM25Retriever
    >>> a, b = Chunk("a", 0, 9, "red house"), Chunk("b", 0, 8, "red wine")
    >>> hybrid = Hybrid([BM25Retriever([a, b]), BM25Retriever([b])])
    >>> [hit.chunk.doc_id for hit in hybrid.search("red", 2)]
    ['b', 'a']

    Raises:
        InputError: no inputs, an unknown ``fusion`` or ``normalise``, weights that do not fit, ``fetch`` < 1.
    """

    def __init__(
        self,
        inputs: Sequence[Retriever],
        fusion: str = "rrf",
        normalise: str = "minmax",
        weights: Sequence[float] | None = None,
        fetch: int = FETCH,
        minimums: Sequence[float] | None = None,
    ) -> None:
        if not inputs:
            raise InputError("Hybrid has no inputs: expected one retriever or more")
        if fusion not in ("rrf", "convex"):
            raise InputError(f"fusion {fusion!r}: expected 'rrf' or 'convex'")
        if normalise not in NORMALISE:
            raise InputError(f"normalise {normalise!r}: expected one of {', '.join(NORMALISE)}")
        if fetch < 1:
            raise InputError(f"fetch is {fetch!r}: expected 1 or more")
        if minimums is not None and len(minimums) != len(inputs):
            raise InputError(f"{len(minimums)} minimums for {len(inputs)} retrievers: expected one each")
        self.inputs = tuple(inputs)
        self.fusion, self.normalise, self.fetch, self.minimums = fusion, normalise, fetch, minimums
        self.weights = _checked_weights(weights, len(inputs))
        self.fitted: Fit | None = None

    def __repr__(self) -> str:
        how = self.fusion if self.fusion == "rrf" else f"{self.fusion}, {self.normalise}"
        return f"Hybrid({list(self.inputs)}, {how}, weights={[round(w, 3) for w in self.weights]})"

    def _search(self, query: str, k: int) -> list[Hit]:
        depth = max(self.fetch, k)
        return self._fuse([_unique(r.search(query, depth)) for r in self.inputs], depth, k)

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        depth = max(self.fetch, k)
        found = [r.search_many(queries, depth) for r in self.inputs]
        return [self._fuse([_unique(hits) for hits in lists], depth, k) for lists in zip(*found, strict=True)]

    def fit(self, questions: Iterable[Question], folds: int = 5) -> Hybrid:
        """The same hybrid with the weights that give ``questions`` the best MRR@10; this one stays as it is.

        ``.fitted`` of the result says how sure that is: the interval of the weight, and the score on questions
        that the weight was not chosen on. Questions without gold are left out.

        Raises:
            InputError: gold in fewer than two documents, or more than 4 inputs.
        """
        asked = [q for q in questions if q.gold]
        found = [r.search_many([q.text for q in asked], self.fetch) for r in self.inputs]
        tables = [self._values([_unique(h) for h in lists], self.fetch) for lists in zip(*found, strict=True)]
        fit = fit_weights(tables, asked, len(self.inputs), folds)
        tuned = Hybrid(self.inputs, self.fusion, self.normalise, fit.weights, self.fetch, self.minimums)
        tuned.fitted = fit
        return tuned

    def _fuse(self, lists: Sequence[list[Hit]], depth: int, k: int) -> list[Hit]:
        names, parts = _names(lists), dict[str, dict[str, float]]()
        for name, hits in zip(names, lists, strict=True):
            for hit in hits:
                parts.setdefault(hit.chunk.id, {}).update({**hit.parts, name: hit.score})
        chunks, values = self._values(lists, depth)
        scores = (values @ np.array(self.weights)).tolist()
        source = f"hybrid:{self.fusion}"
        return best_first((Hit(c, s, source, parts[c.id]) for c, s in zip(chunks, scores, strict=True)), k)

    def _values(self, lists: Sequence[list[Hit]], depth: int) -> Lists:
        """All chunks of ``lists`` and what each input says of them, comparable: ``(chunks, inputs)``."""
        chunks = {hit.chunk.id: hit.chunk for hits in lists for hit in hits}
        row = {chunk_id: i for i, chunk_id in enumerate(chunks)}
        values = np.zeros((len(chunks), len(lists)))
        for j, hits in enumerate(lists):
            if hits:
                own, missing = self._comparable(j, hits, full=len(hits) >= depth)
                values[:, j] = missing
                values[[row[hit.chunk.id] for hit in hits], j] = own
        return tuple(chunks.values()), values

    def _comparable(self, j: int, hits: Sequence[Hit], full: bool) -> tuple[Floats, float]:
        """The values of input ``j``'s hits, and the value of a chunk that is not among them."""
        if self.fusion == "rrf":
            return reciprocal_rank(len(hits)), 0.0
        scores = np.array([hit.score for hit in hits], dtype=np.float64)
        minimum = self.minimums[j] if self.minimums is not None else _minimum(hits)
        values = NORMALISE[self.normalise](scores, minimum)
        if self.normalise == "zscore":
            return values, float(values.min()) if scores.std() > 0 else -1.0
        return values, float(values.min()) if full and self.normalise == "tmm" else 0.0


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


def _minimum(hits: Sequence[Hit]) -> float:
    return -1.0 if hits[0].source.startswith("dense") or min(h.score for h in hits) < 0 else 0.0
