"""Every query as a row of one SQLite table: what was asked and found, how long each stage took, what it cost, what
went wrong. And no secrets in it (``redact``).

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
import re
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ragkit.base import Answer, InputError, Usage, question_key, require
from ragkit.files import Database, home
from ragkit.llm.chat import cost
from ragkit.pipeline.trace import CacheState, Stage, Trace

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

Text = Literal["redacted", "all", "none"]

_STAGES = ("cache", "rewrite", "retrieve", "rerank", "build", "generate")


@dataclass(frozen=True)
class StoredTrace:
    """A query as it was stored, with the texts that ``TraceMonitor(text=...)`` allowed.

    ``hits`` are (chunk id, score), best first, and ``citations`` the ids of the chunks that the answer cites. ``began``
    is in seconds since 1970, ``cost`` in US dollars: None where it is not known. An answer out of the cache costs
    nothing, and no tokens. Of a query that failed, the last stage is the one that it failed in, and there are no hits.
    """

    id: str
    began: float
    question: str
    tenant: str
    session: str
    k: int
    ms: float
    stages: tuple[Stage, ...]
    queries: tuple[str, ...]
    hits: tuple[tuple[str, float], ...]
    candidates: int
    context_tokens: int
    cache: CacheState
    cache_key: str
    similarity: float
    answer: str
    citations: tuple[str, ...]
    model: str
    input_tokens: int
    output_tokens: int
    cost: float | None
    abstained: bool
    reason: str
    error: str
    settings: str
    parts: Mapping[str, str] = field(hash=False)


_NAMES = tuple(each.name for each in fields(StoredTrace))
_JSON = ("stages", "queries", "hits", "citations", "parts")
_SCHEMA = f"""
CREATE TABLE traces (number INTEGER PRIMARY KEY, {", ".join(_NAMES)}, UNIQUE (id));
CREATE INDEX traces_began ON traces (began);
"""
_DTYPES = {"int": "int64", "float": "float64", "float | None": "float64", "bool": "bool"}


class TraceMonitor:
    """A ``Monitor`` that writes each query to a SQLite file; several threads and processes may use one file.

    When ``record`` returns, the trace is in the file and survives a kill of the process. Passages are not stored: a
    chunk's id says where it stands in the corpus. Passwords in the names of parts, errors and reasons are taken out
    whatever ``text`` is.

    Args:
        path: the file; None is ``production/traces.db`` below ``ragkit.files.home()``.
        text: "redacted" stores questions and answers without what looks like a secret (``redact``), "all" as they are.
            "none" stores no text of question, answer or error (tenant and session stay): of a question a digest,
            equal for equal questions (whoever has the file can try guesses against it), and of an error its type.
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
        self._database = Database(path or home() / "production" / "traces.db", "traces", 2, _SCHEMA, timeout=2)
        self.path = self._database.path

    def __repr__(self) -> str:
        return f"TraceMonitor({str(self.path)!r}, text={self.text!r})"

    def __enter__(self) -> TraceMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        self._database.close()

    def record(self, trace: Trace) -> None:
        """Store ``trace``. A trace that is recorded twice is stored once.

        Raises:
            sqlite3.Error: it is not stored: the file is locked, full, damaged, ...
        """
        row = {name: _cell(value) for name, value in vars(self._stored(trace)).items()}
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
            row = connection.execute("SELECT * FROM traces WHERE id = ?", (encodable(trace_id),)).fetchone()
        if row is None:
            raise InputError(
                f"no trace {trace_id!r} in {self.path}: expected an answer's trace_id; the oldest traces go"
            )
        values = {name: json.loads(row[name]) if name in _JSON else row[name] for name in _NAMES}
        values["stages"] = tuple(Stage(*stage) for stage in values["stages"])
        values["hits"] = tuple((chunk_id, score) for chunk_id, score in values["hits"])
        values |= {name: tuple(values[name]) for name in ("queries", "citations")}
        return StoredTrace(**values | {"abstained": bool(values["abstained"])})

    def dataframe(self, since: float = 0.0) -> pd.DataFrame:
        """One row a query that began at ``since`` (seconds since 1970) or later, in the order of recording.

        The columns are the fields of ``StoredTrace`` (``id`` is called ``trace_id``; without ``queries``, ``citations``
        and ``parts``), and ``top_score``. ``began`` is a UTC time, ``hits`` are chunk ids, best first, and instead of
        the stages stand ``cache_ms``, ``rewrite_ms``, ``retrieve_ms``, ``rerank_ms``, ``build_ms`` and ``generate_ms``,
        NaN where a stage did not run. ``cost`` is NaN where it is not known.

        Raises:
            sqlite3.Error: the file can't be read.
        """
        pandas = require("pandas", "notebook")
        names = [name for name in _NAMES if name not in ("queries", "citations", "parts")]
        query = f"SELECT {', '.join(names)} FROM traces WHERE began >= ? ORDER BY number"
        with self._database.transaction() as connection:
            rows = [tuple(row) for row in connection.execute(query, (float(since),))]
        frame: pd.DataFrame = pandas.DataFrame(rows, columns=names)
        frame = frame.astype({f.name: _DTYPES[str(f.type)] for f in fields(StoredTrace) if f.type in _DTYPES})
        frame["began"] = pandas.to_datetime((frame["began"] * 1e6).round().astype("int64") * 1000, unit="ns", utc=True)
        hits, stages = (list(map(json.loads, frame[name])) for name in ("hits", "stages"))
        frame["top_score"] = pandas.Series([best[0][1] if best else None for best in hits], dtype="float64")
        frame["hits"] = [tuple(chunk_id for chunk_id, _ in own) for own in hits]
        times = [{f"{name}_ms": ms for name, _, ms in ran} for ran in stages]
        columns = [f"{name}_ms" for name in _STAGES]
        frame[columns] = pandas.DataFrame(times, index=frame.index, columns=columns, dtype="float64")
        return frame.drop(columns="stages").rename(columns={"id": "trace_id"})

    def dashboard(self) -> Figure:
        """A plotly figure of what happened: latency by stage, scores, abstentions and errors, what is asked most.

        Raises:
            sqlite3.Error: the file can't be read.
        """
        from ragkit.production.dashboard import dashboard

        return dashboard(self.dataframe())

    def _stored(self, trace: Trace) -> StoredTrace:
        answer = trace.answer or Answer(trace.question, "")
        new, texts = trace.cache in ("off", "miss"), self.text != "none"
        usage = answer.usage if new else Usage(answer.usage.model)
        values = {each.name: getattr(trace, each.name) for each in fields(StoredTrace) if hasattr(trace, each.name)}
        values |= asdict(usage)
        values |= {
            "question": self._allowed(trace.question) if texts else _digest(trace.question),
            "k": int(trace.k),  # SQLite does not know NumPy's numbers
            "similarity": float(trace.similarity),
            "queries": tuple(map(self._allowed, trace.queries)) if texts else (),
            "hits": tuple((hit.chunk.id, float(hit.score)) for hit in answer.hits),
            "candidates": len(trace.candidates),
            "answer": self._allowed(answer.text),
            "citations": tuple(citation.chunk.id for citation in answer.citations),
            "cost": cost(usage) if new else 0.0,
            "abstained": answer.abstained,
            "reason": redact(answer.reason) if texts else "",
            "error": _in_words(trace.error, texts) if trace.error else "",
            "parts": {name: redact(part) for name, part in trace.parts.items()},
        }
        return StoredTrace(**values)

    def _allowed(self, text: str) -> str:
        if self.text == "none":
            return ""
        return redact(text) if self.text == "redacted" else text


