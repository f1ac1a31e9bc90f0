"""What ``ragkit doctor`` looks at: each check is one function that says what it found and what to do."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal
from urllib.parse import urlsplit

from ragkit.base import Corpus, RagkitError
from ragkit.corpus import load_pydocs
from ragkit.corpus.pydocs import read_projects
from ragkit.files import MANIFEST, home, read_manifest
from ragkit.llm.chat import endpoint_configured, endpoint_url, safe_url
from ragkit.llm.local import packaged_weights
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


def model() -> Finding:
    name = "model.safetensors"
    verified(minilm_folder() / name, MINILM_SHA256[name])
    return Finding("ok", f"{MINILM}, sha256 {MINILM_SHA256[name][:12]}... as published")


def corpus(name: str) -> Finding:
    """Whether the corpus lies on disk, whole; nothing is fetched."""
    if find_spec("docutils") is None:
        return Finding("todo", "not installed, and not needed for your own", "pip install 'ragkit-workbench[corpus]'")
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


def local_model() -> Finding:
    """Whether the language model and llama.cpp are here; nothing is loaded."""
    weights = packaged_weights()
    if not weights.path.is_file():
        return Finding("todo", f"{weights.name} is not here", "ragkit fetch model")
    verified(weights.path, weights.sha256)
    if find_spec("xllamacpp") is None:
        return Finding("todo", f"{weights.name} is here, llama.cpp is not", "pip install 'ragkit-workbench[local]'")
    return Finding("ok", f"{weights.name}, sha256 {weights.sha256[:12]}... as pinned")


def stores() -> Finding:
    """Token stores that nothing reads any more. They are named, never deleted."""
    unused, total = [], 0.0
    for folder, reason in unused_folders(home() / "token_store"):
        megabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        unused.append(f"{folder} ({reason}; {megabytes:.0f} MB)")
        total += megabytes
    if not unused:
        return Finding("ok", "no unused token store")
    return Finding("todo", f"unused: {'; '.join(unused)}", f"delete to free {total:.0f} MB, unless a build is running")


def disk() -> Finding:
    folder = next(each for each in (home(), *home().parents) if each.exists())
    free = shutil.disk_usage(folder).free
    if free > 2e9 and os.access(folder, os.W_OK):
        return Finding("ok", f"{free / 1e9:.0f} GB free at {home()}")
    found = f"{home()} is {'' if os.access(folder, os.W_OK) else 'not '}writable, {free / 1e9:.1f} GB are free"
    return Finding("fail", found, "set $RAGKIT_HOME to a folder of your own with 2 GB free")


def endpoint() -> Finding:
    """Whether the endpoint's port answers; no request is made, so nothing is paid for."""
    if not endpoint_configured():
        key = "; $OPENAI_API_KEY alone sends nothing" if os.environ.get("OPENAI_API_KEY") else ""
        return Finding("ok", f"$OPENAI_BASE_URL is not set: answers are written on this machine{key}")
    url = safe_url(os.environ.get("OPENAI_BASE_URL", ""))
    try:
        url = safe_url(endpoint_url())  # with the /v1 that is added
        parts = urlsplit(url)
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname or "", port), timeout=3).close()
    except (OSError, ValueError) as error:
        return Finding("fail", f"{url} does not answer ({error})", "start it, or unset $OPENAI_BASE_URL")
    return Finding("ok", f"{url} accepts connections, key {'set' if os.environ.get('OPENAI_API_KEY') else 'not set'}")


CHECKS: dict[str, Callable[[], Finding]] = {
    "model": model,
    "tiny": lambda: corpus("tiny"),
    "core": lambda: corpus("core"),
    "llm": local_model,
    "stores": stores,
    "disk": disk,
    "endpoint": endpoint,
}
