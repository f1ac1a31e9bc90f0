"""Every query as a trace: what was asked, what was found, how long each stage took, what it cost, what went wrong.

::

    monitor = TraceMonitor()
    rag = RAGPipeline(vector_store, reranker, llm, monitor=monitor)
    answer = await rag.query("How do I discard all waiting tasks?")
    monitor.trace(answer.trace_id)      # everything about this answer
    monitor.dataframe()                 # one row a query
    monitor.dashboard()

A trace is in the file before the answer is returned, and survives a kill of the process. If the file can't take it
(the disk is full, another program has locked it, it is damaged), the query is answered all the same.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.base import InputError, require
from ragkit.files import home
from ragkit.pipeline.trace import Trace
from ragkit.production.database import DatabaseTrouble
from ragkit.production.ledger import Ledger
from ragkit.production.privacy import Privacy, Text
from ragkit.production.spans import spans
from ragkit.production.stored import StoredTrace, stored, table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Losses", "StoredTrace", "TraceMonitor"]

_log = logging.getLogger(__name__)
_DISABLED = "OTEL_SDK_DISABLED is set, so no query is traced; unset it and make a new monitor"


@dataclass(frozen=True, slots=True)
class Losses:
    """What is not where it belongs; false where there is nothing.

    >>> bool(Losses()), str(Losses(waiting=2, dropped=1))
    (False, '2 traces wait in memory, 1 traces are lost')
    """

    waiting: int = 0
    """Traces in memory, because the file can't take them now."""
    dropped: int = 0
    """Traces that are gone: more waited than memory is kept for, or the monitor was closed."""
    unsent: int = 0
    """Spans that the OTLP endpoint did not take. They are in the local file."""

    def __bool__(self) -> bool:
        return bool(self.waiting or self.dropped or self.unsent)

    def __str__(self) -> str:
        told = {"traces wait in memory": self.waiting, "traces are lost": self.dropped, "spans unsent": self.unsent}
        return ", ".join(f"{number} {what}" for what, number in told.items() if number) or "nothing lost"


