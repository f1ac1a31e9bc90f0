"""The simulated labelling makes the labels that the panel saves, and its verdicts are those of ``compare``."""

from __future__ import annotations

import random

import numpy as np
import pytest
from bench import bench_labelling as bench

from ragkit.base import Chunk, Corpus, Document, Question, Span
from ragkit.chunking import FixedChunker, SentenceChunker, chunk_corpus
from ragkit.evaluation.compare import compare
from ragkit.notebook.labelling import LabelPanel
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.workbench.labels import load_labels

TOPICS = (
    "kettle",
    "lamp",
    "radio",
    "clock",
    "door",
    "window",
    "roof",
    "garden",
    "cellar",
    "stove",
    "bell",
    "pump",
    "gate",
)
SHUT = "It is never left open."
BUDGET = 12  # tokens: a passage or two


@pytest.fixture
def corpus() -> Corpus:
    """Thirteen documents of three sentences, of which the second answers; the last is the same twice."""
    documents = [
        Document(name, f"The {name} is old. Ask the owner where the key of the {name} is. {SHUT}\n\n{SHUT}")
        for name in TOPICS
    ]
    questions = []
    for document in documents:
        start = document.text.index("Ask")
        gold = Span(document.id, start, document.text.index(SHUT) - 1)
        questions.append(Question(document.id, f"Where is the key of the {document.id}?", (gold,)))
    return Corpus("house", tuple(documents), tuple(questions))


@pytest.fixture
def systems(corpus):
    def bm25(size: int, k1: float = 1.5) -> BM25Retriever:
        return BM25Retriever(chunk_corpus(FixedChunker(size, 0), corpus), k1=k1)

    return {"sixteen": bm25(16), "five": bm25(5), "other k1": bm25(16, k1=0.1)}


@pytest.fixture
def proposing(corpus):
    return {"words": BM25Retriever(chunk_corpus(SentenceChunker(12, 0), corpus))}


@pytest.fixture
def cases(corpus, systems, proposing, monkeypatch):
    monkeypatch.setattr(bench, "BUDGET", BUDGET)
    return bench.cases_of(corpus, corpus.questions, systems, proposing)


def test_a_click_is_the_label_that_the_panel_saves(corpus, cases, proposing, tmp_path):
    panel = LabelPanel(corpus, [case.question.text for case in cases], tmp_path / "questions.jsonl", proposing)
    for case in cases:
        assert case.best is not None
        wanted = case.labels[case.best].gold[0]
        overlaps = [chunk.span.overlap(wanted) for chunk in panel.shown]
        panel.choose[overlaps.index(max(overlaps))].click()
    saved = load_labels(panel.path, corpus)
    assert [label.gold for label in saved] == [case.labels[case.best].gold for case in cases]
    assert all(label.gold[0].answers(case.question.gold[0]) for label, case in zip(saved, cases, strict=True))


def test_a_passage_that_stands_twice_cannot_be_clicked(corpus):
    text = corpus.documents[0].text
    twice = Chunk("kettle", len(text) - len(SHUT), len(text), SHUT)
    once = Chunk("kettle", 0, len("The kettle is old."), "The kettle is old.")
    (label,) = bench.clickable(corpus, "Is it left open?", [twice, once])
    assert label.answer == once.text


def test_without_the_gold_in_the_pool_nothing_is_clicked(cases):
    assert bench.best_click(cases[0].labels, [Span("elsewhere", 0, 10)]) is None


def test_slips_are_as_frequent_as_stated_and_never_the_right_passage(cases):
    case, chance = cases[0], random.Random(0)
    clicks = [case.click(chance, 0.3) for _ in range(4000)]
    assert np.mean([click != case.best for click in clicks]) == pytest.approx(0.3, abs=0.03)
    assert set(clicks) == {None, *range(len(case.labels))}
    assert {case.click(chance, 0.0) for _ in range(100)} == {case.best}


def test_the_verdicts_are_those_of_compare(corpus, cases, systems):
    labelled = [case.labels[case.best] for case in cases]
    numbered = [Question(str(i), label.text, label.gold) for i, label in enumerate(labelled)]
    table = compare(systems, numbered, same_budget=BUDGET, progress=False).table
    scores = np.array([case.scores[1 + case.best] for case in cases])
    assert scores.mean(axis=0) == pytest.approx(table[f"coverage@{BUDGET}"].to_numpy())
    assert len(set(table["verdict"][1:])) == 2
    words = {1: "better", -1: "worse", 0: "no detectable difference"}
    documents = [label.gold[0].doc_id for label in labelled]
    assert [words[d] for d in bench.directions(scores, documents)] == table["verdict"].tolist()[1:]


def test_a_draw_has_the_gold_itself_unless_it_is_clicked(cases):
    scores, documents = bench.draw(cases, 30, random.Random(1), None)
    assert len(scores) == len(documents) == 30
    own = {tuple(case.scores[0]) for case in cases}
    assert {tuple(row) for row in scores} <= own
