"""Labelled questions: those that come with ragkit, test sets in BEIR's and SQuAD's form, translated messages."""

from __future__ import annotations

import html
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ragkit.base import Corpus, CorpusError, Document, InputError, Question, Section, Span, require
from ragkit.corpus.folder import warn_of
from ragkit.corpus.pydocs import Project, read_archive, read_projects
from ragkit.fetch import fetch
from ragkit.files import data_file

# ---- the questions of ragkit


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
        CorpusError: a question names a section that its document does not have.
    """
    if kind not in question_kinds():
        raise InputError(f"no questions of kind {kind!r}; there are: {', '.join(question_kinds())}")
    ids = {document.id for document in corpus.documents}
    questions: list[Question] = []
    for line in (data_file("questions") / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if all(gold["doc"] in ids for gold in entry["gold"]):
            spans = tuple(section_span(corpus.document(gold["doc"]), gold["section"]) for gold in entry["gold"])
            answer = "\n\n".join(corpus.document(s.doc_id).text[s.start : s.end] for s in spans) or None
            questions.append(Question(entry["id"], entry["text"], spans, tuple(entry["tags"]), answer))
    return tuple(questions)


def with_faq_headings(corpus: Corpus) -> Corpus:
    """``corpus`` with each of its questions as a heading above its answer: what ``load_pydocs`` takes out of an FAQ.

    Sections and gold spans are the same texts as before, at their new offsets; the questions are in no section's path.

    >>> text = "# FAQ\\n\\nPress q."
    >>> corpus = Corpus("a", (Document("faq", text),), (Question("1", "How do I stop?", (Span("faq", 7, 15),)),))
    >>> with_faq_headings(corpus).documents[0].text
    '# FAQ\\n\\n### How do I stop?\\n\\nPress q.'
    """
    headings: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for question in corpus.questions:
        for span in question.gold:
            headings[span.doc_id].append((span.start, f"### {question.text}\n\n"))

    def moved(doc_id: str, offset: int) -> int:
        """Where the character that was at ``offset`` is now."""
        return offset + sum(len(heading) for start, heading in headings[doc_id] if start <= offset)

    def rewritten(document: Document) -> Document:
        text, at, name = "", 0, document.id
        for start, heading in sorted(headings[name]):
            text, at = text + document.text[at:start] + heading, start
        sections = [
            Section(s.path, moved(name, s.start), moved(name, s.body - 1) + 1, moved(name, s.end))
            for s in document.sections
        ]
        return replace(document, text=text + document.text[at:], sections=tuple(sections))

    def relabelled(question: Question) -> Question:
        spans = [replace(s, start=moved(s.doc_id, s.start), end=moved(s.doc_id, s.end - 1) + 1) for s in question.gold]
        return replace(question, gold=tuple(spans))

    documents, questions = map(rewritten, corpus.documents), map(relabelled, corpus.questions)
    return Corpus(f"{corpus.name} with the headings of its FAQs", tuple(documents), tuple(questions), corpus.notes)


def section_span(document: Document, path: Sequence[str]) -> Span:
    """The own text of the section at ``path``, without the white space around it.

    Raises:
        CorpusError: the document has no such section, or it has no text of its own.
    """
    same = [section for section in document.sections if section.path == tuple(path)]
    for section in same:
        text = document.text[section.body : section.end]
        start = section.body + len(text) - len(text.lstrip())
        if text.strip():
            return Span(document.id, start, start + len(text.strip()))
    problem = "has no text of its own" if same else "is not there"
    raise CorpusError(f"document {document.id!r}: section {' > '.join(path)!r} {problem}")


# ---- files of others


Words = Annotated[str, Field(pattern=r"\S")]


class _Row(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)


class _Text(_Row):
    """A line of BEIR's ``corpus.jsonl``."""

    id: Words = Field(alias="_id")
    title: str | None = None
    text: str


class _Query(_Row):
    """A line of BEIR's ``queries.jsonl``."""

    id: Words = Field(alias="_id")
    text: Words


class _Answer(_Row):
    text: str
    answer_start: int | None = None


class _Asked(_Row):
    id: Words
    question: Words
    answers: list[_Answer] | None = None
    is_impossible: bool = False


class _Paragraph(_Row):
    context: Words
    qas: list[_Asked]


class _Article(_Row):
    title: str = ""
    paragraphs: list[_Paragraph]


class _Squad(_Row):
    """A file in SQuAD's form."""

    data: list[_Article]


