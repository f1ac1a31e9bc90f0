"""Pipelines in a few readable lines, from the simplest to what production needs.

Chunks of 256 tokens with an overlap of 32, and 50 candidates to rerank, bring most of what answers a question into a
context of 2,000 tokens: ``make bench BENCH=presets`` has the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ragkit.base import LLM, Chunk, Corpus, Retriever
from ragkit.chunking import FixedChunker, chunk_corpus
from ragkit.generation.factory import make_llm
from ragkit.pipeline.config import FETCH_K, OVERLAP, SIZE
from ragkit.pipeline.rag import RAGPipeline
from ragkit.pipeline.trace import AnswerCache, Monitor
from ragkit.retrieval import modular as modules
from ragkit.retrieval.analysis import Analyzer
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.rerank import LateInteraction, Reranked
from ragkit.token_store import TokenStore


def naive(
    corpus: Corpus,
    *,
    llm: LLM | str | Path | None = None,
    store: TokenStore | None = None,
    size: int = SIZE,
    overlap: int = OVERLAP,
    budget: int = 2000,
    cache: AnswerCache | None = None,
    monitor: Monitor | None = None,
) -> RAGPipeline:
    """The textbook pipeline: fixed chunks, one mean vector each, nearest neighbours, no reranker.

    ``llm`` is an LLM, "extractive", "local", "openai" or the path of a GGUF file; by default it is the endpoint at
    ``$OPENAI_BASE_URL``, if that is set, else quotes (see ``make_llm``). ``store`` has the vectors (default:
    ``TokenStore.open(corpus)``), ``size`` and ``overlap`` are the tokens of a chunk; the other parameters are those of
    ``RAGPipeline``.
    """
    store = store or TokenStore.open(corpus)
    dense = DenseRetriever(chunk_corpus(FixedChunker(size, overlap), corpus), store=store)
    return RAGPipeline(dense, None, make_llm(llm, store), budget=budget, cache=cache, monitor=monitor)


def advanced(
    corpus: Corpus,
    *,
    llm: LLM | str | Path | None = None,
    store: TokenStore | None = None,
    analyzer: Analyzer | None = None,
    size: int = SIZE,
    overlap: int = OVERLAP,
    fetch_k: int = FETCH_K,
    budget: int = 2000,
    cache: AnswerCache | None = None,
    monitor: Monitor | None = None,
) -> RAGPipeline:
    """Words and vectors, fused, then reranked: BM25 and MaxP dense retrieval, RRF, late interaction.

    Where no candidate has the question's words (each scores below .5), the question as a whole is compared too:
    paraphrases need it. ``tests/bench/bench_advanced.py`` measures each step's share. ``analyzer`` makes terms of words
    (default: ``Analyzer.for_language(corpus.language)``), ``fetch_k`` are candidates to rerank; the other parameters
    are those of ``naive``.
    """
    store = store or TokenStore.open(corpus)
    chunks = chunk_corpus(FixedChunker(size, overlap), corpus)
    words = BM25Retriever(chunks, analyzer=analyzer or Analyzer.for_language(corpus.language))
    hybrid = Hybrid([words, DenseRetriever(chunks, store=store, scoring="maxp")], fusion="rrf")
    late = LateInteraction(store, mean="geometric", pooled_below=0.5)
    llm = make_llm(llm, store)
    return RAGPipeline(hybrid, late, llm, fetch_k=fetch_k, budget=budget, cache=cache, monitor=monitor)


def modular(
    corpus: Corpus,
    *,
    llm: LLM | str | Path | None = None,
    store: TokenStore | None = None,
    analyzer: Analyzer | None = None,
    size: int = SIZE,
    overlap: int = OVERLAP,
    fetch_k: int = FETCH_K,
    by: str = "project",
    budget: int = 2000,
    cache: AnswerCache | None = None,
    monitor: Monitor | None = None,
) -> RAGPipeline:
    """The advanced retriever once for each collection, a router before them, and questions taken apart.

    A collection is what documents with the same metadata ``by`` make. A question goes to the one that the words and
    the vectors of the documents vote for, or to all of them at once where the vote is not clear; a question that names
    several is asked once for each, too. (Questions that only look as if they had several parts are left whole.)
    ``tests/bench/bench_modular.py`` measures what that brings. Parameters as in ``advanced``.
    """
    store = store or TokenStore.open(corpus)
    chunks = chunk_corpus(FixedChunker(size, overlap), corpus)
    late = LateInteraction(store, mean="geometric", pooled_below=0.5)
    analyzer = analyzer or Analyzer.for_language(corpus.language)

    def vectors(some: Sequence[Chunk]) -> DenseRetriever:
        return DenseRetriever(some, store=store, scoring="maxp")

    def search(some: Sequence[Chunk], dense: DenseRetriever) -> Retriever:
        return Reranked(Hybrid([BM25Retriever(some, analyzer=analyzer), dense], fusion="rrf"), late, fetch_k)

    whole, names = vectors(chunks), modules.name_patterns(chunks, by)
    retriever = search(chunks, whole)
    if names:
        collections = {label: [chunk for chunk in chunks if str(chunk.metadata.get(by)) == label] for label in names}
        routes = {label: search(own, vectors(own)) for label, own in collections.items()}
        average = modules.AverageClassifier(
            [modules.NaiveBayesClassifier(chunks, by, analyzer), modules.HitVoteClassifier(whole, by)]
        )
        classifier = modules.AbstainOnSeveral(modules.RegexClassifier(names), average)
        router = modules.Router(routes, classifier, retriever, threshold=0.7)
        retriever = modules.SubQuestions(router, modules.NameSplitter(names))
    return RAGPipeline(retriever, None, make_llm(llm, store), budget=budget, cache=cache, monitor=monitor)
