"""How long a question and a change of chunk size take, and BM25 beside rank_bm25; for an idle machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

from rank_bm25 import BM25Okapi

from ragkit import BM25Retriever, FixedChunker, RAGPipeline, TokenStore, advanced, load_pydocs, modular, naive
from ragkit.base import Corpus
from ragkit.chunking import chunk_corpus
from ragkit.generation.abstain import Abstaining
from ragkit.generation.extractive import Extractive
from ragkit.notebook.widgets import ChunkExperiment, LabSettings

Row = tuple[str, float, str, str]
TARGETS = {"advanced": ("<= 30", "<= 45")}


def main() -> list[Row]:
    corpus = load_pydocs("core")
    store = TokenStore.open(corpus)
    rows: list[Row] = [
        ("change of size or overlap, core, FAQ questions, slowest", size_changes(corpus, store), "s", "<= 0.1"),
        ("BM25 queries/s against rank_bm25's", against_rank_bm25(corpus), "times", ">= 20"),
    ]
    quotes = Abstaining(
        Extractive(store.maxsim, threshold=0.05), store
    )  # what the presets answer with, without an endpoint
    for name, preset in {"naive": naive, "advanced": advanced, "modular": modular}.items():
        retrieval, whole = asyncio.run(milliseconds(preset(corpus, store=store, llm=quotes), corpus))
        targets = TARGETS.get(name, ("", ""))
        rows.append((f"{name}: retrieval, the question's encoding included, p50", retrieval, "ms", targets[0]))
        rows.append((f"{name}: whole offline answer, p50", whole, "ms", targets[1]))
    return rows


def size_changes(corpus: Corpus, store: TokenStore) -> float:
    """Seconds of a change of size or overlap: cut, pool, search all questions, score. The slowest of those tried."""
    lab = ChunkExperiment(corpus, corpus.questions, store)
    lab.measure(LabSettings(size=480))  # the first reads the store from disk
    changes = [replace(LabSettings(), size=size, overlap=overlap) for size in (256, 544, 1024) for overlap in (64, 56)]
    return max(lab.measure(setting).milliseconds for setting in changes) / 1000


def against_rank_bm25(corpus: Corpus) -> float:
    """How many times the queries a second of rank_bm25 ours answers, on the same chunks and the same terms."""
    chunks = chunk_corpus(FixedChunker(512, 64), corpus)
    bm25 = BM25Retriever(chunks, variant="okapi")
    terms = bm25.analyzed.analyzer.terms
    reference = BM25Okapi([terms(chunk.text) for chunk in chunks])
    questions = [question.text for question in corpus.questions]

    def seconds(search: Callable[[str], object]) -> float:
        begin = time.process_time()
        for question in questions:
            search(question)
        return time.process_time() - begin

    def ours(question: str) -> object:
        return bm25.search(question, 10)

    def theirs(question: str) -> object:
        return reference.get_top_n(terms(question), chunks, 10)

    return min(seconds(theirs) for _ in range(3)) / min(seconds(ours) for _ in range(3))


async def milliseconds(rag: RAGPipeline, corpus: Corpus) -> tuple[float, float]:
    """The medians over the FAQ questions, each asked twice: of retrieval and reranking, and of the whole answer."""
    await rag.query(corpus.questions[0].text)
    timings = [(await rag.query(question.text)).timings for question in corpus.questions * 2]
    retrieval = [each["rewrite"] + each["retrieve"] + each["rerank"] for each in timings]
    return median(retrieval), median(each["total"] for each in timings)