Model = TypeVar("Model", bound=BaseModel)


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
    root = Path(folder).expanduser().resolve()
    notes: Counter[str] = Counter()
    documents: list[Document] = []
    for row in _rows(root / "corpus.jsonl", _Text):
        title = (row.title or "").strip()
        parts = [title, row.text] if title_in_text or not row.text.strip() else [row.text]
        if text := "\n\n".join(part for part in parts if part.strip()):
            documents.append(_document(row.id, text, title, root.name))
        else:
            notes["documents without words left out"] += 1
    lengths = {document.id: len(document.text) for document in documents}
    queries = list(_rows(root / "queries.jsonl", _Query))
    gold: dict[str, list[Span]] = {query.id: [] for query in queries}
    qrels = _qrels_file(root, split)
    for query_id, doc_id, grade in _qrels(qrels):
        if query_id not in gold:
            notes["judgements of unknown queries left out"] += 1
        elif doc_id not in lengths:
            notes["judgements of unknown documents left out"] += 1
        elif grade > 0:
            gold[query_id].append(Span(doc_id, 0, lengths[doc_id], grade))
    questions = [Question(query.id, query.text, tuple(gold[query.id])) for query in queries if gold[query.id]]
    if not questions:
        raise CorpusError(f"{qrels}: no judgement above 0 for a known query and document; nothing can be measured")
    notes[f"queries without judgements in {qrels.stem} left out"] = len(queries) - len(questions)
    return _corpus(root.name, documents, questions, notes)


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
            expected = "query-id, corpus-id, whole-number score between tabs"
            raise CorpusError(f"{path.name}, line {number}: expected {expected}, found {line[:80]!r}") from error


def load_squad(path: str | Path, gold: Literal["span", "document"] = "span") -> Corpus:
    """A test set in SQuAD's JSON form (Rajpurkar et al. 2016, arXiv 1606.05250): SQuAD, XQuAD, MLQA, your own.

    Every paragraph is a document, ``<article title>/<number>``. ``gold="span"``: the characters of the answer;
    ``gold="document"``: the whole paragraph, for figures that count paragraphs. Answers at different places are
    alternatives: the question is ``any_of`` them; those that overlap are one. An offset that does not point
    at its answer is repaired if the answer occurs exactly once, else the answer is dropped; a question that loses
    all its answers is left out. That is counted in ``Corpus.notes`` and warned of. Questions marked impossible keep
    no gold and the tag ``unanswerable``.

    Raises:
        CorpusError: the file is missing, not JSON, not of this form, or has a question id twice.
        InputError: ``gold`` is neither of the two.
    """
    if gold not in ("span", "document"):
        raise InputError(f"gold is {gold!r}: expected 'span' or 'document'")
    file = Path(path).expanduser()
    notes: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    documents: list[Document] = []
    questions: list[Question] = []
    for article in _valid(_Squad, _read(file), str(file)).data:
        title = article.title or file.stem
        for paragraph in article.paragraphs:
            document = _document(f"{title}/{numbers[title]}", paragraph.context, title.replace("_", " "), file.stem)
            documents.append(document)
            numbers[title] += 1
            for qa in paragraph.qas:
                if qa.is_impossible or not qa.answers:
                    questions.append(Question(qa.id, qa.question, tags=("unanswerable",)))
                elif places := _places(qa.answers, document.text, notes):
                    spans = places if gold == "span" else [(0, len(document.text))]
                    all_gold = tuple(Span(document.id, *span) for span in spans)
                    answer = document.text[slice(*places[0])]
                    questions.append(Question(qa.id, qa.question, all_gold, (), answer, len(spans) > 1))
                else:
                    notes["questions without a usable answer left out"] += 1
    return _corpus(file.stem, documents, questions, notes)


def _places(answers: Iterable[_Answer], text: str, notes: Counter[str]) -> list[tuple[int, int]]:
    """Where ``answers`` stand in ``text``, in order; those that overlap are one place."""
    places: list[tuple[int, int]] = []
    for start, end in sorted({(start, start + len(a.text)) for a in answers for start in _starts(a, text, notes)}):
        if places and start < places[-1][1]:
            places[-1] = (places[-1][0], max(end, places[-1][1]))
        else:
            places.append((start, end))
    return places


