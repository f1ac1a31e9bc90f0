"""The whole pipeline: question -> queries -> candidates -> reranked hits -> context -> answer.

    rag = RAGPipeline(vector_store, reranker, llm)
    answer = await rag.query("How do I discard all waiting tasks?", k=10)

``query`` reads from top to bottom. Retrieval is plain synchronous code and runs in a thread; only the model is awaited.
A cache (``production/caching.py``) is asked before, and a monitor (``production/monitoring.py``) is told at the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from ragkit.base import (
    LLM,
    Answer,
    Context,
    ContractError,
    Corpus,
    Hit,
    InputError,
    Reranker,
    Retriever,
    Rewriter,
    check_query,
    check_whole,
    identity_of,
    question_key,
    without_password,
)
from ragkit.concurrency import gather_limited
from ragkit.generation import build_context, stream_answer
from ragkit.generation.factory import make_llm
from ragkit.languages import is_english
from ragkit.pipeline.config import Modules, PipelineConfig
from ragkit.pipeline.diagram import Diagram, Node, chunks_of, cutting_of, tree
from ragkit.pipeline.trace import AnswerCache, CacheKey, Monitor, QueryTrace
from ragkit.retrieval.hybrid import fuse
from ragkit.retrieval.rewrite import Rewritten, Spelling
from ragkit.token_store import TokenStore

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
        fetch_k: candidates to rerank, at least ``k``; None is ``3 * k`` (with neither reranker nor rewriter ``k``).

    ``clock`` gives the time stamps in traces: seconds since 1970.

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
    ) -> None:
        if budget < 1 or (fetch_k is not None and fetch_k < 1):
            raise InputError(f"budget is {budget!r}, fetch_k {fetch_k!r}: expected 1 or more")
        self.vector_store, self.reranker, self.llm, self.rewriter = vector_store, reranker, llm, rewriter
        self.cache, self.monitor, self.budget, self.fetch_k = cache, monitor, budget, fetch_k
        self.clock: Callable[[], float] = time.time
        self._under_way: dict[object, QueryTrace] = {}  # by cache key and event loop
        if cache is not None:
            self.settings()  # says now what a query would say

    @classmethod
    def from_config(
        cls,
        config: PipelineConfig | str | Path,
        corpus: Corpus,
        *,
        llm: LLM | str | Path | None = None,
        store: TokenStore | None = None,
        cache: AnswerCache | None = None,
        monitor: Monitor | None = None,
    ) -> RAGPipeline:
        """The pipeline over ``corpus`` that a configuration, or a file of it, describes; ``llm`` as for ``make_llm``.

        Raises:
            InputError: the file or a setting in it, or ``llm``, is wrong; says which, and what was expected.
            StoreMismatchError: it was made with other vectors.
        """
        config = config if isinstance(config, PipelineConfig) else PipelineConfig.load(config)
        store = store or TokenStore.open(corpus)
        config.check(corpus, store)
        build = Modules(config, corpus, store)
        return cls(
            build.module(config.retriever),
            build.reranker(config.reranker) if config.reranker else None,
            make_llm(llm, store),
            rewriter=_spelling(corpus) if config.rewriter else None,
            cache=cache,
            monitor=monitor,
            budget=config.budget,
            fetch_k=config.fetch_k,
        )

    # ---- a query

    async def query(self, question: str, k: int = 10, *, tenant: str = "", session: str = "") -> Answer:
        """Answer ``question`` from its ``k`` best hits.

        ``Answer.timings`` has the milliseconds of ``cache`` (where there is one), ``rewrite``, ``retrieve``,
        ``rerank``, ``build``, ``generate`` and ``total``; of ``cache`` and ``total`` where the cache knew the answer.
        Writing to the cache is in ``total`` alone.
        A cache never gives one ``tenant`` what another was answered; ``session`` only stands in the trace.

        Raises:
            InputError: ``question`` is blank or ``k`` < 1.
            EndpointError: the model's endpoint failed and there is no fallback.
        """
        async with self._traced(question, k, tenant, session) as trace:
            answer = await self._from_cache(trace)
            if answer is None:
                context = await self._retrieve_context(trace)
                with trace.stage("generate"):
                    answer = trace.take_generated(await self.llm.generate(question, context), self.llm)
                await self._to_cache(trace, answer)
            trace.answer = answer
        return trace.result

    async def stream(
        self, question: str, k: int = 10, *, tenant: str = "", session: str = ""
    ) -> AsyncGenerator[str | Answer, None]:
        """As ``query``: the text in pieces as the model writes them, and at last the ``Answer``.

        The text of the ``Answer`` is what counts: it replaces the pieces where a fallback had to step in. A model that
        can't stream comes in one piece. ``timings["generate"]`` holds the time that the reader took, too. To leave
        early, iterate within ``async with contextlib.aclosing(rag.stream(...))``: the connection is closed at once.
        Equal questions under way are not waited for.

        Raises:
            InputError, EndpointError: while iterating, as ``query``.
        """
        async with self._traced(question, k, tenant, session) as trace:
            answer = await self._from_cache(trace, wait=False)
            if answer is not None:
                yield answer.text
            else:
                context = await self._retrieve_context(trace)
                with trace.stage("generate", current=False):
                    async with aclosing(stream_answer(self.llm, question, context)) as pieces:
                        async for piece in pieces:
                            if isinstance(piece, str):
                                yield piece
                            else:
                                answer = trace.take_generated(piece, self.llm)
                if answer is None:
                    raise ContractError(f"{self.llm!r}: stream() ended without a Generation")
                await self._to_cache(trace, answer)
            trace.answer = answer
        yield trace.result

    @overload
    async def query_many(self, questions: Sequence[str], k: int = 10, concurrency: int = 8) -> list[Answer]: ...
    @overload
    async def query_many(
        self, questions: Sequence[str], k: int = 10, concurrency: int = 8, *, return_exceptions: Literal[True]
    ) -> list[Answer | Exception]: ...
    async def query_many(
        self, questions: Sequence[str], k: int = 10, concurrency: int = 8, *, return_exceptions: bool = False
    ) -> Any:
        """The answers to ``questions``, in order, at most ``concurrency`` at a time.

        Where one fails, the questions still under way are cancelled; with ``return_exceptions`` the others go on, and
        the error stands in the answer's place, as ``score_answers`` takes it.

        Raises:
            InputError: ``concurrency`` < 1, a blank question, ``k`` < 1; before anything is asked.
            EndpointError: as ``query``.
        """
        for question in questions:
            check_query(question, k)

        async def answer(question: str) -> Answer | Exception:
            try:
                return await self.query(question, k)
            except Exception as error:
                if not return_exceptions:
                    raise
                return error

        queries = [partial(answer, question) for question in questions]
        return await gather_limited(check_whole(concurrency, "concurrency"), queries)

    # ---- its stages

    async def _retrieve_context(self, trace: QueryTrace) -> Context:
        """What the model reads: rewrite, retrieve ``fetch_k`` candidates, rerank to ``k``, build the context."""
        question, k, side = trace.question, trace.k, self.retriever
        trace.fetch_k = side.depth(k)
        with trace.stage("rewrite"):
            trace.queries = await asyncio.to_thread(side.rewrite, question)
        with trace.stage("retrieve"):
            trace.candidates = await asyncio.to_thread(side.retrieve, trace.queries, k)
        with trace.stage("rerank"):
            trace.hits = await asyncio.to_thread(side.rerank, question, trace.queries, trace.candidates, k)
        with trace.stage("build"):
            context = await asyncio.to_thread(build_context, trace.hits, self.budget)
        trace.context_tokens = context.tokens
        return context

    # ---- cache and monitor

    async def _from_cache(self, trace: QueryTrace, wait: bool = True) -> Answer | None:
        """A cached answer, or with ``wait`` that of an equal query under way; None: this query has to find its own."""
        if self.cache is None or trace.key is None:
            return None
        with trace.stage("cache"):
            if wait and (equal := await self._first_of_equals(trace)):
                return trace.take_shared(equal)
            cached = await _best_effort("the cache", self.cache.get, trace.key)
        return None if cached is None else trace.take_cached(cached)

    async def _first_of_equals(self, trace: QueryTrace) -> QueryTrace | None:
        """The equal query that was under way, when it is answered; None: ``trace`` is the first, for which others wait.

        (This is single-flight, as in Go's ``golang.org/x/sync/singleflight``.) Where the first is given up, one that
        waits for it takes its place. Where it fails, its error is raised.
        """
        while first := self._under_way.get(trace.flight):
            await first.finished.wait()
            if isinstance(first.error, Exception):
                raise first.error
            if first.error is None:
                return first
        self._under_way[trace.flight] = trace
        return None

    async def _to_cache(self, trace: QueryTrace, answer: Answer) -> None:
        # What failed for a moment, so that a fallback answered, may work the next time.
        if self.cache is not None and trace.key is not None and not answer.fallback:
            await _best_effort("the cache", self.cache.put, trace.key, answer)

    @asynccontextmanager
    async def _traced(self, question: str, k: int, tenant: str, session: str) -> AsyncIterator[QueryTrace]:
        """The trace of one query; the monitor records it, also of a failed one, before the caller has its result."""
        trace = self._begin(question, k, tenant, session)
        try:
            yield trace
        except BaseException as error:
            left = isinstance(error, GeneratorExit)
            trace.error = asyncio.CancelledError("the reader left the stream before its end") if left else error
            raise
        finally:
            if self._under_way.get(trace.flight) is trace:
                del self._under_way[trace.flight]
            trace.finish()
            if self.monitor is not None:
                await _best_effort("the monitor", self.monitor.record, trace)

    def _begin(self, question: str, k: int, tenant: str, session: str) -> QueryTrace:
        check_query(question, k)
        settings, key = "", None
        if self.cache is not None:
            settings = self.settings(k)
            key = CacheKey(settings, question_key(question), tenant)
        elif self.monitor is not None:
            with suppress(InputError):  # a part has no identity
                settings = self.settings(k)
        others = {"rewriter": self.rewriter, "reranker": self.reranker, "llm": self.llm}
        parts = {"retriever": type(self.vector_store).__name__}
        parts |= {role: without_password(repr(part)) for role, part in others.items() if part is not None}
        trace = QueryTrace(uuid.uuid4().hex, question, k, self.clock(), ms=0.0, tenant=tenant, session=session, key=key)
        trace.settings, trace.parts = settings, parts
        return trace

    # ---- what it is made of

    @property
    def retriever(self) -> TwoStage:
        """The whole retrieval side (rewriter, store, reranker) as one retriever, for ``compare``."""
        return TwoStage(self.vector_store, self.reranker, self.rewriter, self.fetch_k)

    def _stages(self) -> dict[str, str]:
        """A line for each stage; ``describe`` draws the retrievers within retrievers."""
        retriever, chunks = tree(self.vector_store), chunks_of(self.vector_store)
        parts = ", ".join(dict.fromkeys(node.label.partition(" (")[0] for node in list(retriever.nodes())[1:]))
        reranking = f"{self.reranker!r}, of {self.fetch_k or '3 k'} candidates" if self.reranker else "none"
        return {
            "chunks": cutting_of(chunks) if chunks else "unknown to this retriever",
            **({"rewrite": repr(self.rewriter)} if self.rewriter else {}),
            "retrieve": retriever.label + (f" of {parts}" if parts else ""),
            "rerank": reranking,
            "build": f"a context of at most {self.budget:,} tokens",
            "write": without_password(repr(self.llm)),
        }

    def __repr__(self) -> str:
        return "\n".join([type(self).__name__, *(f"  {stage:<9} {what}" for stage, what in self._stages().items())])

    def _repr_html_(self) -> str:
        cell = 'style="text-align:left"'
        rows = (f"<tr><th {cell}>{a}</th><td {cell}>{escape(b)}</td></tr>" for a, b in self._stages().items())
        return f"<table>{''.join(rows)}</table>"

    def describe(self) -> Diagram:
        """The stages and the retrievers in them: a diagram in a notebook, a tree where it is printed."""
        store = tree(self.vector_store)
        stages = [Node(f"rewriter: {self.rewriter!r}")] if self.rewriter else []
        stages += [Node(f"vector_store: {store.label}", store.parts)]
        stages += [Node(f"reranker: {self.reranker!r}, fetch_k={self.fetch_k or '3 k'}")] if self.reranker else []
        return Diagram((*stages, Node(f"build_context: {self.budget} tokens"), Node(f"llm: {self.llm!r}")))

    def settings(self, k: int = 10) -> str:
        """The digest of all but the question that can change an answer (``CacheKey.settings``, ``Trace.settings``).

        Raises:
            InputError: a part has no ``identity``; names it.
        """
        return hashlib.sha256(identity_of([self.retriever, self.llm, self.budget, k]).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class TwoStage(Retriever):
    """The retrieval side of a pipeline: ``fetch_k`` candidates for a question, reranked to ``k``.

    ``fetch_k=None`` means ``3 * k``, or ``k`` where nothing chooses among the candidates. ``where_lost`` knows its
    stages by the names of the attributes.
    """

    retriever: Retriever
    reranker: Reranker | None
    rewriter: Rewriter | None
    fetch_k: int | None

    def rewrite(self, question: str) -> tuple[str, ...]:
        """The queries that are searched.

        Raises:
            ContractError: the rewriter made none, or a blank one.
        """
        if self.rewriter is None:
            return (question,)
        return Rewritten(self.retriever, self.rewriter).queries(question)

    def retrieve(self, queries: Sequence[str], k: int) -> list[Hit]:
        """The candidates for ``k`` hits, best first."""
        lists = [self.retriever.search(query, self.depth(k)) for query in queries]
        return lists[0] if len(lists) == 1 else fuse(lists, self.depth(k))

    def rerank(self, question: str, queries: Sequence[str], candidates: Sequence[Hit], k: int) -> list[Hit]:
        """The ``k`` best candidates for the question, or for the one query that was searched in its place."""
        if self.reranker is None or not candidates:
            return list(candidates[:k])
        return self.reranker.rerank(queries[0] if len(queries) == 1 else question, candidates, k)

    def _search(self, query: str, k: int) -> list[Hit]:
        queries = self.rewrite(query)
        return self.rerank(query, queries, self.retrieve(queries, k), k)

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        if self.rewriter is not None:
            return super()._search_many(queries, k)
        lists = self.retriever.search_many(queries, self.depth(k))
        return [self.rerank(query, [query], hits, k) for query, hits in zip(queries, lists, strict=True)]

    def depth(self, k: int) -> int:
        """How many candidates are searched for ``k`` hits."""
        if self.fetch_k is None and self.reranker is None and self.rewriter is None:
            return k  # nothing would choose among more of them
        return max(k, self.fetch_k or 3 * k)


def _spelling(corpus: Corpus) -> Spelling | None:
    """The repair of English words, for documents in English; for others none, and a warning."""
    if is_english(corpus.language):
        return Spelling.of(corpus.documents)
    warnings.warn(
        f"{corpus.name}: the rewriter 'Spelling' repairs English words, and these documents are not in English "
        f"({corpus.language}): questions are searched as they are typed",
        stacklevel=3,
    )
    return None


async def _best_effort(who: str, call: Callable[..., R], *arguments: object) -> R | None:
    """What a cache or a monitor returns, from a thread. Its failure is logged: it must not cost the user the answer."""
    try:
        return await asyncio.to_thread(call, *arguments)
    except Exception:
        _log.exception("%s failed", who)
        return None
