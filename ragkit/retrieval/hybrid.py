"""Several ranked lists as one, fused by rank or by score, and the choice of a fusion's weight on labelled questions.

Words find names and error messages, vectors find paraphrases; a chunk that both like is rarely wrong. Fusing by
**rank** needs nothing to be known about the scores. Fusing by **score** keeps how sure each retriever is, and wins
where a few labels are there to choose the weight (``Hybrid.fit``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Chunk, Hit, InputError, Question, Retriever, build_identity, check_whole

Floats = NDArray[np.float64]
RRF_K = 60
_RESAMPLES = 1_000
_DEPTH = 10  # the weight is chosen by MRR@10


def reciprocal_ranks(scores: Floats) -> Floats:
    """``1 / (60 + rank)`` for a list of scores, best first (Cormack, Clarke and Büttcher 2009, SIGIR).

    >>> reciprocal_ranks(np.array([7.0, 3.0])).round(4).tolist()
    [0.0164, 0.0161]
    """
    return 1.0 / (RRF_K + np.arange(1, len(scores) + 1))


def minmax(scores: Floats) -> Floats:
    """To [0, 1], from the lowest to the highest of the list; a list without a difference is all 1."""
    low, high = scores.min(), scores.max()
    return np.asarray((scores - low) / (high - low)) if high > low else np.ones_like(scores)


FUSIONS = {"rrf": reciprocal_ranks, "convex": minmax}


def fuse(
    lists: Sequence[Sequence[Hit]],
    k: int,
    fusion: str = "rrf",
    weights: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    source: str = "fused queries",
) -> list[Hit]:
    """The ``k`` best chunks of several ranked lists: the one fusion of this package.

    - ``fusion="rrf"``: the sum of ``weight / (60 + rank)`` over the lists that have the chunk;
    - ``fusion="convex"``: the weighted mean of the scores, each list stretched to 0 to 1 (``minmax``). A chunk that a
      list lacks counts as that list's lowest, 0.

    ``scores`` of the hits are those they had, and their scores in each list under its name (default: its hits' source,
    numbered where two are equal). Without ``weights`` all lists count alike.

    >>> a, b, c = (Hit(Chunk(name, 0, 1, "x"), 9.0, "s") for name in "abc")
    >>> [(hit.chunk.doc_id, round(hit.score, 4)) for hit in fuse([[a, b], [b, c]], 2)]
    [('b', 0.0325), ('a', 0.0164)]
    """
    unique = [_unique(hits) for hits in lists]
    ids, values = _values(unique, fusion)
    factors = np.ones(len(lists)) if weights is None else np.array(weights, dtype=np.float64)
    if fusion == "convex":
        factors = factors / factors.sum()
    names, fused = names or _names(lists), list[Hit]()
    scores = dict(zip(ids, (values @ factors).tolist(), strict=True))
    for chunk_id in sorted(ids, key=lambda each: (-scores[each], each))[:k]:
        own = {name: hits[chunk_id] for name, hits in zip(names, unique, strict=True) if chunk_id in hits}
        parts = {stage: score for name, hit in own.items() for stage, score in {**hit.scores, name: hit.score}.items()}
        fused.append(Hit(next(iter(own.values())).chunk, scores[chunk_id], source, parts))
    return fused


def _unique(hits: Iterable[Hit]) -> dict[str, Hit]:
    """The hits by chunk id, each chunk where it stands best."""
    unique: dict[str, Hit] = {}
    for hit in hits:
        unique.setdefault(hit.chunk.id, hit)
    return unique


def _values(lists: Sequence[Mapping[str, Hit]], fusion: str) -> tuple[tuple[str, ...], Floats]:
    """The ids of all chunks, and the values of each in each list ``(chunks, lists)``; 0 where a list lacks it."""
    row = {chunk_id: i for i, chunk_id in enumerate(dict.fromkeys(chain.from_iterable(lists)))}
    values = np.zeros((len(row), len(lists)))
    for column, hits in enumerate(lists):
        if hits:
            scores = np.array([hit.score for hit in hits.values()], dtype=np.float64)
            values[[row[chunk_id] for chunk_id in hits], column] = FUSIONS[fusion](scores)
    return tuple(row), values


def _names(lists: Sequence[Sequence[Hit]]) -> list[str]:
    """What each list's scores are called: the source of its hits, numbered where two are called the same."""
    sources = [(hits[0].source if hits else "") or f"input {i}" for i, hits in enumerate(lists, 1)]
    return [s if sources.count(s) == 1 else f"{s} #{i}" for i, s in enumerate(sources, 1)]


