"""What caches keep, in one SQLite file: texts under keys, until they are too old, too many, damaged or forgotten.

- An entry that is older than ``ttl``, or was written in the future (the clock was set back), counts as none.
- Past ``max_bytes`` those go that were not used for longest. Recency is counted, not read from a clock. Reading must
  not wait for a writer: which entries were read is noted with the next that is written, or after a few hundred.
- Each entry has a sha256 of its key, its time and its text: a flipped bit makes a miss, never a wrong answer.
- Where the file is locked, full or corrupt, every ``get`` is a miss and every ``put`` does nothing. That is logged
  once and stands in ``trouble``; the file is tried again a second later.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from ragkit.base import InputError
from ragkit.pipeline.trace import CacheKey
from ragkit.production.database import Database, DatabaseTrouble

_log = logging.getLogger(__name__)
R = TypeVar("R")

MAX_BYTES = 500_000_000
_READ = 256  # entries that were read and are not yet noted as used
_PAUSE = 1.0  # seconds for which a file that made trouble is left alone
_OVERHEAD = 400  # bytes of an entry besides its text: key, digests, what the indexes take

# All but the digest are blobs: SQLite can't fail to decode them when a bit was flipped.
_SCHEMA = """
CREATE TABLE entries (
    digest TEXT PRIMARY KEY, settings BLOB NOT NULL, tenant BLOB NOT NULL, question BLOB NOT NULL, text BLOB NOT NULL,
    checksum BLOB NOT NULL, bytes INTEGER NOT NULL, written REAL NOT NULL, used INTEGER NOT NULL);
CREATE INDEX entries_used ON entries (used);
CREATE INDEX entries_written ON entries (written);
CREATE INDEX entries_whose ON entries (tenant, settings, bytes);
CREATE TABLE vectors (
    id INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL, model TEXT NOT NULL, vector BLOB NOT NULL,
    checksum BLOB NOT NULL, UNIQUE (digest, model));
CREATE TABLE size (bytes INTEGER NOT NULL);
INSERT INTO size VALUES (0);
CREATE TRIGGER entries_in AFTER INSERT ON entries BEGIN UPDATE size SET bytes = bytes + NEW.bytes; END;
CREATE TRIGGER entries_out AFTER DELETE ON entries BEGIN
    UPDATE size SET bytes = bytes - OLD.bytes;
    DELETE FROM vectors WHERE digest = OLD.digest;
END;
"""
_NEXT = "(SELECT coalesce(max(used), 0) + 1 FROM entries)"


@dataclass(frozen=True)
class CacheStats:
    """What a cache did since it was opened here (``hits`` to ``refused``), and what it holds (``entries``, ``bytes``).

    ``misses`` contain what was ``expired`` or ``damaged``; ``refused`` was too large to be kept.
    """

    hits: int = 0
    misses: int = 0
    expired: int = 0
    damaged: int = 0
    evictions: int = 0
    refused: int = 0
    entries: int = 0
    bytes: int = 0

    @property
    def hit_rate(self) -> float:
        """Hits among all that was asked; NaN before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else math.nan

    def __add__(self, other: CacheStats) -> CacheStats:
        return CacheStats(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(CacheStats)))


