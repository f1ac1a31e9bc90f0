"""Where ragkit keeps files, and how it writes them so that nothing is ever half written or silently wrong.

Four habits, used by every module that touches the disk:

- **Atomic**: write to a temporary file, fsync, rename. A kill leaves the old file or the new one.
- **Careful**: a folder is replaced only if ragkit wrote all that is in it.
- **Verified**: a folder of artefacts carries ``manifest.json`` with the sha256 of every file.
- **Locked**: two processes that build the same thing take turns (``lock``).
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ragkit.base import InputError, IntegrityError, RagkitError, StoreMismatchError

MANIFEST = "manifest.json"
_SILENT_WAIT = 3.0  # seconds
_CHECKOUT = Path(__file__).resolve().parent.parent
_SQLITE = b"SQLite format 3\0"  # how a database begins


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
    temporary = _beside(path)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _beside(path: Path, what: str = "new") -> Path:
    """A name in the same folder that nothing has yet. What is made there has the rights that the umask gives,
    unlike the files of ``tempfile``, which only their owner may read."""
    return path.with_name(f".{path.name}.{what}.{secrets.token_hex(4)}")


def check_replaceable(folder: Path) -> None:
    """Refuse to replace a folder that holds anything that ragkit did not write.

    Ragkit's are ``manifest.json`` and the files that it lists. A folder that is missing or empty may always be
    replaced.

    Raises:
        InputError: there are other files, or ``folder`` is a file.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, expected a folder: choose another name, or move it away")
    known: set[str] = set()
    with suppress(IntegrityError):
        known = {MANIFEST, *_parse_manifest(folder)[1]}
    held = (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir() or not any(p.iterdir()))
    if foreign := sorted({p.relative_to(folder).as_posix() for p in held} - known):
        raise InputError(
            f"{folder} would be replaced, and holds {len(foreign)} files that are not known to be ragkit's, such as "
            f"{', '.join(foreign[:3])}: choose another folder, or move them away"
        )


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill; on success it takes the place of ``path``, on failure ``path`` is what it was.

    Every file in it is written to the disk and listed with its sha256 in ``manifest.json`` if the body
    called ``write_manifest``. A kill between the two renames leaves the old folder beside, as ``.name.old.*``.

    Raises:
        InputError: ``path`` holds files that are not ragkit's (``check_replaceable``); nothing was done.
        OSError: the disk does not permit it.
    """
    path = path.resolve()  # a link stays a link
    check_replaceable(path)
    fresh, old = _beside(path), _beside(path, "old")
    fresh.mkdir(parents=True)
    try:
        yield fresh
        for file in fresh.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        check_replaceable(path)
        if path.exists():
            path.replace(old)
        fresh.replace(path)
    except BaseException:
        if old.exists():
            old.replace(path)
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_manifest(folder: Path, settings: Mapping[str, Any]) -> None:
    """Record ``settings`` and the sha256 of every file of ``folder`` in ``folder/manifest.json``."""
    files = {
        p.relative_to(folder).as_posix(): {"sha256": sha256_file(p), "bytes": p.stat().st_size}
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p != folder / MANIFEST
    }
    text = json.dumps({"settings": dict(settings), "files": files}, indent=1, sort_keys=True)
    atomic_write(folder / MANIFEST, text.encode())


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings in the manifest of ``folder``; its files are not looked at.

    Raises:
        IntegrityError: the manifest is missing or damaged.
    """
    return _parse_manifest(folder)[0]


def _parse_manifest(folder: Path) -> tuple[dict[str, Any], dict[str, tuple[int, str]]]:
    """Settings, and the size and sha256 of each file."""
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        files = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in dict(content["files"]).items()}
        return dict(content["settings"]), files
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{folder}: no readable {MANIFEST} ({error}); if ragkit made this folder, delete it and build it again"
        ) from error


