"""Published test sets in BEIR's and SQuAD's form, sound and unsound."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Corpus, CorpusError, Document, InputError, Section
from ragkit.corpus import load_beir, load_squad

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
            {"corpus": '{"_id": "d", "text": "a"}\n{"_id": "d", "text": "b"}\n'},
            "line 2: document id 'd' is there twice",
        ),
        (
            {"queries": '{"_id": "q", "text": "a"}\n\n{"_id": "q", "text": "b"}\n'},
            "line 3: query id 'q' is there twice",
        ),
        ({"test": ""}, "no judgement above 0"),
        ({"test": "query-id\tcorpus-id\tscore\n"}, "no judgement above 0"),
        ({"test": "query-id\tcorpus-id\tscore\nq1\td1\thigh\n"}, "test.tsv, line 2: expected"),
        ({"test": "q1 0 d1 1\n"}, "no judgement above 0|expected query-id"),
        ({"corpus": "{]\n"}, "corpus.jsonl, line 1: not JSON"),
        ({"corpus": "[1]\n"}, "expected a JSON object"),
        ({"corpus": '{"_id": "d1"}\n'}, "field 'text' is None"),
        ({"queries": '{"_id": "q", "text": " "}\n'}, "field 'text'"),
    ],
)
def test_beir_files_that_are_wrong(tmp_path, files, message):
    with pytest.raises(CorpusError, match=message):
        load_beir(beir(tmp_path, **files))


def test_beir_without_a_file_or_in_another_encoding(tmp_path):
    beir(tmp_path)
    (tmp_path / "queries.jsonl").write_bytes('{"_id": "q", "text": "Grüße"}'.encode("latin-1"))
    with pytest.raises(CorpusError, match="line 1: not UTF-8"):
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
    lost = [answers(("cat", 0)), answers(("dog", 4)), answers((" ", 3))]
    with pytest.warns(UserWarning, match=r"wrong offset repaired \(4\)"):
        corpus = load_squad(squad(tmp_path, *wrong, *lost, answers(("ran", 32))))
    assert gold(corpus) == [["mat"]] * 4 + [["ran"]]
    assert corpus.notes == {
        "answers with a wrong offset repaired": 4,
        "answers with a wrong offset dropped": 2,
        "answers without words dropped": 1,
        "questions without a usable answer left out": 3,
    }


def test_squad_answers_that_overlap_are_one_gold(tmp_path):
    with pytest.warns(UserWarning, match=r"overlapping answers merged \(1\)"):
        corpus = load_squad(squad(tmp_path, answers(("cat sat", 4), ("sat on", 8), ("mat", 19))))
    assert gold(corpus) == [["cat sat on", "mat"]]


def test_squad_answers_at_several_places_are_alternatives(tmp_path):
    path = squad(tmp_path, answers(("cat", 4), ("mat", 19), ("cat", 4)), answers(("cat", 4), ("cat", 4)))
    assert [question.any_of for question in load_squad(path).questions] == [True, False]
    assert [question.any_of for question in load_squad(path, gold="document").questions] == [False, False]


def test_squad_questions_without_an_answer(tmp_path):
    corpus = load_squad(squad(tmp_path, {"answers": []}, {**answers(("cat", 4)), "is_impossible": True}))
    assert [(q.gold, q.tags) for q in corpus.questions] == [((), ("unanswerable",))] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("[]", "not in SQuAD's form"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "KeyError.'context'"),
        ('{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": 1}]}]}]}', "KeyError.'question'"),
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


@given(
    st.lists(st.tuples(st.sampled_from(["cat", "The", "sat on", "mat.", "dog", ""]), st.integers(-3, 40)), max_size=6)
)
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
