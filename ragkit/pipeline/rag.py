"""The whole pipeline: question -> queries -> candidates -> reranked hits -> context -> answer.

    rag = RAGPipeline(vector_store, reranker, llm)
    answer = await rag.query("How do I discard all waiting tasks?", k=10)

Retrieval is plain synchronous code and runs in a thread; only the model is awaited.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from ragkit.base import (
    LLM,
    Answer,
    Context,
    ContractError,
    Corpus,
    Generation,
    Hit,
    InputError,
    Reranker,
    Retriever,
    Rewriter,
    build_identity,
    check_query,
    identity_of,
    question_key,
)
from ragkit.concurrency import SingleFlight, gather_limited
from ragkit.generation import Extractive, OpenAIChat, WithFallback, build_context, endpoint_configured, stream_answer
from ragkit.generation.abstain import Abstaining
from ragkit.pipeline.diagram import Diagram, pipeline_diagram
from ragkit.pipeline.trace import AnswerCache, CacheKey, Monitor, QueryTrace
from ragkit.retrieval.hybrid import fuse
from ragkit.retrieval.rewrite import Rewritten
from ragkit.token_store import TokenStore
from ragkit.tokens import MINILM

if TYPE_CHECKING:
    from ragkit.pipeline.config import PipelineConfig

_log = logging.getLogger(__name__)
R = TypeVar("R")


class RAGPipeline:
    """Retrieve, rerank, generate.

    Args:
        vector_store: where candidates come from; any retriever.
        reranker: puts the candidates in a better order; None keeps the first ``k``.
        llm: writes the answer.
        rewriter: turns a question into queries, whose hits are fused by reciprocal rank. A single query (a repaired
            spelling) takes the question's place in reranking, too; the model is given the question as it was asked.
        cache: answers given before. Every part needs an ``identity`` then (``base.identity_of``), or the cache would
            answer for another index. Equal questions that come while the first is under way wait for its answer.
        monitor: records every answer, failure and cancelled query before the caller has it.
        budget: tokens of context for the model.
        fetch_k: candidates to rerank; None is ``3 * k``. Never fewer than ``k``.
        clock: seconds since 1970, for the time stamps in traces.

    Raises:
        InputError: ``budget`` or ``fetch_k`` < 1, or a part without an ``identity`` beside a cache.
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
        fetch_k: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if budget < 1 or (fetch_k is not None and fetch_k < 1):
            raise InputError(f"budget is {budget!r}, fetch_k {fetch_k!r}: expected 1 or more")
        self.vector_store, self.reranker, self.llm, self.rewriter = vector_store, reranker, llm, rewriter
        self.cache, self.monitor, self.budget, self.fetch_k, self.clock = cache, monitor, budget, fetch_k, clock
        self._flights: SingleFlight[tuple[QueryTrace, Answer]] = SingleFlight()
        if cache is not None:
            self.settings()  # says now what a query would say

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
        from ragkit.pipeline.config import PipelineBuilder, PipelineConfig

        config = config if isinstance(config, PipelineConfig) else PipelineConfig.load(config)
        store = store or TokenStore.open(corpus)
        config.check(corpus, store)
        build = PipelineBuilder(config, corpus, store)
        return cls(
            build.module(config.retriever),
            build.reranker(),
            llm or default_llm(store),
            rewriter=build.rewriter(),
            cache=cache,
            monitor=monitor,
            budget=config.budget,
            fetch_k=config.fetch_k,
        )

    async def query(self, question: str, k: int = 10, *, tenant: str = "", session: str = "") -> Answer:
        """Answer ``question`` from its ``k`` best hits.

        ``Answer.timings`` has the milliseconds of ``cache`` (where there is one), ``rewrite``, ``retrieve``,
        ``rerank``, ``build``, ``generate`` and ``total``; of ``cache`` and ``total`` where the cache knew the answer.
        A cache never gives one ``tenant`` what another was answered; ``session`` only stands in the trace.

        Raises:
            InputError: ``question`` is blank or ``k`` < 1.
            EndpointError: the model's endpoint failed and there is no fallback.
        """
        trace = self._begin(question, k, tenant, session)
        async with self._recorded(trace):
            trace.answer = await (self._answer(trace) if self.cache is None else self._answer_once(trace))
        return trace.result

    async def _answer(self, trace: QueryTrace) -> Answer:
        if cached := await self._from_cache(trace):
            return cached
        context = await asyncio.to_thread(self._read, trace)
        with trace.stage("generate"):
            answer = trace.generated(await self.llm.generate(trace.question, context))
        return await self._to_cache(trace, answer)

    def _read(self, trace: QueryTrace) -> Context:
        """What the model reads: rewrite, retrieve, rerank, build the context. Plain code, for a thread."""
        question, k, stages = trace.question, trace.k, self._stages
        with trace.stage("rewrite"):
            trace.queries = stages.rewrite(question)
        with trace.stage("retrieve"):
            trace.candidates = stages.retrieve(trace.queries, k)
        with trace.stage("rerank"):
            trace.hits = stages.rerank(question, trace.queries, trace.candidates, k)
        with trace.stage("build"):
            context = build_context(trace.hits, self.budget)
            trace.context_tokens = context.tokens
        return context

    async def _answer_once(self, trace: QueryTrace) -> Answer:
        """As ``_answer``, where equal questions that are under way at the same time are answered once."""

        async def work() -> tuple[QueryTrace, Answer]:
            return trace, await self._answer(trace)

        under_way = self._flights.under_way(trace.cache_key)
        with trace.stage("cache") if under_way else nullcontext():
            maker, answer = await self._flights(trace.cache_key, work)
        return trace.shared(maker, answer)

    async def _from_cache(self, trace: QueryTrace) -> Answer | None:
        if self.cache is None or trace.key is None:
            return None
        with trace.stage("cache"):
            cached = await _best_effort("the cache", self.cache.get, trace.key)
        return None if cached is None else trace.served(cached)

    async def _to_cache(self, trace: QueryTrace, answer: Answer) -> Answer:
        # A reason (an abstention, a fallback, no source cited) says that the next try may do better.
        if self.cache is not None and trace.key is not None and not answer.reason:
            await _best_effort("the cache", self.cache.put, trace.key, answer)
        return answer

    def stream(
        self, question: str, k: int = 10, *, tenant: str = "", session: str = ""
    ) -> AsyncGenerator[str | Answer, None]:
        """As ``query``: the text in pieces as the model writes them, and at last the ``Answer``.

        The text of the ``Answer`` is what counts: it replaces the pieces where a fallback had to step in. A model that
        can't stream comes in one piece. ``timings["generate"]`` holds the time that the reader took, too. To leave
        early, iterate within ``async with contextlib.aclosing(rag.stream(...))``: the connection is closed at once.
        Equal questions under way are not waited for.

        Raises:
            InputError: at once, as ``query``.
            EndpointError: while iterating, as ``query``.
        """
        return self._pieces(self._begin(question, k, tenant, session))

    async def _pieces(self, trace: QueryTrace) -> AsyncGenerator[str | Answer, None]:
        async with self._recorded(trace):
            if cached := await self._from_cache(trace):
                yield cached.text
                trace.answer = cached
            else:
                context, generation = await asyncio.to_thread(self._read, trace), None
                with trace.stage("generate", current=False):
                    async with aclosing(stream_answer(self.llm, trace.question, context)) as pieces:
                        async for piece in pieces:
                            if isinstance(piece, Generation):
                                generation = piece
                            else:
                                yield piece
                    if generation is None:
                        raise ContractError(f"{self.llm!r}: stream() ended without a Generation")
                    answer = trace.generated(generation)
                await self._to_cache(trace, answer)
        yield trace.result

    @overload
    async def query_many(
        self,
        questions: Sequence[str],
        k: int = 10,
        concurrency: int = 8,
        *,
        tenant: str = "",
        session: str = "",
        return_exceptions: Literal[False] = False,
    ) -> list[Answer]: ...
    @overload
    async def query_many(
        self,
        questions: Sequence[str],
        k: int = 10,
        concurrency: int = 8,
        *,
        tenant: str = "",
        session: str = "",
        return_exceptions: Literal[True],
    ) -> list[Answer | Exception]: ...
    async def query_many(
        self,
        questions: Sequence[str],
        k: int = 10,
        concurrency: int = 8,
        *,
        tenant: str = "",
        session: str = "",
        return_exceptions: bool = False,
    ) -> Any:
        """The answers to ``questions``, in order, at most ``concurrency`` at a time.

        Where one fails, the questions still under way are cancelled; with ``return_exceptions`` the others go on, and
        the error stands in the answer's place.

        Raises:
            InputError: ``concurrency`` < 1, a blank question, ``k`` < 1.
            EndpointError: as ``query``.
        """
        if concurrency < 1:
            raise InputError(f"concurrency is {concurrency!r}: expected 1 or more")
        for question in questions:
            check_query(question, k)

        async def answer(question: str) -> Answer | Exception:
            try:
                return await self.query(question, k, tenant=tenant, session=session)
            except Exception as error:
                if not return_exceptions:
                    raise
                return error

        return await gather_limited(concurrency, [partial(answer, question) for question in questions])

    @property
    def retriever(self) -> Retriever:
        """The whole retrieval side (rewriter, store, reranker) as one retriever, for ``compare``."""
        return self._stages

    @property
    def _stages(self) -> TwoStage:
        return TwoStage(self.vector_store, self.reranker, self.rewriter, self.fetch_k)

    def describe(self) -> Diagram:
        """The stages and the retrievers in them: a diagram in a notebook, a tree where it is printed."""
        return pipeline_diagram(self.rewriter, self.vector_store, self.reranker, self.fetch_k, self.budget, self.llm)

    def settings(self, k: int = 10) -> str:
        """The digest of all but the question that can change an answer (``CacheKey.settings``, ``Trace.settings``).

        Raises:
            InputError: a part has no ``identity``; names it.
        """
        return hashlib.sha256(identity_of([self._stages, self.llm, self.budget, k]).encode()).hexdigest()

    def _begin(self, question: str, k: int, tenant: str, session: str) -> QueryTrace:
        check_query(question, k)
        key, settings = None, ""
        if self.cache is not None:
            settings = self.settings(k)
            key = CacheKey(settings, question_key(question), tenant)
        elif self.monitor is not None:
            with suppress(InputError):
                settings = self.settings(k)
        others = {"rewriter": self.rewriter, "reranker": self.reranker, "llm": self.llm}
        parts = {"retriever": type(self.vector_store).__name__}
        parts |= {role: repr(part) for role, part in others.items() if part is not None}
        return QueryTrace(question, k, self.clock(), tenant, session, settings, parts, key)

    @asynccontextmanager
    async def _recorded(self, trace: QueryTrace) -> AsyncIterator[None]:
        """Record the trace, also of a failed query, before the caller has its result."""
        try:
            yield
        except BaseException as error:
            await self._record(trace, error)
            raise
        await self._record(trace, trace.answer)

    async def _record(self, trace: QueryTrace, outcome: Answer | BaseException | None) -> None:
        if outcome is None or isinstance(outcome, GeneratorExit):
            outcome = asyncio.CancelledError("the reader left the stream before its end")
        record = trace.finish(outcome)
        if self.monitor is not None:
            await _best_effort("the monitor", self.monitor.record, record)


