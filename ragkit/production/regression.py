"""Regression tests: questions that failed once, with gold that a person has confirmed.

A set is a JSON Lines file in the form of ``data/questions/*.jsonl``, with who confirmed it, and a sha256::

    {"id": "regression-001", "text": "...", "gold": [{"doc": "celery/faq", "section": ["..."], "sha256": "..."}],
     "tags": ["regression"], "who": "ann", "trace": "..."}

A gold place is a whole section by its path, which survives other changes of the page, or else characters of a document.
The sha256 is that of the section or of the document: where the text has changed since, the question is *stale*, and
neither passes nor fails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from ragkit.base import Corpus, CorpusError, Document, InputError, Question, Retriever, Span, question_key
from ragkit.corpus.datasets import section_span
from ragkit.files import atomic_write, lock


@dataclass(frozen=True)
class CaseResult:
    """One question of a set: the rank of the first hit that answers it (0: none within ``k``), or why it could not be
    checked."""

    question: str
    id: str
    rank: int = 0
    problem: str = ""


@dataclass(frozen=True)
class RegressionReport:
    """What a retriever made of a set, ``k`` hits for each question."""

    rows: tuple[CaseResult, ...]
    k: int
    elsewhere: int = 0
    """How many questions of the file are about documents that are not in the corpus."""

    @property
    def passed(self) -> tuple[CaseResult, ...]:
        return tuple(row for row in self.rows if row.rank)

    @property
    def failed(self) -> tuple[CaseResult, ...]:
        """Their answer is not among the ``k`` hits."""
        return tuple(row for row in self.rows if not row.rank and not row.problem)

    @property
    def stale(self) -> tuple[CaseResult, ...]:
        """Nobody can say: the text of their answer has changed. Confirm them again."""
        return tuple(row for row in self.rows if row.problem)

    def __repr__(self) -> str:
        lines = [f"{len(self.passed)} of {len(self.rows)} within the first {self.k}"]
        lines += [f"✗ {row.id}  {row.question}" for row in self.failed]
        lines += [f"? {row.id}  {row.problem}" for row in self.stale]
        lines += [f"{self.elsewhere} more about documents that are not in the corpus"] * bool(self.elsewhere)
        return "\n".join(lines)


class _Place(BaseModel):
    """A gold place as it is written: a section by its path, or characters."""

    doc: str
    section: tuple[str, ...] | None = None
    start: int = 0
    end: int = 0
    sha256: str

    @classmethod
    def of(cls, corpus: Corpus, span: Span) -> _Place:
        document = corpus.document(span.doc_id)
        if not span.start < span.end <= len(document.text):
            size = f"{len(document.text)} characters"
            raise InputError(f"gold [{span.start}, {span.end}) is empty or outside {span.doc_id!r} ({size})")
        path = document.section_at(span.start)
        with suppress(CorpusError):  # two sections may have one path
            if path and section_span(document, path) == Span(span.doc_id, span.start, span.end):
                return cls(doc=document.id, section=path, sha256=_sha256(document, span))
        return cls(doc=document.id, start=span.start, end=span.end, sha256=document.sha256)

    def span(self, corpus: Corpus) -> Span:
        """Where it stands. Raises ``CorpusError`` where it is not there any more, or has changed."""
        document = corpus.document(self.doc)
        if self.section is None:
            if self.sha256 != document.sha256:
                raise CorpusError(f"document {self.doc!r}: it is not the text in which the place was confirmed")
            return Span(self.doc, self.start, self.end)
        span = section_span(document, self.section)
        if self.sha256 != _sha256(document, span):
            path = " > ".join(self.section)
            raise CorpusError(f"document {self.doc!r}: section {path!r} is not the text that was confirmed")
        return span


class _Entry(BaseModel):
    """A line of the file."""

    id: str = Field(pattern=r"-[0-9]+$")
    text: str
    gold: tuple[_Place, ...]
    tags: tuple[str, ...] = ()
    who: str
    trace: str = ""

    def question(self, corpus: Corpus) -> Question:
        spans = tuple(place.span(corpus) for place in self.gold)
        answer = "\n\n".join(corpus.document(s.doc_id).text[s.start : s.end] for s in spans)
        return Question(self.id, self.text, spans, self.tags, answer)


class RegressionSet:
    """The confirmed questions in the file at ``path`` that are about documents of ``corpus``.

    The file is made with the first question, and read anew each time.
    """

    def __init__(self, path: str | Path, corpus: Corpus) -> None:
        self.path, self.corpus = Path(path).expanduser(), corpus

    def __repr__(self) -> str:
        return f"RegressionSet({self.path.name!r}, {len(self)} questions about {self.corpus.name!r})"

    def __len__(self) -> int:
        return len(self._load()[0])

    @property
    def questions(self) -> tuple[Question, ...]:
        """Those whose gold stands where it was confirmed.

        Raises:
            CorpusError: the file can't be read.
        """
        return tuple(question for question in self._load()[0] if isinstance(question, Question))

    @property
    def stale(self) -> tuple[CaseResult, ...]:
        """Those whose gold has changed since, and what has.

        Raises:
            CorpusError: the file can't be read.
        """
        return tuple(row for row in self._load()[0] if isinstance(row, CaseResult))

    def add(self, text: str, gold: Sequence[Span], *, who: str, trace_id: str = "") -> Question:
        """Append a question that ``who`` has confirmed. The file is replaced in one step, by one process at a time.

        Raises:
            InputError: ``who`` or ``text`` is blank, there is no gold, a span is empty or outside its document, or the
                question is in the file already (with its id, so that one can look).
            CorpusError: the file can't be read; it is not changed.
            OSError: it can't be written; it is not changed.
        """
        text, who = (given.encode("utf-8", "replace").decode() for given in (text, who))  # no half characters in a file
        if not who.strip() or not text.strip() or not gold:
            raise InputError("expected a question, its gold, and who has looked at it: nothing confirms itself")
        places = tuple(_Place.of(self.corpus, span) for span in gold)
        with lock(self.path.with_name(f".{self.path.name}.lock")):
            entries = _entries(self.path)
            for entry in entries:
                if question_key(entry.text) == question_key(text):
                    raise InputError(f"{text!r} is in {self.path.name} already, as {entry.id}, by {entry.who}")
            name = f"regression-{1 + max((int(e.id.rpartition('-')[2]) for e in entries), default=0):03}"
            words, tags = " ".join(text.split()), ("regression",)
            new = _Entry(id=name, text=words, gold=places, tags=tags, who=who.strip(), trace=trace_id)
            lines = [*_lines(self.path), new.model_dump_json(exclude_unset=True)]
            atomic_write(self.path, "".join(f"{line}\n" for line in lines).encode())
        return new.question(self.corpus)

    def check(self, retriever: Retriever, k: int = 10) -> RegressionReport:
        """Whether the first ``k`` hits hold an answer to each question: to each of its places, where it has several.

        The rank is that of the last place to be found.

        Raises:
            InputError: ``k`` < 1.
            CorpusError: the file can't be read.
        """
        loaded, elsewhere = self._load()
        questions = [question for question in loaded if isinstance(question, Question)]
        rows = [row for row in loaded if isinstance(row, CaseResult)]
        for question, hits in zip(questions, retriever.search_many([q.text for q in questions], k), strict=True):
            spans = [hit.chunk.span for hit in hits]
            ranks = [next((r for r, s in enumerate(spans, 1) if s.answers(gold)), 0) for gold in question.gold]
            rows.append(CaseResult(question.text, question.id, max(ranks) if all(ranks) else 0))
        return RegressionReport(tuple(rows), k, elsewhere)

    def _load(self) -> tuple[list[Question | CaseResult], int]:
        """Each question about this corpus, or why it is stale; and how many are about other documents."""
        ids, entries = {document.id for document in self.corpus.documents}, _entries(self.path)
        own = [entry for entry in entries if all(place.doc in ids for place in entry.gold)]
        loaded: list[Question | CaseResult] = []
        for entry in own:
            try:
                loaded.append(entry.question(self.corpus))
            except CorpusError as error:
                loaded.append(CaseResult(entry.text, entry.id, problem=str(error)))
        return loaded, len(entries) - len(own)


def _lines(path: Path) -> list[str]:
    """The lines of a set; none where there is no file."""
    try:
        return path.read_text(encoding="utf-8").strip().split("\n") if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: can't be read ({error}); expected a file of JSON lines") from error


def _entries(path: Path) -> list[_Entry]:
    entries = []
    for number, line in enumerate(_lines(path), 1):
        try:
            entries.append(_Entry.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise CorpusError(f"{path.name}, line {number}: not a confirmed question ({problem})") from error
    return entries


def _sha256(document: Document, span: Span) -> str:
    return hashlib.sha256(document.text[span.start : span.end].encode("utf-8", "surrogatepass")).hexdigest()
