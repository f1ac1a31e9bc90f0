"""The labelling panel without a browser: one click a label, saved at once, no system favoured."""

from __future__ import annotations

import json

import pytest

from ragkit.base import Corpus, Document, InputError
from ragkit.chunking import SentenceChunker, chunk_corpus
from ragkit.notebook.labelling import LabelPanel, pooled
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.workbench.labels import load_labels

EVIL = "<script>alert(1)</script>"
DOCUMENTS = {
    "office": "The office is open from nine to five.",
    "dogs": "Dogs stay outside of the office.",
    "plants": "The plants of the office are watered on Monday.",
    "travel": "Nobody pays more than the limit of the city.",
    "london": f"The limit of London is 220 pounds. {EVIL}",
}
ASKED = ("When is the office open?", "What is the limit of London?", "Who founded the office?")


@pytest.fixture
def corpus() -> Corpus:
    return Corpus("handbook", tuple(Document(name, text) for name, text in DOCUMENTS.items()))


@pytest.fixture
def panel(corpus, tmp_path):
    chunks = chunk_corpus(SentenceChunker(64, 0), corpus)
    systems = {"a": BM25Retriever(chunks), "b": BM25Retriever(chunks, k1=0.5)}
    return LabelPanel(corpus, ASKED, tmp_path / "questions.jsonl", systems)


def answer_of(panel: LabelPanel, words: str) -> int:
    return next(i for i, chunk in enumerate(panel.shown) if words in chunk.text)


def test_one_click_is_a_label_in_the_file(panel, corpus):
    assert panel.question == ASKED[0]
    panel.choose[answer_of(panel, "nine to five")].click()
    assert panel.question == ASKED[1]
    assert "is answered in office" in panel.status.value
    (label,) = load_labels(panel.path, corpus)
    assert (label.text, label.answer) == (ASKED[0], "The office is open from nine to five.")


def test_pasted_words_narrow_the_answer_and_may_stand_in_any_document(panel, corpus):
    panel.words.value = "nine  to five"
    panel.words.value = "220 pounds"
    assert [label.answer for label in load_labels(panel.path, corpus)] == ["nine to five", "220 pounds"]
    panel.words.value = "never written"
    assert "are in no document" in panel.status.value
    panel.words.value = "the office"
    assert len(load_labels(panel.path, corpus)) == 2


def test_nowhere_later_and_back(panel, corpus):
    panel.later.click()
    panel.nowhere.click()
    assert panel.question == ASKED[2]
    assert [(q.text, q.gold) for q in load_labels(panel.path, corpus)] == [(ASKED[1], ())]
    panel.back.click()
    assert load_labels(panel.path, corpus) == ()
    assert panel.question == ASKED[1]
    assert panel.back.disabled


def test_labels_that_are_there_are_not_asked_again(panel, corpus):
    panel.choose[answer_of(panel, "nine to five")].click()
    again = LabelPanel(corpus, ASKED, panel.path, panel.systems)
    assert again.question == ASKED[1]
    assert repr(again) == "LabelPanel(1 of 3 questions labelled)"
    again.nowhere.click()
    again.nowhere.click()
    assert again.question is None
    assert "Every question has a label" in again.heading.value
    assert len(panel.path.read_text().splitlines()) == 3
    assert json.loads(panel.path.read_text().splitlines()[0])["quote"] == "The office is open from nine to five."


def test_what_somebody_else_wrote_into_the_file_is_kept(panel):
    panel.nowhere.click()
    panel.path.write_text(panel.path.read_text() + '{"question": "Who founded it?"}\n')
    edited = panel.path.read_text()
    panel.nowhere.click()
    assert "was changed elsewhere; run the cell again" in panel.status.value
    assert panel.path.read_text() == edited
    assert panel.question == ASKED[1]


def test_a_file_that_cannot_be_written_loses_no_label(panel, tmp_path):
    panel.choose[0].click()
    panel.path = tmp_path / "nowhere" / "x" / "q.jsonl"
    (tmp_path / "nowhere").write_text("a file")
    panel.choose[0].click()
    assert "Not saved" in panel.status.value
    assert panel.question == ASKED[1]
    assert len(panel.labels) == 1


def test_the_pool_holds_the_best_of_each_system_in_an_order_of_its_own(panel, corpus):
    for question in ASKED:
        pool = pooled(panel.systems, question, limit=4)
        spans = {chunk.span for chunk in pool}
        assert len(spans) == len(pool) <= 4
        for retriever in panel.systems.values():
            best = retriever.search(question, 1)[0].chunk.span
            assert any(best.answers(span) for span in spans)
        assert pooled(panel.systems, question, limit=4) == pool
    firsts = {pooled(panel.systems, f"the office {i}")[0].id for i in range(20)}
    assert len(firsts) > 1


def test_what_is_shown_is_escaped(panel):
    panel.later.click()
    assert EVIL not in panel.static_html() + "".join(row.children[1].value for row in panel.passages.children)


def test_no_question_is_an_error(corpus, tmp_path):
    with pytest.raises(InputError, match="no question to label"):
        LabelPanel(corpus, [" "], tmp_path / "q.jsonl")
