"""Spans on their way to an OTLP/HTTP endpoint, which may be slow, gone, or hang: no query waits for it."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from ragkit.base import InputError
from ragkit.production.redaction import redact

QUEUE = 4096  # spans that wait for the endpoint
BATCH = 512  # spans in one request
DELAY = 1000  # milliseconds between two requests
PATIENCE = 5.0  # seconds for one request, with its retries, unless the environment says otherwise
CLOSE = 2.0  # seconds that closing waits
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"

_log = logging.getLogger(__name__)
_ours = threading.local()


class Sender(SpanProcessor):
    """Sends spans to an OTLP/HTTP endpoint from a thread of its own; what it does not take is counted in ``unsent``.

    Args:
        endpoint: such as ``http://127.0.0.1:4318``; "" takes what ``OTEL_EXPORTER_OTLP_ENDPOINT`` says.

    Raises:
        InputError: ``endpoint`` is no http address.
    """

    def __init__(self, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise InputError(f"otlp is {endpoint!r}: expected an address such as 'http://127.0.0.1:4318'")
        url = endpoint.rstrip("/")
        if url and not url.endswith("/v1/traces"):
            url += "/v1/traces"
        self.endpoint = redact(url or _said(_ENDPOINTS))  # it is shown, and may hold a password
        self.unsent, self._under_way, self._told = 0, 0, False
        self._lock = threading.Lock()
        patience = None if _said(_TIMEOUTS) else PATIENCE
        self._last = _Counted(OTLPSpanExporter(endpoint=url or None, timeout=patience), self._done)
        self._batches = BatchSpanProcessor(
            self._last, max_queue_size=QUEUE, schedule_delay_millis=DELAY, max_export_batch_size=min(QUEUE, BATCH)
        )
        weakref.finalize(self, _closed, self._batches, self._last)

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            if full := self._under_way >= QUEUE:
                self.unsent += 1
            else:
                self._under_way += 1
        if full:
            self._tell("it is slower than the queries")
        else:
            self._batches.on_end(span)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._batches.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Send what waits, for ``CLOSE`` seconds at most; what is left is lost, and counted."""
        _closed(self._batches, self._last)
        with self._lock:
            self.unsent, self._under_way = self.unsent + self._under_way, 0
            lost = self.unsent
        if lost:
            self._tell("it did not answer before the monitor was closed")

    def _done(self, count: int, fine: bool) -> None:
        with self._lock:
            if self._under_way:  # else it was given up
                self._under_way -= count
                self.unsent += 0 if fine else count
        if not fine:
            self._tell("it does not answer, or refuses them")

    def _tell(self, why: str) -> None:
        with self._lock:
            told, self._told = self._told, True
        if not told:
            _log.warning("spans for %s are lost (they are in the local file): %s", self.endpoint, why)


class _Counted(SpanExporter):
    """``inner``, whose failures are counted instead of logged one by one. After ``until`` all is a failure."""

    def __init__(self, inner: SpanExporter, done: Callable[[int, bool], None]) -> None:
        self._inner, self._done = inner, done
        self.until = float("inf")
        logging.getLogger(_EXPORTER).addFilter(_not_ours)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        _ours.exporting, result = True, SpanExportResult.FAILURE
        try:
            if time.monotonic() < self.until:
                result = self._inner.export(spans)
        finally:
            _ours.exporting = False
            self._done(len(spans), result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


def sender_to(otlp: str | None) -> Sender | None:
    """The sender to ``otlp``; where it is None, to where the environment says; None where that is nowhere."""
    named = _said(_ENDPOINTS) if otlp is None else otlp
    return Sender(otlp or "") if named else None


def _not_ours(record: logging.LogRecord) -> bool:
    return not getattr(_ours, "exporting", False)


def _closed(batches: BatchSpanProcessor, last: _Counted) -> None:
    """Shut down, but wait ``CLOSE`` seconds at most: by itself it waits for half a minute."""
    last.until = time.monotonic() + CLOSE
    closing = threading.Thread(target=batches.shutdown, daemon=True)
    try:
        closing.start()
    except RuntimeError:  # from Python 3.12 on, none can be started while the interpreter exits
        batches.shutdown()  # type: ignore[no-untyped-call] # waits for the request that is under way
    else:
        closing.join(CLOSE)


def _said(variables: Sequence[str]) -> str:
    """The first of the environment's ``variables`` that is set."""
    return next(filter(None, map(os.environ.get, variables)), "")
