"""Published test sets in BEIR's and SQuAD's form, sound and unsound; message catalogues as one across languages."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_corpus_pydocs import archive

from ragkit.base import Corpus, CorpusError, Document, InputError, IntegrityError, Section
from ragkit.corpus import load_beir, load_catalogues, load_squad
from ragkit.corpus.datasets import GAP, LANGUAGES, MIN_WORDS, clean

XQUAD = Path(__file__).parents[2] / "shared" / "data" / "xquad" / "xquad.en.json"


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


# BEIR


def beir(folder: Path, **files: str) -> Path:
    """A small sound set; ``files`` replaces some of it."""
    content = {
        "corpus": '{"_id": "d1", "title": "T", "text": "one"}\n{"_id": "d2", "text": "two"}\n',
        "queries": '{"_id": "q1", "text": "one?"}\n{"_id": "q2", "text": "two?"}\n',
        "test": "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t1\nq2\td1\t0\n",
        **files,
    }
    jsonl = {f"{name}.jsonl": content.pop(name) for name in ("corpus", "queries")}
    return write(folder, jsonl | {f"qrels/{split}.tsv": rows for split, rows in content.items()})


def test_beir_gold_is_the_whole_document_with_its_grade(tmp_path):
    with pytest.warns(UserWarning, match=r"queries without judgements in test left out \(1\)"):
        corpus = load_beir(beir(tmp_path))
    assert [(d.id, d.title, d.text) for d in corpus.documents] == [("d1", "T", "one"), ("d2", "", "two")]
    (question,) = corpus.questions
    assert [(s.doc_id, s.start, s.end, s.grade) for s in question.gold] == [("d1", 0, 3, 2), ("d2", 0, 3, 1)]


def test_beir_titles_can_stand_in_the_text(tmp_path):
    with pytest.warns(UserWarning, match="without judgements"):
        corpus = load_beir(beir(tmp_path), title_in_text=True)
    assert [d.text for d in corpus.documents] == ["T\n\none", "two"]
    assert corpus.questions[0].gold[0].end == len("T\n\none")


def test_beir_splits(tmp_path):
    beir(tmp_path, dev="query-id\tcorpus-id\tscore\nq2\td2\t1\n")
    with pytest.warns(UserWarning, match="in dev left out"):
        assert [q.id for q in load_beir(tmp_path, "dev").questions] == ["q2"]
    with pytest.raises(CorpusError, match=r"no split 'train'; there are: dev, test"):
        load_beir(tmp_path, "train")


def test_beir_judgements_of_what_is_unknown_are_counted(tmp_path):
    rows = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td9\t1\nq9\td1\t1\nq2\td2\t1\n"
    with pytest.warns(UserWarning, match="unknown documents"):
        corpus = load_beir(beir(tmp_path, test=rows))
    assert corpus.notes == {
        "judgements of unknown documents left out": 1,
        "judgements of unknown queries left out": 1,
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"corpus": '{"_id": "d1", "text": "a"}\n{"_id": "d1", "text": "b"}\n'},
            "document ids must be unique, found twice: \\['d1'\\]",
        ),
        (
            {"queries": '{"_id": "q1", "text": "a"}\n\n{"_id": "q1", "text": "b"}\n'},
            "question ids must be unique",
        ),
        ({"test": ""}, "no judgement above 0"),
        ({"test": "query-id\tcorpus-id\tscore\n"}, "no judgement above 0"),
        ({"test": "query-id\tcorpus-id\tscore\nq1\td1\thigh\n"}, "test.tsv, line 2: expected"),
        ({"test": "q1 0 d1 1\n"}, "no judgement above 0|expected query-id"),
        ({"corpus": "{]\n"}, "corpus.jsonl, line 1: text: Invalid JSON"),
        ({"corpus": "[1]\n"}, "line 1: text: Input should be an object"),
        ({"corpus": '{"_id": "d1"}\n'}, "line 1: text: Field required"),
        ({"queries": '{"_id": "q", "text": " "}\n'}, "queries.jsonl, line 1: text: String should match"),
    ],
)
def test_beir_files_that_are_wrong(tmp_path, files, message):
    with pytest.raises(CorpusError, match=message):
        load_beir(beir(tmp_path, **files))


def test_beir_without_a_file_or_in_another_encoding(tmp_path):
    beir(tmp_path)
    (tmp_path / "queries.jsonl").write_bytes('{"_id": "q", "text": "Grüße"}'.encode("latin-1"))
    with pytest.raises(CorpusError, match=r"queries.jsonl, line 1: cannot be read .*UTF-8"):
        load_beir(tmp_path)
    (tmp_path / "queries.jsonl").unlink()
    with pytest.raises(CorpusError, match="cannot be read"):
        load_beir(tmp_path)


# SQuAD

TEXT = "The cat sat on the mat. The cat ran."


def squad(folder: Path, *questions: dict[str, Any], context: str = TEXT) -> Path:
    qas = [{"id": f"q{i}", "question": "Who?", **q} for i, q in enumerate(questions)]
    data = {"data": [{"title": "An_Article", "paragraphs": [{"context": context, "qas": qas}]}]}
    return write(folder, {"set.json": json.dumps(data)}) / "set.json"


def answers(*pairs: tuple[str, Any]) -> dict[str, Any]:
    return {"answers": [{"text": text, "answer_start": start} for text, start in pairs]}


def gold(corpus: Corpus) -> list[list[str]]:
    return [[corpus.document(s.doc_id).text[s.start : s.end] for s in q.gold] for q in corpus.questions]


def test_squad_gold_is_the_answer_or_the_paragraph(tmp_path):
    path = squad(tmp_path, answers(("cat", 4), ("cat", 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        corpus = load_squad(path)
    assert [(d.id, d.title, d.text) for d in corpus.documents] == [("An_Article/0", "An Article", TEXT)]
    assert gold(corpus) == [["cat"]]
    assert corpus.questions[0].answer == "cat"
    assert gold(load_squad(path, gold="document")) == [[TEXT]]
    with pytest.raises(InputError, match="'span' or 'document'"):
        load_squad(path, gold="paragraph")  # type: ignore[arg-type]


def test_squad_offsets_are_repaired_where_that_is_certain(tmp_path):
    wrong = [answers(("mat", 0)), answers(("mat", -1)), answers(("mat", None)), answers(("mat", 10**9))]
    lost = [answers(("cat", 0)), answers(("dog", 4))]
    with pytest.warns(UserWarning, match=r"wrong offset repaired \(4\)"):
        corpus = load_squad(squad(tmp_path, *wrong, *lost, answers(("ran", 32))))
    assert gold(corpus) == [["mat"]] * 4 + [["ran"]]
    assert corpus.notes == {
        "answers with a wrong offset repaired": 4,
        "answers with a wrong offset dropped": 2,
        "questions without a usable answer left out": 2,
    }


def test_squad_answers_that_overlap_are_one_gold(tmp_path):
    corpus = load_squad(squad(tmp_path, answers(("cat sat", 4), ("sat on", 8), ("mat", 19))))
    assert gold(corpus) == [["cat sat on", "mat"]]


def test_squad_answers_at_several_places_are_alternatives(tmp_path):
    path = squad(tmp_path, answers(("cat", 4), ("mat", 19), ("cat", 4)), answers(("cat", 4), ("cat", 4)))
    assert [question.any_of for question in load_squad(path).questions] == [True, False]
    assert [question.any_of for question in load_squad(path, gold="document").questions] == [False, False]


def test_squad_questions_without_an_answer(tmp_path):
    impossible = [{**answers(pair), "is_impossible": True} for pair in (("cat", 4), ("", -1))]
    corpus = load_squad(squad(tmp_path, {"answers": []}, {"answers": None}, *impossible))
    assert [(q.gold, q.tags) for q in corpus.questions] == [((), ("unanswerable",))] * 4


def test_squad_answers_without_words_are_dropped(tmp_path):
    with pytest.warns(UserWarning, match=r"answers without words dropped \(2\)"):
        corpus = load_squad(squad(tmp_path, answers(("", 0), ("cat", 4)), answers((" ", 3))))
    assert gold(corpus) == [["cat"]]
    assert corpus.notes["questions without a usable answer left out"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "data.0.paragraphs.0.context: Field required"),
        ('{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": 1}]}]}]}', "qas.0.question: Field required"),
        ('{"data": []}', "no document"),
    ],
)
def test_squad_files_that_are_wrong(tmp_path, content, message):
    path = write(tmp_path, {"set.json": content}) / "set.json"
    with pytest.raises(CorpusError, match=message):
        load_squad(path)


def test_squad_ids_must_be_unique_and_files_there(tmp_path):
    path = squad(tmp_path, {**answers(("cat", 4)), "id": "x"}, {**answers(("cat", 4)), "id": "x"})
    with pytest.raises(CorpusError, match="question ids must be unique, found twice: \\['x'\\]"):
        load_squad(path)
    with pytest.raises(CorpusError, match="cannot be read"):
        load_squad(tmp_path / "nowhere.json")


@given(st.lists(st.tuples(st.sampled_from(["cat", "The", "sat on", "mat.", "dog"]), st.integers(-3, 40)), max_size=6))
def test_squad_gold_always_stands_in_the_text(tmp_path_factory, pairs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        corpus = load_squad(squad(tmp_path_factory.mktemp("squad"), answers(*pairs)))
    for question in corpus.questions:
        for span, following in zip(question.gold, question.gold[1:], strict=False):
            assert span.end <= following.start
        assert all(words in TEXT and words for words in gold(corpus)[0])


# A set that nobody here made


@pytest.mark.skipif(not XQUAD.is_file(), reason=f"no XQuAD beside the checkout ({XQUAD.name})")
def test_xquad_in_beir_form_is_the_same_corpus(tmp_path):
    whole = load_squad(XQUAD, gold="document")
    assert (len(whole.documents), len(whole.questions), whole.notes) == (240, 1190, {})
    corpus = "".join(json.dumps({"_id": d.id, "title": d.title, "text": d.text}) + "\n" for d in whole.documents)
    queries = "".join(json.dumps({"_id": q.id, "text": q.text}) + "\n" for q in whole.questions)
    rows = "".join(f"{q.id}\t{q.gold[0].doc_id}\t1\n" for q in whole.questions)
    again = load_beir(beir(tmp_path, corpus=corpus, queries=queries, test="query-id\tcorpus-id\tscore\n" + rows))
    assert [(d.id, d.title, d.text) for d in again.documents] == [(d.id, d.title, d.text) for d in whole.documents]
    assert [(q.id, q.text, q.gold) for q in again.questions] == [(q.id, q.text, q.gold) for q in whole.questions]
    spans = load_squad(XQUAD)
    assert all(text[0] == q.answer for text, q in zip(gold(spans), spans.questions, strict=True))


# The same messages in many languages

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
[groups]
catalogues = ["demo"]

[[project]]
name = "demo"
version = "2.0"
file = "demo-2.0.tar.gz"
sha256 = "{sha256}"
docs = "demo"
licence = "MIT"
"""


