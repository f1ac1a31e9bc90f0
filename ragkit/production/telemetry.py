"""Spans through OpenTelemetry: to the ledger before ``emit`` returns, and to whoever wants them besides."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.semconv.attributes import exception_attributes as exceptions
from opentelemetry.semconv.attributes.service_attributes import SERVICE_NAME
from opentelemetry.trace import Status, StatusCode

from ragkit.production.ledger import Row
from ragkit.production.spans import OPERATION, STAGE, SpanRecord

# OpenInference's long lists: the ledger has the ids and scores in shorter lists.
_UNFOLDED = ("retrieval.documents.", "reranker.input_documents.", "reranker.output_documents.")

# A list of fifty documents has more than the 128 attributes of the default, and half of a JSON text is none.
_UNLIMITED = SpanLimits(
    max_span_attributes=SpanLimits.UNSET,
    max_events=SpanLimits.UNSET,
    max_event_attributes=SpanLimits.UNSET,
    max_attribute_length=SpanLimits.UNSET,
    max_span_attribute_length=SpanLimits.UNSET,
)
# No cycles to look for, and no spaces.
_json = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


class Telemetry:
    """A tracer provider of its own, never the global one. ``emit`` may be called by several threads.

    Args:
        keep: is given the row of each trace, in the thread that emits it.
        sender: sends the spans on; None where nobody wants them.
    """

    def __init__(self, keep: Callable[[Row], None], sender: SpanProcessor | None = None) -> None:
        self._ids = _Ids()
        self.provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=_resource(),
            shutdown_on_exit=False,
            id_generator=self._ids,
            span_limits=_UNLIMITED,
        )
        self.provider.add_span_processor(_Whole(_Keeper(keep)))
        if sender is not None:
            self.provider.add_span_processor(sender)
        self._tracer = self.provider.get_tracer("ragkit")

    @property
    def disabled(self) -> bool:
        """Whether ``OTEL_SDK_DISABLED`` was set: then no span is made."""
        return not isinstance(self._tracer, Tracer)

    def emit(self, trace_id: int, records: Sequence[SpanRecord]) -> None:
        """Make the spans of one trace, the first the parent of the others, with the times that they had."""
        root, *stages = records
        self._ids.next = trace_id
        whole = self._tracer.start_span(root.name, Context(), attributes=root.attributes, start_time=root.start)
        below = api.set_span_in_context(whole, Context())
        for record in stages:
            # A model is called over HTTP; all the rest runs in this process.
            kind = api.SpanKind.CLIENT if record.attributes.get(OPERATION) == "chat" else api.SpanKind.INTERNAL
            span = self._tracer.start_span(record.name, below, kind, record.attributes, start_time=record.start)
            _finish(span, record, told=True)
        _finish(whole, root, told=not stages)


def _finish(span: api.Span, record: SpanRecord, told: bool) -> None:
    """End ``span``, with its failure; what it failed with is ``told`` by the stage that failed."""
    if record.error:
        span.set_status(Status(StatusCode.ERROR, record.error["message"]))
        if told:
            about = {
                exceptions.EXCEPTION_TYPE: record.error["type"],
                exceptions.EXCEPTION_MESSAGE: record.error["message"],
                exceptions.EXCEPTION_STACKTRACE: record.error["stacktrace"],
            }
            span.add_event("exception", {name: text for name, text in about.items() if text}, timestamp=record.end)
    span.end(end_time=record.end)


class _Ids(IdGenerator):
    """Random span ids; the trace id is the one that the thread said."""

    def __init__(self) -> None:
        self._random, self._said = RandomIdGenerator(), threading.local()

    @property
    def next(self) -> int:
        return int(self._said.next)

    @next.setter
    def next(self, trace_id: int) -> None:
        self._said.next = trace_id

    def generate_span_id(self) -> int:
        return self._random.generate_span_id()

    def generate_trace_id(self) -> int:
        return self.next


class _Whole(SpanProcessor):
    """Hands on the spans of a trace together, when its first one ends."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._ended = threading.local()

    def on_end(self, span: ReadableSpan) -> None:
        ended: list[ReadableSpan] = self._ended.__dict__.setdefault("spans", [])
        ended.append(span)
        if span.parent is None:
            self._ended.spans = []
            self._exporter.export(ended)


class _Keeper(SpanExporter):
    def __init__(self, keep: Callable[[Row], None]) -> None:
        self._keep = keep

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._keep(row_of(spans))
        return SpanExportResult.SUCCESS


def row_of(spans: Sequence[ReadableSpan]) -> Row:
    """What the ledger keeps of one trace's spans; the last one is the whole query's."""
    *stages, whole = spans
    began = whole.start_time or 0
    times = [(_said(s)[STAGE], _ms(s.start_time, began), _ms(s.end_time, s.start_time or 0)) for s in stages]
    return Row(
        id=f"{_context(whole).trace_id:032x}",
        began=began / 1e9,
        ms=_ms(whole.end_time, began),
        span=_id(whole),
        attributes=_json(_said(whole)),
        stages=_json(times),
        events=_json(_events(whole)),
        spans=_json([_stage(span) for span in stages]),
    )


def _stage(span: ReadableSpan) -> dict[str, object]:
    """A row of the view ``spans``, in which an event is ``[name, time, attributes]``."""
    said = {name: value for name, value in _said(span).items() if not name.startswith(_UNFOLDED)}
    return {
        "id": _id(span),
        "parent": f"{span.parent.span_id:016x}" if span.parent else "",
        "name": span.name,
        "stage": said.pop(STAGE, ""),
        "began": span.start_time,
        "ended": span.end_time,
        "status": span.status.status_code.name,
        "attributes": said,
        "events": _events(span),
    }


def _said(span: ReadableSpan) -> dict[str, Any]:
    """The attributes. ``copy`` is there under the view, and much faster than to read it item by item."""
    said = span.attributes or {}
    return said.copy() if isinstance(said, MappingProxyType) else dict(said)


def _id(span: ReadableSpan) -> str:
    return f"{_context(span).span_id:016x}"


def _context(span: ReadableSpan) -> api.SpanContext:
    return span.get_span_context() or api.INVALID_SPAN_CONTEXT


def _ms(end: int | None, start: int) -> float:
    return ((end or 0) - start) / 1e6


def _events(span: ReadableSpan) -> list[tuple[str, int, dict[str, Any]]]:
    return [(event.name, event.timestamp, dict(event.attributes or {})) for event in span.events]


def _resource() -> Resource:
    """Who sends: ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES``, else ragkit."""
    found = Resource.create()
    named = not str(found.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service")
    return found if named else found.merge(Resource({SERVICE_NAME: "ragkit"}))
