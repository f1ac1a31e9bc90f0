"""What can be wrong with a database file, and what to do about it."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from ragkit.base import RagkitError

Kind = Literal["locked", "full", "corrupt", "foreign", "version", "read-only", "unreadable", "closed"]
_ADVICE: Mapping[Kind, str] = {
    "locked": "locked by another program; close that program, or try again",
    "full": "the disk is full; free some space",
    "corrupt": "damaged; move it away (nothing was changed or deleted) and a new one is begun",
    "foreign": "not a file of this kind; give another path, or move the file away",
    "version": "written by another version of ragkit; use that version, or give another path",
    "read-only": "can't be written; check the rights of the file and of its folder, or give another path",
    "unreadable": "the disk does not read or write it; check the disk, or give another path",
    "closed": "closed; make a new object",
}
_CODES: Mapping[int, Kind] = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_PROTOCOL: "locked",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "foreign",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_PERM: "read-only",
    sqlite3.SQLITE_CANTOPEN: "read-only",
    sqlite3.SQLITE_IOERR: "unreadable",
}


class DatabaseTrouble(RagkitError):  # noqa: N818 - it is not always an error: a locked file may open a second later
    """A database file can't be used right now, or at all: ``kind`` says why, ``path`` which, the message what to do."""

    def __init__(self, path: Path, kind: Kind, found: str) -> None:
        super().__init__(f"{path}: {_ADVICE[kind]} ({kind}: {found})")
        self.path, self.kind, self.found = path, kind, found

    def __reduce__(self) -> tuple[type[DatabaseTrouble], tuple[Path, Kind, str]]:
        return DatabaseTrouble, (self.path, self.kind, self.found)


def kind_of(error: sqlite3.Error) -> Kind | None:
    """Which trouble with the file it is (https://sqlite.org/rescode.html); None where a statement is wrong."""
    return _CODES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """SQLite's errors that are about the file become a ``DatabaseTrouble``; those about a statement are left."""
    try:
        yield
    except sqlite3.Error as error:
        kind = kind_of(error)
        if kind is None:
            raise
        raise DatabaseTrouble(path, kind, str(error)) from error


def unmade(path: Path, error: OSError) -> DatabaseTrouble:
    """A file that could not be made, or looked at."""
    return DatabaseTrouble(path, "full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "read-only", str(error))
