"""Labelled questions: those that come with ragkit, and published test sets in BEIR's and SQuAD's form."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ragkit.base import Corpus, CorpusError, Document, InputError, Question, Section, Span
from ragkit.corpus.folder import warn_of
from ragkit.files import data_file


def question_kinds() -> tuple[str, ...]:
    """The kinds of questions that there are: ``keyword``, ``paraphrase``, ``multihop``, ..."""
    return tuple(sorted(path.stem for path in data_file("questions").glob("*.jsonl")))


def load_questions(kind: str, corpus: Corpus) -> tuple[Question, ...]:
    """The questions of ``kind`` (``data/questions/*.jsonl``) whose documents are all in ``corpus``.

    A line names its gold by document and section path, which survives a new version of a page better than offsets do.
    A gold span is a section's own text: from below its heading to the next heading of any level, without the white
    space around it. Questions without gold (``unanswerable``) have ``gold == ()``.

    Raises:
        InputError: there is no such kind.
        CorpusError: a line cannot be read, or names a section that its document does not have.
    """
    if kind not in question_kinds():
        raise InputError(f"no questions of kind {kind!r}; there are: {', '.join(question_kinds())}")
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
    same = [s for s in document.sections if s.path == tuple(path)]
    for section in same:
        text = document.text[section.body : section.end]
        start = section.body + len(text) - len(text.lstrip())
        if text.strip():
            return Span(document.id, start, start + len(text.strip()))
    problem = "has no text of its own" if same else "is not there"
    raise CorpusError(f"document {document.id!r}: section {' > '.join(path)!r} {problem}")


def load_beir(folder: str | Path, split: str | None = None, title_in_text: bool = False) -> Corpus:
    """A test set in BEIR's form: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/<split>.tsv``.

    Gold is the whole document with the grade of the qrels (Thakur et al. 2021, arXiv 2104.08663). Without
    ``split``: ``test`` where there is one, else the only one. Titles are kept as ``Document.title``;
    ``title_in_text=True`` also puts them in front of the text, as BEIR's published figures do. Queries without
    a judgement and judgements of unknown documents or queries are left out, counted in ``Corpus.notes`` and
    warned of.

    Raises:
        CorpusError: a file or a field is missing, a line is not JSON, an id is there twice, or no judgement is left.
    """
    root = Path(folder).expanduser()
    notes: Counter[str] = Counter()
    documents: dict[str, Document] = {}
    for where, entry in _json_lines(root / "corpus.jsonl"):
        doc_id, title = _field(entry, "_id", where), str(entry.get("title") or "").strip()
        text = _field(entry, "text", where, blank=True)
        if title and (title_in_text or not text.strip()):
            text = f"{title}\n\n{text}" if text.strip() else title
        if doc_id in documents:
            raise CorpusError(f"{where}: document id {doc_id!r} is there twice; ids must be unique")
        if not text.strip():
            notes["documents without words left out"] += 1
            continue
        documents[doc_id] = _document(doc_id, text, title, root.resolve().name)
    texts: dict[str, str] = {}
    for where, entry in _json_lines(root / "queries.jsonl"):
        query_id = _field(entry, "_id", where)
        if query_id in texts:
            raise CorpusError(f"{where}: query id {query_id!r} is there twice; ids must be unique")
        texts[query_id] = _field(entry, "text", where)
    gold: dict[str, dict[str, int]] = {}
    qrels = _qrels_file(root, split)
    for query_id, doc_id, grade in _qrels(qrels):
        if query_id not in texts:
            notes["judgements of unknown queries left out"] += 1
        elif doc_id not in documents:
            notes["judgements of unknown documents left out"] += 1
        elif grade > 0:
            gold.setdefault(query_id, {})[doc_id] = grade
    if not gold:
        raise CorpusError(f"{qrels}: no judgement above 0 for a known query and document; nothing can be measured")
    questions = [
        Question(i, texts[i], tuple(Span(d, 0, len(documents[d].text), grade) for d, grade in judged.items()))
        for i, judged in ((i, gold[i]) for i in texts if i in gold)
    ]
    if without := len(texts) - len(gold):
        notes[f"queries without judgements in {qrels.stem} left out"] = without
    return _corpus(root.resolve().name, documents.values(), questions, notes)


def _qrels_file(root: Path, split: str | None) -> Path:
    there = sorted(path.stem for path in (root / "qrels").glob("*.tsv"))
    chosen = split or ("test" if "test" in there else there[0] if len(there) == 1 else None)
    if chosen not in there:
        raise CorpusError(f"{root / 'qrels'}: no split {chosen or '?'!r}; there are: {', '.join(there) or 'none'}")
    return root / "qrels" / f"{chosen}.tsv"


def _qrels(path: Path) -> Iterator[tuple[str, str, int]]:
    """``(query id, document id, grade)`` of a BEIR qrels file; its first line is a header."""
    for number, line in _lines(path):
        fields = line.split("\t")
        if number == 1 and not fields[-1].strip().lstrip("-").isdigit():
            continue
        try:
            query_id, doc_id, grade = fields
            yield query_id, doc_id, int(grade)
        except ValueError as error:
            raise CorpusError(
                f"{path.name}, line {number}: expected query-id, corpus-id, whole-number score between tabs, "
                f"found {line[:80]!r}"
            ) from error


def load_squad(path: str | Path, gold: Literal["span", "document"] = "span") -> Corpus:
    """A test set in SQuAD's JSON form (Rajpurkar et al. 2016, arXiv 1606.05250): SQuAD, XQuAD, MLQA, your own.

    Every paragraph is a document, ``<article title>/<number>``. ``gold="span"``: the characters of the answer;
    ``gold="document"``: the whole paragraph, for figures that count paragraphs. Answers at different places are
    alternatives: the question is ``any_of`` them. An offset that does not point
    at its answer is repaired if the answer occurs exactly once, else the answer is dropped; answers that overlap
    are merged; a question that loses all its answers is left out. All of that is counted in ``Corpus.notes``
    and warned of. Questions marked impossible keep no gold and the tag ``unanswerable``.

    Raises:
        CorpusError: the file is missing, not JSON, not of this form, or has a question id twice.
        InputError: ``gold`` is neither of the two.
    """
    if gold not in ("span", "document"):
        raise InputError(f"gold is {gold!r}: expected 'span' or 'document'")
    file = Path(path).expanduser()
    notes: Counter[str] = Counter()
    documents: list[Document] = []
    questions: list[Question] = []
    numbers: Counter[str] = Counter()
    try:
        for article in _json_file(file)["data"]:
            title = str(article.get("title") or file.stem)
            for paragraph in article["paragraphs"]:
                doc_id = f"{title}/{numbers[title]}"
                numbers[title] += 1
                text = str(paragraph["context"])
                if not text.strip():
                    notes["paragraphs without words left out"] += 1
                    continue
                documents.append(_document(doc_id, text, title.replace("_", " "), file.stem))
                for entry in paragraph["qas"]:
                    questions += _squad_question(entry, documents[-1], gold, notes)
    except (KeyError, TypeError, AttributeError) as error:
        raise CorpusError(f"{file}: not in SQuAD's form ({error!r}); expected data > paragraphs > qas") from error
    return _corpus(file.stem, documents, questions, notes)


def _squad_question(entry: Mapping[str, Any], document: Document, gold: str, notes: Counter[str]) -> list[Question]:
    """The question of one ``qas`` entry, or nothing if it has lost its text or all its answers."""
    question_id, text, answers = str(entry["id"]), str(entry["question"]), entry.get("answers") or []
    if not text.strip():
        notes["questions without words left out"] += 1
        return []
    if entry.get("is_impossible") or not answers:
        return [Question(question_id, text, tags=("unanswerable",))]
    places = sorted({p for a in answers if (p := _place(str(a["text"]), a.get("answer_start"), document.text, notes))})
    merged: list[tuple[int, int]] = []
    for start, end in places:
        if merged and start < merged[-1][1]:
            notes["overlapping answers merged"] += 1
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    if not merged:
        notes["questions without a usable answer left out"] += 1
        return []
    spans = merged if gold == "span" else [(0, len(document.text))]
    answer = document.text[slice(*places[0])]
    return [Question(question_id, text, tuple(Span(document.id, *s) for s in spans), (), answer, len(spans) > 1)]


def _place(answer: str, start: object, text: str, notes: Counter[str]) -> tuple[int, int] | None:
    """Where ``answer`` stands in ``text``: at ``start`` if it does, else where it occurs exactly once."""
    if not answer.strip():
        notes["answers without words dropped"] += 1
        return None
    if isinstance(start, int) and start >= 0 and text.startswith(answer, start):
        return start, start + len(answer)
    first = text.find(answer)
    if first < 0 or text.find(answer, first + 1) >= 0:
        notes["answers with a wrong offset dropped"] += 1
        return None
    notes["answers with a wrong offset repaired"] += 1
    return first, first + len(answer)


def _document(doc_id: str, text: str, title: str, project: str) -> Document:
    metadata = {"project": project, "title": title, "source": doc_id}
    return Document(doc_id, text, title, (Section((), 0, 0, len(text)),), metadata)


def _corpus(name: str, documents: Iterable[Document], questions: Iterable[Question], notes: Counter[str]) -> Corpus:
    corpus = Corpus(name, tuple(documents), tuple(questions), dict(notes))
    if not corpus.documents:
        raise CorpusError(f"{name}: no document with words in it")
    warn_of(name, notes)
    return corpus


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """``(number, line)`` for every line of a text file that is not blank."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if text := line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n"):
                    yield number, text
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error})") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}, line {number}: not UTF-8 ({error})") from error


def _json_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in _lines(path):
        where = f"{path.name}, line {number}"
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise CorpusError(f"{where}: not JSON ({error}): {line[:80]!r}") from error
        if not isinstance(entry, dict):
            raise CorpusError(f"{where}: expected a JSON object, found {line[:80]!r}")
        yield where, entry


def _json_file(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error})") from error
    except ValueError as error:
        raise CorpusError(f"{path}: not JSON ({error})") from error


def _field(entry: Mapping[str, Any], name: str, where: str, blank: bool = False) -> str:
    value = entry.get(name)
    if not isinstance(value, str | int) or isinstance(value, bool) or (not blank and not str(value).strip()):
        raise CorpusError(f"{where}: field {name!r} is {value!r}, expected a text")
    return str(value)
