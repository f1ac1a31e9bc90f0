"""Message catalogues as a test set across languages: the format, what is left out, and the real thing."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import ArchiveError, Corpus, CorpusError, InputError, IntegrityError
from ragkit.corpus.catalogues import GAP, LANGUAGES, MIN_WORDS, clean, load_catalogues

HEADER = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n'
MESSAGES = (
    "The <b>%(name)s</b> was not found here",  # 0
    "Delete",  # 1: short
    "You must choose a colour",  # 2
    "This file is far too large",  # 3
    "you must CHOOSE a colour",  # 4: says the same as 2
    "Please log in again now",  # 5
)
TRANSLATED = {
    "en": ("", "", "", "", "", ""),
    "es": ("No se encontró %(name)s aquí", "Borrar", "Elija un color", "Demasiado grande", "Elija", "Entre otra vez"),
    "ar": ("لم يُعثر على %(name)s هنا", "حذف", "اختر لونًا", "الملف كبير جدًا", "اختر", "سجّل الدخول مجددًا"),
    "ja": ("%(name)s が見つかりません", "削除", "色を選んでください", "", "色を", "Please log in again now"),
}
PLURAL = 'msgid "one file was not read"\nmsgid_plural "%d files were not read"\nmsgstr[0] "un"\nmsgstr[1] "otros"\n'
FUZZY = '#, fuzzy, python-format\nmsgid "Something that was guessed here"\nmsgstr "{}"\n'


def catalogue(language: str) -> str:
    entries = "\n".join(
        f'#: a.py:{n}\nmsgid "{source}"\nmsgstr "{target}"\n'
        for n, (source, target) in enumerate(zip(MESSAGES, TRANSLATED[language], strict=True))
    )
    fuzzy = FUZZY.format("" if language == "en" else "algo")
    return f'{HEADER}{entries}\n{PLURAL}\n{fuzzy}\n#~ msgid "Old and no longer used"\n#~ msgstr "Viejo"\n'


FILES = {f"demo/core/locale/{language}/LC_MESSAGES/demo.po": catalogue(language) for language in TRANSLATED}
ELSEWHERE = {
    "tests/locale/es/LC_MESSAGES/demo.po": "not a catalogue",
    "demolition/locale/es/LC_MESSAGES/a.po": "nor this",
}

MANIFEST = """
[[project]]
name = "demo"
version = "2.0"
file = "demo-2.0.tar.gz"
sha256 = "{sha256}"
docs = "demo"
licence = "MIT"
"""


def archive(files: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(f"demo-2.0/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def pinned(home: Path, files: Mapping[str, str | bytes]) -> Path:
    """A manifest that pins an archive of ``files``, which has been fetched already."""
    data = archive(files)
    (home / "downloads").mkdir(parents=True, exist_ok=True)
    (home / "downloads" / "demo-2.0.tar.gz").write_bytes(data)
    manifest = home / "demo.toml"
    manifest.write_text(MANIFEST.format(sha256=hashlib.sha256(data).hexdigest()))
    return manifest


@pytest.fixture
def manifest(ragkit_home: Path) -> Path:
    return pinned(ragkit_home, FILES | ELSEWHERE)


# ---- from catalogues to corpora


def test_each_translation_asks_for_its_original(manifest: Path) -> None:
    corpora = load_catalogues(["es", "ar"], manifest)
    assert list(corpora) == ["es", "ar"]
    for language, corpus in corpora.items():
        assert [d.text for d in corpus.documents] == [
            f"The {GAP} was not found here",
            "You must choose a colour",
            "This file is far too large",
            "Please log in again now",
        ]
        assert [q.id for q in corpus.questions] == [f"{language}/demo/core/{n}" for n in (1, 3, 4, 6)]
        for question in corpus.questions:
            (gold,) = question.gold
            assert corpus.document(gold.doc_id).text[gold.start : gold.end] == question.answer
            assert question.tags == ("translated", language)
    assert [q.text for q in corpora["es"].questions][:2] == [f"No se encontró {GAP} aquí", "Elija un color"]
    assert corpora["ar"].questions[1].text == TRANSLATED["ar"][2]
    assert corpora["es"].fingerprint == corpora["ar"].fingerprint
    assert dict(corpora["es"].documents[0].metadata) == {
        **{"project": "demo", "version": "2.0", "title": "demo/core", "source": "demo/core", "licence": "MIT"},
    }


def test_only_what_all_languages_have_is_asked_and_the_rest_is_counted(manifest: Path) -> None:
    corpora = load_catalogues(["es", "ja"], manifest)
    answers = {language: [q.answer for q in corpus.questions] for language, corpus in corpora.items()}
    assert [document.text for document in corpora["ja"].documents] == answers["ja"]
    assert answers["es"] == answers["ja"] == [f"The {GAP} was not found here", "You must choose a colour"]
    same = {
        f"messages of fewer than {MIN_WORDS} words left out": 1,
        "messages with plural forms left out": 1,
        "messages that say the same as another left out": 1,
        "fuzzy translations left out": 1,
    }
    assert corpora["es"].notes == same | {"translations that another language lacks left out": 2}
    assert corpora["ja"].notes == same | {
        "translations that are English left out": 1,
        "messages without a translation": 1,
    }


def test_the_same_message_in_two_contexts_keeps_both_translations_apart(ragkit_home: Path) -> None:
    two = 'msgctxt "door"\nmsgid "It is open right now"\nmsgstr "{}"\n\nmsgid "It is open right now"\nmsgstr "{}"\n'
    files = {
        "demo/locale/en/LC_MESSAGES/demo.po": HEADER + two.format("", ""),
        "demo/locale/es/LC_MESSAGES/demo.po": HEADER + two.format("abierta", "abierto"),
    }
    corpus = load_catalogues(["es"], pinned(ragkit_home, files))["es"]
    assert [(q.id, q.text) for q in corpus.questions] == [("es/demo/1", "abierta")]


@pytest.mark.parametrize("languages", [[], "es", ["es", "es"], ["es", "xx"]], ids=str)
def test_unknown_languages_are_refused(languages: list[str], manifest: Path) -> None:
    with pytest.raises(
        InputError, match=r"expected codes such as|no catalogue for \['xx'\]; there are: ar, en, es, ja"
    ):
        load_catalogues(languages, manifest)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"demo/core/locale/es/LC_MESSAGES/demo.po": b"\xff\xfe"}, "not UTF-8"),
        ({"demo/core/locale/es/LC_MESSAGES/demo.po": HEADER}, "no message is translated into all of es"),
    ],
    ids=["bytes", "nothing translated"],
)
def test_a_broken_catalogue_is_refused(files: dict[str, str | bytes], words: str, ragkit_home: Path) -> None:
    with pytest.raises(CorpusError, match=words):
        load_catalogues(["es"], pinned(ragkit_home, FILES | files))


def test_an_archive_that_leaves_its_folder_or_is_another_one_is_refused(
    ragkit_home: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArchiveError, match="would leave its folder"):
        load_catalogues(["es"], pinned(ragkit_home, FILES | {"../../evil.po": ""}))
    other = archive(FILES | {"more": "x"})
    monkeypatch.setattr("ragkit.corpus.fetch._download", lambda project, name, part, url: part.write_bytes(other))
    manifest = pinned(ragkit_home, FILES)
    (ragkit_home / "downloads" / "demo-2.0.tar.gz").unlink()
    with pytest.raises(IntegrityError, match="the manifest pins"):
        load_catalogues(["es"], manifest)


# ---- the text of a message


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("%(count)d of %(total)5.2f", f"{GAP} of {GAP}"),
        ("100%% of %s的, %i!", f"100% of {GAP}的, {GAP}!"),
        ("30 % of them, 5% off", "30 % of them, 5% off"),
        ("{name} and {{ block.super }}", f"{GAP} and {GAP}"),
        ('See <a href="%(url)s">the guide</a> &amp; <br/> go\non.', "See the guide & go on."),
        ("<코드>%s</코드>", GAP),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("  spread \u00a0 out\t", "spread out"),
    ],
)
def test_placeholders_and_tags_go(message: str, expected: str) -> None:
    assert clean(message) == expected


@given(st.text())
def test_a_clean_text_has_single_spaces_and_no_placeholder(message: str) -> None:
    text = clean(message)
    assert text == " ".join(text.split())
    assert not re.search(r"%\(\w+\)s", text)


# ---- the pinned archive


@pytest.fixture(scope="module")
def corpora() -> dict[str, Corpus]:
    return load_catalogues()


def test_twelve_languages_in_eight_scripts_ask_for_the_same_messages(corpora: dict[str, Corpus]) -> None:
    assert tuple(corpora) == LANGUAGES
    first = corpora["es"]
    assert len(first.documents) == len(first.questions) >= 137
    for corpus in corpora.values():
        assert corpus.documents == first.documents
        assert [q.gold for q in corpus.questions] == [q.gold for q in first.questions]
    assert {document.metadata["licence"] for document in first.documents} == {"BSD-3-Clause"}

    scripts = {"GREEK", "ARABIC", "HEBREW", "CJK", "HIRAGANA", "HANGUL", "CYRILLIC", "LATIN"}
    letters = {c for corpus in corpora.values() for q in corpus.questions for c in q.text if c.isalpha()}
    assert scripts <= {unicodedata.name(c).split()[0] for c in letters}


def test_no_message_is_short_no_placeholder_is_left_and_no_question_is_its_answer(corpora: dict[str, Corpus]) -> None:
    for corpus in corpora.values():
        for question in corpus.questions:
            assert question.text.casefold() != (question.answer or "").casefold()
            assert not re.search(r"%\(|</?\w+>|\s\s", question.text)
        for document in corpus.documents:
            assert len(re.findall(r"[^\W\d_]+", document.text)) >= MIN_WORDS