def _cell(value: object) -> object:
    if isinstance(value, tuple | Mapping):
        return json.dumps(value, default=astuple)
    return encodable(value) if isinstance(value, str) else value


def _digest(question: str) -> str:
    normalised = question_key(question).encode("utf-8", "surrogatepass")
    return "question:" + hashlib.sha256(normalised).hexdigest()[:16]


def _in_words(error: BaseException, message: bool) -> str:
    kind = type(error).__name__
    return f"{kind}: {redact(str(error))}" if message and str(error) else kind


def encodable(text: str) -> str:
    """``text`` without halves of surrogate pairs, which no file can hold.

    >>> encodable("a\\ud800")
    'a?'
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


# ---- secrets

_NAMED = r"(?:pass(?:word|wd|phrase)|pwd|secret(?:[_-]?key)?|(?:api|access|auth)[ _-]?(?:key|token)|token)"
_IS = rf"{_NAMED}[\"']?\s*(?:=>?|:|\bis\b)\s*"
# RFC 2606: names for examples, at the end of a domain.
_EXAMPLE = r"(?:example(?:\.(?:com|net|org))?|test|invalid|local(?:host)?|(?:my)?domain\.\w+)(?![\w.-]*\w)"
# As their issuers document them: RFC 7519; Amazon, Google; GitHub; GitLab; OpenAI, Anthropic, Stripe; Slack; ...
_TOKEN = (
    r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*|A(?:KI|SI)A[A-Z2-7]{16}\b|AIza[\w-]{35}|gh[pousr]_\w{30,}|"
    r"github_pat_\w{30,}|gl(?:pat|dt|rt|cbt|ptt|ft|agent|soat)-[\w.-]{20,}|sk-(?=[\w-]*\d)[\w-]{20,}|"
    r"[prs]k_(?:live|test)_\w{10,}|xox[a-z]-[\w-]{10,}|xapp-\d-[\w-]{10,}|hooks\.slack\.com/services/[\w/]{20,}|"
    r"hf_[a-z]{30,}|npm_\w{36}|pypi-[\w-]{50,}"
)
# What a secret is replaced by, what stands before it and is kept, and the secret.
_SECRETS = (
    # RFC 7468: everything between the two lines, or to the end of a text that was cut.
    ("private key", "", r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY.*?(?:-----END [A-Z0-9 ]{0,40}-----|\Z)"),
    ("token", r"(?<![\w-])", _TOKEN),
    # RFC 6750 and RFC 7617: what follows the scheme in an Authorization header.
    ("token", r"\b(?:bearer|basic)\s+", r"(?=[\w.~+/-]*\d)[\w.~+/-]{16,}=*"),
    # RFC 3986, section 3.2.1: user:password@ in a URL.
    ("password", r"://[^\s/:@\"'<>]{0,200}:", r"[^\s/@\"'<>]{1,200}(?=@[\w\[.-])"),
    ("password", r"\bcurl\b.{0,200}?\s(?:-u|--user)[ =]?[\"']?[^\s:\"']{1,64}:", r"[^\s\"']+"),
    ("password", r"\b(?:mysql|mariadb)\w*\b.{0,200}?\s-p[\"']?", r"[^\s\"']+"),
    # password = "whatever", and password=l3tters and digits: `password=os.environ` is none.
    ("password", rf"{_IS}[\"'`]", r"[^\"'`\n]{6,200}(?=[\"'`])"),
    ("password", _IS, r"(?=[^\s\"'`]{0,200}\d)(?=[^\s\"'`]{0,200}[a-z])[^\s\"'`,;()<>{}\[\]]{6,200}+(?!\()"),
    (
        "e-mail",
        r"(?<![\w.+/:-])",
        rf"[\w.+%-]{{1,64}}@(?!(?:[\w-]{{1,63}}\.){{0,8}}{_EXAMPLE})(?:[a-z0-9-]{{1,63}}\.){{1,8}}[a-z]{{2,24}}(?![\w@])",
    ),
)
_PATTERNS = [
    (re.compile(rf"({before})(?!\[redacted)(?:{secret})", re.DOTALL | re.IGNORECASE), rf"\1[redacted: {kind}]")
    for kind, before, secret in _SECRETS
]
# ISO/IEC 7812-1: 13 to 19 digits, in groups or not; the first digit of payment cards is 2 to 6.
_CARD = re.compile(r"(?<![\w.-])(?:[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}|3\d{3}[ -]?\d{6}[ -]?\d{5})(?![\w-])")


def redact(text: str) -> str:
    """``text`` with each secret replaced by its kind: keys, tokens, passwords, e-mail addresses, card numbers.

    A secret in a question ("why does my key sk-... not work?") must not end up in a log. Most patterns are the form
    that the issuer documents; a password has no form, and is seen where the text before it says what it is. A rule that
    took every random-looking word would also take commit ids and digests. So this lowers the risk and does not end it:
    ``TraceMonitor(text="none")`` stores no text at all.

    >>> redact("Why does postgres://app:Tr0ub4dor@db/x refuse me? Mail me at jo@uni.edu")
    'Why does postgres://app:[redacted: password]@db/x refuse me? Mail me at [redacted: e-mail]'
    >>> redact("SECRET_KEY = 'not-a-digit-in-it'")
    "SECRET_KEY = '[redacted: password]'"
    """
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return _CARD.sub(lambda number: "[redacted: card number]" if _is_card(number[0]) else number[0], text)


def _is_card(number: str) -> bool:
    """Whether the last digit checks the others, as on every payment card (Luhn's formula, ISO/IEC 7812-1, annex B)."""
    digits = re.sub(r"\D", "", number)
    doubled = [int(digit) * (1 + i % 2) for i, digit in enumerate(reversed(digits))]
    return len(set(digits)) > 1 and sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0
