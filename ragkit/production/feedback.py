"""What people say about answers, bound to the trace of the answer, and what to look at first.

    feedback = FeedbackStore(monitor, cache=cache)
    feedback.add(answer.trace_id, thumb=-1, reasons=["outdated"], correction="Since 5.0 it is ...", who="ann")
    feedback.queue()[0]                                         # the question that is most worth a look

Whoever speaks is not everybody: see ``ragkit.production.readers`` for how far thumbs can be from the truth.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ragkit.base import InputError
from ragkit.files import home
from ragkit.production.database import Database
from ragkit.production.opinions import LONGEST, REASONS, Feedback, Flag, Thumb, flags
from ragkit.production.privacy import encodable
from ragkit.production.redaction import redact

if TYPE_CHECKING:
    import pandas as pd

    from ragkit.production.monitoring import StoredTrace

__all__ = ["REASONS", "Feedback", "FeedbackStore", "Flag"]

_log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE feedback (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, trace_id TEXT NOT NULL, who TEXT NOT NULL,
    thumb INTEGER NOT NULL, reasons TEXT NOT NULL, correction TEXT NOT NULL, flagged TEXT NOT NULL,
    comment TEXT NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL, shown TEXT NOT NULL, tenant TEXT NOT NULL);
CREATE INDEX feedback_trace ON feedback (trace_id, who);
"""


class Forgetful(Protocol):
    """A cache that can be told to forget one answer."""

    def forget(self, digest: str) -> bool: ...


class Traces(Protocol):
    """The part of a ``TraceMonitor`` that feedback needs."""

    def trace(self, trace_id: str) -> StoredTrace:
        """Raises ``InputError`` for a trace that is not there."""
        ...

    def dataframe(self) -> pd.DataFrame: ...


