"""Where ragkit keeps files, and how it writes them so that nothing is ever half written or silently wrong.

Three habits, used by every module that touches the disk:

- **Atomic**: write to a temporary file, fsync, rename. A kill leaves the old file or the new one.
- **Verified**: a folder of artefacts carries ``manifest.json`` with the sha256 of every file.
- **Locked**: two processes that build the same thing take turns (``lock``).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ragkit.base import IntegrityError, RagkitError, StoreMismatchError

MANIFEST = "manifest.json"
_CHECKOUT = Path(__file__).resolve().parent.parent


def home() -> Path:
    """The folder for downloads, stores and caches: ``$RAGKIT_HOME``, else ``.ragkit`` in the checkout
    (or in the user's home folder, where ragkit was installed as a package)."""
    if value := os.environ.get("RAGKIT_HOME"):
        return Path(value).expanduser().resolve()
    base = _CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else Path.home()
    return base / ".ragkit"


def data_file(name: str) -> Path:
    """A file of the project's ``data/`` folder, in a checkout or in an installed package.

    Raises:
        RagkitError: there is no such file.
    """
    for folder in (_CHECKOUT / "data", Path(__file__).resolve().parent / "_data"):
        if (path := folder / name).exists():
            return path
    raise RagkitError(f"ragkit's own data file {name!r} is missing: reinstall the package")


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def atomic_write(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old content or all of the new.

    Raises:
        OSError: the disk is full or not writable; ``path`` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill; on success it takes the place of ``path``, on failure it is removed.

    Every file in it is written to the disk and listed with its sha256 in ``manifest.json`` if the body
    called ``write_manifest``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield fresh
        for file in fresh.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            path.replace(old / "x")
            fresh.replace(path)
            shutil.rmtree(old)
        else:
            fresh.replace(path)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def write_manifest(folder: Path, settings: Mapping[str, Any]) -> None:
    """Record ``settings`` and the sha256 of every file of ``folder`` in ``folder/manifest.json``."""
    files = {
        str(p.relative_to(folder)): {"sha256": sha256_file(p), "bytes": p.stat().st_size}
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != MANIFEST
    }
    text = json.dumps({"settings": dict(settings), "files": files}, indent=1, sort_keys=True)
    atomic_write(folder / MANIFEST, text.encode())


def read_manifest(folder: Path, expected: Mapping[str, Any] | None = None, verify: bool = True) -> dict[str, Any]:
    """The settings of ``folder``, after its files were checked.

    ``expected`` are settings that must agree. ``verify=False`` checks sizes but not digests.

    Raises:
        IntegrityError: the manifest or a file is missing, cut or changed.
        StoreMismatchError: a setting is not the expected one.
    """
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        settings, files = dict(content["settings"]), dict(content["files"])
        promised = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{folder}: no readable {MANIFEST} ({error}); delete the folder and build it again"
        ) from error
    for key, value in (expected or {}).items():
        if settings.get(key) != value:
            raise StoreMismatchError(
                f"{folder}: made with {key} = {settings.get(key)!r}, expected {value!r}; build it again"
            )
    for name, (size, sha256) in promised.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            raise IntegrityError(
                f"{file}: missing or cut short, expected {size} bytes; delete {folder} and build it again"
            )
        if verify and sha256_file(file) != sha256:
            raise IntegrityError(f"{file}: its sha256 is not the recorded one; delete {folder} and build it again")
    return settings


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold ``path`` (a ``.lock`` file) so that only one process at a time builds what stands beside it."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield
