"""Tuning: sharing work changes no ranking, and no question both chooses and reports."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Corpus, Document, InputError, Question, Span
from ragkit.evaluation.compare import compare
from ragkit.evaluation.grid import Grid, label
from ragkit.evaluation.sharing import Ledger, Shared, SharedMaxSim
from ragkit.evaluation.tune import halves, starting, tune
from ragkit.generation import Extractive
from ragkit.pipeline import RAGPipeline, advanced
from ragkit.pipeline.building import Building
from ragkit.pipeline.config import PipelineConfig
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.rerank import LateInteraction
from ragkit.testing import FakeEmbedder, check_retriever
from ragkit.token_store import TokenStore

WORDS = ["kettle", "lamp", "radio", "lever", "wheel", "bulb", "water", "dial", "volume", "vinegar", "station", "watts"]
SMALL = Grid(
    chunker=("fixed",),
    size=(12, 24),
    overlap=(0,),
    fetch=(3, 9),
    retriever=("bm25", "dense", "hybrid"),
    rerank=(False, True),
)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Twelve documents, each about two of twelve words, and two questions about each."""
    texts = {
        f"d{i:02}": " ".join(WORDS[(i * j + j // 3) % 12] for j in range(1, 40)) + f" {WORDS[i]} {WORDS[(i + 5) % 12]}."
        for i in range(12)
    }
    documents = tuple(Document(name, text, metadata={"project": name[:2]}) for name, text in texts.items())
    questions = tuple(
        Question(
            f"{d.id}-{n}", f"Where is the {WORDS[i]} and the {WORDS[(i + n) % 12]}?", (Span(d.id, start, start + 60),)
        )
        for i, d in enumerate(documents)
        for n, start in ((5, len(d.text) - 60), (1, 0))
    )
    return Corpus("words", documents, questions)


@pytest.fixture
def store(corpus, ragkit_home) -> TokenStore:
    return TokenStore.open(corpus, FakeEmbedder(), progress=False)


def test_tuned_scores_are_those_of_the_pipelines_that_it_names(corpus, store):
    """Each configuration, run by itself, gives the score in the table.

    Without the reranker, because the made-up vectors give many chunks equal scores but for rounding.
    """
    tuned = tune(corpus, grid=SMALL, store=store, metric="mrr@10", progress=False)
    tried = SMALL.configurations()
    assert len(tuned.table) == len(tried) == 48
    for place in map(int, tuned.table.index):
        if tried[place].reranker is not None:
            continue
        rag = RAGPipeline.from_config(tried[place], corpus, store=store)
        ranks = []
        for question in tuned.chosen_on:
            found = [h.chunk.span.answers(question.gold[0]) for h in rag.retriever.search(question.text, 10)]
            ranks.append(1 / (found.index(True) + 1) if any(found) else 0.0)
        assert tuned.table.loc[place, "mrr@10"] == pytest.approx(sum(ranks) / len(ranks))
    assert tuned.ledger.searches_shared > tuned.ledger.searched
    assert tuned.ledger.scores_shared > tuned.ledger.scored


def test_sharing_changes_no_ranking(corpus, store):
    shelf, cuts, ledger = {}, {}, Ledger()
    maxsim = SharedMaxSim(store, ledger)
    for config in SMALL.configurations():
        site = Building(config, corpus, store, shelf, lambda made: Shared(made, ledger, 10), (), cuts)
        reranker = LateInteraction(maxsim, "geometric", 0.5) if config.reranker else None
        shared = RAGPipeline(site.module(config.retriever), reranker, Extractive(), fetch=config.fetch).retriever
        own = RAGPipeline.from_config(config, corpus, store=store).retriever
        for question in corpus.questions[::5]:
            one, other = shared.search(question.text, 10), own.search(question.text, 10)
            assert [h.score for h in one] == pytest.approx([h.score for h in other])
            if reranker is None:
                assert one == other
    assert ledger.searches_shared > 0


def test_the_report_is_on_other_documents_and_the_cheapest_is_not_worse(corpus, store):
    tuned = tune(corpus, grid=SMALL, store=store, metric="mrr@10", progress=False)
    assert not {q.gold[0].doc_id for q in tuned.chosen_on} & {q.gold[0].doc_id for q in tuned.reported_on}
    assert len(tuned.chosen_on) + len(tuned.reported_on) == len(corpus.questions)
    assert list(tuned.report.table.index) == ["start", "best", "cheapest"]
    assert {q.id for q in tuned.report.questions} == {q.id for q in tuned.reported_on}
    assert tuned.table["mrr@10"].is_monotonic_decreasing
    assert tuned.table["p_best"].sum() == pytest.approx(1)
    row = tuned.table[tuned.table["configuration"] == label(tuned.cheapest)].iloc[0]
    assert row["p"] >= 0.05
    assert row["ms"] == tuned.table.loc[tuned.table["p"] >= 0.05, "ms"].min()
    assert tuned.best.made_with is not None
    assert f"{len(tuned.table)} configurations" in str(tuned)


def test_sizes_are_compared_by_coverage_in_the_same_tokens(corpus, ragkit_home):
    """A configuration has the score that ``compare`` gives it in 2,000 tokens, however many results that takes."""
    documents = tuple(replace(d, text=" ".join([d.text] * 12)) for d in corpus.documents)
    long = replace(corpus, documents=documents)
    store = TokenStore.open(long, FakeEmbedder(), progress=False)
    grid = Grid(("fixed",), (24, 400), (0,), (False,), ("bm25",), rerank=(False,))
    tuned = tune(long, grid=grid, store=store, progress=False)
    assert tuned.report.metric == "coverage@2000"
    assert tuned.report.budget == 2000
    assert 0.05 < tuned.table["coverage@2000"].min() < 0.95
    configurations = dict(enumerate(grid.configurations()))
    systems = {str(i): RAGPipeline.from_config(c, long, store=store).retriever for i, c in configurations.items()}
    table = compare(systems, tuned.chosen_on, same_budget=2000, progress=False).table
    for place in configurations:
        assert tuned.table.loc[place, "coverage@2000"] == pytest.approx(table.loc[str(place), "coverage@2000"])
        assert tuned.table.loc[place, "tokens"] == pytest.approx(table.loc[str(place), "tokens"])


def test_an_unknown_metric_is_refused(corpus, store):
    with pytest.raises(InputError, match=r"metric 'f1': expected one or more, and one of coverage@2000, hit@1"):
        tune(corpus, grid=SMALL, store=store, metric="f1", progress=False)


def test_the_winner_can_be_kept_and_run(corpus, store, tmp_path):
    tuned = tune(corpus, grid=SMALL, store=store, progress=False)
    tuned.best.save(tmp_path / "best.toml")
    again = RAGPipeline.from_config(tmp_path / "best.toml", corpus, store=store)
    first = RAGPipeline.from_config(tuned.best, corpus, store=store)
    assert PipelineConfig.load(tmp_path / "best.toml") == tuned.best
    for question in corpus.questions:
        assert again.retriever.search(question.text, 5) == first.retriever.search(question.text, 5)


def test_the_start_is_the_advanced_preset(corpus, store):
    rag, preset = RAGPipeline.from_config(starting(), corpus, store=store), advanced(corpus, store=store)
    for question in corpus.questions[:6]:
        assert [h.chunk.id for h in rag.retriever.search(question.text)] == [
            h.chunk.id for h in preset.retriever.search(question.text)
        ]


@given(st.lists(st.integers(0, 11), min_size=4, max_size=60), st.integers(0, 9))
def test_halves_share_no_document_and_are_nearly_equal(documents, seed):
    asked = [Question(str(n), "?", (Span(f"d{d}", 0, 1),)) for n, d in enumerate(documents)]
    if len(set(documents)) < 4:
        with pytest.raises(InputError, match="expected four or more"):
            halves(asked, seed)
        return
    first, second = halves(asked, seed)
    assert sorted(q.id for q in (*first, *second)) == sorted(q.id for q in asked)
    assert not {q.gold[0].doc_id for q in first} & {q.gold[0].doc_id for q in second}
    largest = max(documents.count(d) for d in documents)
    assert abs(len(first) - len(second)) <= largest


def test_shared_searches_are_the_retrievers_own(small_corpus):
    from ragkit.chunking import FixedChunker

    chunks = [c for d in small_corpus.documents for c in FixedChunker(16, 0).chunk(d)]
    ledger, bm25 = Ledger(), BM25Retriever(chunks)
    shared = Shared(bm25, ledger, depth=4)
    check_retriever(shared, ["press", "which bulbs fit", "water"])
    before = ledger.searched
    for k in (1, 2, 4, 3):
        assert shared.search("the lever and the wheel", k) == bm25.search("the lever and the wheel", k)
    assert ledger.searched == before + 1
    shared.search("the lever and the wheel", 9)
    assert ledger.searched == before + 2


def test_shared_scores_are_the_stores_own(corpus, store):
    from ragkit.chunking import FixedChunker

    chunks = [c for d in corpus.documents for c in FixedChunker(12, 0).chunk(d)]
    ledger = Ledger()
    shared = SharedMaxSim(store, ledger)
    for part in (chunks[:5], chunks[3:9], chunks[:9]):
        assert shared.maxsim("the lever", part).tolist() == pytest.approx(store.maxsim("the lever", part).tolist())
    assert (ledger.scored, ledger.scores_shared) == (9, 11)
    assert shared.maxsim("the lever", chunks[:2], "geometric") != pytest.approx(shared.maxsim("the lever", chunks[:2]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size = []", "size is empty"),
        ("sizes = [1]", "unknown 'sizes', did you mean 'size'"),
        ('size = ["big"]', "expected"),
        ('retriever = ["bm52"]', "expected one of 'bm25'"),
    ],
)
def test_a_wrong_grid_is_named(text, message, tmp_path):
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        Grid.load(tmp_path / "grid.toml")


def test_a_grid_from_a_file(tmp_path):
    (tmp_path / "grid.toml").write_text('size = [64, 128]\nretriever = "bm25"\nrerank = false\n')
    grid = Grid.load(tmp_path / "grid.toml")
    assert (grid.size, grid.retriever, grid.rerank, grid.fetch) == ((64, 128), ("bm25",), (False,), (20, 50))
    assert len(grid.configurations()) == 2 * 2 * 2 * 2  # chunkers, sizes, overlaps, contextual


def test_too_little_to_tune_on(small_corpus, ragkit_home):
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    with pytest.raises(InputError, match="gold in 2 documents"):
        tune(small_corpus, grid=SMALL, store=store)
