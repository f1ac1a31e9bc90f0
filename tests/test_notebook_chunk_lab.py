"""The lab's figures are those of ``compare``, and of the lines of Python that the lab gives away."""

from __future__ import annotations

import numpy as np
import pytest

import ragkit
from ragkit import InputError, Question, TokenStore, compare
from ragkit.notebook.chunk_lab import CHUNKERS, SCORINGS, Bench, Setting
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
def bench(small_corpus, store) -> Bench:
    return Bench(small_corpus, store=store)


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("chunker", CHUNKERS)
def test_measure_is_what_compare_says(bench, chunker, scoring):
    setting = Setting(chunker, size=12, overlap=4, scoring=scoring, k=3)
    measured = bench.measure(setting)
    retriever = bench.retriever(setting, _chunks(bench, setting))
    row = compare({"it": retriever}, bench.questions, k=3, progress=False).table.loc["it"]
    assert measured.mrr.mean == pytest.approx(row["mrr@3"], abs=1e-9)
    assert measured.recall.mean == pytest.approx(row["recall@3"], abs=1e-9)
    # A chunk that begins inside a word has this word's last piece for `compare`, which tokenizes the chunk by itself.
    assert measured.tokens == pytest.approx(row["tokens"], rel=0.05)


@pytest.mark.parametrize("budget", [5, 20, 40])
def test_measure_at_equal_budget_is_what_compare_says(bench, budget):
    """Both count tokens of the same tokenizer; a chunk that is cut may end one token apart (see above), so that
    its overlap with the gold may fall on the other side of the half for one of the questions."""
    setting = Setting(size=12, overlap=4, scoring="bm25", budget=budget)
    measured = bench.measure(setting)
    retriever = bench.retriever(setting, _chunks(bench, setting))
    row = compare({"it": retriever}, bench.questions, same_budget=budget, progress=False).table.loc["it"]
    assert measured.tokens <= budget
    assert measured.tokens == pytest.approx(row["tokens"], abs=1)
    assert measured.recall.mean == pytest.approx(row["recall@10"], abs=1 / len(bench.questions))


def test_a_real_corpus_gives_the_figures_of_compare(tiny):
    bench = Bench(tiny)
    for setting in (Setting(size=256), Setting(size=512, scoring="maxp"), Setting(size=512, budget=1000)):
        retriever = bench.retriever(setting, _chunks(bench, setting))
        budget = setting.budget or False
        table = compare({"it": retriever}, bench.questions, same_budget=budget, progress=False).table
        # At a budget, the last chunk may be cut one token apart: a question in a hundred.
        assert bench.measure(setting).mrr.mean == pytest.approx(table.loc["it", "mrr@10"], abs=0.01 if budget else 1e-9)


@pytest.mark.parametrize("setting", [Setting(), Setting("heading", 96, 0, "maxp", 5), Setting(scoring="hybrid")])
def test_the_exported_lines_measure_the_same(bench, store, setting, monkeypatch):
    monkeypatch.setattr(TokenStore, "open", lambda corpus: store)
    names = {name: getattr(ragkit, name) for name in ragkit.__all__}
    setup, retriever, last = setting.code().split("\n")
    exec(f"{setup}\n{retriever}\nresult = {last}", names | {"corpus": bench.corpus}, found := {})
    (row,) = found["result"].table.to_dict("records")
    assert row[f"mrr@{setting.k}"] == pytest.approx(bench.measure(setting).mrr.mean, abs=1e-9)


def test_every_setting_exports_python_that_compiles():
    for chunker in CHUNKERS:
        for scoring in SCORINGS:
            for budget in (None, 500):
                code = Setting(chunker, 256, 32, scoring, budget=budget).code()
                compile(code, "<exported>", "exec")
                assert len(code.splitlines()) == 3


def test_intervals_stay_between_0_and_1(bench):
    for size in (8, 12, 64):
        measured = bench.measure(Setting(size=size, overlap=2))
        for band in (measured.mrr, measured.recall):
            assert 0 <= band.low <= band.mean <= band.high <= 1


def test_measuring_twice_measures_once(bench):
    assert bench.measure(Setting(size=20, overlap=4)) is bench.measure(Setting(size=20, overlap=4))


def test_differences_are_paired_and_against_the_first(bench):
    rows = [bench.measure(Setting(size=size, overlap=2)) for size in (8, 64)]
    ((mean, low, high, p),) = bench.differences(rows)
    assert mean == pytest.approx(np.mean(rows[1].scores[:, 1] - rows[0].scores[:, 1]))
    assert low <= mean <= high
    assert 0 < p <= 1


def test_questions_without_gold_are_left_out(bench, small_corpus):
    assert [q.id for q in bench.questions] == ["boil", "bulb"]
    with pytest.raises(InputError, match="1 questions have gold"):
        Bench(small_corpus, small_corpus.questions[1:], bench.store)
    with pytest.raises(InputError, match="0 questions"):
        Bench(small_corpus, [Question("q", "What?")], bench.store)


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
        Setting(**arguments)


def test_the_overlap_shrinks_with_the_size():
    assert Setting(overlap=64).at(64) == Setting(size=64, overlap=32)
    assert Setting(overlap=64).at(256).overlap == 64


def _chunks(bench, setting):
    chunker = bench.chunker(setting)
    return [chunk for document in bench.corpus.documents for chunk in chunker.chunk(document)]
