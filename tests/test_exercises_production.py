"""What lesson 15 takes from ``exercises.production``: a model that waits, clients, a process to be killed."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import pytest
from exercises.production import Endpoint, ask_for, embedded_postgres, kill_after, ragkit, run

from ragkit.base import Context


class Service(BaseHTTPRequestHandler):
    """Answers every question in .02 s, and refuses the question "no"."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["question"]
        time.sleep(0.02)
        known = self.headers["Authorization"] == "Bearer a-token"
        self.send_response(401 if not known else 429 if question == "no" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_clients_ask_until_time_is_up(url):
    rows = asyncio.run(ask_for(1, url, "a-token", ["one", "no", "two"], clients=3))
    assert set(rows["status"]) == {200, 429}
    assert rows["ms"].min() >= 20
    assert len(rows) <= 3 * 1 / 0.02 + 3


def test_clients_need_their_token(url):
    assert set(asyncio.run(ask_for(0.1, url, "another", ["one"], clients=1))["status"]) == {401}


def test_the_model_takes_its_time():
    begin = time.perf_counter()
    assert asyncio.run(Endpoint(seconds=0.1).generate("Why?", Context("", (), 0))).text
    assert time.perf_counter() - begin > 0.09


def test_a_command_is_killed_once_it_has_written_files(tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "tea.md").write_text("# Tea\n\nBoil water.\n")
    command = ragkit("ask", "Does the kettle boil?", "--corpus", str(tmp_path / "documents"))
    assert kill_after(1, str(tmp_path), command) == 0  # it ended without any
    (tmp_path / "one.parquet").touch()
    begin = time.perf_counter()
    assert kill_after(1, str(tmp_path), ragkit("serve", "--port", "0")) == 1
    assert time.perf_counter() - begin < 20


def test_a_command_prints():
    assert "ingest" in run(ragkit("--help"))


def test_a_postgres_ends_with_its_block(tmp_path):
    with embedded_postgres(str(tmp_path)) as address, psycopg.connect(address) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(address)
