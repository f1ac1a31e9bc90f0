"""Configurations: what a file says is what runs, in any place where corpus and vectors are the same."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Corpus, InputError, StoreMismatchError
from ragkit.evaluation.tune import Grid
from ragkit.pipeline import RAGPipeline, advanced, modular, naive
from ragkit.pipeline.config import MODULES, PipelineConfig
from ragkit.testing import FakeEmbedder, check_retriever
from ragkit.token_store import TokenStore

ADVANCED = """
    retriever = "both"
    fetch_k = 50
    [reranker]
    kind = "LateInteraction"
    [modules]
    words = {kind = "BM25Retriever"}
    meaning = {kind = "DenseRetriever", scoring = "maxp"}
    both = {kind = "Hybrid", inputs = ["words", "meaning"]}
"""
NAIVE = """
    retriever = "meaning"
    modules.meaning = {kind = "DenseRetriever", scoring = "pooled"}
"""
MODULAR = """
    retriever = "hops"
    [modules]
    words = {kind = "BM25Retriever"}
    meaning = {kind = "DenseRetriever"}
    both = {kind = "Hybrid", inputs = ["words", "meaning"]}
    ranked = {kind = "Reranked", retriever = "both"}
    routed = {kind = "Router", retriever = "ranked"}
    hops = {kind = "SubQuestions", retriever = "routed"}
"""
EVERYTHING = """
    retriever = "checked"
    rewriter = "Spelling"
    budget = 300
    [chunks]
    main = {kind = "HeadingChunker", size = 64, overlap = 8}
    small = {size = 16, overlap = 0}
    [modules]
    words = {kind = "BM25Retriever", contextual = true}
    meaning = {kind = "DenseRetriever", chunks = "small", scoring = "pooled"}
    both = {kind = "Hybrid", inputs = ["words", "meaning"], fusion = "convex", weights = [0.25, 0.75]}
    sections = {kind = "Parent", retriever = "both"}
    ranked = {kind = "Reranked", retriever = "sections", fetch_k = 9}
    routed = {kind = "Router", retriever = "ranked", classifier = "NaiveBayesClassifier"}
    near = {kind = "SentenceWindow", retriever = "words"}
    apart = {kind = "MMR", retriever = "near"}
    some = {kind = "Filtered", retriever = "apart", metadata = {project = ["kettle", "lamp"]}}
    hops = {kind = "SubQuestions", retriever = "routed"}
    all = {kind = "Hybrid", inputs = ["hops", "some"]}
    checked = {kind = "Corrective", retriever = "all", accept_above = 0.001, reject_below = 0.0, fallback = "words"}