class TraceMonitor:
    """Keeps the trace of every query in a SQLite file, and sends it on to an OTLP endpoint where there is one.

    A ``Monitor`` for ``RAGPipeline``. Several threads may use it, and several processes one file. A file in trouble is
    told of once, in the log; after that ``losses``, ``trouble`` and the ``repr`` show it, and what waits is written
    when the file can be written again. An endpoint that hangs or is gone never delays a query.

    Chunk ids, the names of the parts, ``tenant`` and ``session`` are always kept; passages are not kept in the file (a
    chunk's id says where it stands in the corpus), nor are candidates after the tenth; both are sent to the endpoint,
    as viewers want them.

    Args:
        path: the file; None is ``production/traces.db`` below ``ragkit.files.home()``.
        text: "redacted" keeps texts without what looks like a secret, "all" keeps them as they are, "none" keeps no
            text of question, answer, passage or error: a keyed digest stands for the question. Who has the file can
            try guessed questions against it, and against ``cache_key``. A cache has a file of its own, with all texts.
        otlp: the address of an OTLP/HTTP endpoint, such as ``http://127.0.0.1:4318``. None is what
            ``OTEL_EXPORTER_OTLP_ENDPOINT`` says; "" is nowhere.
        max_traces: when the file has more, the oldest go. A trace takes about 7 kB.
        max_days: traces older than this go; None keeps them.
        clock: seconds since 1970.

    Raises:
        InputError: a setting outside its range.
        MissingExtraError: OpenTelemetry is not installed.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        text: Text = "redacted",
        otlp: str | None = None,
        max_traces: int = 100_000,
        max_days: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if max_traces < 1 or (max_days is not None and max_days <= 0):
            raise InputError(f"max_traces is {max_traces!r}, max_days {max_days!r}: expected 1 or more, and above 0")
        self._privacy = Privacy(text, secrets.token_hex(16))
        self._salted = text != "none"
        require("openinference.semconv.trace", "production")
        require("opentelemetry.sdk.trace", "production")
        from ragkit.production.sending import sender_to
        from ragkit.production.telemetry import Telemetry

        self.path = home() / "production" / "traces.db" if path is None else Path(path).expanduser().absolute()
        self._ledger = Ledger(self.path, max_traces, max_days, clock)
        self._sender = sender_to(otlp)
        self._telemetry = Telemetry(self._ledger.add, self._sender)
        self._ledger.check()
        if self._telemetry.disabled:
            _log.warning(_DISABLED)

    def __repr__(self) -> str:
        about = [repr(str(self.path)), f"text={self._privacy.text!r}"]
        if self._sender is not None:
            about.append(f"otlp={self._sender.endpoint!r}")
        if self.losses:
            about.append(str(self.losses))
        return f"TraceMonitor({', '.join(about)}{'; ' + self.trouble if self.trouble else ''})"

    def __enter__(self) -> TraceMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def losses(self) -> Losses:
        """What is not where it belongs."""
        unsent = 0 if self._sender is None else self._sender.unsent
        return Losses(len(self._ledger.waiting), self._ledger.dropped, unsent)

    @property
    def trouble(self) -> str:
        """Why traces can't be written now, and what to do; "" where they can."""
        if self._telemetry.disabled:
            return _DISABLED
        return "" if self._ledger.trouble is None else str(self._ledger.trouble)

    def record(self, trace: Trace) -> None:
        """Keep ``trace``. When this returns it is in the file, or ``trouble`` says why it waits in memory."""
        self._telemetry.emit(_number(trace.id), spans(trace, self._private(), documents=self._sender is not None))

    def trace(self, trace_id: str) -> StoredTrace:
        """Everything about one query.

        Raises:
            InputError: there is no such trace, or no more.
            DatabaseTrouble: the file can't be read.
        """
        key = f"{_number(trace_id):032x}"
        waiting = [row for row in self._ledger.waiting if row.id == key]
        for row in waiting or self._ledger.rows("WHERE id = ?", (key,)):
            return stored(row)
        raise InputError(f"no trace {trace_id!r} in {self.path}: expected an answer's trace_id; the oldest traces go")

    def dataframe(self, since: datetime | float | None = None, until: datetime | float | None = None) -> pd.DataFrame:
        """One row a query that began in ``[since, until)``, in the order in which they were recorded.

        Columns: ``trace_id began question tenant session k ms cache_ms rewrite_ms retrieve_ms rerank_ms build_ms
        generate_ms top_score scores hits candidates context_tokens cache similarity model input_tokens output_tokens
        cost abstained reason error failed_stage settings``. ``ragkit.production.stored.table`` says what they hold.

        Raises:
            DatabaseTrouble: the file can't be read.
        """
        first, last = _seconds(since, float("-inf")), _seconds(until, float("inf"))
        self._ledger.flush()
        waiting = [row for row in self._ledger.waiting if first <= row.began < last]
        rows = self._ledger.rows("WHERE began >= ? AND began < ?", (first, last))
        there = {row.id for row in rows}
        return table(stored(row) for row in (*rows, *(row for row in waiting if row.id not in there)))

    def dashboard(self) -> Any:
        """A plotly figure of what happened: latency by stage, scores, abstentions and errors, what is asked most.

        Where there are ``losses``, they are its title.

        Raises:
            DatabaseTrouble: the file can't be read.
        """
        from ragkit.production.dashboard import dashboard

        figure = dashboard(self.dataframe())
        if self.losses:
            figure.update_layout(title={"text": str(self.losses), "font": {"color": "#D55E00", "size": 14}, "y": 0.99})
        return figure

    def close(self) -> None:
        """Write what waits, send what waits (for two seconds at most), close the file. More than once does no harm."""
        if not self._ledger.flush() and (lost := self._ledger.give_up()):
            _log.warning("%d traces are lost, %s could not be written: %s", lost, self.path, self.trouble)
        self._telemetry.provider.shutdown()
        self._ledger.database.close()

    def _private(self) -> Privacy:
        if not self._salted and self._ledger.trouble is None:
            try:
                self._privacy = Privacy("none", self._ledger.salt())
                self._salted = True
            except DatabaseTrouble:
                pass  # until the file can be read, digests are keyed with a salt of this object's own
        return self._privacy


def _number(trace_id: str) -> int:
    """The 128 bits of a trace id; those of its sha256 where it is not 32 hex digits (W3C Trace Context, 3.2.2.3)."""
    if re.fullmatch(r"[0-9a-f]{32}", trace_id) and int(trace_id, 16):
        return int(trace_id, 16)
    return int.from_bytes(hashlib.sha256(trace_id.encode("utf-8", "surrogatepass")).digest()[:16])


def _seconds(when: datetime | float | None, default: float) -> float:
    if when is None:
        return default
    return when.timestamp() if isinstance(when, datetime) else float(when)
