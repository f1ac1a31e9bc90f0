"""Labels of your own documents: a quote becomes a span, and what cannot be used is listed, line by line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Corpus, CorpusError, Document, InputError, Question, Span
from ragkit.corpus import load_folder, load_questions
from ragkit.workbench import (
    course_corpus,
    label,
    load_labels,
    question_kind,
    questions_by_kind,
    save_labels,
    unanswerable,
)
from ragkit.workbench.labels import read_labels

FAQ = "# Office\n\nWe are open from Monday\nto Friday. Call us.\n\n# Parking\n\nBehind the house. Call us.\n"
LINES = (
    '{"question": "When are you open?", "document": "faq.md", "quote": "open from  Monday to Friday"}',
    '{"question": "Where do I park?", "document": "faq", "quote": "Behind the house."}',
    '{"question": "Who founded it?", "quote": null}',
    "",
    '{"question": "What does it cost?"}',
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "faq.md").write_text(FAQ)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "other.txt").write_text("Nothing of interest.\n")
    (tmp_path / "questions.jsonl").write_text("\n".join(LINES) + "\n")
    return tmp_path


def test_a_quote_is_found_whatever_white_space_stands_between_its_words(folder):
    corpus = load_folder(folder)
    questions = load_labels(folder / "questions.jsonl", corpus)
    assert [q.answer for q in questions] == ["open from Monday\nto Friday", "Behind the house.", None, None]
    assert [FAQ[g.start : g.end] for q in questions for g in q.gold] == [q.answer for q in questions[:2]]
    assert [q.id for q in questions] == ["yours-001", "yours-002", "yours-003", "yours-004"]
    assert [q.tags for q in questions[1:3]] == [("yours",), ("yours", "unanswerable")]


def test_a_folder_does_not_read_its_labels_as_a_document(folder):
    corpus = load_folder(folder)
    assert [document.id for document in corpus.documents] == ["faq", "sub/other"]
    assert not corpus.notes
    (folder / "sub" / "questions.jsonl").write_text("{}")
    assert load_folder(folder).notes == {"files of another kind left out": 1}


def test_a_lesson_gets_the_answered_questions_of_a_folder(folder):
    corpus, questions = course_corpus(str(folder))
    assert [question.text for question in questions] == ["When are you open?", "Where do I park?"]
    assert questions_by_kind(questions) == {"yours": questions}
    assert [question.text for question in unanswerable(corpus)] == ["Who founded it?", "What does it cost?"]
    assert corpus.questions == (*questions, *unanswerable(corpus))


def test_without_a_folder_a_lesson_gets_core_and_all_kinds_of_questions(core):
    corpus, questions = course_corpus(None)
    assert corpus == core
    kinds = questions_by_kind(questions)
    assert list(kinds) == ["faq", "en", "keyword", "paraphrase", "multihop"]
    assert kinds["faq"] == core.questions
    assert all(kinds[kind] == load_questions(kind, core) for kind in list(kinds)[1:])
    assert unanswerable(core) == load_questions("unanswerable", core)
    assert question_kind(Question("1", "Why?", tags=("mine",))) == "other"


@pytest.mark.parametrize("lines", [(), LINES[:1], (*LINES[:1], *LINES[2:])])
def test_fewer_than_two_answered_questions_are_too_few(folder, lines):
    (folder / "questions.jsonl").write_text("\n".join(lines))
    with pytest.raises(CorpusError, match="two or more"):
        course_corpus(folder)


def test_a_folder_without_labels_is_told_what_a_label_looks_like(folder):
    (folder / "questions.jsonl").unlink()
    with pytest.raises(CorpusError, match=r'questions\.jsonl: cannot be read .*\{"question": "When is the office'):
        course_corpus(folder)


BROKEN = {
    '{"question": "a", "document": "fqa.md", "quote": "open"}': r"no document 'fqa\.md'; the nearest names: faq\.md",
    '{"question": "b", "document": "faq.md", "quote": "open from Monday to Saturday"}': (
        r"not in faq\.md: it has 'open from Monday to', and goes on with 'Friday\. Call us"
    ),
    '{"question": "c", "document": "faq.md", "quote": "Closed"}': "not even its first word, 'Closed', is there",
    '{"question": "d", "document": "faq.md", "quote": "Call us."}': r"2 times in faq\.md, at .* 45, 84; quote",
    '{"question": "e", "quote": "open"}': "without a document; name the file",
    '{"question": "i", "document": "faq.md"}': "a document without a quote; quote its answer, or leave",
    '{"question": "j", "document": "scan.md", "quote": "open"}': r"nothing of scan\.md was read: files without words",
    '{"question": "f", "document": "faq.md", "quote": " "}': "the quote is empty; leave it out",
    '{"question": " "}': "the question is empty",
    '{"question": "g", "document": "faq.md", "qoute": "open"}': "qoute: Unexpected keyword argument",
    '{"question": "h", "document": 3}': "document: Input should be a valid string",
    '{"document": "faq.md"}': "question: Field required",
    "When are you open?": "Invalid JSON",
    LINES[0]: "the same question stands above",
}


def test_all_lines_that_cannot_be_used_are_listed_with_what_to_do(folder):
    path = folder / "questions.jsonl"
    path.write_text("\n".join([*LINES, *BROKEN]))
    (folder / "scan.md").write_text(" ")
    with pytest.warns(UserWarning, match="scan.md"):
        corpus = load_folder(folder)
    with pytest.raises(CorpusError) as raised:
        load_labels(path, corpus)
    first, *rest = str(raised.value).split("\n")
    assert first == f"{path}: {len(BROKEN)} of {len(LINES) - 1 + len(BROKEN)} cannot be used"
    for number, (said, words) in enumerate(zip(rest, BROKEN.values(), strict=True), len(LINES) + 1):
        assert said.startswith(f"  line {number}: ")
        assert re.search(words, said), said


def test_quotes_that_were_not_read_are_told_apart_from_lines_that_are_wrong(folder):
    path = folder / "questions.jsonl"
    (folder / "scan.png").write_bytes(b"\x89PNG")
    scan = '{"question": "What is on the scan?", "document": "scan.png", "quote": "A seal"}'
    closed = '{"question": "c", "document": "faq.md", "quote": "Closed"}'
    path.write_text("\n".join([*LINES, scan, closed]))
    corpus = load_folder(folder)
    questions, not_read = read_labels(path, corpus)
    assert [question.text for question in questions] == [json.loads(line)["question"] for line in LINES if line]
    assert list(not_read) == ["What is on the scan?", "c"]
    assert not_read["What is on the scan?"].startswith("nothing of scan.png was read: ")
    assert not_read["c"].startswith("the quote is not in faq.md: ")
    with pytest.raises(CorpusError, match=r"2 of 6 cannot be used\n  line 6: nothing of scan\.png was read"):
        load_labels(path, corpus)
    path.write_text("\n".join([closed, '{"question": "a", "document": "fqa.md", "quote": "open"}']))
    with pytest.raises(CorpusError, match=r"1 of 2 cannot be used\n  line 2: there is no document 'fqa\.md'"):
        read_labels(path, corpus)


def test_labels_in_code_are_checked_in_the_same_way(small_corpus):
    answers = {"Which bulbs fit?": ("lamp/guide", "Only E27 bulbs"), "Who made it?": None}
    questions = label(small_corpus, answers)
    assert [q.answer for q in questions] == ["Only E27 bulbs", None]
    wrong = {"Which wheel?": ("lamp", "the wheel"), "Which bulbs?": ("lamp/guide", "E14")}
    with pytest.raises(InputError, match=r"(?s)2 of 2.*'Which wheel\?': .*lamp/guide.*'Which bulbs\?': .*E14"):
        label(small_corpus, wrong)


def test_labels_are_saved_and_read_again(folder):
    corpus = load_folder(folder)
    path = folder / "questions.jsonl"
    questions = load_labels(path, corpus)
    save_labels(path, questions, corpus)
    assert load_labels(path, corpus) == questions
    assert [json.loads(line).get("document") for line in path.read_text().splitlines()] == [
        "faq.md",
        "faq.md",
        None,
        None,
    ]


def test_a_document_is_named_so_that_it_is_found_again(tmp_path):
    for name in ("faq.md", "faq.txt"):
        (tmp_path / name).write_text(f"The answer of {name}.")
    corpus = load_folder(tmp_path)
    questions = label(corpus, {name: (name, f"The answer of {name}.") for name in ("faq.md", "faq.txt")})
    assert [q.gold[0].doc_id for q in questions] == ["faq", "faq.txt"]
    save_labels(tmp_path / "questions.jsonl", questions, corpus)
    assert load_labels(tmp_path / "questions.jsonl", corpus) == questions


def test_what_could_not_be_read_again_is_not_saved(folder):
    corpus, path = load_folder(folder), folder / "questions.jsonl"
    before = path.read_text()
    twice = Question("1", "Whom?", (Span("faq", 45, 53),))
    both = Question("2", "Where?", (Span("faq", 70, 87), Span("faq", 12, 20)))
    with pytest.raises(InputError, match=r"(?s)2 of 2 .*'Whom\?': .*2 times.*'Where\?': 2 answers"):
        save_labels(path, [twice, both], corpus)
    assert path.read_text() == before


@given(st.text('ab \n\t\u2028é"\\{', min_size=1, max_size=30), st.data())
def test_any_span_that_stands_once_survives(tmp_path_factory, text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    corpus = Corpus("one", (Document("d", text),))
    try:
        questions = label(corpus, {"Which?": ("d", text[start:end])})
    except InputError:
        return
    path = tmp_path_factory.getbasetemp() / "labels.jsonl"
    save_labels(path, questions, corpus)
    assert load_labels(path, corpus) == questions
    assert questions[0].answer == text[start:end].strip()
