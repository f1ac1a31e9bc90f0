"""Fetching from an index, and reading archives that mean harm. The index is a server of this test."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import traceback
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import ArchiveError, CorpusError, FetchError, IntegrityError
from ragkit.corpus import fetch as module
from ragkit.corpus.fetch import fetch, read_archive

NAME = "demo-1.0.tar.gz"


def tarball(files: Mapping[str, bytes], **members: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in members.values():
            tar.addfile(member)
    return buffer.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def saved(folder: Path, data: bytes, name: str = NAME) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def everything(name: str) -> bool:
    return True


GOOD = tarball({"demo-1.0/docs/index.rst": b"Demo\n====\n", "demo-1.0/setup.py": b"raise SystemExit('built')"})
SHA = hashlib.sha256(GOOD).hexdigest()


class Index:
    """A package index with one project, ``demo``; it counts requests and can misbehave."""

    def __init__(self) -> None:
        self.body = GOOD
        self.digest = SHA
        self.cut: int | None = None  # bytes after which the connection closes
        self.slow = 0.0  # seconds after the first 50 bytes
        self.downloads = 0
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/simple/demo/":
                    page = f'<!DOCTYPE html><a href="/files/{NAME}#sha256={index.digest}">{NAME}</a>'.encode()
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
def index() -> Iterator[Index]:
    index = Index()
    thread = threading.Thread(target=index.server.serve_forever, daemon=True)
    thread.start()
    yield index
    index.server.shutdown()
    index.server.server_close()


@pytest.fixture(autouse=True)
def home(ragkit_home: Path) -> Path:
    return ragkit_home


def left(home: Path) -> list[str]:
    """What stands in the download folder, the lock aside."""
    return sorted(p.name for p in (home / "downloads").glob("*") if p.name != ".lock")


def test_a_file_is_fetched_once_and_then_needs_no_index(index, home):
    path = fetch("demo", NAME, SHA, index.url)
    assert path.read_bytes() == GOOD
    assert fetch("demo", NAME, SHA, "http://127.0.0.1:9/simple/") == path
    assert index.downloads == 1
    assert left(home) == [NAME]


def test_a_damaged_file_on_disk_is_fetched_again(index, home):
    path = fetch("demo", NAME, SHA, index.url)
    path.write_bytes(GOOD[:-1])
    assert fetch("demo", NAME, SHA, index.url).read_bytes() == GOOD


def test_another_file_than_the_pinned_one_is_refused(index, home):
    with pytest.raises(IntegrityError, match="the manifest pins"):
        fetch("demo", NAME, "0" * 64, index.url)
    assert left(home) == []


def test_a_file_that_is_not_the_one_the_index_names_is_refused(index, home):
    index.body = GOOD + b"x"
    with pytest.raises(IntegrityError, match="damaged on the way"):
        fetch("demo", NAME, SHA, index.url)
    assert left(home) == []


def test_a_connection_that_breaks_is_tried_again_and_leaves_nothing(index, home):
    index.cut = 100
    with pytest.raises(FetchError, match="3 attempts"):
        fetch("demo", NAME, SHA, index.url)
    assert index.downloads == 3
    assert left(home) == []
    index.cut = None
    assert fetch("demo", NAME, SHA, index.url).is_file()


@pytest.mark.parametrize(("project", "file"), [("nothing", NAME), ("demo", "demo-2.0.tar.gz")])
def test_what_the_index_does_not_have(index, project, file):
    with pytest.raises(FetchError, match="check"):
        fetch(project, file, SHA, index.url)


def test_no_index_at_all(home):
    with pytest.raises(FetchError, match="Check the network"):
        fetch("demo", NAME, SHA, "http://127.0.0.1:9/simple/")


@pytest.mark.parametrize("name", ["../demo.tar.gz", "/etc/demo.zip", "demo.whl", "a\\b.zip", ""])
def test_a_file_name_must_be_plain(name):
    with pytest.raises(CorpusError, match="plain name"):
        fetch("demo", name, SHA)


FETCH = "import sys; from ragkit.corpus.fetch import fetch; fetch('demo', *sys.argv[1:])"


def test_a_killed_download_is_resumed_by_the_next_run(index, home):
    index.slow = 30.0
    process = subprocess.Popen([sys.executable, "-c", FETCH, NAME, SHA, index.url], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not index.downloads and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert index.downloads == 1
    assert NAME not in left(home)
    index.slow = 0.0
    assert fetch("demo", NAME, SHA, index.url).read_bytes() == GOOD
    assert left(home) == [NAME]


def test_a_full_disk_says_so_and_keeps_the_old_state(index, home):
    old = saved(home.parent, b"old")  # stands for any other state
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
    done = subprocess.run(
        [sys.executable, "-c", limit + FETCH, NAME, SHA, index.url], capture_output=True, text=True, check=False
    )
    assert "FetchError: cannot write" in done.stderr
    assert "RAGKIT_HOME" in done.stderr
    assert left(home) == []
    assert old.read_bytes() == b"old"


# Archives


@pytest.mark.parametrize(("make", "name"), [(tarball, NAME), (zipped, "demo.zip")])
def test_only_wanted_files_are_read(tmp_path, make, name):
    path = saved(tmp_path, make({"d/a.rst": b"a", "d/b.py": b"b", "d/c.md": b""}), name)
    assert read_archive(path, lambda n: n.endswith((".rst", ".md"))) == {"d/a.rst": b"a", "d/c.md": b""}
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [name]


@pytest.mark.parametrize("evil", ["../evil.rst", "/etc/evil.rst", "d/../../evil.rst", "C:/evil.rst", "d\\..\\e.rst"])
@pytest.mark.parametrize(("make", "name"), [(tarball, NAME), (zipped, "demo.zip")])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, evil, make, name):
    path = saved(tmp_path, make({"d/a.rst": b"a", evil: b"x"}), name)
    with pytest.raises(ArchiveError, match="leave its folder"):
        read_archive(path, everything)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_never_followed(tmp_path, kind):
    link = tarfile.TarInfo("d/link.rst")
    link.type, link.linkname = kind, "/etc/passwd"
    path = saved(tmp_path, tarball({"d/a.rst": b"a"}, link=link))
    assert read_archive(path, everything) == {"d/a.rst": b"a"}


def test_a_link_in_a_zip_is_never_followed(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("d/link.rst")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("d/a.rst", "a")
    assert read_archive(saved(tmp_path, buffer.getvalue(), "demo.zip"), everything) == {"d/a.rst": b"a"}


@pytest.mark.parametrize(("make", "name"), [(tarball, NAME), (zipped, "demo.zip")])
@pytest.mark.parametrize("wanted", [True, False])
def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch, make, name, wanted):
    monkeypatch.setattr(module, "_FREE", 1 << 16)
    path = saved(tmp_path, make({"d/bomb.rst": b"\0" * (8 << 20)}), name)
    assert path.stat().st_size < 20_000
    if wanted or make is tarball:  # a zip member that is not wanted is not unpacked at all
        with pytest.raises(ArchiveError, match="more than is allowed"):
            read_archive(path, lambda n: wanted)
    else:
        assert read_archive(path, lambda n: wanted) == {}


def test_a_header_that_claims_terabytes_is_refused_before_it_is_read(tmp_path):
    huge = tarfile.TarInfo("d/huge.bin")
    huge.size = 1 << 42
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.fileobj.write(huge.tobuf())
    start = time.monotonic()
    with pytest.raises(ArchiveError, match="more than is allowed"):
        read_archive(saved(tmp_path, buffer.getvalue()), everything)
    assert time.monotonic() - start < 1


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_MEMBERS", 3)
    path = saved(tmp_path, tarball({f"d/{i}.rst": b"" for i in range(4)}))
    with pytest.raises(ArchiveError, match="more than 3 members"):
        read_archive(path, everything)


def test_a_name_that_is_there_twice(tmp_path):
    with tarfile.open(tmp_path / NAME, "w:gz") as tar:
        for content in (b"one", b"two"):
            member = tarfile.TarInfo("d/a.rst")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with pytest.raises(ArchiveError, match="twice"):
        read_archive(tmp_path / NAME, everything)


@pytest.mark.parametrize(("make", "name"), [(tarball, NAME), (zipped, "demo.zip")])
@given(cut=st.floats(0, 0.99))
def test_a_truncated_archive_is_an_archive_error(tmp_path_factory, make, name, cut):
    data = make({"d/a.rst": bytes(range(256)) * 8, "d/b.rst": b"b" * 999})
    path = saved(tmp_path_factory.mktemp("cut"), data[: int(cut * len(data))], name)
    with pytest.raises(ArchiveError):
        read_archive(path, everything)


@pytest.mark.parametrize("name", [NAME, "demo.zip"])
@given(data=st.binary(max_size=400), base=st.booleans(), at=st.integers(0, 200), flip=st.integers(1, 255))
def test_no_bytes_make_anything_but_files_or_an_archive_error(tmp_path_factory, name, data, base, at, flip):
    if base:
        good = bytearray((tarball if name == NAME else zipped)({"d/a.rst": data}))
        good[at % len(good)] ^= flip
        data = bytes(good)
    path = saved(tmp_path_factory.mktemp("any"), data, name)
    with contextlib.suppress(ArchiveError):
        assert all(isinstance(content, bytes) for content in read_archive(path, everything).values())


def test_the_password_of_a_private_index_is_not_shown(monkeypatch, tmp_path):
    import requests

    def refuse(*_: object, **__: object):
        raise requests.HTTPError("403 Client Error for url: http://me:s3cret@host/simple/demo/")

    monkeypatch.setattr("pypi_simple.PyPISimple.get_project_page", refuse)
    with pytest.raises(FetchError, match="http://host/simple") as caught:
        sys.modules["ragkit.corpus.fetch"]._download(
            "demo", "demo-1.tar.gz", tmp_path / "part", "http://me:s3cret@host/simple"
        )
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
