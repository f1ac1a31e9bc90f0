"""One SQLite file that several threads and processes write: what traces, feedback and cached answers are kept in.

The file is in WAL mode: readers never wait for a writer, and a transaction is in the file when ``transaction`` ends.
With ``durable=False`` (``synchronous=NORMAL``) it survives a kill of the process, but the last ones may be gone after a
power cut or a crash of the operating system; ``durable=True`` (``synchronous=FULL``) waits for the disk each time.
Neither can leave the file half written (https://sqlite.org/wal.html, https://sqlite.org/pragma.html#pragma_synchronous).

Nothing here deletes, moves or overwrites a file that can't be read: it stays where it is, as evidence.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakSet

from ragkit.base import InputError
from ragkit.production.trouble import DatabaseTrouble, kind_of, told, unmade

__all__ = ["Database", "DatabaseTrouble"]

APPLICATION = 0x72616779
"""SQLite's ``application_id`` of every file of ours (https://sqlite.org/pragma.html#pragma_application_id)."""

Parameters = Sequence[Any] | Mapping[str, Any]

_OPENING = 1.0  # seconds: processes that open a new file at once take turns
_SMALLEST = 512  # bytes: SQLite takes a smaller file for an empty one, and writes over it


@dataclass(frozen=True)
class _Pair:
    """A connection that writes and one that reads, each used by one thread at a time, and the file they belong to."""

    writer: sqlite3.Connection
    reader: sqlite3.Connection
    file: tuple[int, int]
    writing: threading.RLock = field(default_factory=threading.RLock)
    reading: threading.RLock = field(default_factory=threading.RLock)