Pinned = Callable[[Mapping[str, str | bytes]], None]


@pytest.fixture
def pinned(ragkit_home: Path, monkeypatch: pytest.MonkeyPatch) -> Pinned:
    """Pins an archive of some files, which has been fetched already, in the place of the real catalogues."""

    def pin(files: Mapping[str, str | bytes]) -> None:
        data = archive(files)
        (ragkit_home / "downloads").mkdir(parents=True, exist_ok=True)
        (ragkit_home / "downloads" / "demo-2.0.tar.gz").write_bytes(data)
        manifest = ragkit_home / "demo.toml"
        manifest.write_text(MANIFEST.format(sha256=hashlib.sha256(data).hexdigest()))
        monkeypatch.setattr("ragkit.corpus.pydocs.data_file", lambda name: manifest)

    return pin


def test_each_translation_asks_for_its_original(pinned: Pinned) -> None:
    pinned(FILES | ELSEWHERE)
    corpora = load_catalogues(["es", "ar"])
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


def test_only_what_all_languages_have_is_asked_and_the_rest_is_counted(pinned: Pinned) -> None:
    pinned(FILES | ELSEWHERE)
    corpora = load_catalogues(["es", "ja"])
    answers = {language: [q.answer for q in corpus.questions] for language, corpus in corpora.items()}
    assert [document.text for document in corpora["ja"].documents] == answers["ja"]
    assert answers["es"] == answers["ja"] == [f"The {GAP} was not found here", "You must choose a colour"]
    same = {
        f"messages of fewer than {MIN_WORDS} words left out": 1,
        "messages with plural forms left out": 1,
        "messages that say the same as another left out": 1,
    }
    es = {"messages without a translation": 1, "translations that another language lacks left out": 2}  # one is fuzzy
    assert corpora["es"].notes == same | es
    assert corpora["ja"].notes == same | {"messages without a translation": 3}  # one more is missing, one English


