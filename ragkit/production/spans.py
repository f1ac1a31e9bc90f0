"""A trace as spans: one for the query, one below it for each stage, in the words of two conventions.

- **OpenTelemetry's for generative AI** (``gen_ai.*``; status: development). Names are written out below, because they
  are on the move: the package ``opentelemetry-semantic-conventions`` has them as deprecated, and the repository that
  they moved to has no Python package. (https://github.com/open-telemetry/semantic-conventions-genai,
  docs/gen-ai/gen-ai-spans.md and docs/registry/attributes/gen-ai.md)
- **OpenInference's** (``openinference.*``, ``retrieval.*``, ``reranker.*``, ``llm.*``), which also knows rerankers and
  is what Phoenix shows. (https://github.com/Arize-ai/openinference, spec/semantic_conventions.md)

What neither has a name for is called ``ragkit.*``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from json.encoder import encode_basestring_ascii as _quoted
from types import SimpleNamespace
from typing import TypeAlias

from ragkit.base import Answer, Hit, Usage, require
from ragkit.llm.costs import cost
from ragkit.pipeline.trace import Stage, Trace
from ragkit.production.privacy import Privacy, encodable

Attribute: TypeAlias = str | bool | int | float | tuple[str, ...] | tuple[float, ...]
Attributes: TypeAlias = dict[str, Attribute]

ERROR = "error.type"
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
CONVERSATION = "gen_ai.conversation.id"
MODEL = "gen_ai.request.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
DATA_SOURCE = "gen_ai.data_source.id"
TOP_K = "gen_ai.request.top_k"  # a double; renamed for retrieval in semantic-conventions-genai 0.1.0 to:
RETRIEVAL_TOP_K = "gen_ai.retrieval.top_k"  # an int
QUERY = "gen_ai.retrieval.query.text"
DOCUMENTS = "gen_ai.retrieval.documents"

ROOT = "rag"
STAGE = "ragkit.stage"
_KEPT = 10  # candidates in the file: the 50 of the advanced preset would be half of a trace, in bytes and in time
NEW = ("off", "miss")
"""The states of the cache in which an answer was made for this query; otherwise it cost no tokens."""


@dataclass(frozen=True)
class SpanRecord:
    """What a span says, before it is one. Times are nanoseconds since 1970; ``stage`` is "" for the whole query."""

    name: str
    stage: str
    start: int
    end: int
    attributes: Mapping[str, Attribute]
    error: Mapping[str, str] | None = None
    """``type``, ``message`` and ``stacktrace`` of what it failed with."""


def spans(trace: Trace, privacy: Privacy, documents: bool = False) -> list[SpanRecord]:
    """The spans of ``trace``: that of the query first, then those of its stages in order.

    The query's span holds all that a trace says of itself, so that it can be read without the others. With
    ``documents``, each candidate and hit is also written out as OpenInference wants it, with its passage.
    """
    began = _ns(trace.began * 1000)
    error = None if trace.error is None else _error(trace.error, privacy)
    failed = trace.stages[-1].name if error and trace.stages else ""
    whole = SpanRecord(ROOT, "", began, began + _ns(trace.ms), _query(trace, privacy, failed), error)
    return [whole, *(_stage(trace, stage, privacy, documents, began, error) for stage in trace.stages)]


def _stage(
    trace: Trace, stage: Stage, privacy: Privacy, documents: bool, began: int, error: Mapping[str, str] | None
) -> SpanRecord:
    name, start = stage.name, began + _ns(stage.start)
    attributes: Attributes = {STAGE: name} | _ABOUT.get(name, _chain)(trace, privacy, documents)
    if OPERATION in attributes:
        rest = attributes.get(DATA_SOURCE) or attributes.get(MODEL) or ""
        name = f"{attributes[OPERATION]} {rest}".strip()
    failed = error if stage is trace.stages[-1] else None
    if failed:
        attributes[ERROR] = failed["type"]
    return SpanRecord(name, stage.name, start, start + _ns(stage.ms), attributes, failed)


def _query(trace: Trace, privacy: Privacy, failed: str) -> Attributes:
    answer, oi = trace.answer or Answer(trace.question, ""), _openinference()
    usage = answer.usage if trace.cache in NEW else Usage(answer.usage.model)
    dollars = cost(usage) if trace.cache in NEW else 0.0
    known: dict[str, Attribute | None] = {
        oi.kind: oi.CHAIN,
        oi.input: privacy.question(trace.question),
        oi.output: privacy.other(answer.text),
        oi.session: encodable(trace.session),
        oi.user: encodable(trace.tenant),
        CONVERSATION: encodable(trace.session),
        ERROR: type(trace.error).__name__ if trace.error else "",
        "ragkit.k": trace.k,
        "ragkit.queries": tuple(filter(None, map(privacy.other, trace.queries))),
        "ragkit.candidates": len(trace.candidates),
        "ragkit.context_tokens": trace.context_tokens,
        "ragkit.hits": _documents(answer.hits),
        "ragkit.citations": tuple(citation.chunk.id for citation in answer.citations),
        "ragkit.abstained": answer.abstained,
        "ragkit.reason": privacy.reason(answer.reason, answer.abstained),
        "ragkit.error": privacy.error(trace.error) if trace.error else "",
        "ragkit.failed_stage": failed,
        "ragkit.cache": trace.cache,
        "ragkit.cache_key": trace.cache_key,
        "ragkit.similarity": float(trace.similarity),
        "ragkit.settings": trace.settings,
        "ragkit.parts": json.dumps(dict(trace.parts)),
        "ragkit.model": usage.model,
        "ragkit.input_tokens": usage.input_tokens,
        "ragkit.output_tokens": usage.output_tokens,
        "ragkit.cost": dollars,
    }
    return {name: value for name, value in known.items() if value is not None and value not in ("", ())}


def _chain(trace: Trace, privacy: Privacy, documents: bool) -> Attributes:
    oi = _openinference()
    return {oi.kind: oi.CHAIN}


def _cache(trace: Trace, privacy: Privacy, documents: bool) -> Attributes:
    return _chain(trace, privacy, documents) | {
        "ragkit.cache": trace.cache,
        "ragkit.cache_key": trace.cache_key,
        "ragkit.similarity": float(trace.similarity),
    }


def _rewrite(trace: Trace, privacy: Privacy, documents: bool) -> Attributes:
    oi, found = _openinference(), _chain(trace, privacy, documents)
    if privacy.text == "none":
        return found | {"ragkit.queries": len(trace.queries)}
    queries = [privacy.other(query) for query in trace.queries]
    question = privacy.question(trace.question)
    return found | {oi.input: question, oi.output: json.dumps(queries), oi.output_type: "application/json"}


def _retrieve(trace: Trace, privacy: Privacy, documents: bool) -> Attributes:
    oi, asked = _openinference(), len(trace.candidates) or trace.k
    said = " | ".join(filter(None, map(privacy.other, trace.queries)))
    found: Attributes = {
        oi.kind: oi.RETRIEVER,
        OPERATION: "retrieval",
        DATA_SOURCE: trace.parts.get("retriever", ""),
        TOP_K: float(asked),
        RETRIEVAL_TOP_K: asked,
        DOCUMENTS: _documents(trace.candidates if documents else trace.candidates[:_KEPT]),
    }
    if said:
        found |= {QUERY: said, oi.input: said}
    return found | (_listed(oi.documents, trace.candidates, privacy, True) if documents else {})


def _rerank(trace: Trace, privacy: Privacy, documents: bool) -> Attributes:
    if "reranker" not in trace.parts:
        return _chain(trace, privacy, documents)  # the candidates were only cut
    oi = _openinference()
    found: Attributes = {
        oi.kind: oi.RERANKER,
        oi.reranker: trace.parts["reranker"],
        oi.top_k: trace.k,
        oi.query: privacy.question(trace.queries[0] if len(trace.queries) == 1 else trace.question),
    }
    if documents:
        found |= _listed(oi.reranked, trace.answer.hits if trace.answer else (), privacy, True)
        found |= _listed(oi.candidates, trace.candidates, privacy, False)
    return found


def _build(trace: Trace, privacy: Privacy, documents: bool) -> Attributes:
    return _chain(trace, privacy, documents) | {"ragkit.context_tokens": trace.context_tokens}


def _generate(trace: Trace, privacy: Privacy, documents: bool) -> Attributes:
    """A model's call is a ``chat``. Sentences that are quoted offline, also as a fallback, are no operation that the
    convention knows: it allows a name of one's own then, and ours is ``extract``."""
    oi, usage = _openinference(), trace.answer.usage if trace.answer else Usage()
    chat = bool(usage.model) if trace.answer else "OpenAIChat" in trace.parts.get("llm", "")
    found: Attributes = {
        oi.kind: oi.LLM,
        OPERATION: "chat" if chat else "extract",
        PROVIDER: "openai" if chat else "ragkit",  # the form of the telemetry: an OpenAI-compatible endpoint
        oi.input: privacy.question(trace.question),
        **({oi.output: said} if trace.answer and (said := privacy.other(trace.answer.text)) else {}),
    }
    if usage.model:
        found |= {MODEL: usage.model, oi.model: usage.model}
    if usage.input_tokens or usage.output_tokens:
        found |= {INPUT_TOKENS: usage.input_tokens, OUTPUT_TOKENS: usage.output_tokens}
        found |= {oi.prompt_tokens: usage.input_tokens, oi.completion_tokens: usage.output_tokens}
        found |= {oi.total_tokens: usage.input_tokens + usage.output_tokens}
    if (dollars := cost(usage)) is not None:
        found[oi.cost] = dollars
    return found


