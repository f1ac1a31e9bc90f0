"""Questions that went wrong once, with the place of the answer that a person confirmed: if they fail again, it shows.

A set is a JSON Lines file in the form of ``data/questions/*.jsonl``, with who confirmed it, and a sha256::

    {"id": "regression-001", "text": "...", "gold": [{"doc": "celery/faq", "section": ["..."], "sha256": "..."}],
     "tags": ["regression"], "who": "ann", "trace": "..."}

A gold place is a whole section by its path, which survives other changes of the page, or else characters of a document.
The sha256 is that of the section or of the document: text that has changed since is said (``stale``), never guessed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit.base import Corpus, CorpusError, Document, InputError, Question, Retriever, Span
from ragkit.corpus.questions import section_span
from ragkit.files import atomic_write, lock
from ragkit.production.opinions import same

TAG = "regression"


@dataclass(frozen=True)
class Checked:
    """One question of a set: the rank of the first hit that answers it (0: none within ``k``), or why it could not be
    checked."""

    question: str
    id: str
    rank: int = 0
    problem: str = ""


@dataclass(frozen=True)
class RegressionReport:
    """What a retriever made of a set, ``k`` hits for each question."""

    rows: tuple[Checked, ...]
    k: int
    elsewhere: int = 0
    """How many questions of the file are about documents that are not in the corpus."""

    @property
    def passed(self) -> tuple[Checked, ...]:
        return tuple(row for row in self.rows if row.rank and not row.problem)

    @property
    def failed(self) -> tuple[Checked, ...]:
        """Their answer is not among the ``k`` hits."""
        return tuple(row for row in self.rows if not row.rank and not row.problem)

    @property
    def stale(self) -> tuple[Checked, ...]:
        """Nobody can say: the text of their answer has changed. Confirm them again."""
        return tuple(row for row in self.rows if row.problem)

    def __repr__(self) -> str:
        lines = [f"{len(self.passed)} of {len(self.rows)} within the first {self.k}"]
        lines += [f"✗ {row.id}  {row.question}" for row in self.failed]
        lines += [f"? {row.id}  {row.problem}" for row in self.stale]
        lines += [f"{self.elsewhere} more about documents that are not in the corpus"] * bool(self.elsewhere)
        return "\n".join(lines)


class RegressionSet:
    """The confirmed questions in the file at ``path`` that are about documents of ``corpus``.

    The file is made with the first question, and read anew each time.
    """

    def __init__(self, path: str | Path, corpus: Corpus) -> None:
        self.path, self.corpus = Path(path).expanduser(), corpus

    def __repr__(self) -> str:
        return f"RegressionSet({self.path.name!r}, {len(self)} questions about {self.corpus.name!r})"

    def __len__(self) -> int:
        return len(self.questions) + len(self.stale)

    @property
    def questions(self) -> tuple[Question, ...]:
        """Those whose gold stands where it was confirmed.

        Raises:
            CorpusError: the file can't be read.
        """
        return tuple(found for _, found in self._loaded() if isinstance(found, Question))

    @property
    def stale(self) -> tuple[Checked, ...]:
        """Those whose gold has changed since, and what has.

        Raises:
            CorpusError: the file can't be read.
        """
        found = self._loaded()
        return tuple(Checked(e["text"], e["id"], problem=str(q)) for e, q in found if isinstance(q, CorpusError))

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
        places = [_place(self.corpus, span) for span in gold]
        with lock(self.path.with_name(f".{self.path.name}.lock")):
            entries = _entries(self.path)
            for entry in entries:
                if same(entry["text"]) == same(text):
                    raise InputError(f"{text!r} is in {self.path.name} already, as {entry['id']}, by {entry['who']}")
            number = 1 + max((int(e["id"].rpartition("-")[2]) for e in entries), default=0)
            entry = {"id": f"{TAG}-{number:03}", "text": " ".join(text.split()), "gold": places, "tags": [TAG]}
            entry |= {"who": who.strip(), "trace": trace_id}
            lines = [json.dumps(e, ensure_ascii=False) for e in (*entries, entry)]
            atomic_write(self.path, "".join(f"{line}\n" for line in lines).encode())
        return _question(self.corpus, entry)

    def check(self, retriever: Retriever, k: int = 10) -> RegressionReport:
        """Whether the first ``k`` hits hold an answer to each question: to each of its places, where it has several.

        The rank is that of the last place to be found.

        Raises:
            InputError: ``k`` < 1.
            CorpusError: the file can't be read.
        """
        questions = self.questions
        rows = []
        for question, hits in zip(questions, retriever.search_many([q.text for q in questions], k), strict=True):
            spans = [hit.chunk.span for hit in hits]
            ranks = [next((r for r, s in enumerate(spans, 1) if s.answers(gold)), 0) for gold in question.gold]
            rows.append(Checked(question.text, question.id, max(ranks) if all(ranks) else 0))
        return RegressionReport((*rows, *self.stale), k, len(_entries(self.path)) - len(self))

    def _loaded(self) -> list[tuple[Mapping[str, Any], Question | CorpusError]]:
        """Each entry about this corpus, with its question, or with what keeps it from being one."""
        ids = {document.id for document in self.corpus.documents}
        found: list[tuple[Mapping[str, Any], Question | CorpusError]] = []
        for entry in _entries(self.path):
            if all(place["doc"] in ids for place in entry["gold"]):
                try:
                    found.append((entry, _question(self.corpus, entry)))
                except CorpusError as error:
                    found.append((entry, error))
        return found


def _entries(path: Path) -> list[dict[str, Any]]:
    """The lines of a set, checked; none where there is no file.

    Raises:
        CorpusError: the file, or a line of it, can't be read; says which.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: can't be read ({error}); expected a file of JSON lines") from error
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            texts = [entry[name] for name in ("id", "text", "who")] + [place["doc"] for place in entry["gold"]]
            if not all(isinstance(text, str) for text in texts) or not entry["id"].rpartition("-")[2].isdigit():
                raise ValueError("a field is not a text, or the id has no number")
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{path.name}, line {number}: not a confirmed question ({error!r})") from error
        entries.append(entry)
    return entries