class Database:
    """The SQLite file at ``path``, made with ``schema`` where there is none. It is opened when it is first used.

    Threads share the object; a process that was forked or spawned opens the file for itself.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Database(Path(folder) / "a.db", "CREATE TABLE t (x)") as db:
    ...     db.write("INSERT INTO t VALUES (?)", [7])
    ...     db.read("SELECT x FROM t")[0]["x"]
    1
    7

    Args:
        path: the file. It is made private to its owner, and so are SQLite's ``-wal`` and ``-shm`` beside it.
        schema: the ``CREATE`` statements, each closed by a semicolon.
        version: of the schema. A file of another version is refused.
        durable: wait for the disk at the end of each transaction.
        patience: seconds to wait for another process's transaction. Opening waits a second at least.

    Raises:
        InputError: ``version`` < 1 or ``patience`` < 0.
    """

    def __init__(
        self, path: str | Path, schema: str, *, version: int = 1, durable: bool = False, patience: float = 0.25
    ) -> None:
        if version < 1 or patience < 0:
            raise InputError(f"version is {version!r}, patience {patience!r}: expected 1 or more, and 0 or more")
        self.path = Path(path).expanduser().absolute()
        self.schema, self.version, self.durable, self.patience = schema, version, durable, patience
        self._pair: _Pair | None = None
        self._opening, self._closed = threading.Lock(), False
        _ALL.add(self)

    def __repr__(self) -> str:
        return f"Database({str(self.path)!r})"

    def __getstate__(self) -> dict[str, Any]:
        kept = ("path", "schema", "version", "durable", "patience")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Database.__init__(self, state.pop("path"), state.pop("schema"), **state)

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """The rows of a query, as they stand in the file; a transaction that is under way does not show.

        Raises:
            DatabaseTrouble: the file is locked, damaged, foreign, ...
        """
        pair = self._opened()
        with pair.reading, told(self.path):
            return pair.reader.execute(sql, parameters).fetchall()

    def write(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one statement in a transaction (or in the one that this thread is in); how many rows it changed.

        Raises:
            DatabaseTrouble: nothing was written: the file is locked, the disk full, ...
        """
        with self.transaction() as connection:
            return connection.execute(sql, parameters).rowcount

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is written through the connection becomes visible at the end, or nothing where an error escapes.

        It begins as a writer (``BEGIN IMMEDIATE``), so what it reads can't change before it ends. Within another
        transaction of the same thread it is part of that.

        Raises:
            DatabaseTrouble: nothing was written: the file is locked, the disk full, ...
        """
        pair = self._opened()
        with pair.writing, told(self.path):
            connection = pair.writer
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite has rolled back by itself where the disk was full
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file, after what is under way; more than once does no harm."""
        with self._opening:
            pair, self._pair, self._closed = self._pair, None, True
        if pair is not None:
            with pair.writing, pair.reading:
                pair.reader.close()
                pair.writer.close()

    def _opened(self) -> _Pair:
        with self._opening:
            if self._closed:
                raise DatabaseTrouble(self.path, "closed", "close() was called")
            # A file that was removed or replaced would still take every write, and lose it: then open what is there.
            if self._pair is None or self._pair.file != self._file():
                self._pair = None
                self._pair = self._open()
            return self._pair

    def _file(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)  # noqa: PTH116 - once a transaction: a tenth of the time of Path.stat
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _open(self) -> _Pair:
        try:
            self._make()
        except OSError as error:
            raise unmade(self.path, error) from error
        with told(self.path):
            until = time.monotonic() + max(self.patience, _OPENING)
            while True:
                try:
                    return self._connected()
                except sqlite3.OperationalError as error:
                    # To change to WAL, SQLite does not wait for its turn.
                    if kind_of(error) != "locked" or time.monotonic() > until:
                        raise
                    time.sleep(0.01)

    def _make(self) -> None:
        """An empty file that only its owner can read. One that is there is never opened but by SQLite: to close it
        would drop the locks that SQLite holds (https://sqlite.org/howtocorrupt.html, 2.2)."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        size, log = (path.stat().st_size if path.is_file() else 0 for path in (self.path, Path(f"{self.path}-wal")))
        if 0 < size < _SMALLEST:
            raise DatabaseTrouble(self.path, "foreign", f"it has {size} bytes")
        if log and not size:
            raise DatabaseTrouble(self.path, "corrupt", f"it is empty, but {self.path.name}-wal is not")
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    def _connected(self) -> _Pair:
        writer = self._connect()
        try:
            self._prepare(writer)
            reader = self._connect()
        except BaseException:
            writer.close()
            raise
        reader.execute("PRAGMA query_only = ON")
        reader.row_factory = sqlite3.Row
        file = self._file()
        if file is None:
            raise DatabaseTrouble(self.path, "unreadable", "the file vanished while it was opened")
        return _Pair(writer, reader, file)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=self.patience, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA cell_size_check = ON")  # finds more of what is damaged
        connection.execute("PRAGMA secure_delete = ON")  # what was deleted is overwritten, not only unlinked
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make sure that the file is ours before the first byte of it is changed."""
        new = self._refused(connection)
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'NORMAL'}")
        if not new:
            return
        connection.execute("BEGIN IMMEDIATE")
        if self._refused(connection):  # else another process was first
            for statement in statements(self.schema):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {self.version}")
        connection.execute("COMMIT")

    def _refused(self, connection: sqlite3.Connection) -> bool:
        """Whether the file is still empty; a file that is not ours is refused."""
        alone = not connection.in_transaction
        if alone:
            connection.execute("BEGIN")  # both reads see one state: another process may make the file between them
        try:
            application, version = (int(connection.execute(f"PRAGMA {p}").fetchone()[0]) for p in _MARKS)
            tables = _tables(connection)
        finally:
            if alone and connection.in_transaction:
                connection.execute("ROLLBACK")
        if not tables and not application:
            return True
        if application != APPLICATION:
            raise DatabaseTrouble(self.path, "foreign", f"application_id {application:#x}, expected {APPLICATION:#x}")
        if version != self.version:
            raise DatabaseTrouble(self.path, "version", f"schema {version}, expected {self.version}")
        with closing(sqlite3.connect(":memory:")) as model:
            model.executescript(self.schema)
            if missing := _tables(model) - tables:
                raise DatabaseTrouble(self.path, "foreign", f"another part of ragkit made it: no table {min(missing)}")
        return False


_MARKS = ("application_id", "user_version")
_ALL: WeakSet[Database] = WeakSet()
_INHERITED: list[_Pair] = []


def _after_fork() -> None:
    """A connection must not be used, nor closed, by a child process (https://sqlite.org/howtocorrupt.html, 2.6)."""
    for database in _ALL:
        if database._pair is not None:
            _INHERITED.append(database._pair)
        database._pair, database._opening = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def statements(script: str) -> list[str]:
    """The statements of ``script``: ``executescript`` would end the transaction that they are to be part of.

    >>> statements("CREATE TABLE a (x); CREATE TABLE b (y);")
    ['CREATE TABLE a (x);', 'CREATE TABLE b (y);']
    """
    found, rest = [], ""
    for piece in script.split(";"):
        rest += piece + ";"
        if sqlite3.complete_statement(rest):
            found.append(rest.strip())
            rest = ""
    return [statement for statement in found if statement != ";"]


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
