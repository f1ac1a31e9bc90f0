"""The wrapper that makes a retriever of a retriever and a rewriter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from ragkit.base import ContractError, Hit, InputError, Retriever, Rewriter, Usage, best_first
from ragkit.retrieval.hybrid import reciprocal_rank


@dataclass(frozen=True, slots=True)
class Rewriting:
    """The queries made of a question; ``reason`` says why there is nothing but the question itself, if so."""

    queries: tuple[str, ...]
    reason: str = ""
    usage: Usage = field(default_factory=Usage)


@runtime_checkable
class Explaining(Protocol):
    """A rewriter that may fail and says so."""

    def explain(self, question: str) -> Rewriting: ...


class Rewritten(Retriever):
    """``retriever``, asked the queries that ``rewriter`` makes of the question.

    One query: its hits as they are. Several: each fetches ``max(fetch, k)`` hits, and their lists are fused by
    reciprocal rank. A rewriter that changes nothing changes no hit, so a wrapper costs nothing where it does not help.

    >>> from ragkit.base import Chunk
    >>> from ragkit.retrieval.bm25 import BM25Retriever
    >>> class Synonym:
    ...     def rewrite(self, question):
    ...         return [question, question.replace("kill", "terminate")]
    >>> chunks = [Chunk("a", 0, 21, "Terminate the worker."), Chunk("b", 0, 12, "Start tasks.")]
    >>> [hit.chunk.doc_id for hit in Rewritten(BM25Retriever(chunks), Synonym()).search("kill it")]
    ['a']

    Raises:
        InputError: ``fetch`` < 1.
        ContractError: (when searching) the rewriter returned no query, or a blank one.
    """

    def __init__(self, retriever: Retriever, rewriter: Rewriter, fetch: int = 50) -> None:
        if fetch < 1:
            raise InputError(f"fetch is {fetch!r}: expected 1 or more candidates")
        self.retriever, self.rewriter, self.fetch = retriever, rewriter, fetch

    def __repr__(self) -> str:
        return f"Rewritten({self.retriever!r}, {self.rewriter!r})"

    def explain(self, question: str) -> Rewriting:
        """What is searched instead of ``question``, each query once.

        Raises:
            ContractError: the rewriter returned no query, or a blank one.
        """
        rewriter = self.rewriter
        told = (
            rewriter.explain(question)
            if isinstance(rewriter, Explaining)
            else Rewriting((*rewriter.rewrite(question),))
        )
        queries = tuple(dict.fromkeys(told.queries))
        if not queries or not all(isinstance(query, str) and query.strip() for query in queries):
            raise ContractError(
                f"{rewriter!r} made {queries!r} of {question[:60]!r}: expected one query or more, none blank"
            )
        return replace(told, queries=queries)

    def _search(self, query: str, k: int) -> list[Hit]:
        return self._search_many([query], k)[0]

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        told = [self.explain(query) for query in queries]
        # A question that stays one query is asked for k, as without the wrapper: a reranker inside fetches its own.
        single = iter(self.retriever.search_many([own.queries[0] for own in told if len(own.queries) == 1], k))
        asked = [query for own in told if len(own.queries) > 1 for query in own.queries]
        several = iter(self.retriever.search_many(asked, max(self.fetch, k)))
        return [
            fuse([next(several) for _ in own.queries], k)
            if len(own.queries) > 1
            else _with_reason(next(single), own.reason)
            for own in told
        ]


def _with_reason(hits: list[Hit], reason: str) -> list[Hit]:
    return [replace(hit, source=f"{hit.source}, not rewritten: {reason}") for hit in hits] if reason else hits


def fuse(lists: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """The ``k`` best of the hits of several queries, by the sum of their reciprocal ranks."""
    fused: dict[str, Hit] = {}
    for hits in lists:
        for hit, value in zip(hits, reciprocal_rank(len(hits)).tolist(), strict=True):
            so_far = fused[hit.chunk.id].score if hit.chunk.id in fused else 0.0
            fused[hit.chunk.id] = Hit(hit.chunk, so_far + value, "fused queries", {**hit.parts, hit.source: hit.score})
    return best_first(fused.values(), k)