def read_manifest(folder: Path, expected: Mapping[str, Any] | None = None, verify: bool = True) -> dict[str, Any]:
    """The settings of ``folder``, after its files were checked.

    ``expected`` are settings that must agree. ``verify=False`` checks sizes but not digests.

    Raises:
        IntegrityError: the manifest or a file is missing, cut or changed.
        StoreMismatchError: a setting is not the expected one.
    """
    settings, files = _parse_manifest(folder)
    for key, value in (expected or {}).items():
        if (found := settings.get(key)) != value:
            raise StoreMismatchError(f"{folder}: made with {key} = {found!r}, expected {value!r}; build it again")
    for name, (size, sha256) in files.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size or (verify and sha256_file(file) != sha256):
            what = "missing, cut short, or not of the recorded sha256"
            raise IntegrityError(f"{file}: {what}; delete {folder} and build it again")
    return settings


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold ``path`` (a ``.lock`` file) so that only one process at a time builds what stands beside it.

    A wait of more than three seconds is reported on standard error.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    file_lock = FileLock(path)
    try:
        file_lock.acquire(timeout=_SILENT_WAIT)
    except Timeout:
        sys.stderr.write(f"ragkit: waiting for another process, which is building what {path} guards\n")
        file_lock.acquire()
    try:
        yield
    finally:
        file_lock.release()


class Database:
    """A SQLite file, made where there is none, that the threads of a process use in turn through one connection.

    It is in WAL mode: several processes may write it, readers never wait for a writer, and what was committed survives
    a kill of the process.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     database = Database(Path(folder) / "notes.db", "notes", 1, "CREATE TABLE note (text TEXT);")
    ...     with database.transaction() as connection:
    ...         _ = connection.execute("INSERT INTO note VALUES ('first')")
    ...     with database.transaction() as connection:
    ...         print(connection.execute("SELECT text FROM note").fetchone()["text"])
    ...     database.close()
    first

    Args:
        path: the file; its folder is made.
        kind: what the file holds, in a word. A file of another kind is refused.
        version: of the schema, 1 or more. A file of another version is refused.
        schema: the ``CREATE`` statements.
        timeout: seconds that a writer waits for another one.

    Raises:
        InputError: the file is no database, damaged, or of another kind or version. It is left as it is.
        sqlite3.Error: with the file's path: it is locked, or can't be made or written.
    """

    def __init__(self, path: str | Path, kind: str, version: int, schema: str, timeout: float = 10.0) -> None:
        self.path = Path(path).expanduser().absolute()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            self.path.touch(0o666)  # with the rights of the umask: SQLite would let only its owner write
            with self.path.open("rb") as file:
                if file.read(len(_SQLITE)) not in (b"", _SQLITE):
                    raise InputError(f"{self.path} is no SQLite database: choose another name, or move it away")
        self._lock = threading.RLock()
        with self._naming():
            self._connection = sqlite3.connect(
                self.path, timeout=timeout, isolation_level="IMMEDIATE", check_same_thread=False
            )
            try:
                self._prepare(kind, version, schema)
            except BaseException as error:
                self._connection.close()
                if type(error) is sqlite3.DatabaseError:  # what is locked or full raises another
                    raise InputError(f"{self.path} is damaged ({error}): move it away") from error
                raise

    def _prepare(self, kind: str, version: int, schema: str) -> None:
        """Make the tables, or check that they are those of ``kind`` and ``version``."""
        connection, tables = self._connection, "SELECT name FROM sqlite_master"
        connection.row_factory = sqlite3.Row
        if not connection.execute(tables).fetchone():
            about = f"CREATE TABLE ragkit (kind, version); INSERT INTO ragkit VALUES ('{kind}', {version});"
            try:
                connection.executescript(f"BEGIN IMMEDIATE; {about} {schema} COMMIT;")
            except sqlite3.OperationalError as error:
                connection.rollback()
                if "already exists" not in str(error):  # else another process has just made the tables
                    raise
        found = "something that this version of ragkit did not make"
        if "ragkit" in {row["name"] for row in connection.execute(tables)}:
            found = "{}, version {}".format(*connection.execute("SELECT kind, version FROM ragkit").fetchone())
        if found != (expected := f"{kind}, version {version}"):
            raise InputError(f"{self.path} holds {found}; expected {expected}: choose another name, or move it away")
        with suppress(sqlite3.OperationalError):  # another process that opens the file now will do it
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """SQLite's errors do not say which file they are about: put its path in front."""
        try:
            yield
        except sqlite3.Error as error:
            error.args = (f"{self.path}: {error}",)
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """What is written in the body is committed at its end, or not at all where an error escapes.

        Raises:
            sqlite3.Error: with the file's path: it is locked, full, damaged, or was closed.
        """
        with self._lock, self._naming(), self._connection:
            yield self._connection

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        with self._lock:
            self._connection.close()
