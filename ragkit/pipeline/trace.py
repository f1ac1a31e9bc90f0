"""What one query did: the records that a pipeline fills in, and hands to a monitor and a cache.

Nothing is stored here. ``RAGPipeline.query`` (``pipeline/rag.py``) opens a ``QueryTrace`` and times each stage with it.
At the end a ``Monitor`` writes it down (``TraceMonitor`` in ``production/monitoring.py``: a row of a SQLite table), and
an ``AnswerCache`` remembers the answer (``SQLiteCache`` in ``production/caching.py``).

The query and each of its stages are also spans of OpenTelemetry's API: they cost next to nothing until a program sets
up an SDK, whose exporter then gets them. Attributes have the names of OpenTelemetry's conventions for generative AI
(https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-spans.md). No text of a question, a
passage or an answer is among them: ``ragkit.trace_id`` leads to the monitor's row, which has what it may keep.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

from opentelemetry import trace as otel

from ragkit.base import LLM, Answer, Generation, Hit

_tracer = otel.get_tracer("ragkit")


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What decides an answer: the settings of the pipeline, the tenant, and the question.

    ``settings`` is a digest of everything but the question that can change an answer; a pipeline's ``question`` is its
    ``base.question_key``, equal for two writings of the same question: what the first was answered, the second is, too.

    >>> CacheKey("a", "How?").digest == CacheKey("a", "How?", tenant="acme").digest
    False
    """

    settings: str
    question: str
    tenant: str = ""

    @property
    def digest(self) -> str:
        """sha256 of all three."""
        return hashlib.sha256(json.dumps([self.settings, self.tenant, self.question]).encode()).hexdigest()


@dataclass(frozen=True)
class CachedAnswer:
    """A cached answer, the digest of its key, and how similar the two questions are (1: the same key)."""

    answer: Answer
    digest: str
    similarity: float = 1.0


CacheState = Literal["off", "miss", "hit", "near", "shared"]
"""No cache; not cached; cached; a similar question was cached; an equal question was under way."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of one query: it began ``start`` milliseconds after the query did, and took ``ms``."""

    name: str
    start: float
    ms: float


@dataclass
class Trace:
    """One query, from the question to the answer or to the error that ended it.

    ``began`` is in seconds since 1970, by a clock that may be set back; ``ms`` and the stages' times never go back.
    ``candidates`` are the hits before reranking, ``answer.hits`` those after it. ``parts`` names what the pipeline is
    made of, by role; ``settings`` is the digest of all that can change an answer ("" where a part has no identity).
    ``cache_key`` is the digest of the cache's entry that was served, or that this query would write. Where a query
    failed or was given up (``error`` is then a ``CancelledError``), ``answer`` is None, and the last stage is the one
    that it ended in.
    """

    id: str
    question: str
    k: int
    began: float
    ms: float
    stages: Sequence[Stage] = ()
    answer: Answer | None = None
    error: BaseException | None = None
    queries: Sequence[str] = ()
    candidates: Sequence[Hit] = ()
    context_tokens: int = 0
    cache: CacheState = "off"
    cache_key: str = ""
    similarity: float = 1.0
    tenant: str = ""
    session: str = ""
    settings: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class AnswerCache(Protocol):
    """Remembers answers. Another index, model, setting or tenant makes another key, so it never sees those answers."""

    def get(self, key: CacheKey) -> CachedAnswer | None: ...
    def put(self, key: CacheKey, answer: Answer) -> None: ...


@runtime_checkable
class Monitor(Protocol):
    """Records every query, answered, failed or cancelled, before the caller has the answer."""

    def record(self, trace: Trace) -> None: ...


