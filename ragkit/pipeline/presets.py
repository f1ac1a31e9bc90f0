"""Pipelines in a few readable lines, from the simplest to what production needs."""

from __future__ import annotations

from collections.abc import Sequence

from ragkit.base import LLM, Chunk, Corpus, Retriever
from ragkit.chunking import FixedChunker, chunk_corpus
from ragkit.pipeline.answering import answering
from ragkit.pipeline.rag import RAGPipeline
from ragkit.pipeline.trace import AnswerCache, Monitor
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.modular import (
    EachNamed,
    MultiHop,
    OneNamed,
    Router,
    Rules,
    Together,
    Vocabulary,
    Votes,
    by_name,
)
from ragkit.retrieval.rerank import LateInteraction, Reranked
from ragkit.token_store import TokenStore


def naive(
    corpus: Corpus,
    *,
    llm: LLM | None = None,
    store: TokenStore | None = None,
    size: int = 512,
    overlap: int = 64,
    budget: int = 2000,
    cache: AnswerCache | None = None,
    monitor: Monitor | None = None,
) -> RAGPipeline:
    """The textbook pipeline: fixed chunks, one mean vector each, nearest neighbours, no reranker."""
    store = store or TokenStore.open(corpus)
    chunks = chunk_corpus(FixedChunker(size, overlap), corpus)
    dense = DenseRetriever(chunks, store=store)
    identity = f"naive:{corpus.fingerprint}:{store.identity}:{size}:{overlap}"
    llm = llm or answering(store)
    return RAGPipeline(dense, None, llm, budget=budget, cache=cache, monitor=monitor, identity=identity)


def advanced(
    corpus: Corpus,
    *,
    llm: LLM | None = None,
    store: TokenStore | None = None,
    size: int = 512,
    overlap: int = 64,
    fetch: int = 50,
    budget: int = 2000,
    cache: AnswerCache | None = None,
    monitor: Monitor | None = None,
) -> RAGPipeline:
    """Words and vectors, fused, then reranked: BM25 and MaxP dense retrieval, RRF, late interaction.

    Where no candidate has the question's words (all below .5), the question as a whole is compared too: paraphrases
    need it. Chosen on ``core``, where a trained reranker and more candidates did not pay;
    ``tests/bench/bench_advanced.py`` measures each step's share.
    """
    store = store or TokenStore.open(corpus)
    chunks = chunk_corpus(FixedChunker(size, overlap), corpus)
    bm25 = BM25Retriever(chunks)
    dense = DenseRetriever(chunks, store=store, scoring="maxp")
    hybrid = Hybrid([bm25, dense], fusion="rrf")
    identity = f"advanced:geometric, doubt .5:{corpus.fingerprint}:{store.identity}:{size}:{overlap}"
    return RAGPipeline(
        hybrid,
        LateInteraction(store, mean="geometric", doubt=0.5),
        llm or answering(store),
        fetch=fetch,
        budget=budget,
        cache=cache,
        monitor=monitor,
        identity=identity,
    )


def modular(
    corpus: Corpus,
    *,
    llm: LLM | None = None,
    store: TokenStore | None = None,
    size: int = 512,
    overlap: int = 64,
    fetch: int = 50,
    budget: int = 2000,
    by: str = "project",
    cache: AnswerCache | None = None,
    monitor: Monitor | None = None,
) -> RAGPipeline:
    """The advanced retriever once for each collection, a router before them, and questions taken apart.

    A collection is what documents with the same metadata ``by`` make. A question goes to the one that the words and
    the vectors of the documents vote for, or to all of them at once where the vote is not clear; a question that names
    several is asked once for each, too. (Questions that only look as if they had several parts are left whole: taking
    them apart cost paraphrases on ``core``.) ``tests/bench/bench_modular.py`` measures what that brings.
    """
    store = store or TokenStore.open(corpus)
    chunks = chunk_corpus(FixedChunker(size, overlap), corpus)
    late = LateInteraction(store, mean="geometric", doubt=0.5)

    def vectors(some: Sequence[Chunk]) -> DenseRetriever:
        return DenseRetriever(some, store=store, scoring="maxp")

    def searching(some: Sequence[Chunk], dense: DenseRetriever) -> Retriever:
        return Reranked(Hybrid([BM25Retriever(some), dense], fusion="rrf"), late, fetch)

    names, whole = by_name(chunks, by), vectors(chunks)
    collections = {label: [c for c in chunks if c.metadata.get(by) == label] for label in names}
    routes = {label: searching(own, vectors(own)) for label, own in collections.items()}
    everything = searching(chunks, whole)
    together = Together([Vocabulary(chunks, by), Votes(whole, by)])
    router = Router(routes, OneNamed(Rules(names), together), everything, threshold=0.7) if routes else None
    identity = f"modular:{by}:{fetch}:{corpus.fingerprint}:{store.identity}:{size}:{overlap}"
    return RAGPipeline(
        MultiHop(router, EachNamed(names)) if router else everything,
        None,
        llm or answering(store),
        budget=budget,
        cache=cache,
        monitor=monitor,
        identity=identity,
    )
