"""A stand-in for an OpenAI-compatible server: real HTTP on loopback, with faults in a given order.

    with Endpoint(answer="Use purge. [1]", faults=["500", "hang"]) as endpoint:
        OpenAIChat(base_url=endpoint.url)       # the first request gets a 500, the second hangs, then it answers

``script`` answers in other shapes: it gets the request's body, and returns status, content type and bytes.

Faults: ``ok``; a status, such as ``500`` (a 429 comes with Retry-After, and ``429:0.2`` says which); ``hang``;
``reset``; ``half`` (cut in the middle); ``end`` (a stream that stops in the middle, in due form); ``drip`` (byte by
byte, without end); ``bad_json``; ``wrong_schema``; ``empty``; ``error`` (status 200, and an error inside).
A request with ``"stream": true`` is answered by server-sent events, faults included.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("429", "500", "hang", "reset", "half", "drip", "bad_json", "wrong_schema", "empty")
Reply = tuple[int, str, bytes]


class Endpoint:
    """``requests`` holds the JSON bodies that came in; ``answer`` is a text or a function of the messages.

    ``reads`` is the tokens that it says to have read: None is the truth.
    """

    def __init__(
        self,
        answer: str | Callable[[list[dict[str, str]]], str] = "Yes. [1]",
        faults: Sequence[str] = (),
        retry_after: str = "0",
        dimension: int = 8,
        reads: int | None = None,
        script: Callable[[dict[str, Any]], Reply] | None = None,
    ) -> None:
        self.answer, self.faults, self.retry_after, self.dimension = answer, list(faults), retry_after, dimension
        self.reads, self.script = reads, script
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.connections = 0
        self.released = threading.Event()
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"endpoint": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Endpoint:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def next_fault(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> str:
        with self.lock:
            self.paths.append(path)
            self.requests.append(body)
            self.headers.append(headers)
            return self.faults.pop(0) if self.faults else "ok"

    def text(self, body: dict[str, Any]) -> str:
        return self.answer(body["messages"]) if callable(self.answer) else self.answer

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.text(body)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        head = {**_HEAD, "object": "chat.completion", "model": body["model"]}
        return {**head, "choices": [choice], "usage": self.usage(body)}

    def usage(self, body: dict[str, Any]) -> dict[str, int]:
        """Four characters are a token, and a prompt has 11 or more; an answer has 7."""
        read = self.reads or max(11, sum(len(str(m["content"])) for m in body["messages"]) // 4)
        return {"prompt_tokens": read, "completion_tokens": 7, "total_tokens": read + 7}

    def events(self, body: dict[str, Any]) -> Iterator[bytes]:
        """The completion as server-sent events, word by word."""
        head = {**_HEAD, "object": "chat.completion.chunk", "model": body["model"]}
        yield b": a comment, as some servers send to keep the line open\n\n"
        for word in re.findall(r"\s*\S+\s*$|\s*\S+", self.text(body)):
            yield event({**head, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
        yield event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            yield event({**head, "choices": [], "usage": self.usage(body)})
        yield b"data: [DONE]\n\n"

    def embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        """Vectors of letter counts: equal texts have equal vectors, and no vector is zero."""
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        vectors = [[1.0 + str(text).count(chr(97 + i)) for i in range(self.dimension)] for text in texts]
        data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return {"object": "list", "data": data, "model": body["model"], "usage": usage}


_HEAD = {"id": "chatcmpl-1", "created": 0}
_ERRORS = {
    "400": "This model's maximum context length is exceeded.",
    "401": "Incorrect API key provided.",
    "404": "The model does not exist.",
}


def event(data: Any) -> bytes:
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


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

    def setup(self) -> None:
        super().setup()
        with self.endpoint.lock:
            self.endpoint.connections += 1

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(body)

    def _answer(self, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault, _, seconds = self.endpoint.next_fault(self.path, body, headers).partition(":")
        if self.endpoint.script is not None:
            status, kind, data = self.endpoint.script(body)
            self._send(status, data, {"Content-Type": kind})
            return
        route = {"/v1/chat/completions": self.endpoint.completion, "/v1/embeddings": self.endpoint.embeddings}
        good = route.get(self.path.partition("?")[0])
        if good is None:
            self._send(404, b'{"error": {"message": "no such route"}}')
        elif fault.isdigit():
            extra = {"Retry-After": seconds or self.endpoint.retry_after} if fault == "429" else {}
            message = _ERRORS.get(fault, f"planned fault {fault}")
            self._send(int(fault), json.dumps({"error": {"message": message}}).encode(), extra)
        elif fault == "hang":
            self.endpoint.released.wait(60)
            self.close_connection = True
        elif fault == "reset":
            self._reset()
        elif body.get("stream"):
            self._stream(fault, list(self.endpoint.events(body)))
        else:
            self._whole(fault, json.dumps(good(body)).encode())

    def _whole(self, fault: str, good: bytes) -> None:
        if fault in ("half", "end", "drip"):
            self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(good))})
            self.wfile.write(good[: len(good) // 2])
            if fault == "drip":
                self._drip(b" ")
            self.close_connection = True
            return
        bad = {
            "bad_json": b'{"choices": [',
            "wrong_schema": b'{"result": "fine", "choices": null}',
            "empty": b'{"choices": [{"message": {"content": ""}}], "data": []}',
            "error": b'{"error": {"message": "out of memory"}}',
        }
        self._send(200, bad.get(fault, good))

    def _stream(self, fault: str, good: Sequence[bytes]) -> None:
        """Chunked, so that a stream that is cut is seen to be cut."""
        self._head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        half = good[: len(good) // 2]
        bad = {
            "half": half,
            "end": half,
            "drip": half,
            "bad_json": [*half, b'data: {"choices": [\n\n'],
            "wrong_schema": [*half, event({"result": "fine", "choices": None})],
            "empty": [event("[DONE]")],
            "error": [*half, event({"error": {"message": "out of memory"}})],
        }
        for piece in bad.get(fault, good):
            self._chunk(piece)
        if fault == "drip":
            self._drip(b"1\r\n:\r\n")
        if fault == "half":
            self._reset()
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _drip(self, drop: bytes) -> None:
        for _ in range(1200):
            if self.endpoint.released.wait(0.05):
                return
            self.wfile.write(drop)

    def _reset(self) -> None:
        # Zero linger: the kernel sends RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _chunk(self, piece: bytes) -> None:
        self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._head(status, {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
