"""Files from a package index: fetched once, checked, and never half there."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from ragkit.base import FetchError, IntegrityError
from ragkit.fetch import _download, fetch

NAME = "demo-1.0.tar.gz"
GOOD = gzip.compress(bytes(range(256)), compresslevel=0)
SHA = hashlib.sha256(GOOD).hexdigest()
NOWHERE = "http://127.0.0.1:9/simple/"


class Index:
    """A package index with one project, ``demo``; it counts requests and can misbehave."""

    def __init__(self) -> None:
        self.body = GOOD
        self.cut: int | None = None  # bytes after which the connection closes
        self.slow = 0.0  # seconds after the first 50 bytes
        self.downloads = 0
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/simple/demo/":
                    page = f'<!DOCTYPE html><a href="/files/{NAME}">{NAME}</a>'.encode()
                    self.answer(page, "text/html")
                elif self.path == f"/files/{NAME}":
                    index.downloads += 1
                    self.answer(index.body, "application/gzip", index.cut, index.slow)
                else:
                    self.send_error(404)

            def answer(self, body: bytes, kind: str, cut: int | None = None, slow: float = 0.0) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if slow:
                    self.wfile.write(body[:50])
                    self.wfile.flush()
                    time.sleep(slow)
                    body = body[50:]
                self.wfile.write(body[:cut])

            def log_message(self, *args: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple/"


@pytest.fixture
def index(ragkit_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    index = Index()
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    threading.Thread(target=index.server.serve_forever, daemon=True).start()
    yield index
    index.server.shutdown()
    index.server.server_close()


def left(home: Path) -> list[str]:
    """What stands in the download folder, the lock aside."""
    return sorted(p.name for p in (home / "downloads").glob("*") if p.name != ".lock")


def test_a_file_is_fetched_once_and_then_needs_no_index(index, ragkit_home, monkeypatch):
    path = fetch("demo", NAME, SHA)
    assert path.read_bytes() == GOOD
    path.write_bytes(GOOD[:-1])  # a damaged file is fetched again
    assert fetch("demo", NAME, SHA).read_bytes() == GOOD
    monkeypatch.setenv("PIP_INDEX_URL", NOWHERE)
    assert fetch("demo", NAME, SHA) == path
    assert index.downloads == 2
    assert left(ragkit_home) == [NAME]


def test_another_file_than_the_pinned_one_is_refused(index, ragkit_home):
    with pytest.raises(IntegrityError, match="pinned is"):
        fetch("demo", NAME, "0" * 64)
    assert left(ragkit_home) == []


def test_a_connection_that_breaks_is_tried_again_and_leaves_nothing(index, ragkit_home):
    index.cut = 100
    with pytest.raises(FetchError, match="3 attempts"):
        fetch("demo", NAME, SHA)
    assert index.downloads == 3
    assert left(ragkit_home) == []
    index.cut = None
    assert fetch("demo", NAME, SHA).is_file()


@pytest.mark.parametrize(("project", "file"), [("nothing", NAME), ("demo", "demo-2.0.tar.gz")])
def test_what_the_index_does_not_have(index, project, file):
    with pytest.raises(FetchError, match=f"/simple/ has no {file!r} of {project!r}"):
        fetch(project, file, SHA)


def test_no_index_at_all(ragkit_home, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", NOWHERE)
    with pytest.raises(FetchError, match="Check the network"):
        fetch("demo", NAME, SHA)


FETCH = "import sys; from ragkit.fetch import fetch; fetch('demo', *sys.argv[1:])"


def test_a_killed_download_is_resumed_by_the_next_run(index, ragkit_home):
    index.slow = 30.0
    process = subprocess.Popen([sys.executable, "-c", FETCH, NAME, SHA], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not index.downloads and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert index.downloads == 1
    assert NAME not in left(ragkit_home)
    index.slow = 0.0
    assert fetch("demo", NAME, SHA).read_bytes() == GOOD
    assert left(ragkit_home) == [NAME]


def test_a_full_disk_says_so_and_leaves_nothing(index, ragkit_home):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
    done = subprocess.run([sys.executable, "-c", limit + FETCH, NAME, SHA], capture_output=True, text=True, check=False)
    assert "FetchError: cannot write" in done.stderr
    assert "RAGKIT_HOME" in done.stderr
    assert left(ragkit_home) == []


def test_the_password_of_a_private_index_is_not_shown(monkeypatch, tmp_path):
    import requests

    def refuse(*_: object, **__: object):
        raise requests.HTTPError("403 Client Error for url: http://me:s3cret@host/simple/demo/")

    monkeypatch.setattr("pypi_simple.PyPISimple.get_project_page", refuse)
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:s3cret@host/simple")
    with pytest.raises(FetchError, match="http://host/simple") as caught:
        _download("demo", "demo-1.tar.gz", tmp_path / "part")
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
