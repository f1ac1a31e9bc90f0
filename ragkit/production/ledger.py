"""Where traces are kept: one row a query, held in memory while the file takes none.

A row's ``attributes`` are those of the query's span, which hold all that a trace says of itself; ``spans`` are those of
its stages. Both are JSON, for other programs to read, and a view has a row a stage::

    SELECT stage, avg(ended - began) / 1e6 FROM spans GROUP BY stage
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

from ragkit.production.database import Database, DatabaseTrouble

_log = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO about VALUES ('salt', lower(hex(randomblob(16))));
CREATE TABLE traces (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, began REAL NOT NULL, ms REAL NOT NULL, span TEXT NOT NULL,
    attributes TEXT NOT NULL, stages TEXT NOT NULL, events TEXT NOT NULL, spans TEXT NOT NULL
);
CREATE INDEX traces_began ON traces (began);
CREATE VIEW spans AS SELECT
    traces.id AS trace, each.key AS position, json_extract(value, '$.id') AS id,
    json_extract(value, '$.parent') AS parent, json_extract(value, '$.name') AS name,
    json_extract(value, '$.stage') AS stage, json_extract(value, '$.began') AS began,
    json_extract(value, '$.ended') AS ended, json_extract(value, '$.status') AS status,
    json_extract(value, '$.attributes') AS attributes, json_extract(value, '$.events') AS events
FROM traces, json_each(traces.spans) AS each;
"""
VERSION = 1
HELD = 1000  # traces in memory; when there are more, the oldest goes
PRUNE_EVERY, PRUNE_MOST = 200, 2000  # traces
_AGAIN, _AGAIN_MOST = 1.0, 10.0  # seconds until a file in trouble is tried again, doubled each time

_COLUMNS = "id, began, ms, span, attributes, stages, events"
_INSERT = f"INSERT OR IGNORE INTO traces ({_COLUMNS}, spans) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Row:
    """A trace, as it is kept: its id, when it began (seconds since 1970), how long it took, the id of its span, and in
    JSON: that span's attributes, ``[stage, start, ms]`` of each stage, that span's events, the spans of the stages."""

    id: str
    began: float
    ms: float
    span: str
    attributes: str
    stages: str
    events: str
    spans: str = "[]"


_values = attrgetter(*(field.name for field in fields(Row)))


class Ledger:
    """The rows in the file, and those that wait for it. Several threads may use it.

    Args:
        path: the file.
        max_traces: when there are more, the oldest go.
        max_days: when they are older than this, they go.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, max_traces: int, max_days: float | None, clock: Callable[[], float]) -> None:
        self.database = Database(path, SCHEMA, version=VERSION)
        self.max_traces, self.max_days, self.clock = max_traces, max_days, clock
        self.trouble: DatabaseTrouble | sqlite3.Error | None = None
        self.dropped = 0
        self._waiting: deque[Row] = deque()
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._again, self._delay, self._unpruned = 0.0, _AGAIN, PRUNE_EVERY

    @property
    def waiting(self) -> tuple[Row, ...]:
        """The rows that are not in the file, oldest first."""
        with self._lock:
            return tuple(self._waiting)

    def add(self, row: Row) -> None:
        """Write ``row``, and all that waits: in the file when this returns, or told to be in trouble."""
        with self._lock:
            self._waiting.append(row)
            if len(self._waiting) > HELD:
                self._waiting.popleft()
                self.dropped += 1
            if self.trouble is None or time.monotonic() >= self._again:
                self._write(row)

    def flush(self) -> bool:
        """Try to write what waits, now; whether nothing does."""
        with self._lock:
            if self._waiting:
                self._write(None)
            return not self._waiting

    def give_up(self) -> int:
        """Forget what waits; how many that were."""
        with self._lock:
            lost = len(self._waiting)
            self._waiting.clear()
            self.dropped += lost
            return lost

    def check(self) -> None:
        """See whether the file can be used, and tell if not."""
        with self._lock:
            try:
                self.database.read("SELECT 1 FROM traces LIMIT 1")
            except (DatabaseTrouble, sqlite3.Error) as trouble:
                self._troubled(trouble)

    def salt(self) -> str:
        """What digests of this file are keyed with, made with the file.

        Raises:
            DatabaseTrouble: the file can't be read.
        """
        return str(self.database.read("SELECT value FROM about WHERE name = 'salt'")[0][0])

    def rows(self, where: str = "", parameters: tuple[object, ...] = ()) -> list[Row]:
        """The rows of the file in the order in which they were written, without the spans of the stages.

        Raises:
            DatabaseTrouble: the file can't be read.
        """
        return [
            Row(*row) for row in self.database.read(f"SELECT {_COLUMNS} FROM traces {where} ORDER BY n", parameters)
        ]

    def _write(self, newest: Row | None) -> None:
        try:
            with self.database.transaction() as connection:
                connection.executemany(_INSERT, map(_values, self._waiting))  # one that is there is not written again
                self._unpruned += len(self._waiting)
                if self._unpruned >= PRUNE_EVERY:
                    self._prune(connection)
        except (DatabaseTrouble, sqlite3.Error) as trouble:
            self._troubled(trouble)
        except BaseException:
            if newest is not None:  # else a row that can't be written would stop all that come after it
                self._waiting.remove(newest)
            raise
        else:
            self._waiting.clear()
            self.trouble, self._delay = None, _AGAIN

    def _troubled(self, trouble: DatabaseTrouble | sqlite3.Error) -> None:
        self.trouble = trouble
        self._again, self._delay = time.monotonic() + self._delay, min(2 * self._delay, _AGAIN_MOST)
        kind = trouble.kind if isinstance(trouble, DatabaseTrouble) else type(trouble).__name__
        if kind == "closed":  # it is not opened again: nothing that waits could ever be written
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self._again = 0.0
        if kind not in self._told:
            self._told.add(kind)
            what = "lost" if kind == "closed" else f"held in memory, and lost when there are more than {HELD}"
            _log.warning("traces are %s: %s", what, trouble)

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Remove the oldest, by the order in which they were written: the clock may have been set back."""
        self._unpruned = 0
        first, last = connection.execute("SELECT min(n), max(n) FROM traces").fetchone()
        keep = last - self.max_traces + 1
        if self.max_days is not None:
            recent = self.clock() - self.max_days * 86400
            young = connection.execute(
                "SELECT n FROM traces WHERE +began >= ? ORDER BY n LIMIT 1", (recent,)
            ).fetchone()
            keep = max(keep, young[0] if young else last + 1)
        if keep > first:
            keep = min(keep, first + PRUNE_MOST)
            connection.execute("DELETE FROM traces WHERE n < ?", (keep,))
