"""A stand-in for an OpenAI-compatible server: real HTTP on loopback, with faults in a given order.

    with Endpoint(answer="Use purge. [1]", faults=["500", "hang"]) as endpoint:
        OpenAIChat(base_url=endpoint.url)       # the first request gets a 500, the second hangs, then it answers

Faults: ``ok``, ``429`` (with Retry-After), ``500``, ``401``, ``404``, ``hang``, ``reset``, ``half`` (cut in the
middle), ``bad_json``, ``wrong_schema``, ``empty``, ``huge``.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("429", "500", "hang", "reset", "half", "bad_json", "wrong_schema", "empty", "huge")
HUGE = 8_000_000


class Endpoint:
    """``requests`` holds the JSON bodies that came in; ``answer`` is a text or a function of the messages."""

    def __init__(
        self,
        answer: str | Callable[[list[dict[str, str]]], str] = "Yes. [1]",
        faults: Sequence[str] = (),
        retry_after: str = "0",
        dimension: int = 8,
    ) -> None:
        self.answer, self.faults, self.retry_after, self.dimension = answer, list(faults), retry_after, dimension
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"endpoint": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Endpoint:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def next_fault(self, body: dict[str, Any], headers: dict[str, str]) -> str:
        with self._lock:
            self.requests.append(body)
            self.headers.append(headers)
            return self.faults.pop(0) if self.faults else "ok"

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        text = self.answer(body["messages"]) if callable(self.answer) else self.answer
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"},
            ],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        }

    def embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        """Vectors of letter counts: equal texts have equal vectors, and no vector is zero."""
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        vectors = [[1.0 + str(text).count(chr(97 + i)) for i in range(self.dimension)] for text in texts]
        data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return {"object": "list", "data": data, "model": body["model"], "usage": usage}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """Connections that the client cut are what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    endpoint: Endpoint
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Tests read ``endpoint.requests`` instead."""

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: dict[str, Any]) -> None:
        fault = self.endpoint.next_fault(body, {k.lower(): v for k, v in self.headers.items()})
        route = {"/v1/chat/completions": self.endpoint.completion, "/v1/embeddings": self.endpoint.embeddings}
        good = route.get(self.path)
        if good is None:
            self._send(404, b'{"error": {"message": "no such route"}}')
        elif fault.isdigit():
            extra = {"Retry-After": self.endpoint.retry_after} if fault == "429" else {}
            self._send(int(fault), json.dumps({"error": {"message": f"planned fault {fault}"}}).encode(), extra)
        elif fault == "hang":
            self.endpoint.released.wait(60)
            self.close_connection = True
        elif fault == "reset":
            # Zero linger: the kernel sends RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif fault == "half":
            whole = json.dumps(good(body)).encode()
            self._send(200, whole[: len(whole) // 2], {"Content-Length": str(len(whole))})
            self.close_connection = True
        else:
            self._send(200, self._bad(fault) or json.dumps(good(body)).encode())

    def _bad(self, fault: str) -> bytes:
        return {
            "bad_json": b'{"choices": [',
            "wrong_schema": b'{"result": "fine", "choices": null}',
            "empty": b'{"choices": [{"message": {"content": ""}}], "data": []}',
            "huge": b'{"choices": [{"message": {"content": "' + b"x" * HUGE + b'"}}]}' if fault == "huge" else b"",
        }.get(fault, b"")

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            if name not in (headers or {}):
                self.send_header(name, value)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