def test_the_same_message_in_two_contexts_keeps_both_translations_apart(pinned: Pinned) -> None:
    two = 'msgctxt "door"\nmsgid "It is open right now"\nmsgstr "{}"\n\nmsgid "It is open right now"\nmsgstr "{}"\n'
    files = {
        "demo/locale/en/LC_MESSAGES/demo.po": HEADER + two.format("", ""),
        "demo/locale/es/LC_MESSAGES/demo.po": HEADER + two.format("abierta", "abierto"),
    }
    pinned(files)
    corpus = load_catalogues(["es"])["es"]
    assert [(q.id, q.text) for q in corpus.questions] == [("es/demo/1", "abierta")]


@pytest.mark.parametrize("languages", [[], "es", ["es", "es"], ["es", "xx"]], ids=str)
def test_unknown_languages_are_refused(languages: list[str], pinned: Pinned) -> None:
    pinned(FILES | ELSEWHERE)
    with pytest.raises(
        InputError, match=r"expected codes such as|no catalogue for \['xx'\]; there are: ar, en, es, ja"
    ):
        load_catalogues(languages)


def test_languages_that_have_no_message_in_common_are_refused(pinned: Pinned) -> None:
    pinned(FILES | {"demo/core/locale/es/LC_MESSAGES/demo.po": HEADER})
    with pytest.raises(CorpusError, match="no message is translated into all of es"):
        load_catalogues(["es"])


