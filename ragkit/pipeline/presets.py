"""Pipelines in a few readable lines, from the simplest to what production needs."""

from __future__ import annotations

from ragkit.base import LLM, AnswerCache, Corpus, Monitor
from ragkit.chunking import FixedChunker
from ragkit.chunking.kept import kept_chunks
from ragkit.pipeline.answering import answering
from ragkit.pipeline.rag import RAGPipeline
from ragkit.reranking import LateInteraction
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
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
    chunks = kept_chunks(FixedChunker(size, overlap), corpus)
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
    chunks = kept_chunks(FixedChunker(size, overlap), corpus)
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
