"""What one query does: collected for a monitor, and shown to OpenTelemetry while it happens.

Spans go through OpenTelemetry's API: they cost next to nothing until a program sets up an SDK, whose exporter then gets
them, whatever it is. One span is the query's (``rag``), one below it each stage's. Attributes have the names of two
conventions, because viewers read one or the other:

- ``gen_ai.*``: https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-spans.md
- OpenInference, which Phoenix shows: https://github.com/Arize-ai/openinference, spec/semantic_conventions.md

Texts (question, answer, passages) are in them only where ``$OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` is
``true``, which is OpenTelemetry's own switch for that.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol, runtime_checkable

from opentelemetry import trace as otel

from ragkit.base import Answer, Generation, Hit, without_password

_tracer = otel.get_tracer("ragkit")
_UNDER_WAY = -1.0
_SHOWN = 10  # documents with attributes of their own: an SDK keeps no more than 128 attributes of a span


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


@dataclass(frozen=True)
class Trace:
    """One query, from the question to the answer or to the error that ended it.

    ``began`` is in seconds since 1970, by a clock that may be set back; ``ms`` and the stages' times never go back.
    ``candidates`` are the hits before reranking, ``answer.hits`` those after it. ``parts`` names what the pipeline is
    made of, by stage; ``settings`` is the digest of all that can change an answer ("" where a part has no identity).
    ``cache_key`` is the digest of the cache's entry that was served or written. Where a query failed or was given up
    (``error`` is then a ``CancelledError``), ``answer`` is None, and the last stage is the one that it ended in.
    """

    id: str
    question: str
    k: int
    began: float
    ms: float
    stages: tuple[Stage, ...] = ()
    answer: Answer | None = None
    error: BaseException | None = None
    queries: tuple[str, ...] = ()
    candidates: tuple[Hit, ...] = ()
    context_tokens: int = 0
    cache: CacheState = "off"
    cache_key: str = ""
    similarity: float = 1.0
    tenant: str = ""
    session: str = ""
    settings: str = ""
    parts: Mapping[str, str] = field(default_factory=dict, hash=False)


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
class QueryTrace:
    """Collects what one query does, under the names of ``Trace``, and opens a span for it and for each of its stages.

    ``key`` is what a cache would know the answer by; None where there is no cache. Passwords in the URLs of ``parts``
    are left out.
    """

    question: str
    k: int
    began: float
    tenant: str
    session: str
    settings: str
    parts: Mapping[str, str]
    key: CacheKey | None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    queries: Sequence[str] = ()
    candidates: Sequence[Hit] = ()
    hits: Sequence[Hit] = ()
    context_tokens: int = 0
    answer: Answer | None = None
    error: BaseException | None = None
    paid: bool = False

    def __post_init__(self) -> None:
        self.parts = {role: without_password(part) for role, part in self.parts.items()}
        self.cache: CacheState = "miss" if self.key else "off"
        self.cache_key, self.similarity = self.key.digest if self.key else "", 1.0
        self._stages: list[Stage] = []
        self._start = time.perf_counter()  # a clock that is never set back
        self._span = _tracer.start_span("rag")
        self._below = otel.set_span_in_context(self._span)

    @contextmanager
    def stage(self, name: str, current: bool = True) -> Iterator[None]:
        """Time a stage, also where it fails, within a span of its own.

        ``current=False`` is for a stage that yields to its reader, whose own spans do not belong below it.
        """
        place, start = len(self._stages), self._ms()
        self._stages.append(Stage(name, start, _UNDER_WAY))
        span = _tracer.start_span(name, self._below)
        try:
            with (
                otel.use_span(span, record_exception=False, set_status_on_exception=False) if current else nullcontext()
            ):
                yield
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            self._stages[place] = Stage(name, start, self._ms() - start)
            if span.is_recording():
                span.set_attributes(_stage_attributes(name, self, _texts_allowed()))
            span.end()

    def served(self, cached: CachedAnswer) -> Answer:
        """Note that the cache knew the answer."""
        self.cache = "hit" if cached.digest == self.cache_key else "near"
        self.cache_key, self.similarity = cached.digest, cached.similarity
        return cached.answer

    def shared(self, maker: QueryTrace, answer: Answer) -> Answer:
        """Note that ``answer`` was made for ``maker``, an equal query, or for this one itself.

        The first query that gets it bears its cost: that is another one than ``maker`` where the user of that gave up.
        """
        if self is not maker:
            self.cache = "shared" if maker.paid else maker.cache
            self.cache_key, self.similarity = maker.cache_key, maker.similarity
            self.queries, self.candidates, self.context_tokens = maker.queries, maker.candidates, maker.context_tokens
        maker.paid = True
        return answer

    def generated(self, generation: Generation) -> Answer:
        """The answer that a model wrote from ``hits``."""
        known = {f.name: getattr(generation, f.name) for f in fields(generation)}
        self.answer = Answer(self.question, hits=tuple(self.hits), trace_id=self.id, **known)
        return self.answer

    def finish(self, outcome: Answer | BaseException) -> Trace:
        """All of it, for a monitor; the answer in it is this query's own, with its question, timings and trace id."""
        ms = self._ms()
        stages = tuple(replace(s, ms=ms - s.start) if s.ms == _UNDER_WAY else s for s in self._stages)
        if isinstance(outcome, Answer):
            timings = {stage.name: stage.ms for stage in stages} | {"total": ms}
            self.answer = replace(outcome, question=self.question, timings=timings, trace_id=self.id)
        else:
            self.answer, self.error = None, outcome
            _fail(self._span, outcome)
        if self._span.is_recording():
            self._span.set_attributes(_query_attributes(self, _texts_allowed()))
        self._span.end()
        self.queries, self.candidates = tuple(self.queries), tuple(self.candidates)
        known = {f.name: getattr(self, f.name) for f in fields(Trace) if f.name not in ("ms", "stages")}
        return Trace(ms=ms, stages=stages, **known)

    @property
    def result(self) -> Answer:
        """The answer as the user gets it, when the query is finished."""
        assert self.answer is not None
        return self.answer

    def _ms(self) -> float:
        return (time.perf_counter() - self._start) * 1000