class TwoStage(Retriever):
    """The retrieval side of a pipeline: ``fetch_k`` candidates for a question, reranked to ``k``.

    ``fetch_k=None`` means ``3 * k``, or ``k`` where nothing chooses among the candidates.

    ``where_lost`` knows its stages by the names of the attributes.
    """

    def __init__(
        self, retriever: Retriever, reranker: Reranker | None, rewriter: Rewriter | None, fetch_k: int | None
    ) -> None:
        self.retriever, self.reranker, self.rewriter, self.fetch_k = retriever, reranker, rewriter, fetch_k

    @property
    def identity(self) -> str:
        return build_identity(self, self.retriever, self.reranker, self.rewriter, self.fetch_k)

    def rewrite(self, question: str) -> tuple[str, ...]:
        """The queries that are searched.

        Raises:
            ContractError: the rewriter made none, or a blank one.
        """
        return Rewritten(self.retriever, self.rewriter).queries(question) if self.rewriter is not None else (question,)

    def retrieve(self, queries: Sequence[str], k: int) -> list[Hit]:
        """The candidates for ``k`` hits, best first."""
        lists = [self.retriever.search(query, self._n(k)) for query in queries]
        return lists[0] if len(lists) == 1 else fuse(lists, self._n(k))

    def rerank(self, question: str, queries: Sequence[str], candidates: Sequence[Hit], k: int) -> list[Hit]:
        """The ``k`` best candidates for the question, or for the one query that was searched in its place."""
        if self.reranker is None:
            return list(candidates[:k])
        return self.reranker.rerank(queries[0] if len(queries) == 1 else question, candidates, k)

    def _search(self, query: str, k: int) -> list[Hit]:
        queries = self.rewrite(query)
        return self.rerank(query, queries, self.retrieve(queries, k), k)

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        if self.rewriter is not None:
            return super()._search_many(queries, k)
        lists = self.retriever.search_many(queries, self._n(k))
        return [self.rerank(query, [query], hits, k) for query, hits in zip(queries, lists, strict=True)]

    def _n(self, k: int) -> int:
        if self.fetch_k is None and self.reranker is None and self.rewriter is None:
            return k  # nothing would choose among more of them
        return max(k, self.fetch_k or 3 * k)


def default_llm(store: TokenStore) -> LLM:
    """The LLM of the presets: the configured endpoint with a visible fallback, else quotes or an abstention.

    Abstaining is fitted to the packaged model's scores. For another model, whose scores are on another scale, the
    threshold is on the share of the question's words that the sources hold.
    """
    fitted = store.encoder.name == MINILM
    offline = Abstaining(Extractive(store.maxsim, threshold=0.05), store) if fitted else Extractive(store.maxsim)
    return WithFallback(OpenAIChat(), offline) if endpoint_configured() else offline


async def _best_effort(who: str, call: Callable[..., R], *arguments: object) -> R | None:
    """What a cache or a monitor returns, from a thread. Its failure is logged: it must not cost the user the answer."""
    try:
        return await asyncio.to_thread(call, *arguments)
    except Exception:
        _log.exception("%s failed", who)
        return None