def _place(corpus: Corpus, span: Span) -> dict[str, Any]:
    """A gold place as it is written: a section by its path where it is one, else characters."""
    document = corpus.document(span.doc_id)
    if not span.start < span.end <= len(document.text):
        raise InputError(
            f"gold [{span.start}, {span.end}) is empty or outside {span.doc_id!r} ({len(document.text)} characters)"
        )
    path = document.section_at(span.start)
    if path:
        try:
            own = section_span(document, path)
        except CorpusError:
            own = None
        if own == Span(span.doc_id, span.start, span.end):
            return {"doc": document.id, "section": list(path), "sha256": _digest(document, own)}
    return {"doc": document.id, "start": span.start, "end": span.end, "sha256": document.sha256}


def _question(corpus: Corpus, entry: Mapping[str, Any]) -> Question:
    """The question of an entry.

    Raises:
        CorpusError: its gold is not there any more, or has changed.
    """
    spans = tuple(_span(corpus.document(place["doc"]), place) for place in entry["gold"])
    answer = "\n\n".join(corpus.document(s.doc_id).text[s.start : s.end] for s in spans)
    return Question(entry["id"], entry["text"], spans, tuple(entry.get("tags", ())), answer)


def _span(document: Document, place: Mapping[str, Any]) -> Span:
    if "section" in place:
        span = section_span(document, tuple(place["section"]))
        if place.get("sha256") != _digest(document, span):
            raise CorpusError(
                f"document {document.id!r}: section {' > '.join(place['section'])!r} is not the text that was confirmed"
            )
        return span
    if place.get("sha256") != document.sha256:
        raise CorpusError(f"document {document.id!r}: it is not the text in which the place was confirmed")
    return Span(document.id, int(place["start"]), int(place["end"]))


def _digest(document: Document, span: Span) -> str:
    return hashlib.sha256(document.text[span.start : span.end].encode("utf-8", "surrogatepass")).hexdigest()
