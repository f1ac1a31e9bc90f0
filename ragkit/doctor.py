"""What ``ragkit doctor`` looks at: each check is one function that says what it found and what to do."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from ragkit.base import Corpus, RagkitError
from ragkit.corpus import load_pydocs
from ragkit.corpus.pydocs import read_projects
from ragkit.files import MANIFEST, home, read_manifest
from ragkit.llm.chat import endpoint_configured, endpoint_url, safe_url
from ragkit.token_store import stored_bytes, unused_folders
from ragkit.tokens import MINILM, MINILM_SHA256, minilm_folder, verified


@dataclass(frozen=True, slots=True)
class Finding:
    """``ok``; ``todo``: nothing is wrong, but a step is still to do; ``fail``: something will not work."""

    state: Literal["ok", "todo", "fail"]
    text: str
    do: str = ""


def examine() -> Iterator[tuple[str, Finding]]:
    """The name and finding of every check, each as soon as it is known."""
    for name, check in CHECKS.items():
        try:
            yield name, check()
        except (RagkitError, OSError) as error:
            yield name, Finding("fail", str(error), "see the message")


def python() -> Finding:
    summary = f"{platform.python_version()} at {sys.executable}"
    return (
        Finding("ok", summary) if sys.version_info >= (3, 11) else Finding("fail", summary, "use Python 3.11 or newer")
    )


def torch() -> Finding:
    """The build, from its version alone: importing torch takes seconds."""
    try:
        return Finding("ok", version("torch"))
    except PackageNotFoundError:
        return Finding("fail", "not installed", "pip install 'ragkit-workbench[models]'")


def model() -> Finding:
    name = "model.safetensors"
    verified(minilm_folder() / name, MINILM_SHA256[name])
    return Finding("ok", f"{MINILM}, sha256 {MINILM_SHA256[name][:12]}... as published")


def corpus(name: str) -> Finding:
    """Whether the corpus lies on disk, whole; nothing is fetched."""
    folders = [project.folder for project in read_projects("pydocs.toml", name)]
    here = [folder for folder in folders if (folder / MANIFEST).is_file()]
    for folder in here:
        read_manifest(folder)
    if len(here) < len(folders):
        return Finding("todo", f"{len(here)} of {len(folders)} projects are here", f"ragkit fetch {name}")
    loaded = load_pydocs(name)
    return Finding("ok", f"{len(loaded.documents)} documents, {len(loaded.questions)} questions; {_store(loaded)}")


def _store(loaded: Corpus) -> str:
    if size := stored_bytes(loaded):
        return f"vectors verified, {size / 1e6:.0f} MB"
    return f"vectors not built yet (on first use, or: ragkit fetch {loaded.name} --vectors)"


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e6


def stores() -> Finding:
    """Token stores that nothing reads any more. They are named, never deleted."""
    unused = [(folder, reason, _megabytes(folder)) for folder, reason in unused_folders(home() / "token_store")]
    if not unused:
        return Finding("ok", "no unused token store")
    text = "; ".join(f"{folder} ({reason}; {megabytes:.0f} MB)" for folder, reason, megabytes in unused)
    total = sum(megabytes for _, _, megabytes in unused)
    return Finding("todo", f"unused: {text}", f"delete to free {total:.0f} MB, unless a build is running")


def disk() -> Finding:
    folder = home()
    while not folder.exists():
        folder = folder.parent
    summary = f"{shutil.disk_usage(folder).free / 1e9:.0f} GB free at {home()}"
    if not os.access(folder, os.W_OK):
        return Finding("fail", f"{home()} is not writable", "set $RAGKIT_HOME to a folder that is")
    if shutil.disk_usage(folder).free < 2e9:
        return Finding("fail", summary, "set $RAGKIT_HOME to a folder with 2 GB free")
    return Finding("ok", summary)


def threads() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS")
    return Finding("ok", f"{cores} cores, OMP_NUM_THREADS {limit or 'not set'}")


def endpoint() -> Finding:
    """Whether the endpoint's port answers; no request is made, so nothing is paid for."""
    if not endpoint_configured():
        return Finding("ok", "none set: answers are quoted from the sources")
    url = safe_url(os.environ.get("OPENAI_BASE_URL", ""))
    try:
        url = safe_url(endpoint_url())
        parts = urlsplit(url)
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname or "", port), timeout=3).close()
    except (OSError, ValueError) as error:
        return Finding("fail", f"{url} does not answer ({error})", "start it, or unset $OPENAI_BASE_URL")
    return Finding("ok", f"{url} accepts connections, key {'set' if os.environ.get('OPENAI_API_KEY') else 'not set'}")


CHECKS: dict[str, Callable[[], Finding]] = {
    "python": python,
    "torch": torch,
    "model": model,
    "tiny": lambda: corpus("tiny"),
    "core": lambda: corpus("core"),
    "stores": stores,
    "disk": disk,
    "threads": threads,
    "endpoint": endpoint,
}
