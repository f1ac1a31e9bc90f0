"""A collector that shares no code with what sends to it: HTTP on loopback, decoded by the protocol's own classes.

    with Receiver() as receiver:
        TraceMonitor(path, otlp=receiver.url)
        ...
        receiver.spans()      # what arrived, as plain dicts

``fault`` is "" (take them), "hang", "reset", or a status such as "503".
"""

from __future__ import annotations

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Receiver:
    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: list[str] = []
        self.released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"receiver": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def spans(self, expected: int = 0, patience: float = 10.0) -> list[dict[str, Any]]:
        """The spans that arrived, after waiting for at least ``expected`` of them."""
        until = time.monotonic() + patience
        while len(found := self._spans()) < expected and time.monotonic() < until:
            time.sleep(0.02)
        return found

    def _spans(self) -> list[dict[str, Any]]:
        return [
            {
                "name": span.name,
                "trace": span.trace_id.hex(),
                "id": span.span_id.hex(),
                "parent": span.parent_span_id.hex(),
                "kind": span.kind,
                "start": span.start_time_unix_nano,
                "end": span.end_time_unix_nano,
                "status": (span.status.code, span.status.message),
                "attributes": {a.key: _value(a.value) for a in span.attributes},
                "events": [(e.name, {a.key: _value(a.value) for a in e.attributes}) for e in span.events],
                "resource": {a.key: _value(a.value) for a in group.resource.attributes},
            }
            for request in self.requests
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(v) for v in value.array_value.values] if kind == "array_value" else getattr(value, kind)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that gave up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver

    def log_message(self, *_: object) -> None:
        """Tests read ``receiver.spans()`` instead."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.receiver.paths.append(self.path)
        if self.receiver.fault == "hang":
            self.receiver.released.wait(60)
        elif self.receiver.fault == "reset":
            self.connection.close()
        elif self.receiver.fault:
            self.send_response(int(self.receiver.fault))
            self.end_headers()
        else:
            plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            self.receiver.requests.append(ExportTraceServiceRequest.FromString(plain))
            said = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)