_ABOUT: Mapping[str, Callable[[Trace, Privacy, bool], Attributes]] = {
    "cache": _cache,
    "rewrite": _rewrite,
    "retrieve": _retrieve,
    "rerank": _rerank,
    "build": _build,
    "generate": _generate,
}


def _documents(hits: Sequence[Hit]) -> str:
    """``[{"id": ..., "score": ...}, ...]``, in half the time of ``json.dumps``: it is the longest part of a trace."""
    said = [f'{{"id": {_quoted(hit.chunk.id)}, "score": {_number(hit.score)}}}' for hit in hits]
    return f"[{', '.join(said)}]"


def _number(score: float) -> str:
    return repr(float(score)) if math.isfinite(score) else json.dumps(float(score))


def _listed(prefix: str, hits: Sequence[Hit], privacy: Privacy, content: bool) -> Attributes:
    """``prefix.0.document.id`` and so on, best first."""
    oi, found = _openinference(), Attributes()
    for i, hit in enumerate(hits):
        found[f"{prefix}.{i}.{oi.id}"], found[f"{prefix}.{i}.{oi.score}"] = hit.chunk.id, float(hit.score)
        if content and (text := privacy.other(hit.chunk.text)):
            found[f"{prefix}.{i}.{oi.content}"] = text
    return found