class FeedbackStore:
    """Opinions on answers, in one SQLite file. When ``add`` returns, the record is on the disk.

    Args:
        monitor: knows the traces that opinions are about.
        path: the file (``home()/"production"/"feedback.db"``).
        cache: forgets an answer that gets a thumb down.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        monitor: Traces,
        path: str | Path | None = None,
        cache: Forgetful | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.monitor, self.cache, self.clock = monitor, cache, clock
        # A person has typed this, and can wait a second rather than be told to try again.
        file = path or home() / "production" / "feedback.db"
        self._database = Database(file, _SCHEMA, durable=True, patience=1.0)

    def __repr__(self) -> str:
        return f"FeedbackStore({str(self._database.path)!r})"

    def __enter__(self) -> FeedbackStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        self._database.close()

    def add(
        self,
        trace_id: str,
        thumb: Thumb,
        reasons: Sequence[str] = (),
        correction: str = "",
        flagged: Sequence[str] = (),
        comment: str = "",
        who: str = "",
    ) -> Feedback:
        """Keep an opinion; the same ``who`` may change it by another ``add``.

        Free texts lose what looks like a secret (``redact``). A thumb down makes the cache forget the answer: the
        next to ask gets a new one. (Of a pipeline that has not changed, the same one; it is the fix that helps.)

        Raises:
            InputError: no such trace; a thumb that is not -1 or 1; a reason that is not in ``REASONS``; a flagged chunk
                that the answer did not show; a text longer than ``LONGEST``. Nothing is written.
            DatabaseTrouble: the file is locked, full or damaged. Nothing is written: keep the record, and try again.
        """
        reasons, flagged = _checked(thumb, reasons, flagged, correction, comment)
        trace = self.monitor.trace(trace_id)
        # A context joins neighbouring hits to one source, so what an answer cites need not be one of them.
        shown = tuple(dict.fromkeys([*(chunk_id for chunk_id, _ in trace.hits), *trace.citations]))
        if unknown := [chunk_id for chunk_id in flagged if chunk_id not in shown]:
            raise InputError(
                f"flagged {unknown[0]!r} was not shown with the answer of trace {trace_id!r}: expected a hit or "
                "a source of it"
            )
        told = Feedback(
            number=0,
            at=self.clock(),
            trace_id=trace.id,
            thumb=thumb,
            reasons=reasons,
            correction=encodable(redact(correction.strip())),
            flagged=flagged,
            comment=encodable(redact(comment.strip())),
            who=encodable(who),
            question=trace.question,
            answer=trace.answer,
            shown=shown,
            tenant=trace.tenant,
        )
        with self._database.transaction() as connection:
            number = connection.execute(_INSERT, _row(told)).lastrowid
        # Only now, when nothing can be lost any more.
        return replace(told, number=int(number or 0), forgotten=thumb < 0 and self._forgot(trace.cache_key))

    def history(self, trace_id: str) -> tuple[Feedback, ...]:
        """All that was said about one trace, oldest first, also what was taken back.

        Raises:
            DatabaseTrouble: the file can't be read.
        """
        rows = self._database.read("SELECT * FROM feedback WHERE trace_id = ? ORDER BY number", [trace_id])
        return tuple(_record(row) for row in rows)

    def all(self) -> tuple[Feedback, ...]:
        """The opinions that count, oldest first: of each ``who`` on each trace the last one.

        Raises:
            DatabaseTrouble: the file can't be read.
        """
        return tuple(_record(row) for row in self._database.read(_LAST))

    def queue(self, done: Collection[str] = ()) -> tuple[Flag, ...]:
        """The questions whose answers somebody disliked, the worst first (``Flag.weight``), each once.

        Questions are the same if they differ in white space or in upper and lower case only, whoever asked. Those in
        ``done`` (the texts of a regression set) are left out. Of a monitor that keeps no text, digests are counted.

        Raises:
            DatabaseTrouble: one of the two files can't be read.
        """
        return flags(self.all(), self.monitor.dataframe(), done)

    def _forgot(self, digest: str) -> bool:
        """Whether the cache has dropped the answer. Its failure is logged: the opinion is kept, and it must be seen."""
        if self.cache is None or not digest:
            return False
        try:
            return self.cache.forget(digest)
        except Exception:
            _log.exception("the cache could not forget an answer that got a thumb down")
            return False


_INSERT = """
INSERT INTO feedback (at, trace_id, who, thumb, reasons, correction, flagged, comment, question, answer, shown, tenant)
VALUES (:at, :trace_id, :who, :thumb, :reasons, :correction, :flagged, :comment, :question, :answer, :shown, :tenant)
"""
# By number, not by time: a clock may be set back.
_LAST = """
SELECT * FROM feedback WHERE number IN (SELECT max(number) FROM feedback GROUP BY trace_id, who) ORDER BY number
"""


def _checked(
    thumb: int, reasons: Sequence[str], flagged: Sequence[str], correction: str, comment: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if isinstance(thumb, bool) or thumb not in (-1, 1):
        raise InputError(f"thumb is {thumb!r}: expected 1 (up) or -1 (down)")
    if isinstance(reasons, str) or isinstance(flagged, str):
        raise InputError("reasons and flagged are lists of texts: expected ['wrong'], not 'wrong'")
    if unknown := [reason for reason in reasons if reason not in REASONS]:
        raise InputError(f"reason {unknown[0]!r}: expected some of {', '.join(REASONS)}")
    if (longest := max(len(correction), len(comment))) > LONGEST:
        raise InputError(f"a text of {longest} characters: expected at most {LONGEST}")
    return tuple(dict.fromkeys(reasons)), tuple(dict.fromkeys(flagged))


def _row(told: Feedback) -> dict[str, object]:
    lists = {name: json.dumps(getattr(told, name)) for name in ("reasons", "flagged", "shown")}
    return {**vars(told), **lists}


def _record(row: Any) -> Feedback:
    kept = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a Row's own iteration gives values
    for name in ("reasons", "flagged", "shown"):
        kept[name] = tuple(json.loads(kept[name]))
    return Feedback(**kept)
