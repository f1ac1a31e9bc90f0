"""The questions that come with ragkit (``data/questions/*.jsonl``), with gold spans in a given corpus.

A line names its gold by document and section path, so it survives a new version of a page better than
offsets would; the span is found when the questions are loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ragkit.base import Corpus, CorpusError, Document, InputError, Question, Span
from ragkit.files import data_file


def kinds() -> tuple[str, ...]:
    """The kinds of questions that there are: ``keyword``, ``paraphrase``, ``multihop``, ..."""
    return tuple(sorted(path.stem for path in data_file("questions").glob("*.jsonl")))


def load_questions(kind: str, corpus: Corpus) -> tuple[Question, ...]:
    """The questions of ``kind`` whose documents are all in ``corpus``.

    A gold span is a section's own text: from below its heading to the next heading of any level, without
    the white space around it. Questions without gold (``unanswerable``) have ``gold == ()``.

    Raises:
        InputError: there is no such kind.
        CorpusError: a line cannot be read, or names a section that its document does not have.
    """
    if kind not in kinds():
        raise InputError(f"no questions of kind {kind!r}; there are: {', '.join(kinds())}")
    path = data_file("questions") / f"{kind}.jsonl"
    ids = {document.id for document in corpus.documents}
    questions: list[Question] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry: Mapping[str, Any] = json.loads(line)
            gold = [(g["doc"], tuple(g["section"])) for g in entry["gold"]]
            question_id, text, tags = entry["id"], entry["text"], tuple(entry["tags"])
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{path.name}, line {number}: not a question ({error!r})") from error
        if all(doc in ids for doc, _ in gold):
            spans = tuple(section_span(corpus.document(doc), section) for doc, section in gold)
            answer = "\n\n".join(corpus.document(s.doc_id).text[s.start : s.end] for s in spans) or None
            questions.append(Question(question_id, text, spans, tags, answer))
    return tuple(questions)


def section_span(document: Document, path: Sequence[str]) -> Span:
    """The own text of the section at ``path``, without the white space around it.

    Raises:
        CorpusError: the document has no such section, or it has no text of its own.
    """
    found = [s for s in document.sections if s.path == tuple(path)]
    for section in found:
        text = document.text[section.body : section.end]
        start = section.body + len(text) - len(text.lstrip())
        if text.strip():
            return Span(document.id, start, start + len(text.strip()))
    problem = "has no text of its own" if found else "is not there"
    raise CorpusError(f"document {document.id!r}: section {' > '.join(path)!r} {problem}")
