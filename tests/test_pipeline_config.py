"""Configurations: what a file says is what runs, in any place where corpus and vectors are the same."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.base import Corpus, InputError, StoreMismatchError
from ragkit.evaluation.tune import Grid
from ragkit.pipeline import RAGPipeline, advanced, modular, naive
from ragkit.pipeline.config import PipelineConfig
from ragkit.pipeline.modules import MODULES
from ragkit.testing import FakeEmbedder, check_retriever
from ragkit.token_store import TokenStore

ADVANCED = """
    [pipeline]
    retriever = "both"
    fetch = 50
    [reranker]
    kind = "late interaction"
    [modules]
    words = {kind = "bm25"}
    meaning = {kind = "dense", scoring = "maxp"}
    both = {kind = "hybrid", of = ["words", "meaning"]}
"""
NAIVE = """
    pipeline = {retriever = "meaning"}
    modules.meaning = {kind = "dense", scoring = "pooled"}
"""
MODULAR = """
    pipeline = {retriever = "hops"}
    [modules]
    words = {kind = "bm25"}
    meaning = {kind = "dense"}
    both = {kind = "hybrid", of = ["words", "meaning"]}
    ranked = {kind = "reranked", of = "both"}
    routed = {kind = "router", of = "ranked"}
    hops = {kind = "multihop", of = "routed"}
"""
EVERYTHING = """
    pipeline = {retriever = "checked", rewriter = "spelling", budget = 300}
    [chunks]
    main = {chunker = "heading", size = 64, overlap = 8}
    small = {size = 16, overlap = 0}
    [modules]
    words = {kind = "bm25", contextual = true}
    meaning = {kind = "dense", chunks = "small", scoring = "pooled"}
    both = {kind = "hybrid", of = ["words", "meaning"], fusion = "convex", weights = [0.25, 0.75]}
    sections = {kind = "parent", of = "both"}
    ranked = {kind = "reranked", of = "sections", fetch = 9}
    routed = {kind = "router", of = "ranked", classifier = "vocabulary"}
    near = {kind = "neighbours", of = "words"}
    apart = {kind = "mmr", of = "near"}
    some = {kind = "filtered", of = "apart", metadata = {project = ["kettle", "lamp"]}}
    hops = {kind = "multihop", of = "routed"}
    all = {kind = "hybrid", of = ["hops", "some"]}
    checked = {kind = "corrective", of = "all", good = 0.001, bad = 0.0, wider = "words"}
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
    assert {type(module) for module in config.modules.values()} == set(MODULES.values())
    config.made_on(small_corpus, store).save(tmp_path / "all.toml")
    rag = RAGPipeline.from_config(tmp_path / "all.toml", small_corpus, store=store)
    same = RAGPipeline.from_config(config, small_corpus, store=store)
    check_retriever(rag.retriever, ["How do I heat water?", "Which bulbs fit the lamp and the radio?"])
    assert ranked(rag, small_corpus) == ranked(same, small_corpus)
    assert rag.identity == same.identity
    answer = asyncio.run(rag.query("Which bulbs fit?", k=3))
    assert "E27" in " ".join(hit.chunk.text for hit in answer.hits)
    parts = {name for hit in answer.hits for name in hit.parts}
    assert any(name.startswith("corrective:") for name in parts)


@given(st.integers(0, len(Grid().configurations()) - 1))
def test_text_and_back(place):
    config = Grid().configurations()[place]
    back = PipelineConfig.from_toml(config.to_toml())
    assert back == config
    assert back.fingerprint == config.fingerprint


def test_a_fingerprint_is_that_of_the_settings():
    prints = {config.fingerprint for config in Grid().configurations()}
    assert len(prints) == 288
    one = PipelineConfig.from_toml(NAIVE)
    assert PipelineConfig.from_toml(NAIVE.replace("meaning", "vectors")).key("vectors") == one.key("meaning")


def test_another_corpus_or_other_vectors_are_refused(small_corpus, store, ragkit_home):
    config = PipelineConfig.from_toml(NAIVE).made_on(small_corpus, store)
    other = Corpus("other", small_corpus.documents[:2], ())
    with pytest.raises(StoreMismatchError, match=r"with the corpus .* measure it again"):
        RAGPipeline.from_config(config, other, store=TokenStore.open(other, FakeEmbedder(), progress=False))
    vectors = TokenStore.open(small_corpus, FakeEmbedder(dimension=8), progress=False)
    with pytest.raises(StoreMismatchError, match="with the store"):
        RAGPipeline.from_config(config, small_corpus, store=vectors)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "not TOML"),
        ('pipelin = {retriever = "a"}', "unknown 'pipelin', did you mean 'pipeline'"),
        ('pipeline = {retriver = "a"}', "unknown 'retriver', did you mean 'retriever'"),
        ("pipeline = {budget = 3}", "retriever must be said"),
        ("pipeline = 3", "expected a table"),
        ('pipeline = {retriever = "a"}', "no module 'a'"),
        ('pipeline = {retriever = "a"}\nmodules.a = {kind = "bm52"}', "unknown 'bm52', did you mean 'bm25'"),
        ('pipeline = {retriever = "a"}\nmodules.a = {chunks = "main"}', "expected a table with a kind"),
        ('pipeline = {retriever = "a"}\nmodules.a = {kind = "bm25", chunks = "mian"}', "no chunks 'mian', did you"),
        ('pipeline = {retriever = "a"}\nmodules.a = {kind = "bm25", contextual = 1}', "expected true or false"),
        ('pipeline = {retriever = "a"}\nmodules.a = {kind = "dense", window = 1.5}', "expected a whole number"),
        ('pipeline = {retriever = "a"}\nmodules.a = {kind = "dense", scoring = "max"}', "expected 'pooled', 'maxp'"),
        ('pipeline = {retriever = "a"}\nmodules.a = {kind = "router", of = "b"}', "no module 'b'"),
        ('pipeline = {retriever = "a"}\nmodules.a = {kind = "parent", of = "a"}', "contain each other: a -> a"),
        (
            'pipeline = {retriever = "a"}\nmodules.a = {kind = "mmr", of = "b"}\nmodules.b = {kind = "mmr", of = "a"}',
            "modules contain each other",
        ),
        ('pipeline = {retriever = "a", rewriter = "speling"}\nmodules.a = {kind = "bm25"}', "'spelling'"),
        ('pipeline = {retriever = "a"}\nmodules.a = {kind = "bm25"}\nchunks.main.chunker = "fixd"', "'fixed'"),
    ],
)
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(InputError, match=message):
        PipelineConfig.from_toml(text)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ('{kind = "parent", of = ["words", "more"]}', "expected the name of one module"),
        ('{kind = "router", of = "words", by = "colour"}', "no document of 'small' has it; there is project, title"),
        ('{kind = "bm25", variant = "bm26"}', "bm26"),
        ('{kind = "hybrid", of = []}', "input"),
    ],
)
def test_what_only_the_build_can_know_is_named_too(module, message, small_corpus, store):
    text = (
        f'pipeline = {{retriever = "a"}}\nmodules = {{words = {{kind="bm25"}}, more = {{kind="bm25"}}, a = {module}}}'
    )
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
    for name in ("Corrective", "Hybrid", "MultiHop", "Router", "kettle: Reranked", "MMR", "Neighbours"):
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
    assert all(sum(f"─ {name}: " in line for line in lines) == 1 for name in (*routes, "everything"))
