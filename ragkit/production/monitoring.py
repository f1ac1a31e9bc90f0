"""Every query as a row of one SQLite table: what was asked and found, how long each stage took, what it cost, what
went wrong.

::

    monitor = TraceMonitor()
    rag = RAGPipeline(vector_store, reranker, llm, monitor=monitor)
    answer = await rag.query("How do I discard all waiting tasks?")
    monitor.trace(answer.trace_id)      # everything about this answer
    monitor.dataframe()                 # one row a query
    monitor.dashboard()
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ragkit.base import Answer, InputError, Usage, question_key, require
from ragkit.files import Database, home
from ragkit.llm.chat import cost
from ragkit.pipeline.trace import CacheState, Stage, Trace
from ragkit.production.redaction import encodable, redact

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

Text = Literal["redacted", "all", "none"]

_STAGES = ("cache", "rewrite", "retrieve", "rerank", "build", "generate")
# What the data frame shows, and what only `trace` does. Lists and mappings are JSON.
_COLUMNS = (
    *("trace_id", "began", "question", "tenant", "session", "k", "ms", *(f"{stage}_ms" for stage in _STAGES)),
    *("top_score", "scores", "hits", "candidates", "context_tokens", "cache", "similarity", "model", "input_tokens"),
    *("output_tokens", "cost", "abstained", "reason", "error", "failed_stage", "settings"),
)
_OTHERS = ("stages", "queries", "answer", "citations", "cache_key", "parts")
_SCHEMA = f"""
CREATE TABLE traces (number INTEGER PRIMARY KEY, {", ".join(_COLUMNS + _OTHERS)}, UNIQUE (trace_id));
CREATE INDEX traces_began ON traces (began);
"""
_FLOATS = ("ms", *(f"{stage}_ms" for stage in _STAGES), "top_score", "similarity", "cost")
_INTEGERS = ("k", "candidates", "context_tokens", "input_tokens", "output_tokens")


@dataclass(frozen=True)
class StoredTrace:
    """A query as it was stored, with the texts that ``TraceMonitor(text=...)`` allowed.

    ``hits`` are (chunk id, score), best first, and ``citations`` the ids of the chunks that the answer cites. ``began``
    is in seconds since 1970, ``cost`` in US dollars: None where it is not known. An answer out of the cache costs
    nothing, and no tokens.
    """

    id: str
    question: str
    began: float
    ms: float
    k: int
    stages: tuple[Stage, ...] = ()
    hits: tuple[tuple[str, float], ...] = ()
    answer: str = ""
    citations: tuple[str, ...] = ()
    abstained: bool = False
    reason: str = ""
    error: str = ""
    failed_stage: str = ""
    cache: CacheState = "off"
    cache_key: str = ""
    similarity: float = 1.0
    candidates: int = 0
    context_tokens: int = 0
    queries: tuple[str, ...] = ()
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    tenant: str = ""
    session: str = ""
    settings: str = ""
    parts: Mapping[str, str] = field(default_factory=dict, hash=False)


class TraceMonitor:
    """A ``Monitor`` that writes each query to a SQLite file; several threads and processes may use one file.

    When ``record`` returns, the trace is in the file and survives a kill of the process. Passages are not stored: a
    chunk's id says where it stands in the corpus. Passwords in the names of parts, errors and reasons are taken out
    whatever ``text`` is.

    Args:
        path: the file; None is ``production/traces.db`` below ``ragkit.files.home()``.
        text: "redacted" stores questions and answers without what looks like a secret (``redact``), "all" as they are.
            "none" stores no text: of a question a digest, equal for equal questions (whoever has the file can try
            guesses against it), of an error its type, of a reason only whether it was an abstention or a fallback.
        max_traces: when there are more, the oldest go. A trace takes about 3 kB.

    Raises:
        InputError: a setting outside its range, or the file holds something else.
        sqlite3.Error: the file is locked, or can't be made or written.
    """

    def __init__(self, path: str | Path | None = None, *, text: Text = "redacted", max_traces: int = 100_000) -> None:
        if text not in get_args(Text) or max_traces < 1:
            raise InputError(
                f"text is {text!r}, max_traces {max_traces!r}: expected 'redacted', 'all' or 'none', and 1 or more"
            )
        self.text, self.max_traces = text, max_traces
        self._database = Database(path or home() / "production" / "traces.db", "traces", 1, _SCHEMA, timeout=2)
        self.path = self._database.path

    def __repr__(self) -> str:
        return f"TraceMonitor({str(self.path)!r}, text={self.text!r})"

    def __enter__(self) -> TraceMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, trace: Trace) -> None:
        """Store ``trace``. A trace that is recorded twice is stored once.

        Raises:
            sqlite3.Error: it is not stored: the file is locked, full, damaged, ...
        """
        row = {name: encodable(value) if isinstance(value, str) else value for name, value in self._row(trace).items()}
        insert = f"INSERT OR IGNORE INTO traces ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
        with self._database.transaction() as connection:
            connection.execute(insert, tuple(row.values()))
            connection.execute(
                "DELETE FROM traces WHERE number <= (SELECT max(number) FROM traces) - ?", (self.max_traces,)
            )

    def trace(self, trace_id: str) -> StoredTrace:
        """Everything about one query.

        Raises:
            InputError: there is no such trace, or no more.
            sqlite3.Error: the file can't be read.
        """
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT *, trace_id AS id FROM traces WHERE trace_id = ?", (encodable(trace_id),)
            ).fetchone()
        if row is None:
            raise InputError(
                f"no trace {trace_id!r} in {self.path}: expected an answer's trace_id; the oldest traces go"
            )
        stored: dict[str, Any] = {each.name: row[each.name] for each in fields(StoredTrace)}
        stored["stages"] = tuple(Stage(*stage) for stage in json.loads(row["stages"]))
        stored["hits"] = tuple(zip(json.loads(row["hits"]), json.loads(row["scores"]), strict=True))
        stored["queries"], stored["citations"] = (tuple(json.loads(row[name])) for name in ("queries", "citations"))
        stored["parts"], stored["abstained"] = json.loads(row["parts"]), bool(row["abstained"])
        return StoredTrace(**stored)

    def dataframe(self, since: datetime | float = 0.0) -> pd.DataFrame:
        """One row a query that began at ``since`` or later (seconds since 1970), in the order of recording.

        Columns: ``trace_id began question tenant session k ms cache_ms rewrite_ms retrieve_ms rerank_ms build_ms
        generate_ms top_score scores hits candidates context_tokens cache similarity model input_tokens output_tokens
        cost abstained reason error failed_stage settings``. Times are in milliseconds, NaN where a stage did not run;
        ``began`` is a UTC time; ``scores`` and ``hits`` (chunk ids) are tuples, best first; ``cost`` is in US dollars,
        NaN where it is not known. An answer out of the cache costs nothing, and no tokens.

        Raises:
            sqlite3.Error: the file can't be read.
        """
        pandas = require("pandas", "notebook")
        first = since.timestamp() if isinstance(since, datetime) else since
        query = f"SELECT {', '.join(_COLUMNS)} FROM traces WHERE began >= ? ORDER BY number"
        with self._database.transaction() as connection:
            rows = connection.execute(query, (first,)).fetchall()
        frame: pd.DataFrame = pandas.DataFrame([tuple(row) for row in rows], columns=_COLUMNS)
        for column in ("scores", "hits"):
            frame[column] = [tuple(values) for values in json.loads(f"[{','.join(frame[column])}]")]
        types = {"abstained": "bool", **dict.fromkeys(_FLOATS, "float64"), **dict.fromkeys(_INTEGERS, "int64")}
        frame = frame.astype(types)
        frame["began"] = pandas.to_datetime((frame["began"] * 1e6).round().astype("int64") * 1000, unit="ns", utc=True)
        return frame

    def dashboard(self) -> Figure:
        """A plotly figure of what happened: latency by stage, scores, abstentions and errors, what is asked most.

        Raises:
            sqlite3.Error: the file can't be read.
        """
        from ragkit.production.dashboard import dashboard

        return dashboard(self.dataframe())

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        self._database.close()

    def _row(self, trace: Trace) -> dict[str, Any]:
        answer = trace.answer or Answer(trace.question, "")
        new = trace.cache in ("off", "miss")
        usage = answer.usage if new else Usage(answer.usage.model)
        stage_ms = {stage.name: float(stage.ms) for stage in trace.stages}
        return {
            "trace_id": trace.id,
            "began": float(trace.began),
            "question": self._question(trace.question),
            "tenant": trace.tenant,
            "session": trace.session,
            "k": int(trace.k),
            "ms": float(trace.ms),
            **{f"{stage}_ms": stage_ms.get(stage) for stage in _STAGES},
            "top_score": float(answer.hits[0].score) if answer.hits else None,
            "scores": json.dumps([float(hit.score) for hit in answer.hits]),
            "hits": json.dumps([hit.chunk.id for hit in answer.hits]),
            "candidates": len(trace.candidates),
            "context_tokens": int(trace.context_tokens),
            "cache": trace.cache,
            "similarity": float(trace.similarity),
            "model": usage.model,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cost": cost(usage) if new else 0.0,
            "abstained": answer.abstained,
            "reason": self._reason(answer),
            "error": self._error(trace.error),
            "failed_stage": trace.stages[-1].name if trace.error and trace.stages else "",
            "settings": trace.settings,
            "stages": json.dumps([(stage.name, float(stage.start), float(stage.ms)) for stage in trace.stages]),
            "queries": json.dumps([] if self.text == "none" else [self._allowed(query) for query in trace.queries]),
            "answer": self._allowed(answer.text),
            "citations": json.dumps([citation.chunk.id for citation in answer.citations]),
            "cache_key": trace.cache_key,
            "parts": json.dumps({name: redact(part) for name, part in trace.parts.items()}),
        }

    def _allowed(self, text: str) -> str:
        return {"all": text, "redacted": redact(text), "none": ""}[self.text]

    def _question(self, question: str) -> str:
        if self.text != "none":
            return self._allowed(question)
        normalised = question_key(question).encode("utf-8", "surrogatepass")
        return "question:" + hashlib.sha256(normalised).hexdigest()[:16]

    def _reason(self, answer: Answer) -> str:
        if self.text != "none" or not answer.reason:
            return redact(answer.reason)
        return "abstained" if answer.abstained else "fallback"

    def _error(self, error: BaseException | None) -> str:
        if error is None:
            return ""
        message = "" if self.text == "none" else redact(str(error))
        return f"{type(error).__name__}: {message}".removesuffix(": ")
