"""Tuning: what is measured is what is reported, no document is in both halves, and the rule is the one it states."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Corpus, Document, InputError, Question, Span
from ragkit.evaluation.compare import compare
from ragkit.evaluation.metrics import coverage
from ragkit.evaluation.tune import Grid, default_config, label, split_by_document, tune
from ragkit.pipeline import RAGPipeline, advanced
from ragkit.pipeline.config import PipelineConfig
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore

WORDS = ["kettle", "lamp", "radio", "lever", "wheel", "bulb", "water", "dial", "volume", "vinegar", "station", "watts"]
SMALL = Grid(
    chunker=("fixed",),
    size=(12,),
    overlap=(0,),
    fetch_k=(9,),
    retriever=("bm25", "dense", "hybrid"),
    rerank=(False, True),
    contextual=(False,),
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
    """Each configuration, run by itself, gives the score in the table."""
    tuned = tune(corpus, grid=SMALL, store=store, progress=False)
    tried = SMALL.configurations()
    assert len(tuned.table) == len(tried) == 8
    for place in map(int, tuned.table.index):
        rag = RAGPipeline.from_config(tried[place], corpus, store=store)
        shares = []
        for question in tuned.tuning:
            hits = rag.retriever.search(question.text, 80)  # all there is, and fewer than 2,000 tokens
            shares.append(coverage([hit.chunk for hit in hits], question.gold))
        assert tuned.table.loc[place, "coverage@2000"] == pytest.approx(sum(shares) / len(shares))


def test_a_rewriter_is_measured_as_it_is_reported(corpus, store):
    """The questions are misspelt: only the configuration that repairs them finds anything."""
    misspelt = {word: f"{word[:3]}x{word[3:]}" for word in WORDS}
    typed = [
        replace(q, text=" ".join(["Where would they have these", *(misspelt[w] for w in WORDS if w in q.text)]))
        for q in corpus.questions
    ]
    text = 'retriever="w"\n{}\nmodules.w={{kind="BM25Retriever"}}'
    configs = [PipelineConfig.from_toml(text.format(extra)) for extra in ("", 'rewriter="Spelling"')]
    assert [RAGPipeline.from_config(c, corpus, store=store).rewriter is None for c in configs] == [True, False]
    tuned = tune(corpus, typed, configs, store=store, progress=False)
    systems = {str(i): RAGPipeline.from_config(c, corpus, store=store).retriever for i, c in enumerate(configs)}
    table = compare(systems, tuned.tuning, same_budget=2000, progress=False).table
    for place in (0, 1):
        assert tuned.table.loc[place, "coverage@2000"] == pytest.approx(table.loc[str(place), "coverage@2000"])
    assert table.loc["0", "coverage@2000"] != table.loc["1", "coverage@2000"]


def test_the_report_is_on_other_documents_and_the_simplest_is_within_one_standard_error(corpus, store):
    tuned = tune(corpus, grid=SMALL, store=store, progress=False)
    assert not {q.gold[0].doc_id for q in tuned.tuning} & {q.gold[0].doc_id for q in tuned.holdout}
    assert len(tuned.tuning) + len(tuned.holdout) == len(corpus.questions)
    assert list(tuned.report.table.index) == ["start", "best", "simplest"]
    assert {q.id for q in tuned.report.questions} == {q.id for q in tuned.holdout}
    assert tuned.table["coverage@2000"].is_monotonic_decreasing
    assert tuned.table["p_best"].sum() == pytest.approx(1)
    table = tuned.table.set_index("configuration")
    row = table.loc[label(tuned.simplest)]
    assert row["diff"] >= -row["error"]
    assert row["parts"] == table.loc[table["diff"] >= -table["error"], "parts"].min()
    best_wins = tuned.report.table.loc["best", "verdict"] == "better"
    assert tuned.chosen is (tuned.best if best_wins else tuned.start)
    assert table.loc[label(tuned.best), ["diff", "error"]].tolist() == [0, 0]
    assert tuned.best.provenance is not None
    assert f"8 configurations on {len(tuned.tuning)} questions" in str(tuned)
    assert f"would detect a true difference of {tuned.report.minimum_detectable:.3f}" in str(tuned)
    for shown in (repr(tuned), tuned._repr_html_()):
        assert shown.count("coverage@") >= 2
        assert all(name in shown for name in [*tuned.table["configuration"].head(), *tuned.report.systems])
        assert "PipelineConfig" not in shown
    sentences, rows, report = repr(tuned).split("\n\n", 2)
    assert (sentences, len(rows.splitlines()), report) == (str(tuned), 6, repr(tuned.report))


def test_ties_are_named_and_do_not_depend_on_the_clock(corpus, store):
    """Every configuration scores 1: the documents are short. The choice is the same each time, and the preset stays."""
    easy = [q for q in corpus.questions if "-5" in q.id]
    grid = SMALL.model_copy(update={"rerank": (False,)})
    runs = [tune(corpus, easy, grid, store=store, progress=False) for _ in range(3)]
    assert len({(label(run.best), label(run.simplest), label(run.chosen)) for run in runs}) == 1
    text = str(runs[0])
    alike = int((runs[0].table["diff"] >= -runs[0].table["error"]).sum())
    assert f"; {alike} of them are within one standard error of the best" in text
    assert "chosen: the start, fixed 256/32, hybrid rrf, rerank 50; the best is worse on the other questions" in text
    runs[0].report.table.loc["best", "verdict"] = "no detectable difference"
    assert "rerank 50; the best is not detectably better" in str(runs[0])


def test_sizes_are_compared_by_coverage_in_the_same_tokens(corpus, ragkit_home):
    """A configuration has the score that ``compare`` gives it in 2,000 tokens, however many results that takes."""
    documents = tuple(replace(d, text=" ".join([d.text] * 12)) for d in corpus.documents)
    long = replace(corpus, documents=documents)
    store = TokenStore.open(long, FakeEmbedder(), progress=False)
    grid = Grid(
        chunker=("fixed",), size=(24, 400), overlap=(0,), contextual=(False,), retriever=("bm25",), rerank=(False,)
    )
    tuned = tune(long, grid=grid, store=store, progress=False)
    assert tuned.report.metric == "coverage@2000"
    assert tuned.report.budget == 2000
    assert 0.05 < tuned.table["coverage@2000"].min() < 0.95
    configurations = dict(enumerate(grid.configurations()))
    systems = {str(i): RAGPipeline.from_config(c, long, store=store).retriever for i, c in configurations.items()}
    table = compare(systems, tuned.tuning, same_budget=2000, progress=False).table
    for place in configurations:
        assert tuned.table.loc[place, "coverage@2000"] == pytest.approx(table.loc[str(place), "coverage@2000"])
        assert tuned.table.loc[place, "tokens"] == pytest.approx(table.loc[str(place), "tokens"])


def test_the_winner_can_be_kept_and_run(corpus, store, tmp_path):
    tuned = tune(corpus, grid=SMALL, store=store, progress=False)
    tuned.best.save(tmp_path / "best.toml")
    again = RAGPipeline.from_config(tmp_path / "best.toml", corpus, store=store)
    first = RAGPipeline.from_config(tuned.best, corpus, store=store)
    assert PipelineConfig.load(tmp_path / "best.toml") == tuned.best
    for question in corpus.questions:
        assert again.retriever.search(question.text, 5) == first.retriever.search(question.text, 5)


def test_the_start_is_the_advanced_preset(corpus, store):
    rag, preset = RAGPipeline.from_config(default_config(), corpus, store=store), advanced(corpus, store=store)
    for question in corpus.questions[:6]:
        assert [h.chunk.id for h in rag.retriever.search(question.text)] == [
            h.chunk.id for h in preset.retriever.search(question.text)
        ]


@given(st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=2), min_size=4, max_size=60))
def test_no_document_is_in_both_halves_and_they_are_nearly_equal(golds):
    """Also where a question's gold stands in two documents: these stay together, with all that is linked to them."""
    asked = [Question(str(n), "?", tuple(Span(f"d{d}", 0, 1) for d in gold)) for n, gold in enumerate(golds)]
    groups: list[set[int]] = []
    for gold in golds:
        linked = [group for group in groups if group & set(gold)]
        groups = [group for group in groups if group not in linked] + [set(gold).union(*linked)]
    if len(groups) < 4:
        with pytest.raises(InputError, match="expected four groups or more"):
            split_by_document(asked)
        return
    first, second = split_by_document(asked)
    assert sorted(q.id for q in (*first, *second)) == sorted(q.id for q in asked)
    documents = [{span.doc_id for q in half for span in q.gold} for half in (first, second)]
    assert not documents[0] & documents[1]
    largest = max(sum(bool(set(gold) & group) for gold in golds) for group in groups)
    assert abs(len(first) - len(second)) <= largest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size = []", "expected one value or more"),
        ("sizes = [1]", "unknown 'sizes', did you mean 'size'"),
        ('size = ["big"]', "expected"),
        ('retriever = ["bm52"]', "expected 'bm25', 'dense' or 'hybrid'"),
    ],
)
def test_a_wrong_grid_is_named(text, message, tmp_path):
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        Grid.load(tmp_path / "grid.toml").configurations()


def test_a_grid_from_a_file(tmp_path):
    (tmp_path / "grid.toml").write_text('size = [64, 128]\nretriever = "bm25"\nrerank = false\n')
    grid = Grid.load(tmp_path / "grid.toml")
    assert (grid.size, grid.retriever, grid.rerank, grid.fetch_k) == ((64, 128), ("bm25",), (False,), (20, 50))
    assert len(grid.configurations()) == 2 * 2 * 2 * 2  # chunkers, sizes, overlaps, contextual


def test_too_little_to_tune_on(small_corpus, ragkit_home):
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    with pytest.raises(InputError, match="grid is empty"):
        tune(small_corpus, grid=[], store=store)
    with pytest.raises(InputError, match="stand in 2 documents"):
        tune(small_corpus, grid=SMALL, store=store)