def _fail(span: otel.Span, error: BaseException) -> None:
    """Mark a span as failed, by the error's class: its message may hold a passage, a question or a URL."""
    span.set_status(otel.Status(otel.StatusCode.ERROR, type(error).__name__))
    span.set_attribute("error.type", type(error).__name__)


def _texts_allowed() -> bool:
    return os.environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").strip().lower() == "true"


def _query_attributes(query: QueryTrace, texts: bool) -> dict[str, str]:
    attributes = {
        "openinference.span.kind": "CHAIN",
        "session.id": query.session,
        "gen_ai.conversation.id": query.session,
        "ragkit.trace_id": query.id,
        "ragkit.tenant": query.tenant,
        "ragkit.settings": query.settings,
        "ragkit.cache": query.cache,
        "input.value": query.question if texts else "",
        "output.value": query.answer.text if texts and query.answer else "",
    }
    return {name: value for name, value in attributes.items() if value}


def _stage_attributes(stage: str, query: QueryTrace, texts: bool) -> dict[str, Any]:
    attributes: dict[str, Any] = {"openinference.span.kind": "CHAIN"}
    if stage == "retrieve":
        attributes = {
            "openinference.span.kind": "RETRIEVER",
            "gen_ai.operation.name": "retrieval",
            "gen_ai.data_source.id": query.parts["retriever"],
            "gen_ai.request.top_k": float(len(query.candidates) or query.k),
            "gen_ai.retrieval.documents": json.dumps(
                [{"id": hit.chunk.id, "score": float(hit.score)} for hit in query.candidates]
            ),
            **_documents("retrieval.documents", query.candidates, texts),
        }
    elif stage == "rerank" and "reranker" in query.parts:
        attributes = {
            "openinference.span.kind": "RERANKER",
            "reranker.model_name": query.parts["reranker"],
            "reranker.top_k": query.k,
            **_documents("reranker.output_documents", query.hits, texts),
        }
    elif stage == "generate":
        attributes = {"openinference.span.kind": "LLM"}
        if query.answer and (usage := query.answer.usage).model:
            attributes |= {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": usage.model,
                "gen_ai.usage.input_tokens": usage.input_tokens,
                "gen_ai.usage.output_tokens": usage.output_tokens,
                "llm.model_name": usage.model,
                "llm.token_count.prompt": usage.input_tokens,
                "llm.token_count.completion": usage.output_tokens,
            }
    if texts and stage in ("retrieve", "generate"):
        attributes["input.value"] = " | ".join(query.queries) if stage == "retrieve" else query.question
        attributes["output.value"] = query.answer.text if stage == "generate" and query.answer else ""
    return attributes


def _documents(prefix: str, hits: Sequence[Hit], texts: bool) -> dict[str, Any]:
    """``prefix.0.document.id`` and so on, for the first hits."""
    attributes: dict[str, Any] = {}
    for i, hit in enumerate(hits[:_SHOWN]):
        name = f"{prefix}.{i}.document"
        attributes |= {f"{name}.id": hit.chunk.id, f"{name}.score": float(hit.score)}
        if texts:
            attributes[f"{name}.content"] = hit.chunk.text
    return attributes
