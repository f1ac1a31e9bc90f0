"""What a pipeline does before it generates, as one retriever."""

from __future__ import annotations

from collections.abc import Sequence

from ragkit.base import Hit, Reranker, Retriever, Rewriter
from ragkit.pipeline.run import Run
from ragkit.rewriting import fuse


class RetrievalSide(Retriever):
    """Rewrite, retrieve, rerank. ``retriever`` and ``fetch`` let ``where_lost`` look at the stages.

    Args:
        retriever, reranker, rewriter: the parts.
        candidates: how many hits to rerank; None is ``3 * k``. Never fewer than ``k``.
    """

    def __init__(
        self, retriever: Retriever, reranker: Reranker | None, rewriter: Rewriter | None, candidates: int | None
    ) -> None:
        self.retriever, self.reranker, self.rewriter, self.candidates = retriever, reranker, rewriter, candidates
        self.fetch = self._n(10) if reranker else None

    def found(self, run: Run) -> list[Hit]:
        """The ``run.k`` best hits for ``run.question``; ``run`` notes the time and the outcome of each stage."""
        question, n = run.question, self._n(run.k)
        with run("rewrite"):
            queries = self.rewriter.rewrite(question) if self.rewriter else [question]
        run.queries = tuple(queries)
        with run("retrieve"):
            lists = [self.retriever.search(query, n) for query in queries]
            hits = lists[0] if len(lists) == 1 else fuse(lists, n)
        run.candidates = tuple(hits)
        with run("rerank"):
            return self._reranked(queries[0] if len(queries) == 1 else question, hits, run.k)

    def _search(self, query: str, k: int) -> list[Hit]:
        return self.found(Run(query, k))

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        if self.rewriter:
            return super()._search_many(queries, k)
        lists = self.retriever.search_many(queries, self._n(k))
        return [self._reranked(query, hits, k) for query, hits in zip(queries, lists, strict=True)]

    def _n(self, k: int) -> int:
        return max(k, self.candidates or 3 * k)

    def _reranked(self, question: str, hits: Sequence[Hit], k: int) -> list[Hit]:
        return self.reranker.rerank(question, hits, k) if self.reranker else list(hits[:k])