@dataclass
class QueryTrace(Trace):
    """The trace of a query under way; ``finished`` is set when nothing in it changes any more.

    ``key`` is what a cache would know the answer by, None where there is no cache; ``fetch_k`` is the
    number of candidates asked for, and ``hits`` are those after reranking.
    Queries with the same ``flight`` are equal, and in the same event loop.
    """

    key: CacheKey | None = None
    fetch_k: int = 0
    hits: Sequence[Hit] = ()
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.flight = (asyncio.get_running_loop(), self.key)
        if self.key is not None:
            self.cache, self.cache_key = "miss", self.key.digest
        self._start = time.perf_counter()  # a clock that is never set back
        self._span = _tracer.start_span("rag")
        self._context = otel.set_span_in_context(self._span)

    @contextmanager
    def stage(self, name: str, current: bool = True) -> Iterator[None]:
        """Time a stage, also where it fails, within a span of its own.

        ``current=False`` is for a stage that yields to its reader, whose own spans do not belong below it.
        """
        start = self._elapsed()
        span = _tracer.start_span(name, self._context)
        within = otel.use_span(span, record_exception=False, set_status_on_exception=False)
        try:
            with within if current else nullcontext():
                yield
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            self.stages = (*self.stages, Stage(name, start, self._elapsed() - start))
            if span.is_recording():
                span.set_attributes(_stage_attributes(name, self))
            span.end()

    def take_cached(self, cached: CachedAnswer) -> Answer:
        """Note that the cache knew the answer."""
        self.cache = "hit" if cached.digest == self.cache_key else "near"
        self.cache_key, self.similarity = cached.digest, cached.similarity
        return cached.answer

    def take_shared(self, equal: QueryTrace) -> Answer:
        """Note that the answer is that of an equal query, which bears its cost."""
        self.cache, self.cache_key, self.similarity = "shared", equal.cache_key, equal.similarity
        self.queries, self.candidates, self.context_tokens = equal.queries, equal.candidates, equal.context_tokens
        return equal.result

    def take_generated(self, generation: Generation, llm: LLM) -> Answer:
        """Note the answer that ``llm`` wrote from ``hits``; where it does not say who it is, its class does."""
        self.answer = Answer(self.question, hits=tuple(self.hits), **vars(generation))
        if not (generation.writer or generation.abstained):
            self.answer = replace(self.answer, writer=generation.usage.model or type(llm).__name__)
        return self.answer

    def finish(self) -> None:
        """The answer becomes this query's own: its question, timings and trace id. An error leaves no answer."""
        self.ms = self._elapsed()
        if self.error is not None:
            self.answer = None
            _fail(self._span, self.error)
        else:
            timings = {stage.name: stage.ms for stage in self.stages} | {"total": self.ms}
            self.answer = replace(self.result, question=self.question, timings=timings, trace_id=self.id)
        self._span.set_attributes(_query_attributes(self))
        self._span.end()
        self.finished.set()

    @property
    def result(self) -> Answer:
        """The answer of a query that did not fail."""
        assert self.answer is not None
        return self.answer

    def _elapsed(self) -> float:
        """Milliseconds since the query began."""
        return (time.perf_counter() - self._start) * 1000


def _fail(span: otel.Span, error: BaseException) -> None:
    """Mark a span as failed, by the error's class: its message may hold a passage, a question or a URL."""
    span.set_status(otel.Status(otel.StatusCode.ERROR, type(error).__name__))
    span.set_attribute("error.type", type(error).__name__)


def _query_attributes(query: Trace) -> dict[str, str]:
    attributes = {
        "gen_ai.conversation.id": query.session,
        "ragkit.trace_id": query.id,
        "ragkit.tenant": query.tenant,
        "ragkit.settings": query.settings,
        "ragkit.cache": query.cache,
    }
    return {name: value for name, value in attributes.items() if value}


def _stage_attributes(stage: str, query: QueryTrace) -> dict[str, str | int | float]:
    if stage == "retrieve":
        documents = [{"id": hit.chunk.id, "score": float(hit.score)} for hit in query.candidates]
        return {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.data_source.id": query.parts["retriever"],
            "gen_ai.request.top_k": float(query.fetch_k),
            "gen_ai.retrieval.documents": json.dumps(documents),
        }
    if stage == "generate" and query.answer and query.answer.usage.model:
        return {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": query.answer.usage.model,
            "gen_ai.usage.input_tokens": query.answer.usage.input_tokens,
            "gen_ai.usage.output_tokens": query.answer.usage.output_tokens,
        }
    return {}
