"""The whole pipeline: question -> queries -> candidates -> reranked hits -> context -> answer.

Retrieval is plain synchronous code and runs in a thread; only the model is awaited::

    rag = RAGPipeline(vector_store, reranker, llm)
    answer = await rag.query("How do I discard all waiting tasks?", k=10)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

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
    check_query,
)
from ragkit.concurrency import SingleFlight, gather_limited
from ragkit.generation import build_context, in_pieces
from ragkit.pipeline.answering import answering
from ragkit.pipeline.diagram import Diagram, drawn
from ragkit.pipeline.identity import parts, settings_of
from ragkit.pipeline.run import Run, without_fail
from ragkit.pipeline.side import RetrievalSide
from ragkit.pipeline.trace import AnswerCache, CachedAnswer, CacheKey, Monitor
from ragkit.token_store import TokenStore

if TYPE_CHECKING:
    from ragkit.pipeline.config import PipelineConfig


class RAGPipeline:
    """Retrieve, rerank, generate.

    Args:
        vector_store: where candidates come from; any retriever.
        reranker: puts the candidates in a better order; None keeps the first ``k``.
        llm: writes the answer.
        rewriter: turns a question into queries, whose hits are fused by reciprocal rank. A single query (a repaired
            spelling) takes the question's place in reranking, too; the model is given what was asked.
        cache: answers given before. Needs ``identity``, or it would answer for another index. Equal questions that are
            asked while the first is under way wait for its answer.
        monitor: is told of every answer and failure before the user is.
        budget: tokens of context for the model.
        fetch: candidates to rerank; None is ``3 * k``. Never fewer than ``k``.
        identity: names corpus, chunks, models and settings of the retrieval side, for the cache's key.
        clock: seconds since 1970, for the time stamps in traces.

    Raises:
        InputError: ``budget``, ``fetch`` < 1, or a cache without ``identity``, or beside a part that does not tell its
            settings.
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
        clock: Callable[[], float] = time.time,
    ) -> None:
        if budget < 1 or (fetch is not None and fetch < 1):
            raise InputError(f"budget is {budget!r}, fetch {fetch!r}: expected 1 or more")
        if cache is not None and not identity:
            raise InputError("a cache needs identity=...: what names this pipeline's corpus, chunks, models, settings")
        self.vector_store, self.reranker, self.llm, self.rewriter = vector_store, reranker, llm, rewriter
        self.cache, self.monitor, self.budget, self.fetch, self.identity = cache, monitor, budget, fetch, identity
        self.clock = clock
        self._once: SingleFlight[CachedAnswer] = SingleFlight()
        if cache is not None:
            self.settings(1)  # says now what a query would say

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

    def settings(self, k: int = 10) -> str:
        """The digest of all but the question that can change an answer (``CacheKey.settings``, ``Trace.settings``).

        Raises:
            InputError: a part does not tell its settings.
        """
        return self._settings(k)

    def _settings(self, k: int, strict: bool = True) -> str:
        others = (self.rewriter, self.reranker, self.llm)
        return settings_of(self.identity, self.vector_store, others, (self.budget, self.fetch or 0, k), strict)

    @property
    def _side(self) -> RetrievalSide:
        return RetrievalSide(self.vector_store, self.reranker, self.rewriter, self.fetch)

    @property
    def retriever(self) -> Retriever:
        """The whole retrieval side (rewriter, store, reranker) as one retriever, for ``compare``."""
        return self._side

    async def query(self, question: str, k: int = 10, *, tenant: str = "", session: str = "") -> Answer:
        """Answer ``question`` from its ``k`` best hits.

        ``Answer.timings`` has the milliseconds of ``cache`` (where there is one), ``rewrite``, ``retrieve``,
        ``rerank``, ``build``, ``generate`` and ``total``; of ``cache`` and ``total`` where the cache knew the answer.
        A cache never gives one ``tenant`` what another was answered; ``session`` is only told to the monitor.

        Raises:
            InputError: ``question`` is blank or ``k`` < 1.
            EndpointError: the model's endpoint failed and there is no fallback.
        """
        run = self._begun(question, k, tenant, session)
        async with self._failures_told(run):
            answer = await (self._answered(run) if self.cache is None else self._remembered(run))
        return await self._told(run, answer)

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
        return self._pieces(self._begun(question, k, tenant, session))

    async def _pieces(self, run: Run) -> AsyncGenerator[str | Answer, None]:
        async with self._failures_told(run):
            if found := await self._looked_up(run):
                answer = found.answer
                yield answer.text
            else:
                hits, context = await self._read(run)
                said: Generation | None = None
                with run("generate"):
                    async with aclosing(in_pieces(self.llm, run.question, context)) as pieces:
                        async for piece in pieces:
                            if isinstance(piece, Generation):
                                said = piece
                            else:
                                yield piece
                if said is None:
                    raise ContractError(f"{self.llm!r}: stream() ended without a Generation")
                answer = run.answer(hits, said)
                await self._kept(run, answer)
        yield await self._told(run, answer)

    async def query_many(
        self, questions: Sequence[str], k: int = 10, concurrency: int = 8, *, tenant: str = "", session: str = ""
    ) -> list[Answer]:
        """The answers to ``questions``, in order, at most ``concurrency`` at a time.

        Raises:
            InputError: ``concurrency`` < 1, a blank question, ``k`` < 1.
            EndpointError: as ``query``; the questions still under way are cancelled.
        """
        if concurrency < 1:
            raise InputError(f"concurrency is {concurrency!r}: expected 1 or more")
        for question in questions:
            check_query(question, k)
        asked = [partial(self.query, question, k, tenant=tenant, session=session) for question in questions]
        return await gather_limited(concurrency, asked)

    def _begun(self, question: str, k: int, tenant: str, session: str) -> Run:
        check_query(question, k)
        # White space in a question can't change the answer.
        key = CacheKey(self.settings(k), " ".join(question.split()), tenant) if self.cache is not None else None
        return Run(question, k, tenant, session, self.clock(), key)

    async def _remembered(self, run: Run) -> Answer:
        """The answer out of the cache, of an equal question under way, or a new one."""

        async def work() -> CachedAnswer:
            if found := await self._looked_up(run):
                return found
            answer = await self._answered(run)
            await self._kept(run, answer)
            return CachedAnswer(answer, run.cache_key)

        if not self._once.under_way(run.key):
            return (await self._once(run.key, work)).answer
        with run("cache"):
            found = await self._once(run.key, work)
        run.served("shared", found)
        return found.answer

    async def _looked_up(self, run: Run) -> CachedAnswer | None:
        if self.cache is None or run.key is None:
            return None
        run.cache = "miss"
        with run("cache"):
            found = await without_fail("the cache", self.cache.get, run.key)
        if found is not None:
            run.served("hit" if found.digest == run.key.digest else "near", found)
        return found

    async def _kept(self, run: Run, answer: Answer) -> None:
        # A reason means that the model abstained or that a fallback answered: the next try may do better.
        if self.cache is not None and run.key is not None and not answer.reason:
            await without_fail("the cache", self.cache.put, run.key, answer)

    async def _answered(self, run: Run) -> Answer:
        hits, context = await self._read(run)
        with run("generate"):
            said = await self.llm.generate(run.question, context)
        return run.answer(hits, said)

    async def _read(self, run: Run) -> tuple[list[Hit], Context]:
        hits = await asyncio.to_thread(self._side.found, run)
        with run("build"):
            context = await asyncio.to_thread(build_context, hits, self.budget)
        run.context_tokens = context.tokens
        return hits, context

    async def _told(self, run: Run, answer: Answer) -> Answer:
        """The finished answer, of which the monitor has heard."""
        answer = run.finished(answer)
        await self._tell(run, answer)
        return answer

    @asynccontextmanager
    async def _failures_told(self, run: Run) -> AsyncIterator[None]:
        try:
            yield
        except (Exception, asyncio.CancelledError) as error:  # the slowest queries are those that somebody gives up
            await self._tell(run, error)
            raise

    async def _tell(self, run: Run, outcome: Answer | BaseException) -> None:
        if self.monitor is not None:
            settings = run.key.settings if run.key else self._settings(run.k, strict=False)
            trace = run.trace(settings, parts(self.vector_store, self.reranker, self.rewriter, self.llm), outcome)
            await without_fail("the monitor", self.monitor.record, trace)
