"""The whole pipeline: question -> queries -> candidates -> reranked hits -> context -> answer.

Retrieval is plain synchronous code and runs in a thread; only the model is awaited::

    rag = RAGPipeline(vector_store, reranker, llm)
    answer = await rag.query("How do I discard all waiting tasks?", k=10)

The presets at the end are pipelines in a few readable lines, from the simplest to what production needs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ragkit.base import (
    LLM,
    Answer,
    AnswerCache,
    Corpus,
    Hit,
    InputError,
    Monitor,
    Reranker,
    Retriever,
    Rewriter,
    best_first,
    check_query,
)
from ragkit.chunking import FixedChunker
from ragkit.chunking.kept import kept_chunks
from ragkit.generation import ANSWER, Extractive, OpenAIChat, WithFallback, build_context, endpoint_configured
from ragkit.reranking import LateInteraction
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid, reciprocal_rank
from ragkit.token_store import TokenStore

_log = logging.getLogger(__name__)


class RAGPipeline:
    """Retrieve, rerank, generate.

    Args:
        vector_store: where candidates come from; any retriever.
        reranker: puts the candidates in a better order; None keeps the first ``k``.
        llm: writes the answer.
        rewriter: turns a question into several queries, whose hits are fused by reciprocal rank.
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
        watch, trace_id = _Stopwatch(), uuid.uuid4().hex
        try:
            answer = await self._remembered(question, k, watch) or await self._answered(question, k, watch)
        except Exception as error:
            if self.monitor is not None:
                self._tell(self.monitor.failed, question, watch.stage, error)
            raise
        answer = replace(answer, question=question, timings=watch.with_total(), trace_id=trace_id)
        if self.monitor is not None:
            self._tell(self.monitor.record, answer)
        return answer

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

    async def _remembered(self, question: str, k: int, watch: _Stopwatch) -> Answer | None:
        if self.cache is None:
            return None
        with watch("cache"):
            return await asyncio.to_thread(self.cache.get, self._key(question, k))

    async def _answered(self, question: str, k: int, watch: _Stopwatch) -> Answer:
        hits = await asyncio.to_thread(self._retrieve, question, k, watch)
        with watch("build"):
            context = await asyncio.to_thread(build_context, hits, self.budget)
        with watch("generate"):
            said = await self.llm.generate(question, context)
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

    def _retrieve(self, question: str, k: int, watch: _Stopwatch) -> list[Hit]:
        with watch("rewrite"):
            queries = self.rewriter.rewrite(question) if self.rewriter else [question]
        with watch("retrieve"):
            lists = [self.vector_store.search(query, self._candidates(k)) for query in queries]
            hits = lists[0] if len(lists) == 1 else fuse(lists, self._candidates(k))
        with watch("rerank"):
            return self._reranked(question, hits, k)

    def _candidates(self, k: int) -> int:
        return max(k, self.fetch or 3 * k)

    def _reranked(self, question: str, hits: Sequence[Hit], k: int) -> list[Hit]:
        return self.reranker.rerank(question, hits, k) if self.reranker else list(hits[:k])

    def _key(self, question: str, k: int) -> str:
        """sha256 of everything that can change the answer; white space in the question can't."""
        llm = str(getattr(self.llm, "identity", repr(self.llm)))
        settings = [self.identity, llm, ANSWER.identity, self.budget, self.fetch, k, " ".join(question.split())]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    def _tell(self, what: Callable[..., None], *about: object) -> None:
        """Tell the monitor. Its own failure is logged: it must not cost the user the answer."""
        try:
            what(*about)
        except Exception:
            _log.exception("the monitor failed")


