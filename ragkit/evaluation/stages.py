"""Where was the gold lost? Walk down a retriever's stages until one of them still had it.

A composite retriever is recognised by what it holds: ``retriever``, ``reranker`` and ``fetch`` (a first stage
that hands ``fetch`` hits to the reranker), ``inputs`` (retrievers whose results are fused), or ``retriever``
alone (a filter or another wrapper). A leaf that shows its ``chunks`` can also tell whether any of them holds
the gold at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ragkit.base import Chunk, Question, Retriever, Span
from ragkit.evaluation.metrics import first_ranks, is_relevant, relevant_gold

FOUND = "found"
IN_PART = "found in part"
NO_CHUNK = "no chunk holds it"
NOT_RETRIEVED = "not retrieved"
FUSION = "demoted by fusion"
RERANK = "cut by rerank"
DROPPED = "dropped after retrieval"
FAILED = "error"
STAGES = (FOUND, IN_PART, RERANK, DROPPED, FUSION, NOT_RETRIEVED, NO_CHUNK, FAILED)


def leaves(retriever: object) -> Iterator[object]:
    """The retrievers at the bottom that search an index themselves."""
    inner = getattr(retriever, "retriever", None)
    parts = [inner] if inner is not None else list(getattr(retriever, "inputs", ()))
    if not parts:
        yield retriever
    for part in parts:
        yield from leaves(part)


class ChunkLookup:
    """Which gold spans can a retriever find at all? Indexes the chunks of its leaves by document, once."""

    def __init__(self, retriever: object) -> None:
        self.by_document: dict[str, list[Chunk]] = {}
        self.complete = True
        for leaf in leaves(retriever):
            chunks: Sequence[Chunk] | None = getattr(leaf, "chunks", None)
            self.complete = self.complete and chunks is not None
            for chunk in chunks or ():
                self.by_document.setdefault(chunk.doc_id, []).append(chunk)

    def holds(self, span: Span) -> bool:
        """False only when every leaf shows its chunks and none of them answers ``span``."""
        return not self.complete or any(is_relevant(c, span) for c in self.by_document.get(span.doc_id, ()))


def where_lost(retriever: Retriever, lookup: ChunkLookup, question: Question, top: Sequence[Chunk], k: int) -> str:
    """The stage at which ``retriever`` lost the gold of ``question``, given the ``top`` chunks that it returned.

    Of several gold spans one is enough for a hit, so the furthest one counts.
    """
    gold = relevant_gold(question.gold)
    ranks = first_ranks(top, gold)
    if ranks.any():
        return FOUND if question.any_of or ranks.all() else IN_PART
    reachable = [span for span in gold if lookup.holds(span)]
    return _lost_in(retriever, question.text, reachable, k) if reachable else NO_CHUNK


def _lost_in(retriever: Retriever, query: str, gold: Sequence[Span], k: int) -> str:
    """The stage below ``retriever`` that last had the gold; ``retriever`` itself does not return it."""
    inner: Retriever | None = getattr(retriever, "retriever", None)
    if inner is not None:
        depth = max(int(getattr(retriever, "fetch", k)), k)
        if not _returns(inner, query, gold, depth):
            return _lost_in(inner, query, gold, depth)
        return RERANK if hasattr(retriever, "reranker") else DROPPED
    inputs: Sequence[Retriever] = getattr(retriever, "inputs", ())
    if any(_returns(part, query, gold, k) for part in inputs):
        return FUSION
    below = [_lost_in(part, query, gold, k) for part in inputs]
    return min(below, key=STAGES.index, default=NOT_RETRIEVED)


def _returns(retriever: Retriever, query: str, gold: Sequence[Span], k: int) -> bool:
    return bool(first_ranks([hit.chunk for hit in retriever.search(query, k)], gold).any())