"""


@pytest.fixture
def store(small_corpus: Corpus, ragkit_home) -> TokenStore:
    return TokenStore.open(small_corpus, FakeEmbedder(), progress=False)


def ranked(rag: RAGPipeline, corpus: Corpus) -> list[list[tuple[str, float]]]:
    asked = ["How do I heat water?", "Which bulbs fit?", "press", "volume"]
    return [[(hit.chunk.id, hit.score) for hit in rag.retriever.search(question, 5)] for question in asked]


@pytest.mark.parametrize(("text", "preset"), [(NAIVE, naive), (ADVANCED, advanced), (MODULAR, modular)])
def test_the_presets_are_configurations_too(text, preset, small_corpus, store):
    rag = RAGPipeline.from_config(PipelineConfig.from_toml(text), small_corpus, store=store)
    assert ranked(rag, small_corpus) == ranked(preset(small_corpus, store=store), small_corpus)
    assert any(ranked(rag, small_corpus))


def test_every_kind_of_module_in_one_file(small_corpus, store, tmp_path):
    config = PipelineConfig.from_toml(EVERYTHING)
    config.with_provenance(small_corpus, store).save(tmp_path / "all.toml")
    rag = RAGPipeline.from_config(tmp_path / "all.toml", small_corpus, store=store)
    same = RAGPipeline.from_config(config, small_corpus, store=store)
    check_retriever(rag.retriever, ["How do I heat water?", "Which bulbs fit the lamp and the radio?"])
    assert ranked(rag, small_corpus) == ranked(same, small_corpus)
    of_a_server = {"PgVectorStore"}  # tests/test_retrieval_pgvector.py
    assert set(MODULES) - of_a_server == {module.kind for module in config.modules.values()}
    answer = asyncio.run(rag.query("Which bulbs fit?", k=3))
    assert "E27" in " ".join(hit.chunk.text for hit in answer.hits)
    parts = {name for hit in answer.hits for name in hit.scores}
    assert any(name.startswith("corrective:") for name in parts)


@given(st.integers(0, len(Grid().configurations()) - 1))
def test_text_and_back(place):
    config = Grid().configurations()[place]
    back = PipelineConfig.from_toml(config.to_toml())
    assert back == config
    assert back.fingerprint == config.fingerprint


def test_a_fingerprint_is_that_of_the_settings():
    configurations = Grid().configurations()
    assert len({config.fingerprint for config in configurations}) == len(configurations)


def test_other_vectors_are_refused_and_changed_documents_are_named(small_corpus, store, ragkit_home):
    config = PipelineConfig.from_toml(NAIVE).with_provenance(small_corpus, store)
    other = Corpus("other", small_corpus.documents[:2], ())
    with pytest.warns(UserWarning, match="other: the documents have changed"):
        RAGPipeline.from_config(config, other, store=TokenStore.open(other, FakeEmbedder(), progress=False))
    vectors = TokenStore.open(small_corpus, FakeEmbedder(dimension=8), progress=False)
    with pytest.raises(StoreMismatchError, match=r"with the vectors of .* measure it again"):
        RAGPipeline.from_config(config, small_corpus, store=vectors)


BM25 = 'retriever = "a"\nmodules.a = {kind = "BM25Retriever"}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "not TOML"),
        ('retriver = "a"', "the file: unknown 'retriver', did you mean 'retriever'"),
        ("budget = 3", "the file: retriever is missing"),
        ('retriever = "a"', "no module 'a': there is none"),
        ('retriever = "a"\nmodules = 3', r"\[modules\] = 3: expected a table"),
        (
            'retriever = "a"\nmodules.a = {kind = "bm25"}',
            r"\[modules.a\]: unknown kind 'bm25', did you mean 'BM25Retriever'",
        ),
        ('retriever = "a"\nmodules.a = {chunks = "main"}', r"\[modules.a\] .* expected a table with a kind"),
        (
            'retriever = "a"\nmodules.a = {kind = "BM25Retriever", chunks = "mian"}\nchunks.main = {}',
            "no chunks 'mian', did you",
        ),
        (
            'retriever = "a"\nmodules.a = {kind = "BM25Retriever", contextual = 1}',
            "contextual = 1: expected true or false",
        ),
        (
            'retriever = "a"\nmodules.a = {kind = "DenseRetriever", window = 1.5}',
            "window = 1.5: expected a whole number",
        ),
        ('retriever = "a"\nmodules.a = {kind = "DenseRetriever", scoring = "max"}', "expected 'pooled' or 'maxp'"),
        (
            'retriever = "a"\nmodules.a = {kind = "MMR", retriever = "a", fecth_k = 3}',
            "unknown 'fecth_k', did you mean 'fetch_k'",
        ),
        ('retriever = "a"\nmodules.a = {kind = "Router", retriever = "b"}', "no module 'b'"),
        ('retriever = "a"\nmodules.a = {kind = "Parent", retriever = "a"}', "contain each other: a -> a"),
        (
            'retriever = "a"\nmodules.a = {kind = "MMR", retriever = "b"}\nmodules.b = {kind = "MMR", retriever = "a"}',
            "modules contain each other",
        ),
        (BM25 + 'rewriter = "Speling"', "'Spelling'"),
        (BM25 + 'chunks.main.kind = "FixdChunker"', r"\[chunks.main\], kind = 'FixdChunker': expected 'FixedChunker'"),
        (BM25 + "chunks.main.sise = 3", "unknown 'sise', did you mean 'size'"),
        (
            BM25 + 'reranker = {kind = "LateInteraction", pooled_belo = 1}',
            r"\[reranker\]: unknown 'pooled_belo', did you mean 'pooled_below'",
        ),
        (BM25 + 'provenance = {corpus = "x"}', r"\[provenance\]: store is missing"),
    ],
)
def test_what_is_wrong_is_named(text, message):
    if text.startswith(BM25):  # keys of the file itself stand above its tables
        text = text.removeprefix(BM25) + "\n" + BM25
    with pytest.raises(InputError, match=message):
        PipelineConfig.from_toml(text)


def test_all_that_is_wrong_is_named_at_once():
    with pytest.raises(InputError, match=r"'pooled' or 'maxp'.*a whole number.*unknown 'indx', did you mean 'index'"):
        PipelineConfig.from_toml(
            'retriever = "a"\nmodules.a = {kind = "DenseRetriever", scoring = "max", window = "a", indx = 1}'
        )


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            '{kind = "Router", retriever = "words", by = "colour"}',
            "no document of 'small' has it; there is project, title",
        ),
        ('{kind = "BM25Retriever", variant = "bm26"}', "bm26"),
        ('{kind = "Hybrid", inputs = []}', "input"),
    ],
)
def test_what_only_the_build_can_know_is_named_too(module, message, small_corpus, store):
    text = f'retriever = "a"\nmodules = {{words = {{kind = "BM25Retriever"}}, a = {module}}}'
    with pytest.raises(InputError, match=message):
        RAGPipeline.from_config(PipelineConfig.from_toml(text), small_corpus, store=store)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml"):
        PipelineConfig.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"bad\.toml"):
        PipelineConfig.load(tmp_path / "bad.toml")


def test_a_pipeline_describes_itself(small_corpus, store):
    rag = RAGPipeline.from_config(PipelineConfig.from_toml(EVERYTHING), small_corpus, store=store)
    text = str(rag.describe())
    for name in ("Corrective", "Hybrid", "SubQuestions", "Router", "kettle: Reranked", "MMR", "SentenceWindow"):
        assert name in text
    assert (
        text.index("rewriter: ") < text.index("vector_store: ") < text.index("build_context: 300") < text.index("llm")
    )
    bundle = advanced(small_corpus, store=store).describe()._repr_mimebundle_()
    assert "reranker: LateInteraction" in bundle["text/plain"]
    drawn = bundle["text/vnd.mermaid"]
    assert drawn.startswith("flowchart LR\n")
    assert drawn.count("==>") == 5  # question, store, reranker, context, llm, answer
    assert "'" not in drawn
    assert "<" not in drawn


def test_a_description_shows_each_part_once(small_corpus, store):
    rag = modular(small_corpus, store=store)
    lines = str(rag.describe()).splitlines()
    routes = rag.vector_store.retriever.routes
    assert sum("Reranked" in line for line in lines) == len(routes) + 1  # and everything
    assert all(sum(f"─ {name}: " in line for line in lines) == 1 for name in (*routes, "fallback"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none.toml cannot be read: No such file or directory"):
        PipelineConfig.load(tmp_path / "none.toml")