class Hybrid(Retriever):
    """The fused results (``fuse``) of ``inputs``, each asked for ``max(fetch_k, k)`` hits.

    Up to ``k = fetch_k`` a smaller ``k`` gives the beginning of a larger one's list. Above that, the lists that are
    fused grow with ``k``, and the first hits may then stand in another order: choose ``fetch_k`` at least as large as
    any ``k``. ``weights`` are one for each input (default: all alike).

    >>> from ragkit.retrieval.bm25 import BM25Retriever
    >>> a, b = Chunk("a", 0, 9, "red house"), Chunk("b", 0, 8, "red wine")
    >>> hybrid = Hybrid([BM25Retriever([a, b]), BM25Retriever([b])])
    >>> [hit.chunk.doc_id for hit in hybrid.search("red", 2)]
    ['b', 'a']

    Raises:
        InputError: no inputs, an unknown ``fusion``, weights that do not fit, ``fetch_k`` < 1.
    """

    def __init__(
        self,
        inputs: Sequence[Retriever],
        fusion: str = "rrf",
        weights: Sequence[float] | None = None,
        fetch_k: int = 100,
    ) -> None:
        if not inputs:
            raise InputError("Hybrid has no inputs: expected one retriever or more")
        if fusion not in FUSIONS:
            raise InputError(f"fusion {fusion!r}: expected {' or '.join(map(repr, FUSIONS))}")
        self.inputs, self.fusion, self.fetch_k = tuple(inputs), fusion, check_whole(fetch_k, "fetch_k")
        self.weights = _checked_weights(weights, len(inputs))
        self.fitted: Fit | None = None

    def __repr__(self) -> str:
        return f"Hybrid({list(self.inputs)}, {self.fusion}, weights={[round(w, 3) for w in self.weights]})"

    @cached_property
    def identity(self) -> str:
        return build_identity(self, self.inputs, self.fusion, self.weights, self.fetch_k)

    def _search(self, query: str, k: int) -> list[Hit]:
        return self._fused([r.search(query, max(self.fetch_k, k)) for r in self.inputs], k)

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        results = [r.search_many(queries, max(self.fetch_k, k)) for r in self.inputs]
        return [self._fused(lists, k) for lists in zip(*results, strict=True)]

    def _fused(self, lists: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
        return fuse(lists, k, self.fusion, self.weights, source=f"hybrid:{self.fusion}")

    def fit(self, questions: Iterable[Question], folds: int = 5) -> Hybrid:
        """The same hybrid with the weights that give ``questions`` the best MRR@10; this one stays as it is.

        ``.fitted`` of the result says how sure that is. Questions without gold are left out.

        Raises:
            InputError: not two inputs, gold in fewer than two documents, or fewer than two folds.
        """
        if len(self.inputs) != 2:
            raise InputError(f"{len(self.inputs)} inputs: expected two, since one weight is fitted")
        labelled = [question for question in questions if question.gold]
        results = [r.search_many([q.text for q in labelled], self.fetch_k) for r in self.inputs]
        tables = [self._table([_unique(hits) for hits in lists]) for lists in zip(*results, strict=True)]
        fit = _fit(tables, labelled, folds)
        tuned = Hybrid(self.inputs, self.fusion, (fit.weight, 1 - fit.weight), self.fetch_k)
        tuned.fitted = fit
        return tuned

    def _table(self, lists: Sequence[Mapping[str, Hit]]) -> tuple[list[Chunk], Floats]:
        """All chunks of the lists, in the order of their ids, and their values ``(chunks, lists)``."""
        ids, values = _values(lists, self.fusion)
        order = sorted(range(len(ids)), key=ids.__getitem__)
        hits = {chunk_id: hit for own in lists for chunk_id, hit in own.items()}
        return [hits[ids[i]].chunk for i in order], values[order]


def _checked_weights(weights: Sequence[float] | None, n: int) -> tuple[float, ...]:
    numbers = [1.0] * n if weights is None else [float(w) for w in weights]
    if len(numbers) != n or not np.isfinite(numbers).all() or min(numbers) < 0 or sum(numbers) <= 0:
        raise InputError(f"weights {numbers} for {n} retrievers: expected {n} numbers, 0 or more, not all 0")
    return tuple(numbers)


# ---- choosing the weight


@dataclass(frozen=True, eq=False)
class Fit:
    """The weight of a hybrid's first input (the second has the rest), and how sure the choice is. Scores are MRR@10.

    A weight that was chosen on the questions it is judged by looks better than it is. So ``cross_validated`` scores
    each document's questions with the weight that is best on the other documents' questions; its interval is
    ``score_low`` to ``score_high``. ``low`` to ``high`` is the weight's own: how far it would move if other documents
    had been asked about. (Both are 95 % intervals of the percentile bootstrap over documents.) ``equal`` is the score
    of equal weights; ``grid (m,)`` and ``scores (m,)`` are all weights that were tried, and their scores.
    """

    weight: float
    low: float
    high: float
    cross_validated: float
    score_low: float
    score_high: float
    equal: float
    grid: Floats
    scores: Floats

    def __repr__(self) -> str:
        return (
            f"Fit(weights {self.weight:.2f} [{self.low:.2f}, {self.high:.2f}], {1 - self.weight:.2f}; "
            f"MRR@10 cross-validated {self.cross_validated:.3f} [{self.score_low:.3f}, {self.score_high:.3f}], "
            f"equal weights {self.equal:.3f})"
        )


def _fit(tables: Sequence[tuple[list[Chunk], Floats]], questions: Sequence[Question], folds: int) -> Fit:
    """The best weight for ``tables``: for each question the chunks, and their values in the two lists."""
    documents = sorted({q.gold[0].doc_id for q in questions})
    if len(documents) < 2 or folds < 2:
        raise InputError(
            f"gold in {len(documents)} document(s), {folds} folds: a weight needs questions about two documents or "
            "more, and two folds or more"
        )
    grid = np.array(sorted(np.arange(21) / 20, key=lambda weight: abs(weight - 0.5)))  # equal weights win ties
    scores = np.array([_reciprocal_rank_by_weight(*t, q, grid) for t, q in zip(tables, questions, strict=True)])
    group = np.array([documents.index(q.gold[0].doc_id) for q in questions])
    held_out = cross_validated(scores, group, min(folds, len(documents)))
    # Documents drawn with replacement: the sums of their scores, how often each is drawn, and the weight chosen then.
    sums = np.zeros((len(documents), len(grid) + 2))
    np.add.at(sums, group, np.column_stack((scores, held_out, np.ones(len(scores)))))
    share = np.full(len(documents), 1 / len(documents))
    totals = np.random.default_rng(0).multinomial(len(documents), share, size=_RESAMPLES) @ sums
    low, high = np.quantile(grid[np.argmax(totals[:, :-2], axis=1)], (0.025, 0.975)).tolist()
    score_low, score_high = np.quantile(totals[:, -2] / totals[:, -1], (0.025, 0.975)).tolist()
    means = scores.mean(axis=0)
    weight, equal = float(grid[int(np.argmax(means))]), float(means[0])
    return Fit(weight, low, high, float(held_out.mean()), score_low, score_high, equal, grid, means)


def _reciprocal_rank_by_weight(chunks: Sequence[Chunk], values: Floats, question: Question, grid: Floats) -> Floats:
    """``1 / rank`` of the best relevant chunk under every weight ``(m,)``, 0 below the top 10."""
    relevant = np.array([any(c.span.answers(gold) for gold in question.gold) for c in chunks], dtype=bool)
    if not relevant.any():
        return np.zeros(len(grid))
    # Equal scores stand in the order of ids, as in a search.
    ranking = np.argsort(-values @ np.stack((grid, 1 - grid)), axis=0, kind="stable")
    rank = np.argmax(relevant[ranking], axis=0) + 1
    return np.where(rank <= _DEPTH, 1.0 / rank, 0.0)


def cross_validated(scores: Floats, group: NDArray[np.int64], folds: int) -> Floats:
    """Of ``scores (questions, settings)`` each question's with the setting that is best on the other folds.

    All questions of one ``group`` are in one fold; the largest groups are dealt first, each to the smallest fold.
    """
    sizes = np.bincount(group)
    fold_of, load = np.zeros(len(sizes), dtype=int), np.zeros(folds)
    for document in np.argsort(-sizes, kind="stable"):
        fold_of[document] = np.argmin(load)
        load[fold_of[document]] += sizes[document]
    result = np.zeros(len(scores))
    for fold in range(folds):
        test = fold_of[group] == fold
        result[test] = scores[test][:, int(np.argmax(scores[~test].mean(axis=0)))]
    return result
