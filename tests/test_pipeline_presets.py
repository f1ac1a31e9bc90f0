"""The presets answer from the right document, are silent elsewhere, and say who answered."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from endpoint import Endpoint

from ragkit.base import Answer, Corpus, EndpointError, Retriever, identity_of
from ragkit.chunking import FixedChunker, chunk_corpus
from ragkit.generation import ANSWER, Extractive, OpenAIChat, WithFallback
from ragkit.generation.abstain import Abstaining
from ragkit.pipeline import RAGPipeline, advanced, modular, naive
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.modular import Filtered, RegexClassifier, Router
from ragkit.retrieval.rerank import LateInteraction
from ragkit.retrieval.rewrite import Spelling
from ragkit.testing import FakeEmbedder
from ragkit.token_store import TokenStore


def run(rag: RAGPipeline, question: str, k: int = 10) -> Answer:
    return asyncio.run(rag.query(question, k))


@pytest.mark.parametrize("preset", [naive, advanced, modular])
def test_presets_answer_from_the_right_document(preset, small_corpus, ragkit_home, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    rag = preset(small_corpus, store=store)
    answer = run(rag, "Only bulbs fit?", k=2)  # words are all that the fake embedder knows
    assert "Only E27 bulbs with at most 40 watts fit." in answer.text
    assert answer.citations[0].chunk.doc_id == "lamp/guide"
    assert isinstance(rag.llm, Extractive)  # when to be silent was learnt from another model's scores
    lost = run(rag, "Who invented the telephone?", k=2)
    assert (lost.abstained, lost.citations) == (True, ())
    assert "of what is asked" in lost.reason


def test_presets_on_the_packaged_model_know_when_to_be_silent(small_corpus, ragkit_home, minilm, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    rag = naive(small_corpus, store=TokenStore.open(small_corpus, minilm, progress=False))
    assert isinstance(rag.llm, Abstaining)
    assert isinstance(rag.llm.llm, Extractive)
    assert "E27 bulbs" in run(rag, "Which bulbs fit?", k=2).text
    lost = run(rag, "Who invented the telephone?", k=2)
    assert (lost.abstained, lost.citations) == (True, ())
    assert "no source mentions invented or telephone" in lost.reason


def test_a_pipeline_shows_its_stages_in_a_line_each(small_corpus, ragkit_home):
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    rag = advanced(small_corpus, store=store, llm=Extractive(), size=16, overlap=4, budget=1500)
    title, *lines = repr(rag).splitlines()
    chunks = len(chunk_corpus(FixedChunker(16, 4), small_corpus))
    assert title == "RAGPipeline"
    assert [line.split()[0] for line in lines] == ["chunks", "retrieve", "rerank", "build", "write"]
    for line, words in zip(
        lines,
        (
            f"{chunks}, about 14 tokens each, 4 shared",
            "of BM25Retriever, DenseRetriever",
            "of 50 candidates",
            "at most 1,500 tokens",
            "Extractive(",
        ),
        strict=True,
    ):
        assert words in line
    rag.llm = OpenAIChat("<m>", base_url="http://me:secret@host/v1")
    for shown in (repr(rag), rag._repr_html_()):
        assert "secret" not in shown
    assert "<m>" not in rag._repr_html_()
    assert "rerank    none" in repr(naive(small_corpus, store=store))
    parts = [c for c in modular(small_corpus, store=store, size=16, overlap=4).__repr__().splitlines() if "chunks" in c]
    assert f" {chunks}, about" in parts[0]  # of all collections, not of one


def test_collections_may_be_told_apart_by_a_number(small_corpus, ragkit_home):
    years = {"lamp/guide": 2024}
    documents = [replace(d, metadata={**d.metadata, "year": years.get(d.id, 2025)}) for d in small_corpus.documents]
    corpus = Corpus("years", tuple(documents))
    store = TokenStore.open(corpus, FakeEmbedder(), progress=False)
    answer = run(modular(corpus, store=store, llm=Extractive(), by="year"), "Which bulbs fit, 2024?", k=2)
    assert answer.citations[0].chunk.doc_id == "lamp/guide"


def test_presets_fall_back_visibly_when_the_endpoint_fails(small_corpus, ragkit_home, monkeypatch):
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    with Endpoint("Bulbs of type E27 [1].", faults=["400"]) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        rag = naive(small_corpus, store=store)
        assert isinstance(rag.llm, WithFallback)
        first, second = run(rag, "Only bulbs fit?"), run(rag, "Only bulbs fit?")
    assert "E27 bulbs" in first.text
    assert endpoint.url in first.reason
    assert second.text == "Bulbs of type E27 [1]."
    assert second.usage.output_tokens == 7


def test_an_endpoint_without_a_fallback_is_named(small_corpus, ragkit_home):
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    llm = OpenAIChat(base_url="http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9"):
        run(naive(small_corpus, store=store, llm=llm), "Which bulbs fit?")


# ---- what can change an answer changes the digest of the settings


@pytest.fixture
def world(small_corpus, ragkit_home) -> SimpleNamespace:
    """A corpus, its store, and the chunks of one way of cutting."""
    store = TokenStore.open(small_corpus, FakeEmbedder(), progress=False)
    return SimpleNamespace(corpus=small_corpus, store=store, chunks=chunk_corpus(FixedChunker(16, 4), small_corpus))


def usual(world, **changes) -> RAGPipeline:
    """A pipeline of the usual parts, some of them exchanged."""
    parts = {
        "vector_store": hybrid(world),
        "reranker": LateInteraction(world.store),
        "llm": chat(),
        "rewriter": Spelling({"bulbs": 3}),
        "budget": 2000,
        "fetch_k": 20,
    }
    return RAGPipeline(**(parts | changes))


def hybrid(world, chunks=None, weights=(0.5, 0.5), where="lamp", store=None, **dense) -> Retriever:
    chunks, store = chunks or world.chunks, store or world.store
    inputs = [BM25Retriever(chunks), DenseRetriever(chunks, store=store, **dense)]
    return Filtered(Hybrid(inputs, weights=weights), {"project": where})


def chat(model="m", url="http://127.0.0.1:9/v1", **settings) -> WithFallback:
    return WithFallback(OpenAIChat(model, url, **settings), Extractive())


def routed(world, threshold: float) -> Retriever:
    classifier = RegexClassifier({"lamp": "lamp"})
    return Router({"lamp": hybrid(world)}, classifier, hybrid(world), threshold=threshold)


def edited(world) -> Retriever:
    """The usual index over documents of which one was edited."""
    last = world.corpus.documents[-1]
    documents = (*world.corpus.documents[:-1], replace(last, text=last.text.replace("station", "channel")))
    corpus = Corpus(world.corpus.name, documents)
    store = TokenStore.open(corpus, FakeEmbedder(), progress=False)
    return hybrid(world, chunk_corpus(FixedChunker(16, 4), corpus), store=store)


CHANGES = {
    "index content": lambda w: {"vector_store": edited(w)},
    "chunk size": lambda w: {"vector_store": hybrid(w, chunk_corpus(FixedChunker(12, 4), w.corpus))},
    "overlap": lambda w: {"vector_store": hybrid(w, chunk_corpus(FixedChunker(16, 2), w.corpus))},
    "embedder": lambda w: {"vector_store": hybrid(w, store=w.other_store())},
    "scoring": lambda w: {"vector_store": hybrid(w, scoring="maxp")},
    "weights": lambda w: {"vector_store": hybrid(w, weights=(1, 2))},
    "filter": lambda w: {"vector_store": hybrid(w, where="kettle")},
    "router": lambda w: {"vector_store": routed(w, 0.5)},
    "router's threshold": lambda w: {"vector_store": routed(w, 0.6)},
    "no reranker": lambda w: {"reranker": None},
    "reranker": lambda w: {"reranker": LateInteraction(w.store, mean="geometric")},
    "reranker's doubt": lambda w: {"reranker": LateInteraction(w.store, pooled_below=0.5)},
    "reranker's store": lambda w: {"reranker": LateInteraction(w.other_store())},
    "rewriter": lambda w: {"rewriter": Spelling({"lamps": 3})},
    "fetch_k": lambda w: {"fetch_k": 21},
    "fetch_k of 3 k": lambda w: {"fetch_k": None},
    "budget": lambda w: {"budget": 1000},
    "model": lambda w: {"llm": chat("n")},
    "endpoint": lambda w: {"llm": chat(url="http://127.0.0.1:8/v1")},
    "temperature": lambda w: {"llm": chat(temperature=0.7)},
    "prompt": lambda w: {"llm": chat(prompt=replace(ANSWER, system="Answer briefly."))},
    "quotes": lambda w: {"llm": Extractive()},
    "quotes' similarity": lambda w: {"llm": Extractive(w.store.maxsim)},
    "quotes' threshold": lambda w: {"llm": Extractive(threshold=0.1)},
    "silence": lambda w: {"llm": Abstaining(Extractive(), w.store)},
    "silence's store": lambda w: {"llm": Abstaining(Extractive(), w.other_store())},
    "silence's threshold": lambda w: {"llm": Abstaining(Extractive(), w.store, 0.5)},
}


def test_every_setting_that_can_change_an_answer_changes_the_digest(world):
    world.other_store = lambda: TokenStore.open(world.corpus, FakeEmbedder(seed=1), progress=False)
    digests = {name: usual(world, **change(world)).settings() for name, change in CHANGES.items()}
    digests |= {"usual": usual(world).settings(), "k": usual(world).settings(5)}
    assert len(set(digests.values())) == len(digests), digests
    assert usual(world).settings() == digests["usual"]


def test_searching_and_answering_do_not_change_the_digest(world):
    rag = usual(world, llm=Abstaining(Extractive(world.store.maxsim), world.store), rewriter=None)
    before = rag.settings()
    run(rag, "Only bulbs fit?")
    assert rag.settings() == before


@pytest.mark.parametrize("preset", [naive, advanced, modular])
def test_a_preset_beside_a_cache_has_a_digest_and_no_address_or_password_in_its_identity(preset, world, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:Tr0ub4dor@127.0.0.1:9/v1")
    rag = preset(world.corpus, store=world.store)
    assert rag.settings() == preset(world.corpus, store=world.store).settings()
    identities = identity_of([rag.retriever, rag.llm])
    assert " at 0x" not in identities
    assert "Tr0ub4dor" not in identities
