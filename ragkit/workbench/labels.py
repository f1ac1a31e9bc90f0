"""Questions about your own documents, and where their answers stand.

A label is a question, a document and a quote: the words that answer the question, copied from the document. A file of
labels, ``questions.jsonl``, lies in the folder of the documents and has one of them a line; without a quote, the
documents do not answer the question::

    {"question": "When is the office open?", "document": "faq.md", "quote": "Monday to Friday, 9 to 5"}
    {"question": "Who founded the company?"}

White space does not matter in a quote, everything else does. Quotes become gold spans: positions that survive every
change of chunker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ragkit.base import Corpus, CorpusError, Document, InputError, Question, Span
from ragkit.corpus.datasets import load_questions
from ragkit.corpus.folder import LABELS, load_folder
from ragkit.corpus.pydocs import load_pydocs
from ragkit.files import atomic_write

YOURS = "yours"
"""The kind of the questions about a folder, and their tag."""

CORE_KINDS = ("faq", "en", "keyword", "paraphrase", "multihop")
"""The kinds of questions that ``core`` answers."""

EXAMPLE = '{"question": "When is the office open?", "document": "faq.md", "quote": "Monday to Friday, 9 to 5"}'


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Label:
    """A line of the file."""

    question: str
    document: str | None = None
    quote: str | None = None


_LABEL = TypeAdapter(Label)


class _LabelError(Exception):
    """This label cannot be used; the message says why, and what to do."""


class _NotReadError(_LabelError):
    """Its document is there, but what was read of it does not hold the quote."""


def course_corpus(docs: str | Path | None = None) -> tuple[Corpus, tuple[Question, ...]]:
    """The documents that a lesson runs on, and the questions that they answer.

    ``None``: ``core`` with its questions of ``CORE_KINDS``. Else a folder of documents with a file ``questions.jsonl``
    (see ``load_labels``), whose questions are ``Corpus.questions``; those without an answer are in ``unanswerable``.

    >>> corpus, questions = course_corpus("~/handbook")             # doctest: +SKIP
    >>> list(questions_by_kind(questions))                          # doctest: +SKIP
    ['yours']

    Raises:
        CorpusError: the folder or its labels cannot be read, or fewer than two questions have an answer.
    """
    if docs is None:
        core = load_pydocs("core")
        written = [question for kind in CORE_KINDS[1:] for question in load_questions(kind, core)]
        return core, (*core.questions, *written)
    corpus = load_folder(docs)
    path = Path(docs).expanduser() / LABELS
    labels = load_labels(path, corpus)
    answered = tuple(question for question in labels if question.gold)
    if len(answered) < 2:
        raise CorpusError(
            f"{path}: {len(answered)} questions with an answer, and a comparison needs two or more (twenty to be of "
            f"use); add lines such as {EXAMPLE}"
        )
    return replace(corpus, questions=labels), answered


def unanswerable(corpus: Corpus) -> tuple[Question, ...]:
    """The questions that ``corpus`` does not answer: those of your labels, or the ones that come with ragkit."""
    yours = [question for question in corpus.questions if YOURS in question.tags]
    return tuple(q for q in yours if not q.gold) if yours else load_questions("unanswerable", corpus)


def question_kind(question: Question) -> str:
    """``"faq"``, ``"en"``, ``"keyword"``, ...; ``"yours"`` for labels of your own; ``"other"`` for all else.

    >>> question_kind(Question("q1", "What does it cost?", tags=("yours",)))
    'yours'
    """
    return next((tag for tag in question.tags if tag in (YOURS, *CORE_KINDS, "unanswerable")), "other")


def questions_by_kind(questions: Iterable[Question]) -> dict[str, tuple[Question, ...]]:
    """``questions`` in groups, in the order in which the kinds first appear."""
    kinds: dict[str, tuple[Question, ...]] = {}
    for question in questions:
        kind = question_kind(question)
        kinds[kind] = (*kinds.get(kind, ()), question)
    return kinds


def label(corpus: Corpus, answers: Mapping[str, tuple[str, str] | None]) -> tuple[Question, ...]:
    """Labelled questions from ``{question: (document, quote)}``; ``None`` in place of the pair for no answer.

    >>> corpus = Corpus("office", (Document("faq", "We are open from 9 to 5."),))
    >>> [question] = label(corpus, {"When are you open?": ("faq", "from 9 to 5")})
    >>> question.gold
    (Span(doc_id='faq', start=12, end=23, grade=1),)

    Raises:
        InputError: quotes are not there or stand twice, or documents are not there; the message lists all of them.
    """
    rows = [(f"{text!r}", Label(text, *(place or (None, None)))) for text, place in answers.items()]
    questions, problems = _questions(rows, corpus)
    if problems:
        raise InputError(_report("the labels", problems, len(rows)))
    return questions


def load_labels(path: str | Path, corpus: Corpus) -> tuple[Question, ...]:
    """The questions of a file of labels about the documents of ``corpus``, in the form that the module describes.

    ``document`` is the path of the file within the folder, or the document's id. Gold is the place of the quote.

    Raises:
        CorpusError: there is no such file, or lines of it cannot be used: not JSON, another key, a document that is
            not there, a quote that is not there or stands twice, a question twice. The message lists all of them.
    """
    rows = _rows(path)
    questions, problems = _questions(rows, corpus)
    if problems:
        raise CorpusError(_report(str(path), problems, len(rows)))
    return questions


def read_labels(path: str | Path, corpus: Corpus) -> tuple[tuple[Question, ...], dict[str, str]]:
    """As ``load_labels``, but a quote that is not in what was read of its document is no error: a page may be a scan.

    Returns the questions that can be used, and of each other one the text, with the reason.

    Raises:
        CorpusError: as ``load_labels``, for what else is wrong.
    """
    rows, not_read = _rows(path), dict[str, str]()
    questions, problems = _questions(rows, corpus, not_read)
    if problems:
        raise CorpusError(_report(str(path), problems, len(rows)))
    return questions, not_read


def _rows(path: str | Path) -> list[tuple[str, str | Label]]:
    """The lines of a file of labels, each with its number."""
    file = Path(path).expanduser()
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"{file}: cannot be read ({error}); expected a text in UTF-8 with lines such as {EXAMPLE} "
            "(`ragkit draft FOLDER --out FILE` drafts some)"
        ) from error
    return [(f"line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]


def place_of(quote: str, corpus: Corpus, first: Sequence[Span] = ()) -> Span:
    """Where the words of ``quote`` stand: within one of the spans ``first``, else anywhere in the documents.

    >>> place_of("nine to  five", Corpus("office", (Document("faq", "Open from nine to five."),)))
    Span(doc_id='faq', start=10, end=22, grade=1)

    Raises:
        InputError: they are not there, or in several places.
    """
    words = quote.split()
    near = [
        Span(span.doc_id, span.start + start, span.start + end)
        for span in first
        for start, end in _find(words, corpus.document(span.doc_id).text[span.start : span.end])
    ]
    places = near or [Span(d.id, start, end) for d in corpus.documents for start, end in _find(words, d.text)]
    if len(places) != 1:
        what = f"stand in {len(places)} places: paste more of them" if places else "are in no document: copy them"
        raise InputError(f"the words {quote.strip()[:60]!r} {what}")
    return places[0]


def save_labels(path: str | Path, questions: Sequence[Question], corpus: Corpus) -> None:
    """Write ``questions`` so that ``load_labels`` reads them again: the old file remains, or all of the new is there.

    Raises:
        InputError: a question has two gold spans, or its gold cannot be found again by its words (they stand twice in
            the document); the message lists all of them, and nothing is written.
    """
    labels = [_label(question, corpus) for question in questions]
    _, problems = _questions([(f"{entry.question!r}", entry) for entry in labels], corpus)
    problems += [f"{q.text!r}: {len(q.gold)} answers; a label has one" for q in questions if len(q.gold) > 1]
    if problems:
        raise InputError(_report(str(path), problems, len(labels)))
    lines = [_LABEL.dump_json(entry, exclude_none=True) for entry in labels]
    atomic_write(Path(path).expanduser(), b"".join(line + b"\n" for line in lines))


def _label(question: Question, corpus: Corpus) -> Label:
    """``question`` in words; the document by its file where no other has that name."""
    if not question.gold:
        return Label(question.text)
    span = question.gold[0]
    document = corpus.document(span.doc_id)
    source = document.metadata.get("source", "")
    name = source if source and _document(source, corpus) == document else document.id
    return Label(question.text, name, document.text[span.start : span.end])


def _questions(
    rows: Iterable[tuple[str, str | Label]], corpus: Corpus, not_read: dict[str, str] | None = None
) -> tuple[tuple[Question, ...], list[str]]:
    """The questions of ``(where, line or label)``, and what is wrong with the others, each with its place.

    Where ``not_read`` is given, it gets the questions whose quote is not in what was read, each with the reason.
    """
    questions: dict[str, Question] = {}
    problems = []
    for where, row in rows:
        try:
            entry = _parsed(row) if isinstance(row, str) else row
            span = _place(entry, corpus)
            if entry.question in questions:
                raise _LabelError("the same question stands above; keep one of the two")
        except _LabelError as problem:
            if not_read is not None and isinstance(problem, _NotReadError):
                not_read[entry.question] = str(problem)
            else:
                problems.append(f"{where}: {problem}")
            continue
        number, gold = f"{YOURS}-{len(questions) + 1:03d}", (span,) if span else ()
        tags = (YOURS,) if span else (YOURS, "unanswerable")
        answer = corpus.document(span.doc_id).text[span.start : span.end] if span else None
        questions[entry.question] = Question(number, entry.question, gold, tags, answer)
    return tuple(questions.values()), problems


def _parsed(line: str) -> Label:
    try:
        return _LABEL.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        what = ": ".join([*map(str, first["loc"]), first["msg"]])
        raise _LabelError(f"{what}, found {line[:80]!r}; expected {EXAMPLE}") from error


def _place(entry: Label, corpus: Corpus) -> Span | None:
    """Where the quote stands; ``None`` without a quote."""
    if not entry.question.strip():
        raise _LabelError("the question is empty")
    if entry.quote is None and entry.document is not None:
        raise _LabelError("a document without a quote; quote its answer, or leave the document out if there is none")
    if entry.quote is None:
        return None
    if entry.document is None:
        raise _LabelError("a quote without a document; name the file that it stands in")
    document = _document(entry.document, corpus)
    report = next((file for file in corpus.files if file.file == entry.document), None)
    if document is None and report is not None and report.left_out:
        raise _NotReadError(f"nothing of {entry.document} was read: {report.left_out}")
    if document is None:
        names = [name for one in corpus.documents for name in (one.metadata.get("source"), one.id) if name]
        near = get_close_matches(entry.document, names, 3, 0.5) or names[:3]
        raise _LabelError(f"there is no document {entry.document!r}; the nearest names: {', '.join(near)}")
    words = entry.quote.split()
    if not words:
        raise _LabelError("the quote is empty; leave it out if the documents do not answer the question")
    places = _find(words, document.text)
    if not places:
        near_text = _nearest(words, document.text)
        scans = ", ".join(map(str, report.without_text)) if report else ""
        pages = f"; these pages of it have no text: {scans}" if scans else ""
        raise _NotReadError(
            f"the quote is not in {entry.document}: {near_text}{pages}. Copy it from the text as ragkit reads it"
        )
    if len(places) > 1:
        starts = ", ".join(str(start) for start, _ in places[:3])
        raise _LabelError(
            f"the quote stands {len(places)} times in {entry.document}, at the characters {starts}; quote more of the "
            "text around the right one"
        )
    return Span(document.id, *places[0])


def _document(name: str, corpus: Corpus) -> Document | None:
    """The one document whose file or id is ``name``."""
    files = [document for document in corpus.documents if document.metadata.get("source") == name]
    if len(files) == 1:
        return files[0]
    return next((document for document in corpus.documents if document.id == name), None)


def _find(words: Sequence[str], text: str) -> list[tuple[int, int]]:
    """Start and end of every place where ``words`` stand in ``text``, with any white space between them."""
    pattern = r"\s+".join(map(re.escape, words))
    return [(m.start(), m.start() + len(m[1])) for m in re.finditer(f"(?=({pattern}))", text)]


def _nearest(words: Sequence[str], text: str) -> str:
    """How much of a quote is there, from its beginning, and how the text goes on."""
    for count in range(len(words) - 1, 0, -1):
        if places := _find(words[:count], text):
            end = places[0][1]
            there, goes_on = " ".join(words[:count])[-60:], " ".join(text[end : end + 60].split())
            return f"it has {there!r}, and goes on with {goes_on!r}"
    return f"not even its first word, {words[0][:60]!r}, is there"


def _report(what: str, problems: Sequence[str], count: int) -> str:
    return "\n  ".join([f"{what}: {len(problems)} of {count} cannot be used", *problems])
