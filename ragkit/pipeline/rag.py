"""The whole pipeline: question -> queries -> candidates -> reranked hits -> context -> answer.

Retrieval is plain synchronous code and runs in a thread; only the model is awaited::

    rag = RAGPipeline(vector_store, reranker, llm)
    answer = await rag.query("How do I discard all waiting tasks?", k=10)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragkit.base import (
    LLM,
    Answer,
    AnswerCache,
    Context,
    ContractError,
    Corpus,
    Generation,
    Hit,
    InputError,
    Monitor,
    Reranker,
    Retriever,
    Rewriter,
    check_query,
)
from ragkit.generation import ANSWER, build_context, in_pieces
from ragkit.pipeline.answering import answering
from ragkit.pipeline.diagram import Diagram, drawn
from ragkit.pipeline.stopwatch import Stopwatch
from ragkit.rewriting import fuse
from ragkit.token_store import TokenStore

if TYPE_CHECKING:
    from ragkit.pipeline.config import PipelineConfig

_log = logging.getLogger(__name__)


class RAGPipeline:
    """Retrieve, rerank, generate.

    Args:
        vector_store: where candidates come from; any retriever.
        reranker: puts the candidates in a better order; None keeps the first ``k``.
        llm: writes the answer.
        rewriter: turns a question into queries, whose hits are fused by reciprocal rank. A single query (a repaired
            spelling) takes the question's place in reranking, too; the model is given what was asked.
        cache: answers given before. Needs ``identity``, or it would answer for another index.
        monitor: is told of every answer and failure.
        budget: tokens of context for the model.
        fetch: candidates to rerank; None is ``3 * k``. Never fewer than ``k``.
        identity: names corpus, chunks, models and settings of the retrieval side, for the cache's key.

    Raises:
        InputError: ``budget``, ``fetch`` < 1, or a cache without ``identity``.
    """

    def __init__(
        self,
        vector_store: Retriever,
        reranker: Reranker | None,
        llm: LLM,
        *,
        rewriter: Rewriter | None = None,
        cache: AnswerCache | None = None,
        monitor: Monitor | None = None,
        budget: int = 2000,
        fetch: int | None = None,
        identity: str = "",
    ) -> None:
        if budget < 1 or (fetch is not None and fetch < 1):
            raise InputError(f"budget is {budget!r}, fetch {fetch!r}: expected 1 or more")
        if cache is not None and not identity:
            raise InputError("a cache needs identity=...: what names this pipeline's corpus, chunks, models, settings")
        self.vector_store, self.reranker, self.llm, self.rewriter = vector_store, reranker, llm, rewriter
        self.cache, self.monitor, self.budget, self.fetch, self.identity = cache, monitor, budget, fetch, identity

    @classmethod
    def from_config(
        cls,
        config: PipelineConfig | str | Path,
        corpus: Corpus,
        *,
        llm: LLM | None = None,
        store: TokenStore | None = None,
        cache: AnswerCache | None = None,
        monitor: Monitor | None = None,
    ) -> RAGPipeline:
        """The pipeline over ``corpus`` that a configuration, or a file of it, describes.

        Raises:
            InputError: the file or a setting in it is wrong; says which, and what was expected.
            StoreMismatchError: it was made with another corpus or other vectors.
        """
        from ragkit.pipeline.building import assembled

        store = store or TokenStore.open(corpus)
        parts = assembled(config, corpus, store)
        return cls(
            parts.vector_store,
            parts.reranker,
            llm or answering(store),
            rewriter=parts.rewriter,
            cache=cache,
            monitor=monitor,
            budget=parts.budget,
            fetch=parts.fetch,
            identity=parts.identity,
        )

    def describe(self) -> Diagram:
        """The stages and the retrievers in them: a diagram in a notebook, a tree where it is printed."""
        return drawn(self.rewriter, self.vector_store, self.reranker, self.fetch, self.budget, self.llm)

    @property
    def retriever(self) -> Retriever:
        """The whole retrieval side (rewriter, store, reranker) as one retriever, for ``compare``."""
        return _RetrievalSide(self)

    async def query(self, question: str, k: int = 10) -> Answer:
        """Answer ``question`` from its ``k`` best hits.

        ``Answer.timings`` has the milliseconds of ``cache`` (where there is one), ``rewrite``, ``retrieve``,
        ``rerank``, ``build``, ``generate`` and ``total``; of ``cache`` and ``total`` where the cache knew the answer.

        Raises:
            InputError: ``question`` is blank or ``k`` < 1.
            EndpointError: the model's endpoint failed and there is no fallback.
        """
        check_query(question, k)
        watch = Stopwatch()
        with self._failures_told(question, watch):
            answer = await self._remembered(question, k, watch) or await self._answered(question, k, watch)
        return self._told(question, answer, watch)

    def stream(self, question: str, k: int = 10) -> AsyncGenerator[str | Answer, None]:
        """As ``query``: the text in pieces as the model writes them, and at last the ``Answer``.

        The text of the ``Answer`` is what counts: it replaces the pieces where a fallback had to step in. A model that
        can't stream comes in one piece. ``timings["generate"]`` holds the time that the reader took, too. To leave
        early, iterate within ``async with contextlib.aclosing(rag.stream(...))``: the connection is closed at once.

        Raises:
            InputError: at once, as ``query``.
            EndpointError: while iterating, as ``query``.
        """
        check_query(question, k)
        return self._pieces(question, k)

    async def _pieces(self, question: str, k: int) -> AsyncGenerator[str | Answer, None]:
        watch = Stopwatch()
        with self._failures_told(question, watch):
            answer = await self._remembered(question, k, watch)
            if answer is not None:
                yield answer.text
            else:
                hits, context = await self._read(question, k, watch)
                said: Generation | None = None
                with watch("generate"):
                    async with aclosing(in_pieces(self.llm, question, context)) as pieces:
                        async for piece in pieces:
                            if isinstance(piece, Generation):
                                said = piece
                            else:
                                yield piece
                if said is None:
                    raise ContractError(f"{self.llm!r}: stream() ended without a Generation")
                answer = await self._kept(question, k, hits, said)
        yield self._told(question, answer, watch)

    async def query_many(self, questions: Sequence[str], k: int = 10, concurrency: int = 8) -> list[Answer]:
        """The answers to ``questions``, in order, at most ``concurrency`` at a time.

        Raises:
            InputError: ``concurrency`` < 1, a blank question, ``k`` < 1.
            EndpointError: as ``query``; the questions still under way are cancelled.
        """
        if concurrency < 1:
            raise InputError(f"concurrency is {concurrency!r}: expected 1 or more")
        for question in questions:
            check_query(question, k)
        gate = asyncio.Semaphore(concurrency)

        async def one(question: str) -> Answer:
            async with gate:
                return await self.query(question, k)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(question)) for question in questions]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _remembered(self, question: str, k: int, watch: Stopwatch) -> Answer | None:
        if self.cache is None:
            return None
        with watch("cache"):
            return await asyncio.to_thread(self.cache.get, self._key(question, k))

    async def _answered(self, question: str, k: int, watch: Stopwatch) -> Answer:
        hits, context = await self._read(question, k, watch)
        with watch("generate"):
            said = await self.llm.generate(question, context)
        return await self._kept(question, k, hits, said)

    async def _read(self, question: str, k: int, watch: Stopwatch) -> tuple[list[Hit], Context]:
        hits = await asyncio.to_thread(self._retrieve, question, k, watch)
        with watch("build"):
            return hits, await asyncio.to_thread(build_context, hits, self.budget)

    async def _kept(self, question: str, k: int, hits: Sequence[Hit], said: Generation) -> Answer:
        """The answer, remembered where there is a cache."""
        answer = Answer(
            question,
            said.text,
            hits=tuple(hits),
            citations=said.citations,
            usage=said.usage,
            abstained=said.abstained,
            reason=said.reason,
        )
        # A reason means that the model abstained or that a fallback answered: the next try may do better.
        if self.cache is not None and not said.reason:
            await asyncio.to_thread(self.cache.put, self._key(question, k), answer)
        return answer

    def _retrieve(self, question: str, k: int, watch: Stopwatch) -> list[Hit]:
        with watch("rewrite"):
            queries = self.rewriter.rewrite(question) if self.rewriter else [question]
        with watch("retrieve"):
            lists = [self.vector_store.search(query, self._candidates(k)) for query in queries]
            hits = lists[0] if len(lists) == 1 else fuse(lists, self._candidates(k))
        with watch("rerank"):
            return self._reranked(queries[0] if len(queries) == 1 else question, hits, k)

    def _candidates(self, k: int) -> int:
        return max(k, self.fetch or 3 * k)

    def _reranked(self, question: str, hits: Sequence[Hit], k: int) -> list[Hit]:
        return self.reranker.rerank(question, hits, k) if self.reranker else list(hits[:k])

    def _key(self, question: str, k: int) -> str:
        """sha256 of everything that can change the answer; white space in the question can't."""
        llm = str(getattr(self.llm, "identity", repr(self.llm)))
        settings = [self.identity, llm, ANSWER.identity, self.budget, self.fetch, k, " ".join(question.split())]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    def _told(self, question: str, answer: Answer, watch: Stopwatch) -> Answer:
        """The finished answer, of which the monitor has heard."""
        answer = replace(answer, question=question, timings=watch.with_total(), trace_id=uuid.uuid4().hex)
        if self.monitor is not None:
            self._tell(self.monitor.record, answer)
        return answer

    @contextmanager
    def _failures_told(self, question: str, watch: Stopwatch) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self.monitor is not None:
                self._tell(self.monitor.failed, question, watch.stage, error)
            raise

    def _tell(self, what: Callable[..., None], *about: object) -> None:
        """Tell the monitor. Its own failure is logged: it must not cost the user the answer."""
        try:
            what(*about)
        except Exception:
            _log.exception("the monitor failed")


class _RetrievalSide(Retriever):
    """What a pipeline does before it generates. ``retriever`` and ``fetch`` let ``where_lost`` look at its stages."""

    def __init__(self, pipeline: RAGPipeline) -> None:
        self.pipeline, self.retriever = pipeline, pipeline.vector_store
        self.fetch = pipeline._candidates(10) if pipeline.reranker else None

    def _search(self, query: str, k: int) -> list[Hit]:
        return self.pipeline._retrieve(query, k, Stopwatch())

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        rag = self.pipeline
        if rag.rewriter:
            return super()._search_many(queries, k)
        lists = rag.vector_store.search_many(queries, rag._candidates(k))
        return [rag._reranked(query, hits, k) for query, hits in zip(queries, lists, strict=True)]
