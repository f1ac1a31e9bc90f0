"""The same messages in many languages: translations by people, from the message catalogues of real software.

A program that speaks many languages ships them as gettext catalogues, ``locale/<language>/LC_MESSAGES/<name>.po``:
each entry holds an English message and what a translator made of it. Here every English message is a document,
and every translation is a question whose answer is its original. So a search across languages is measured with
labels that nobody made for the purpose.

The source distribution is pinned in ``data/catalogues.toml`` and fetched like the documentation of ``pydocs``.
"""

from __future__ import annotations

import html
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ragkit.base import Corpus, CorpusError, Document, InputError, Question, Section, Span, require
from ragkit.corpus.fetch import fetch, read_archive
from ragkit.corpus.pydocs import Project, read_projects
from ragkit.files import data_file

LANGUAGES = ("es", "fr", "de", "tr", "ru", "uk", "el", "ar", "he", "zh_Hans", "ja", "ko")
"""The languages unless others are asked for: eight scripts, and catalogues that are nearly complete."""

MIN_WORDS = 4
"""Words that an English message must have: "Delete" has no meaning to search for."""

GAP = "…"
"""Stands where a message has a placeholder: else "%(name)s" would be found, and not the meaning."""

_GROUP = "catalogues"
_FILE = re.compile(r"(?P<part>.+)/locale/(?P<language>\w+(?:@\w+)?)/LC_MESSAGES/[\w.-]+\.po")
_TAG = re.compile(r"</?[^\W\d_][^<>]*>")  # any alphabet: translators translate tags too
_PLACEHOLDER = re.compile(r"%\(\w+\)[-#0+.\d]*[a-zA-Z]|%[-#0+.\d]*[a-zA-Z](?![a-zA-Z])|\{+[^{}]*\}+")
_WORD = re.compile(r"[^\W\d_]+")

Key = tuple[str, str, str]
"""A message: the folder of its catalogue, its context, its English text."""


@dataclass(frozen=True)
class Entry:
    """One entry of a catalogue. ``plural``: it has several translations; ``fuzzy``: a guess nobody has looked at."""

    source: str
    target: str
    context: str = ""
    plural: bool = False
    fuzzy: bool = False


def load_catalogues(languages: Sequence[str] = LANGUAGES, manifest: str | Path | None = None) -> dict[str, Corpus]:
    """A corpus for each of ``languages``, by its code: the documents are English, the questions in that language.

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
        CorpusError: the manifest or a catalogue cannot be read, or no message is there in all languages.
        FetchError, IntegrityError, ArchiveError: the archive could not be had, or is not the pinned one.
    """
    if isinstance(languages, str) or not languages or len(set(languages)) != len(languages):
        raise InputError(f"languages = {languages!r}: expected codes such as {list(LANGUAGES[:3])}, each once")
    path = Path(manifest) if manifest is not None else data_file("catalogues.toml")
    documents: dict[Key, Document] = {}
    translated: dict[str, dict[Key, str]] = {language: {} for language in languages}
    notes: dict[str, Counter[str]] = {language: Counter() for language in languages}
    for project in read_projects(path, _GROUP, strict=manifest is None):
        entries = _entries(project, languages)
        messages, dropped = _messages(project, entries["en"])
        documents |= messages
        for language in languages:
            translations, lost = _translations(entries[language], messages)
            translated[language] |= translations
            notes[language] += dropped + lost
    common = [key for key in documents if all(key in translations for translations in translated.values())]
    if not common:
        raise CorpusError(f"{path.name}: no message is translated into all of {', '.join(languages)}")
    originals = tuple(documents[key] for key in common)
    corpora = {}
    for language, translations in translated.items():
        notes[language]["translations that another language lacks left out"] = len(translations) - len(common)
        questions = tuple(_question(language, documents[key], translations[key]) for key in common)
        counts = {what: count for what, count in notes[language].items() if count}
        corpora[language] = Corpus(f"{_GROUP}-{language}", originals, questions, counts)
    return corpora