def _starts(answer: _Answer, text: str, notes: Counter[str]) -> list[int]:
    """Where ``answer`` begins: at its offset if it stands there, else where it occurs exactly once, else nowhere."""
    if not answer.text.strip():
        notes["answers without words dropped"] += 1
        return []
    if (start := answer.answer_start) is not None and start >= 0 and text.startswith(answer.text, start):
        return [start]
    starts = [match.start() for match in re.finditer(f"(?={re.escape(answer.text)})", text)]
    notes[f"answers with a wrong offset {'repaired' if len(starts) == 1 else 'dropped'}"] += 1
    return starts if len(starts) == 1 else []


def _document(doc_id: str, text: str, title: str, project: str) -> Document:
    metadata = {"project": project, "title": title, "source": doc_id}
    return Document(doc_id, text, title, (Section((), 0, 0, len(text)),), metadata)


def _corpus(name: str, documents: Sequence[Document], questions: Sequence[Question], notes: Counter[str]) -> Corpus:
    if not documents:
        raise CorpusError(f"{name}: no document with words in it")
    corpus = Corpus(name, tuple(documents), tuple(questions), dict(+notes))
    warn_of(name, corpus.notes)
    return corpus


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read ({error}); expected a text in UTF-8") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """``(number, line)`` for every line of a text file that is not blank."""
    number = 0
    try:
        with path.open("rb") as file:  # a large corpus is not in memory a second time
            for number, line in enumerate(file, 1):
                if (text := line.decode().removeprefix("\ufeff")).strip():
                    yield number, text.rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        where = f"{path}, line {number}" if number else path
        raise CorpusError(f"{where}: cannot be read ({error}); expected a text in UTF-8") from error


def _rows(path: Path, model: type[Model]) -> Iterator[Model]:
    return (_valid(model, line, f"{path.name}, line {number}") for number, line in _lines(path))


def _valid(model: type[Model], text: str, where: str) -> Model:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CorpusError(f"{where}: {place or 'text'}: {first['msg']}, found {str(first['input'])[:80]!r}") from error


# ---- the same messages in many languages

LANGUAGES = ("es", "fr", "de", "tr", "ru", "uk", "el", "ar", "he", "zh_Hans", "ja", "ko")
"""The languages unless others are asked for: eight scripts, and catalogues that are nearly complete."""

MIN_WORDS = 4
"""Words that an English message must have: "Delete" has no meaning to search for."""

GAP = "…"
"""Stands where a message has a placeholder: else "%(name)s" would be found, and not the meaning."""

_FILE = re.compile(r"(?P<part>.+)/locale/(?P<language>\w+(?:@\w+)?)/LC_MESSAGES/[\w.-]+\.po")
_TAG = re.compile(r"</?[^\W\d_][^<>]*>")  # any alphabet: translators translate tags too
_PLACEHOLDER = re.compile(r"%\(\w+\)[-#0+.\d]*[a-zA-Z]|%[-#0+.\d]*[a-zA-Z](?![a-zA-Z])|\{+[^{}]*\}+")
_WORD = re.compile(r"[^\W\d_]+")

Key = tuple[str, str, str]
"""A message: the folder of its catalogue, its context, its English text."""


def load_catalogues(languages: Sequence[str] = LANGUAGES) -> dict[str, Corpus]:
    """A corpus for each of ``languages``, by its code: the documents are English, the questions in that language.

    A program that speaks many languages ships its messages as gettext catalogues, translated by people. Here every
    English message is a document, and every translation is a question whose answer is its original: so a search across
    languages is measured with labels that nobody made for the purpose. The source distribution is pinned in
    ``data/catalogues.toml``.

    All have the same documents, the English messages of ``MIN_WORDS`` words or more that *all* the languages have
    translated, and a question for each of them: so every question has as many candidates in every language, and
    scores can be compared message by message. A question's gold is the whole original, its tags are
    ``("translated", language)``. HTML tags are taken out of both texts, and placeholders replaced by ``GAP``. What is
    left out is counted in ``Corpus.notes``: short messages, those with plural forms (they have several translations),
    those that say the same as one before, and those whose translation is missing, fuzzy or English.

    >>> es = load_catalogues(["es"])["es"]                                      # doctest: +SKIP
    >>> es.questions[0].text, es.questions[0].answer                            # doctest: +SKIP
    ('Este número de página no es un entero', 'That page number is not an integer')

    Raises:
        InputError: no language, one twice, or one without a catalogue; names those that there are.
        CorpusError: no message is there in all languages.
        FetchError, IntegrityError, ArchiveError: the archive could not be had, or is not the pinned one.
    """
    if isinstance(languages, str) or not languages or len(set(languages)) != len(languages):
        raise InputError(f"languages = {languages!r}: expected codes such as {list(LANGUAGES[:3])}, each once")
    (project,) = read_projects("catalogues.toml", "catalogues")
    catalogues = _catalogues(project, languages)
    notes: Counter[str] = Counter()
    originals = _originals(project, catalogues["en"], notes)
    translated = {language: _translations(catalogues[language], originals) for language in languages}
    common = [key for key in originals if all(key in translations for translations in translated.values())]
    if not common:
        raise CorpusError(f"{project.name}: no message is translated into all of {', '.join(languages)}")
    documents = tuple(originals[key] for key in common)
    corpora = {}
    for language, translations in translated.items():
        lost = Counter({"messages without a translation": len(originals) - len(translations)})
        lost["translations that another language lacks left out"] = len(translations) - len(common)
        questions = []
        for document, key in zip(documents, common, strict=True):
            gold, tags = (Span(document.id, 0, len(document.text)),), ("translated", language)
            questions.append(Question(f"{language}/{document.id}", translations[key], gold, tags, document.text))
        corpora[language] = Corpus(f"catalogues-{language}", documents, tuple(questions), dict(notes + lost))
    return corpora


def _catalogues(project: Project, languages: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """The messages of English and of ``languages`` as babel reads them: ``{language: {folder: messages}}``."""
    pofile = require("babel.messages.pofile", "corpus")
    wanted = ("en", *languages)
    places = {}

    def place(name: str) -> bool:
        match = _FILE.fullmatch(name.partition("/")[2])
        if match and PurePosixPath(match["part"]).is_relative_to(project.docs):
            places[name] = match["language"], match["part"].removeprefix(project.docs).strip("/")
        return name in places and places[name][0] in wanted

    files = read_archive(fetch(project.name, project.file, project.sha256), place)
    there = {language for language, _ in places.values()}
    if unknown := [language for language in wanted if language not in there]:
        raise InputError(f"{project.name} has no catalogue for {unknown}; there are: {', '.join(sorted(there))}")
    catalogues: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(files):
        language, part = places[name]
        with redirect_stdout(io.StringIO()):  # babel prints its doubts about plural forms
            messages = pofile.read_po(io.BytesIO(files[name]), charset="utf-8")
        folder = str(PurePosixPath(project.name) / part)
        catalogues[language][folder] += [message for message in messages if message.id]  # the header has no id
    return catalogues


def _originals(project: Project, catalogues: dict[str, list[Any]], notes: Counter[str]) -> dict[Key, Document]:
    """The English messages that can be searched for; what is left out is counted in ``notes``."""
    originals: dict[Key, Document] = {}
    seen: set[str] = set()
    for folder, messages in catalogues.items():
        for number, message in enumerate(messages, 1):
            text = "" if message.pluralizable else clean(message.id)
            if message.pluralizable:
                notes["messages with plural forms left out"] += 1
            elif len(_WORD.findall(text)) < MIN_WORDS:
                notes[f"messages of fewer than {MIN_WORDS} words left out"] += 1
            elif text.casefold() in seen:
                notes["messages that say the same as another left out"] += 1
            else:
                seen.add(text.casefold())
                metadata = {"project": project.name, "version": project.version, "title": folder, "source": folder}
                metadata["licence"] = project.licence
                whole = (Section((), 0, 0, len(text)),)
                key = folder, message.context or "", message.id
                originals[key] = Document(f"{folder}/{number}", text, folder, whole, metadata)
    return originals


def _translations(catalogues: dict[str, list[Any]], originals: dict[Key, Document]) -> dict[Key, str]:
    """The translations of ``originals``, without those that are fuzzy (a guess), empty or English."""
    translations: dict[Key, str] = {}
    for folder, messages in catalogues.items():
        for message in messages:
            key = folder, message.context or "", message.id
            if key in originals and not message.fuzzy:
                text = clean(message.string)
                if _WORD.search(text) and text.casefold() != originals[key].text.casefold():
                    translations[key] = text
    return translations


def clean(message: str) -> str:
    """A message as people read it: no tags, ``GAP`` for every placeholder, single spaces.

    >>> clean('The <b>%(name)s</b> was not\\n found: {reason}')
    'The … was not found: …'
    """
    text = _PLACEHOLDER.sub(GAP, html.unescape(_TAG.sub("", message)))
    return " ".join(text.replace("%%", "%").split())
