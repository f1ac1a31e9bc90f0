"""A set of confirmed questions: what is written, what is refused, and what is said when a document has changed."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Chunk, Corpus, CorpusError, Hit, InputError, Retriever, Span
from ragkit.production.regression import RegressionSet


class Always(Retriever):
    """Returns the same chunks for every question."""

    def __init__(self, *chunks: Chunk) -> None:
        self.chunks = chunks

    def _search(self, query: str, k: int) -> list[Hit]:
        return [Hit(chunk, 1 / rank) for rank, chunk in enumerate(self.chunks[:k], 1)]


@pytest.fixture
def regressions(tmp_path, small_corpus) -> RegressionSet:
    return RegressionSet(tmp_path / "set" / "regression.jsonl", small_corpus)


def whole(corpus: Corpus, index: int) -> Chunk:
    document = corpus.documents[index]
    return Chunk(document.id, 0, len(document.text), document.text)


BOIL = Span("kettle/guide", 8, 46)


def test_a_section_is_written_by_its_path_and_anything_else_by_its_characters(regressions, small_corpus):
    assert small_corpus.documents[0].text[BOIL.start : BOIL.end] == "Press the red lever to boil the water."
    regressions.add("How do I  heat water?", [BOIL], who="ann", trace_id="t1")
    regressions.add("Which lever?", [Span("kettle/guide", 14, 27), Span("lamp/guide", 8, 23)], who="bob")
    first, second = map(json.loads, regressions.path.read_text().splitlines())
    assert first["gold"][0]["section"] == ["Kettle", "Boiling"]
    assert (first["id"], first["text"], first["tags"]) == ("regression-001", "How do I heat water?", ["regression"])
    assert (first["who"], first["trace"]) == ("ann", "t1")
    assert (second["gold"][0]["start"], second["gold"][0]["end"]) == (14, 27)
    assert second["gold"][0]["sha256"] == hashlib.sha256(b"the red lever").hexdigest()
    assert second["gold"][1]["section"] == ["Lamp", "Dimming"]
    one, two = regressions.questions
    assert (one.gold, one.tags) == ((BOIL,), ("regression",))
    assert two.gold == (Span("kettle/guide", 14, 27), Span("lamp/guide", 8, 23))
    assert "Press the red" not in regressions.path.read_text()  # places are written, not the documents' text


def test_a_set_may_stand_in_the_users_home(monkeypatch, tmp_path, small_corpus):
    monkeypatch.setenv("HOME", str(tmp_path))
    RegressionSet("~/regression.jsonl", small_corpus).add("Which lever?", [BOIL], who="ann")
    assert (tmp_path / "regression.jsonl").is_file()


def test_nothing_confirms_itself(regressions):
    for text, gold, who in (("Why?", [BOIL], " "), (" ", [BOIL], "ann"), ("Why?", [], "ann")):
        with pytest.raises(InputError, match="nothing confirms itself"):
            regressions.add(text, gold, who=who)
    assert not regressions.path.exists()


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (Span("kettle/guide", 5, 5), "empty or outside"),
        (Span("kettle/guide", 5, 10_000), "empty or outside"),
        (Span("toaster/guide", 0, 5), "no document 'toaster/guide'"),
    ],
)
def test_a_place_that_is_not_there_is_refused(regressions, span, words):
    with pytest.raises(InputError, match=words):
        regressions.add("Why?", [span], who="ann")
    assert not regressions.path.exists()


def test_a_question_is_in_a_set_once(regressions):
    regressions.add("How do I heat water?", [BOIL], who="ann")
    with pytest.raises(InputError, match=r"already, as regression-001, by ann"):
        regressions.add(" how do I HEAT water?", [BOIL], who="bob")
    assert len(regressions.questions) == 1


def test_a_set_says_where_the_answers_stand(regressions, small_corpus):
    regressions.add("How do I heat water?", [BOIL], who="ann")
    regressions.add("Both?", [BOIL, Span("lamp/guide", 8, 23)], who="ann")
    report = regressions.check(Always(whole(small_corpus, 0), whole(small_corpus, 1)))
    assert repr(report) == "2 of 2 within the first 10"
    report = regressions.check(Always(whole(small_corpus, 0)), k=3)
    assert [question.id for question in report.failed] == ["regression-002"]
    assert "✗ regression-002  Both?" in repr(report)
    assert "1 of 2 within the first 3" in repr(report)


def changed(corpus: Corpus, index: int, old: str, new: str) -> Corpus:
    documents = list(corpus.documents)
    documents[index] = replace(documents[index], text=documents[index].text.replace(old, new))
    return Corpus(corpus.name, tuple(documents))


def test_a_changed_document_is_said_and_never_guessed(regressions, small_corpus):
    regressions.add("How do I heat water?", [BOIL], who="ann")
    regressions.add("Which lever?", [Span("kettle/guide", 14, 27)], who="ann")
    # Another section has changed, and then the one that was confirmed.
    later = RegressionSet(regressions.path, changed(small_corpus, 0, "vinegar", "citrons"))
    assert [q.id for q in later.questions] == ["regression-001", "regression-002"]
    moved = RegressionSet(regressions.path, changed(small_corpus, 0, "red lever", "tan lever"))
    report = moved.check(Always(whole(small_corpus, 0)))
    assert [problem.split()[0] for problem in report.stale] == ["regression-001", "regression-002"]
    assert report.passed == report.failed == moved.questions == ()
    assert "is not the text that was confirmed" in repr(report)


def test_questions_about_other_documents_are_counted(regressions, small_corpus):
    regressions.add("How do I heat water?", [BOIL], who="ann")
    other = RegressionSet(regressions.path, Corpus("other", small_corpus.documents[1:]))
    assert other.questions == ()
    assert "1 more about documents that are not in the corpus" in repr(other.check(Always()))


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"id": "x-1"}', '{"id": "x", "text": "a", "who": "b", "gold": []}', "\xff"]
)
def test_a_line_that_is_not_a_question_is_named_and_left(regressions, line):
    regressions.path.parent.mkdir()
    regressions.path.write_text(line + "\n", encoding="latin-1")
    with pytest.raises(CorpusError, match="regression"):
        _ = regressions.questions
    with pytest.raises(CorpusError, match="regression"):
        regressions.add("How do I heat water?", [BOIL], who="ann")
    assert regressions.path.read_text(encoding="latin-1") == line + "\n"


def test_two_reviewers_at_once_lose_nothing(regressions):
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(regressions.add, f"Why {i}?", [BOIL], who="ann") for i in range(24)]:
            done.result()
    assert len({q.id for q in regressions.questions}) == 24


@given(st.lists(st.tuples(st.text(min_size=1), st.integers(0, 60), st.integers(1, 9)), max_size=5))
def test_what_is_written_is_what_is_read(tmp_path_factory, small_corpus, cases):
    regressions = RegressionSet(tmp_path_factory.mktemp("r") / "set.jsonl", small_corpus)
    added = []
    for text, start, length in cases:
        try:
            added.append(regressions.add(text, [Span("kettle/guide", start, start + length)], who="ann"))
        except InputError:
            continue  # a blank text, one that is there already
    assert regressions.questions == tuple(added)
