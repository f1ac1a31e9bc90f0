"""The lab's figures are those of ``compare``, and of the lines of Python that the lab gives away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ragkit
from ragkit import InputError, Question, Span, TokenStore, compare
from ragkit.notebook.chunk_lab import CHUNKERS, SCORINGS, ChunkExperiment, LabSettings
from ragkit.testing import FakeEmbedder
from ragkit.tokens import minilm_tokenizer


class WordPieces(FakeEmbedder):
    """Random directions, but the packaged model's tokens, so that sizes mean what they mean to a chunker."""

    def __init__(self) -> None:
        super().__init__(max_tokens=64)
        self.tokenizer = minilm_tokenizer()


@pytest.fixture(scope="module")
def store(tmp_path_factory, small_corpus) -> TokenStore:
    return TokenStore.open(small_corpus, WordPieces(), folder=tmp_path_factory.mktemp("lab") / "s", progress=False)


@pytest.fixture(scope="module")
def bench(small_corpus, store) -> ChunkExperiment:
    return ChunkExperiment(small_corpus, store=store)


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("chunker", CHUNKERS)
def test_measure_is_what_compare_says(bench, chunker, scoring):
    setting = LabSettings(chunker, size=12, overlap=4, scoring=scoring, k=3, budget=None)
    measured = bench.measure(setting)
    retriever = bench.retriever(setting, _chunks(bench, setting))
    row = compare({"it": retriever}, bench.questions, k=3, progress=False).table.loc["it"]
    assert measured.mrr.mean == pytest.approx(row["mrr@3"], abs=1e-9)
    assert measured.coverage.mean == pytest.approx(row["gold_chars@3"], abs=1e-9)
    # A chunk that begins inside a word has this word's last piece for `compare`, which tokenizes the chunk by itself.
    assert measured.tokens == pytest.approx(row["tokens"], rel=0.05)


@pytest.mark.parametrize("budget", [5, 20, 40])
def test_measure_at_equal_budget_is_what_compare_says(bench, budget):
    """Both count tokens of the same tokenizer; a chunk that is cut may end one token apart (see above)."""
    setting = LabSettings(size=12, overlap=4, scoring="bm25", budget=budget)
    measured = bench.measure(setting)
    retriever = bench.retriever(setting, _chunks(bench, setting))
    row = compare({"it": retriever}, bench.questions, same_budget=budget, progress=False).table.loc["it"]
    assert measured.tokens <= budget
    assert measured.tokens == pytest.approx(row["tokens"], abs=1)
    assert measured.coverage.mean == pytest.approx(row[f"coverage@{budget}"], abs=0.15)  # a token of a short answer


def test_a_real_corpus_gives_the_figures_of_compare(tiny):
    bench = ChunkExperiment(tiny)
    for setting in (
        LabSettings(size=256, budget=None),
        LabSettings(size=512, scoring="maxp"),
        LabSettings(size=512, budget=1000),
    ):
        retriever = bench.retriever(setting, _chunks(bench, setting))
        budget = setting.budget
        row = compare({"it": retriever}, bench.questions, same_budget=budget, progress=False).table.loc["it"]
        # At a budget, the last chunk may be cut one token apart: a question in a hundred.
        near = 0.01 if budget else 1e-9
        assert bench.measure(setting).mrr.mean == pytest.approx(row[f"mrr@{budget or 10}"], abs=near)
        assert bench.measure(setting).coverage.mean == pytest.approx(row[setting.metric], abs=near)


@pytest.mark.parametrize(
    "setting", [LabSettings(), LabSettings("heading", 96, 0, "maxp", 5), LabSettings(scoring="hybrid", budget=None)]
)
def test_the_exported_lines_measure_the_same(bench, store, setting, monkeypatch):
    monkeypatch.setattr(TokenStore, "open", lambda corpus: store)
    names = {name: getattr(ragkit, name) for name in ragkit.__all__}
    setup, retriever, last = setting.code().split("\n")
    exec(f"{setup}\n{retriever}\nresult = {last}", names | {"corpus": bench.corpus}, found := {})
    (row,) = found["result"].table.to_dict("records")
    assert found["result"].metric == setting.metric
    assert row[setting.metric] == pytest.approx(bench.measure(setting).coverage.mean, abs=1e-9)
    assert row[f"mrr@{setting.budget or setting.k}"] == pytest.approx(bench.measure(setting).mrr.mean, abs=1e-9)


def test_every_setting_exports_python_that_compiles():
    for chunker in CHUNKERS:
        for scoring in SCORINGS:
            for budget in (None, 500):
                code = LabSettings(chunker, 256, 32, scoring, budget=budget).code()
                compile(code, "<exported>", "exec")
                assert len(code.splitlines()) == 3


def test_intervals_stay_between_0_and_1(bench):
    for size in (8, 12, 64):
        measured = bench.measure(LabSettings(size=size, overlap=2))
        for band in (measured.coverage, measured.mrr):
            assert 0 <= band.low <= band.mean <= band.high <= 1


def test_measuring_twice_measures_once(bench):
    assert bench.measure(LabSettings(size=20, overlap=4)) is bench.measure(LabSettings(size=20, overlap=4))


def test_differences_are_paired_and_against_the_first(bench):
    rows = [bench.measure(LabSettings(size=size, overlap=2, budget=20)) for size in (8, 64)]
    ((mean, low, high, p),) = bench.differences(rows)
    assert mean == pytest.approx(np.mean(rows[1].scores[:, 0] - rows[0].scores[:, 0]))
    assert low <= mean <= high
    assert 0 < p <= 1


def test_one_of_several_places_is_enough_where_the_question_says_so(small_corpus, store):
    elsewhere = Span("radio/guide", 0, 6)
    both = [replace(question, gold=(*question.gold, elsewhere)) for question in small_corpus.questions[:2]]
    setting = LabSettings(size=64, overlap=0, scoring="bm25", budget=20)
    needs_both = ChunkExperiment(small_corpus, both, store).measure(setting)
    needs_one = ChunkExperiment(small_corpus, [replace(question, any_of=True) for question in both], store).measure(
        setting
    )
    assert needs_one.coverage.mean > needs_both.coverage.mean > 0


def test_questions_without_gold_are_left_out(bench, small_corpus):
    assert [q.id for q in bench.questions] == ["boil", "bulb"]
    with pytest.raises(InputError, match="1 questions have gold"):
        ChunkExperiment(small_corpus, small_corpus.questions[1:], bench.store)
    with pytest.raises(InputError, match="0 questions"):
        ChunkExperiment(small_corpus, [Question("q", "What?")], bench.store)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"chunker": "magic"}, "chunker 'magic'"),
        ({"scoring": "colbert"}, "scoring 'colbert'"),
        ({"k": 0}, "k = 0"),
        ({"budget": 0}, "budget = 0"),
    ],
)
def test_bad_settings_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        LabSettings(**arguments)


def test_the_overlap_shrinks_with_the_size():
    assert LabSettings(overlap=64).at(64) == LabSettings(size=64, overlap=32)
    assert LabSettings(overlap=64).at(256).overlap == 64


def _chunks(bench, setting):
    chunker = bench.chunker(setting)
    return [chunk for document in bench.corpus.documents for chunk in chunker.chunk(document)]
