"""Several collections searched as one, though their scores are not comparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.base import Hit, InputError, Retriever, best_first
from ragkit.retrieval.hybrid import minmax
from ragkit.retrieval.modular.routing import Belief, Classifier
from ragkit.retrieval.modular.steps import interleave

Floats = NDArray[np.float64]


def cori(scores: Floats, collection: float) -> Floats:
    """A collection's scores made comparable: ``(D + 0.4 D C) / 1.4``, ``D`` its scores stretched to 0 to 1, ``C`` what
    the collection itself is worth for the query, 0 to 1 (Callan, Lu and Croft 1995, SIGIR; the merge of CORI).

    >>> cori(np.array([3.0, 1.0]), 1.0).tolist(), cori(np.array([9.0, 1.0]), 0.0).round(2).tolist()
    ([1.0, 0.0], [0.71, 0.0])
    """
    return np.asarray(minmax(scores, 0.0) * (1 + 0.4 * collection) / 1.4)


class Federated(Retriever):
    """All of ``collections`` that can matter are searched, and their lists merged.

    Without ``classifier`` all of them matter alike. With it, those with a share of at least ``least`` of its belief;
    all where it knows none of them. ``merge`` says how:

    - "cori": scores stretched to 0 to 1 in each list and weighted by the collection's share;
    - "scores": as they are, for collections whose scores have one scale (a reranker on top of each);
    - "turns": the best of each list, then the second of each ...: a question about two collections gets both.

    ``parts["collection:<label>"]`` is the collection's share.

    Raises:
        InputError: no collections, another ``merge``, or ``least`` outside 0 to 1.
    """

    def __init__(
        self,
        collections: Mapping[str, Retriever],
        classifier: Classifier | None = None,
        merge: str = "cori",
        least: float = 0.1,
    ) -> None:
        if not collections or merge not in ("cori", "scores", "turns") or not 0 <= least <= 1:
            raise InputError(
                f"{len(collections)} collections, merge {merge!r}, least {least}: expected one or more, 'cori', "
                "'scores' or 'turns', and 0 to 1"
            )
        self.collections, self.classifier, self.merge, self.least = dict(collections), classifier, merge, least
        self.inputs = tuple(self.collections.values())

    def shares(self, query: str) -> Belief:
        """The collections that are searched for ``query``, and the share of each."""
        belief = self.classifier.belief(query) if self.classifier else {}
        known = {label: share for label, share in belief.items() if label in self.collections and share >= self.least}
        return known or dict.fromkeys(self.collections, 1 / len(self.collections))

    def _search(self, query: str, k: int) -> list[Hit]:
        shares = self.shares(query)
        lists = [self._of(label, query, k, shares) for label in sorted(shares, key=lambda n: (-shares[n], n))]
        if self.merge == "turns":
            return interleave(lists, k, "federated")
        merged: dict[str, Hit] = {}
        for hit in (hit for hits in lists for hit in hits):
            if hit.chunk.id not in merged or hit.score > merged[hit.chunk.id].score:
                merged[hit.chunk.id] = hit
        return best_first(merged.values(), k)

    def _of(self, label: str, query: str, k: int, shares: Belief) -> Sequence[Hit]:
        hits = self.collections[label].search(query, k)
        if not hits:
            return []
        scores = np.array([hit.score for hit in hits], dtype=np.float64)
        if self.merge == "cori":
            scores = cori(scores, shares[label] / max(shares.values()))
        told = {f"collection:{label}": shares[label]}
        return [
            Hit(hit.chunk, score, "federated", {**hit.parts, hit.source: hit.score, **told})
            for hit, score in zip(hits, scores.tolist(), strict=True)
        ]