class Entries:
    """Texts under keys, in the file at ``path``. Threads and processes may share it.

    Args:
        path: the SQLite file.
        ttl: seconds that an entry lives; None for ever.
        max_bytes: of all entries together.
        clock: seconds since 1970.

    Raises:
        InputError: ``ttl`` or ``max_bytes`` is not positive.
    """

    def __init__(
        self,
        path: Path,
        *,
        ttl: float | None = None,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if (ttl is not None and not ttl > 0) or max_bytes < 1:
            raise InputError(f"ttl is {ttl!r}, max_bytes {max_bytes!r}: expected seconds (or None), and 1 or more")
        self.database = Database(path, _SCHEMA)
        self.ttl, self.max_bytes, self.clock = ttl, max_bytes, clock
        self.trouble: DatabaseTrouble | None = None
        self._told, self._quiet = False, 0.0
        self._counts: dict[str, Counter[str]] = {}
        self._read: dict[str, None] = {}
        self._turn = threading.Lock()

    def __repr__(self) -> str:
        done = self._done()
        said = f"{str(self.database.path)!r}, {done.hits} hits, {done.misses} misses"
        return f"{said}, TROUBLE: {self.trouble}" if self.trouble else said

    # ---- reading and writing

    def get(self, key: CacheKey, *, count: bool = True) -> str | None:
        """The text under ``key``; None where there is none that is fresh and whole. ``count=False``: off the record."""
        outcome, text = self._found(key)
        if count:
            self.count(key.tenant, *outcome)
        if text is not None:
            with self._turn:
                self._read.pop(key.digest, None)
                self._read[key.digest] = None  # the last read stands last
                full = len(self._read) >= _READ
            if full:
                self.try_to(self._note_read)
        return text

    def _found(self, key: CacheKey) -> tuple[tuple[str, ...], str | None]:
        """What to count, and the text."""
        select = "SELECT text, checksum, written FROM entries WHERE digest = ?"
        rows = self.try_to(lambda: self.database.read(select, (key.digest,)))
        if not rows:
            return ("misses",), None
        text, checksum, written = rows[0]
        if checksum != _checksum(key.digest, written, text):
            return ("misses", "damaged"), None
        if self.ttl is not None and not 0 <= self.clock() - written < self.ttl:
            return ("misses", "expired"), None
        return ("hits",), text.decode("ascii")

    def put(self, key: CacheKey, text: str) -> bool:
        """Keep ``text`` (ASCII) under ``key``; whether it was. When this returns, it survives a kill of the process."""
        size = len(text) + len(key.question) + _OVERHEAD
        if size > self.max_bytes:
            self.count(key.tenant, "refused")
            return False
        return self.try_to(lambda: self._put(key, text.encode("ascii"), size)) is not None

    def _put(self, key: CacheKey, text: bytes, size: int) -> bool:
        now = float(self.clock())
        row = (
            *(key.digest, _blob(key.settings), _blob(key.tenant), _blob(key.question), text),
            *(_checksum(key.digest, now, text), size, now),
        )
        with self.database.transaction() as connection:
            self._note_read()
            if self.ttl is not None:
                connection.execute("DELETE FROM entries WHERE written <= ? OR written > ?", (now - self.ttl, now))
            # Not INSERT OR REPLACE, which deletes the old row without the trigger that keeps the size.
            connection.execute("DELETE FROM entries WHERE digest = ?", (key.digest,))
            connection.execute(f"INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, {_NEXT})", row)
            gone = self._make_room(connection)
        for tenant in gone:
            self.count(tenant, "evictions")
        return True

    def _note_read(self) -> None:
        with self._turn:
            read, self._read = self._read, {}
        with self.database.transaction() as connection:
            connection.executemany(
                f"UPDATE entries SET used = {_NEXT} WHERE digest = ?", [(digest,) for digest in read]
            )

    def _make_room(self, connection: sqlite3.Connection) -> list[str]:
        """Delete what was not used for longest until all fits; the tenants of what went."""
        gone: list[str] = []
        over = int(connection.execute("SELECT bytes FROM size").fetchone()[0]) - self.max_bytes
        while over > 0:
            select = "SELECT rowid, tenant, bytes FROM entries ORDER BY used LIMIT 1"
            row, tenant, size = connection.execute(select).fetchone()
            connection.execute("DELETE FROM entries WHERE rowid = ?", (row,))
            gone.append(told(tenant))
            over -= size
        return gone

    # ---- forgetting: these raise, because somebody relies on it

    def forget(self, digest: str) -> bool:
        """Drop the entry under the key with this digest; whether there was one.

        Raises:
            DatabaseTrouble: nothing was dropped: the file is locked, damaged, ...
        """
        return self.database.write("DELETE FROM entries WHERE digest = ?", (digest,)) > 0

    def close(self) -> None:
        """Note what was read, and close the file."""
        self.try_to(self._note_read)
        self.database.close()

    # ---- counting, and trouble

    def count(self, tenant: str, *what: str) -> None:
        """Add one to each of these counts of ``tenant`` (names of ``CacheStats``)."""
        with self._turn:
            self._counts.setdefault(tenant, Counter()).update(what)

    def stats(self) -> dict[str, CacheStats]:
        """By tenant; of a file that can't be read, ``entries`` and ``bytes`` are 0."""
        select = "SELECT tenant, count(*), sum(bytes) FROM entries GROUP BY tenant"
        rows = self.try_to(lambda: self.database.read(select)) or []
        held = {told(tenant): {"entries": n, "bytes": size} for tenant, n, size in rows}
        with self._turn:
            done = {tenant: dict(counts) for tenant, counts in self._counts.items()}
        return {t: CacheStats(**done.get(t, {}), **held.get(t, {})) for t in sorted(done.keys() | held.keys())}

    def _done(self) -> CacheStats:
        with self._turn:
            return sum((CacheStats(**counts) for counts in self._counts.values()), CacheStats())

    def try_to(self, work: Callable[[], R]) -> R | None:
        """What ``work`` returns; None where the file makes trouble, or did a moment ago."""
        if time.monotonic() < self._quiet:
            return None
        try:
            result = work()
        except DatabaseTrouble as trouble:
            self.trouble, self._quiet = trouble, time.monotonic() + _PAUSE
            if not self._told:
                self._told = True
                _log.warning("the cache does nothing for now: %s", trouble)
            return None
        self.trouble = None
        return result


def _checksum(digest: str, written: object, text: object) -> bytes:
    said = f"{digest} {written!r}\n".encode()
    return hashlib.sha256(said + (text if isinstance(text, bytes) else b"")).digest()


def _blob(text: str) -> bytes:
    """Text for a column; as ASCII JSON, which even lone surrogates fit into."""
    return json.dumps(text).encode("ascii")


def told(blob: object) -> str:
    try:
        return str(json.loads(blob if isinstance(blob, bytes) else b""))
    except ValueError:  # damaged
        return "?"