def _error(error: BaseException, privacy: Privacy) -> dict[str, str]:
    return {
        "type": type(error).__name__,
        "message": privacy.other(str(error)),
        "stacktrace": privacy.stack(error),
    }


def _ns(ms: float) -> int:
    return max(0, int(ms * 1e6))


@cache
def _openinference() -> SimpleNamespace:
    """OpenInference's names, from its package."""
    names = require("openinference.semconv.trace", "production")
    span, document, reranker = names.SpanAttributes, names.DocumentAttributes, names.RerankerAttributes
    return SimpleNamespace(
        **{kind.name: kind.value for kind in names.OpenInferenceSpanKindValues},
        kind=span.OPENINFERENCE_SPAN_KIND,
        input=span.INPUT_VALUE,
        output=span.OUTPUT_VALUE,
        output_type=span.OUTPUT_MIME_TYPE,
        session=span.SESSION_ID,
        user=span.USER_ID,
        documents=span.RETRIEVAL_DOCUMENTS,
        id=document.DOCUMENT_ID,
        score=document.DOCUMENT_SCORE,
        content=document.DOCUMENT_CONTENT,
        reranker=reranker.RERANKER_MODEL_NAME,
        top_k=reranker.RERANKER_TOP_K,
        query=reranker.RERANKER_QUERY,
        candidates=reranker.RERANKER_INPUT_DOCUMENTS,
        reranked=reranker.RERANKER_OUTPUT_DOCUMENTS,
        model=span.LLM_MODEL_NAME,
        prompt_tokens=span.LLM_TOKEN_COUNT_PROMPT,
        completion_tokens=span.LLM_TOKEN_COUNT_COMPLETION,
        total_tokens=span.LLM_TOKEN_COUNT_TOTAL,
        cost=span.LLM_COST_TOTAL,
    )
