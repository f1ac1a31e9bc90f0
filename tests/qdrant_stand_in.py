"""A stand-in for a server of Qdrant: its REST paths, answered by the client's ``:memory:``.

It shows that what goes over HTTP is understood there; whether Qdrant understands it, only Qdrant can tell (set
``$QDRANT_URL``).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from qdrant_client import QdrantClient
from qdrant_client.http import models

KEY = "sesame"
CALLS = {
    ("POST", "points"): ("retrieve", models.PointRequest),
    ("PUT", "points"): ("upsert", models.PointsList),
    ("POST", "points/scroll"): ("scroll", models.ScrollRequest),
    ("POST", "points/count"): ("count", models.CountRequest),
    ("POST", "points/query/batch"): ("query_batch_points", models.QueryRequestBatch),
    ("POST", "points/payload"): ("set_payload", models.SetPayload),
    ("POST", "points/delete"): ("delete", models.PointIdsList),
    ("PUT", "points/vectors"): ("update_vectors", models.UpdateVectors),
    ("PUT", "index"): ("create_payload_index", models.CreateFieldIndex),
    ("PUT", ""): ("create_collection", models.CreateCollection),
    ("DELETE", ""): ("delete_collection", None),
    ("GET", ""): ("get_collection", None),
    ("GET", "exists"): ("collection_exists", None),
}
NAMES = {
    "with_vector": "with_vectors",
    "filter": {"scroll": "scroll_filter", "count": "count_filter"},
    "searches": "requests",
    "vectors": "vectors_config",
    "sparse_vectors": "sparse_vectors_config",
    "points": {"delete": "points_selector"},
}


def _result(method: str, answer: Any) -> Any:
    match method:
        case "scroll":
            return {"points": [record.model_dump() for record in answer[0]], "next_page_offset": answer[1]}
        case "collection_exists":
            return {"exists": answer}
        case "retrieve" | "query_batch_points":
            return [each.model_dump() for each in answer]
    return answer if isinstance(answer, bool) else answer.model_dump()


@contextmanager
def stand_in() -> Iterator[str]:
    """The URL of a server that runs until the end of the block; its key is ``KEY``."""
    client, lock = QdrantClient(":memory:"), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["api-key"] != KEY:
                return self._answer(401, {"status": {"error": "no or wrong key"}})
            _, _, name, *rest = self.path.split("?")[0].split("/")
            method, model = CALLS[self.command, "/".join(rest)]
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            arguments = {}
            for field, value in model.model_validate_json(body) if model else ():
                if value is not None:
                    known = NAMES.get(field, field)
                    arguments[known.get(method, field) if isinstance(known, dict) else known] = value
            arguments.pop("params", None)
            for request in arguments.get("requests", ()):
                request.params = None
            try:
                with lock:
                    answer = getattr(client, method)(collection_name=name, **arguments)
                return self._answer(200, {"status": "ok", "time": 0.0, "result": _result(method, answer)})
            except ValueError as error:
                return self._answer(400, {"status": {"error": str(error)}})

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

        def _answer(self, status: int, content: Any) -> None:
            body = json.dumps(content, default=str).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