def fuse(lists: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """The ``k`` best of the hits of several queries, by the sum of their reciprocal ranks."""
    fused: dict[str, Hit] = {}
    for hits in lists:
        for hit, value in zip(hits, reciprocal_rank(len(hits)).tolist(), strict=True):
            so_far = fused[hit.chunk.id].score if hit.chunk.id in fused else 0.0
            fused[hit.chunk.id] = Hit(hit.chunk, so_far + value, "fused queries", {**hit.parts, hit.source: hit.score})
    return best_first(fused.values(), k)


class _Stopwatch:
    """Milliseconds per stage, in order, and the stage that is running."""

    def __init__(self) -> None:
        self.began, self.stage = time.perf_counter(), ""
        self.timings: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self.stage, start = stage, time.perf_counter()
        try:
            yield
        finally:
            self.timings[stage] = (time.perf_counter() - start) * 1000

    def with_total(self) -> dict[str, float]:
        return {**self.timings, "total": (time.perf_counter() - self.began) * 1000}


class _RetrievalSide(Retriever):
    """What a pipeline does before it generates. ``retriever`` and ``fetch`` let ``where_lost`` look at its stages."""

    def __init__(self, pipeline: RAGPipeline) -> None:
        self.pipeline, self.retriever = pipeline, pipeline.vector_store
        self.fetch = pipeline._candidates(10) if pipeline.reranker else None

    def _search(self, query: str, k: int) -> list[Hit]:
        return self.pipeline._retrieve(query, k, _Stopwatch())

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        rag = self.pipeline
        if rag.rewriter:
            return super()._search_many(queries, k)
        lists = rag.vector_store.search_many(queries, rag._candidates(k))
        return [rag._reranked(query, hits, k) for query, hits in zip(queries, lists, strict=True)]


def naive(
    corpus: Corpus,
    *,
    llm: LLM | None = None,
    store: TokenStore | None = None,
    size: int = 512,
    overlap: int = 64,
    budget: int = 2000,
    cache: AnswerCache | None = None,
    monitor: Monitor | None = None,
) -> RAGPipeline:
    """The textbook pipeline: fixed chunks, one mean vector each, nearest neighbours, no reranker."""
    store = store or TokenStore.open(corpus)
    chunks = kept_chunks(FixedChunker(size, overlap), corpus)
    dense = DenseRetriever(chunks, store=store)
    identity = f"naive:{corpus.fingerprint}:{store.identity}:{size}:{overlap}"
    llm = llm or answering(store)
    return RAGPipeline(dense, None, llm, budget=budget, cache=cache, monitor=monitor, identity=identity)


def advanced(
    corpus: Corpus,
    *,
    llm: LLM | None = None,
    store: TokenStore | None = None,
    size: int = 512,
    overlap: int = 64,
    fetch: int = 50,
    budget: int = 2000,
    cache: AnswerCache | None = None,
    monitor: Monitor | None = None,
) -> RAGPipeline:
    """Words and vectors, fused, then reranked: BM25 and MaxP dense retrieval, RRF, late interaction.

    Chosen on ``core``, where contextual indexing, a trained reranker and more candidates did not pay;
    ``tests/bench/bench_advanced.py`` measures each step's share.
    """
    store = store or TokenStore.open(corpus)
    chunks = kept_chunks(FixedChunker(size, overlap), corpus)
    bm25 = BM25Retriever(chunks)
    dense = DenseRetriever(chunks, store=store, scoring="maxp")
    hybrid = Hybrid([bm25, dense], fusion="rrf")
    identity = f"advanced:geometric:{corpus.fingerprint}:{store.identity}:{size}:{overlap}"
    return RAGPipeline(
        hybrid,
        LateInteraction(store, mean="geometric"),
        llm or answering(store),
        fetch=fetch,
        budget=budget,
        cache=cache,
        monitor=monitor,
        identity=identity,
    )


def answering(store: TokenStore) -> LLM:
    """Who answers in the presets: the configured endpoint with a visible fallback, else ``Extractive`` alone."""
    offline = Extractive(store.maxsim)
    return WithFallback(OpenAIChat(), offline) if endpoint_configured() else offline