def _entries(project: Project, languages: Sequence[str]) -> dict[str, dict[str, list[Entry]]]:
    """The catalogues of English and of ``languages``: ``{language: {folder: entries}}``."""
    there: set[str] = set()

    def wanted(name: str) -> bool:
        match = _FILE.fullmatch(name.partition("/")[2])
        if match is None or not PurePosixPath(match["part"]).is_relative_to(project.docs):
            return False
        there.add(match["language"])
        return match["language"] in ("en", *languages)

    files = read_archive(fetch(project.name, project.file, project.sha256), wanted)
    if unknown := [language for language in ("en", *languages) if language not in there]:
        raise InputError(f"{project.name} has no catalogue for {unknown}; there are: {', '.join(sorted(there))}")
    entries: dict[str, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(files):
        match = _FILE.fullmatch(name.partition("/")[2])
        assert match is not None
        folder = PurePosixPath(project.name) / PurePosixPath(match["part"]).relative_to(project.docs)
        entries[match["language"]][str(folder)] += _read_po(files[name], name)
    return entries


def _read_po(data: bytes, name: str) -> Iterator[Entry]:
    """The entries of a gettext catalogue, without its header and without obsolete ones."""
    pofile = require("babel.messages.pofile", "corpus")
    try:
        with redirect_stdout(io.StringIO()):  # babel prints its doubts about plural forms
            catalogue = pofile.read_po(io.BytesIO(data), charset="utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{name}: not UTF-8 ({error})") from error
    for message in catalogue:
        if message.id:  # the message without a text is the header
            source, target = (text if isinstance(text, str) else text[0] for text in (message.id, message.string))
            yield Entry(source, target or "", message.context or "", message.pluralizable, message.fuzzy)


def _messages(project: Project, catalogues: Mapping[str, Sequence[Entry]]) -> tuple[dict[Key, Document], Counter[str]]:
    """The English messages that can be searched for, and how many were left out and why."""
    messages: dict[Key, Document] = {}
    notes: Counter[str] = Counter()
    seen: set[str] = set()
    for part, entries in catalogues.items():
        for number, entry in enumerate(entries, 1):
            text = clean(entry.source)
            if entry.plural:
                notes["messages with plural forms left out"] += 1
            elif len(_WORD.findall(text)) < MIN_WORDS:
                notes[f"messages of fewer than {MIN_WORDS} words left out"] += 1
            elif text.casefold() in seen:
                notes["messages that say the same as another left out"] += 1
            else:
                seen.add(text.casefold())
                doc_id = f"{part}/{number}"
                metadata = {"project": project.name, "version": project.version, "title": part, "source": part}
                metadata["licence"] = project.licence
                whole = (Section((), 0, 0, len(text)),)
                messages[part, entry.context, entry.source] = Document(doc_id, text, part, whole, metadata)
    return messages, notes


def _translations(
    catalogues: Mapping[str, Sequence[Entry]], messages: Mapping[Key, Document]
) -> tuple[dict[Key, str], Counter[str]]:
    """The translations of ``messages``, and how many were left out and why."""
    translations: dict[Key, str] = {}
    notes: Counter[str] = Counter()
    for part, entries in catalogues.items():
        for entry in entries:
            key, text = (part, entry.context, entry.source), clean(entry.target)
            if key not in messages or entry.plural:
                continue
            if entry.fuzzy:
                notes["fuzzy translations left out"] += 1
            elif text.casefold() == messages[key].text.casefold():
                notes["translations that are English left out"] += 1
            elif _WORD.search(text):
                translations[key] = text
    notes["messages without a translation"] = len(messages) - len(translations) - notes.total()
    return translations, notes


def _question(language: str, original: Document, text: str) -> Question:
    gold = (Span(original.id, 0, len(original.text)),)
    return Question(f"{language}/{original.id}", text, gold, ("translated", language), original.text)


def clean(message: str) -> str:
    """A message as people read it: no tags, ``GAP`` for every placeholder, single spaces.

    >>> clean('The <b>%(name)s</b> was not\\n found: {reason}')
    'The … was not found: …'
    """
    text = _PLACEHOLDER.sub(GAP, html.unescape(_TAG.sub("", message)))
    return " ".join(text.replace("%%", "%").split())
