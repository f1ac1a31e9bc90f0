"""Regression tests: questions that failed once, with gold that a person has confirmed.

A set is a JSON Lines file in the form of ``data/questions/*.jsonl``, with who confirmed it, and a sha256::

    {"id": "regression-001", "text": "...", "gold": [{"doc": "celery/faq", "section": ["..."], "sha256": "..."}],
     "tags": ["regression"], "who": "ann", "trace": "..."}

A gold place is a whole section by its path, which survives other changes of the page, or else characters of a document.
The sha256 is that of its text: where the text has changed since, or is not there any more, the question is *stale*, and
neither passes nor fails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from ragkit.base import Corpus, CorpusError, Document, Hit, InputError, Question, Retriever, Span, question_key
from ragkit.corpus.datasets import section_span
from ragkit.files import atomic_write, lock
from ragkit.production.monitoring import encodable


@dataclass(frozen=True)
class RegressionReport:
    """What a retriever made of a set, ``k`` hits for each question.

    ``failed``: their answer is not among the hits. ``stale`` says of which nobody can say, because the text of their
    answer has changed: confirm them again. ``elsewhere`` counts those about documents that are not in the corpus.
    """

    passed: tuple[Question, ...]
    failed: tuple[Question, ...]
    stale: tuple[str, ...]
    k: int
    elsewhere: int

    @property
    def rows(self) -> tuple[Question | str, ...]:
        """All questions about documents of the corpus."""
        return (*self.passed, *self.failed, *self.stale)

    def __repr__(self) -> str:
        lines = [f"{len(self.passed)} of {len(self.rows)} within the first {self.k}"]
        lines += [f"✗ {question.id}  {question.text}" for question in self.failed]
        lines += [f"? {problem}" for problem in self.stale]
        lines += [f"{self.elsewhere} more about documents that are not in the corpus"] * bool(self.elsewhere)
        return "\n".join(lines)


class _Place(BaseModel):
    """A gold place as it is written: a section by its path, or characters."""

    doc: str
    section: tuple[str, ...] | None = None
    start: int = 0
    end: int = 0
    sha256: str

    def span(self, corpus: Corpus) -> Span:
        """Where it stands. Raises ``CorpusError`` where it is not there any more, or has changed."""
        document = corpus.document(self.doc)
        span = section_span(document, self.section) if self.section else Span(self.doc, self.start, self.end)
        if self.sha256 != _sha256(document, span):
            where = " > ".join(self.section or [f"[{self.start}, {self.end})"])
            raise CorpusError(f"document {self.doc!r}: {where!r} is not the text that was confirmed")
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
        """Raises ``CorpusError`` where the text of its gold has changed."""
        return Question(self.id, self.text, tuple(place.span(corpus) for place in self.gold), self.tags)


class RegressionSet:
    """The confirmed questions in the file at ``path`` that are about documents of ``corpus``.

    The file is made with the first question, and read anew each time.
    """

    def __init__(self, path: str | Path, corpus: Corpus) -> None:
        self.path, self.corpus = Path(path).expanduser(), corpus

    @property
    def questions(self) -> tuple[Question, ...]:
        """Those whose gold stands where it was confirmed.

        Raises:
            CorpusError: a line of the file is not a confirmed question.
        """
        return tuple(self._load()[0])

    def add(self, text: str, gold: Sequence[Span], *, who: str, trace_id: str = "") -> Question:
        """Append a question that ``who`` has confirmed. The file is replaced in one step, by one process at a time.

        Raises:
            InputError: ``who`` or ``text`` is blank, there is no gold, a span is empty or outside its document, or the
                question is in the file already (with its id, so that one can look).
            CorpusError: a line of the file is not a confirmed question; it is not changed.
            OSError: it can't be written; it is not changed.
        """
        text, who = " ".join(encodable(text).split()), encodable(who).strip()
        if not who or not text or not gold:
            raise InputError("expected a question, its gold, and who has looked at it: nothing confirms itself")
        places = tuple(_place(self.corpus.document(span.doc_id), span) for span in gold)
        with lock(self.path.with_name(f".{self.path.name}.lock")):
            entries = _entries(self.path)
            for entry in entries:
                if question_key(entry.text) == question_key(text):
                    raise InputError(f"{text!r} is in {self.path.name} already, as {entry.id}, by {entry.who}")
            name = f"regression-{1 + max((int(e.id.rpartition('-')[2]) for e in entries), default=0):03}"
            new = _Entry(id=name, text=text, gold=places, tags=("regression",), who=who, trace=trace_id)
            before = self.path.read_bytes().strip() + b"\n" if entries else b""
            atomic_write(self.path, before + new.model_dump_json(exclude_unset=True).encode() + b"\n")
        return new.question(self.corpus)

    def check(self, retriever: Retriever, k: int = 10) -> RegressionReport:
        """Whether the first ``k`` hits hold an answer to each question: to each of its places, where it has several.

        Raises:
            InputError: ``k`` < 1.
            CorpusError: a line of the file is not a confirmed question.
        """
        questions, stale, elsewhere = self._load()
        results = retriever.search_many([question.text for question in questions], k)
        passed = tuple(q for q, hits in zip(questions, results, strict=True) if _answered(q, hits))
        failed = tuple(question for question in questions if question not in passed)
        return RegressionReport(passed, failed, tuple(stale), k, elsewhere)

    def _load(self) -> tuple[list[Question], list[str], int]:
        """The questions about this corpus, what is stale, and how many are about other documents."""
        ids, entries = {document.id for document in self.corpus.documents}, _entries(self.path)
        own = [entry for entry in entries if ids.issuperset(place.doc for place in entry.gold)]
        questions, stale = [], []
        for entry in own:
            try:
                questions.append(entry.question(self.corpus))
            except CorpusError as error:
                stale.append(f"{entry.id}  {error}")
        return questions, stale, len(entries) - len(own)


def _answered(question: Question, hits: Sequence[Hit]) -> bool:
    return all(any(hit.chunk.span.answers(gold) for hit in hits) for gold in question.gold)


def _place(document: Document, span: Span) -> _Place:
    """A span as it is written. Raises ``InputError`` where it is empty, or ends behind the document."""
    if not span.start < span.end <= len(document.text):
        raise InputError(f"gold [{span.start}, {span.end}) is empty or outside the {len(document.text)} characters")
    path, sha256 = document.section_at(span.start), _sha256(document, span)
    with suppress(CorpusError):  # the section may have no text of its own
        if path and section_span(document, path) == span:
            return _Place(doc=document.id, section=path, sha256=sha256)
    return _Place(doc=document.id, start=span.start, end=span.end, sha256=sha256)


def _entries(path: Path) -> list[_Entry]:
    entries = []
    for number, line in enumerate(path.read_bytes().strip().splitlines() if path.exists() else [], 1):
        try:
            entries.append(_Entry.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise CorpusError(f"{path.name}, line {number}: not a confirmed question ({problem})") from error
    return entries


def _sha256(document: Document, span: Span) -> str:
    return hashlib.sha256(document.text[span.start : span.end].encode("utf-8", "surrogatepass")).hexdigest()