def test_another_archive_than_the_pinned_one_is_refused(
    ragkit_home: Path, pinned: Pinned, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = archive(FILES | {"more": "x"})
    monkeypatch.setattr("ragkit.fetch._download", lambda project, name, part: part.write_bytes(other))
    pinned(FILES)
    (ragkit_home / "downloads" / "demo-2.0.tar.gz").unlink()
    with pytest.raises(IntegrityError, match="pinned is"):
        load_catalogues(["es"])


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


# Corpora


def test_a_corpus_of_other_sections_or_metadata_is_another_one():
    text = "# One\n\nfirst"
    section = (Section(("One",), 0, 7, 12),)
    corpora = [
        Corpus("c", (Document("d", text),)),
        Corpus("c", (Document("d", text, sections=section),)),
        Corpus("c", (Document("d", text, metadata={"project": "p"}),)),
        Corpus("c", (Document("d", text, title="One"),)),
    ]
    assert len({corpus.fingerprint for corpus in corpora}) == 4
    assert corpora[0].fingerprint == Corpus("other", (Document("d", text),)).fingerprint


def test_ids_that_are_there_twice_are_named_also_in_a_large_corpus():
    documents = tuple(Document(f"d{i % 40_000}", "x") for i in range(40_003))
    with pytest.raises(CorpusError, match=r"found twice: \['d0', 'd1', 'd2'\]"):
        Corpus("c", documents)
