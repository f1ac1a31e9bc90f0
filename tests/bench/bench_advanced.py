"""What each step of the advanced preset is worth, on which questions, at what price; LangChain's tutorial beside it.

``python tests/run_bench.py advanced`` prints the figures. ``RAGKIT_BENCH_EXTENDED=1`` adds the corpus that nothing
was tuned on. Latencies are single queries, the model's run for the question included; they mean something on an
idle machine only.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from itertools import pairwise

from ragkit.base import Chunk, Corpus, Hit, Question, Retriever
from ragkit.chunking import FixedChunker
from ragkit.chunking.kept import kept_chunks
from ragkit.corpus import load_pydocs, load_questions
from ragkit.embedding import load_embedder
from ragkit.evaluation.compare import compare
from ragkit.pipeline import advanced, naive
from ragkit.reranking import LateInteraction, Reranked
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.token_store import TokenStore

Row = tuple[str, float, str, str]


def main() -> list[Row]:
    corpus = load_pydocs("core")
    store = TokenStore.open(corpus)
    systems = steps(corpus, store)
    rows = list(tables("core", systems, "naive", {"faq": corpus.questions} | ours(corpus)))
    rows += shares(systems, corpus)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
    rows.append(("resident memory with every system loaded", memory, "MB", "<= 1536"))
    rows.append(("BM25 queries/s against rank_bm25's", against_rank_bm25(corpus), "times", ">= 20"))
    if tutorial := langchain_systems(corpus):
        rows += tables("core", tutorial, "LangChain dense", {"faq": corpus.questions})
    else:
        sys.stdout.write("LangChain's tutorial left out: langchain_classic, langchain_community are not installed\n")
    if os.environ.get("RAGKIT_BENCH_EXTENDED"):
        other = load_pydocs("extended")
        store = TokenStore.open(other)
        both = {"naive": naive(other, store=store).retriever, "advanced": advanced(other, store=store).retriever}
        rows += tables("extended", both, "naive", {"faq": other.questions})
    return rows


def ours(corpus: Corpus) -> dict[str, tuple[Question, ...]]:
    return {kind: load_questions(kind, corpus) for kind in ("keyword", "paraphrase", "multihop")}


def steps(corpus: Corpus, store: TokenStore) -> dict[str, Retriever]:
    """From the naive preset to the advanced one, a step at a time; then what was tried and left out."""
    chunks = kept_chunks(FixedChunker(512, 64), corpus)
    bm25, maxp = BM25Retriever(chunks), DenseRetriever(chunks, store=store, scoring="maxp")
    contextual = BM25Retriever(chunks, contextual=True)
    hybrid, sums, products = Hybrid([bm25, maxp]), LateInteraction(store), LateInteraction(store, "geometric")
    return {
        "naive": naive(corpus, store=store).retriever,
        "MaxP": maxp,
        "BM25": bm25,
        "contextual BM25": contextual,
        "RRF": hybrid,
        "RRF + arithmetic MaxSim of 50": Reranked(hybrid, sums),
        "advanced": advanced(corpus, store=store).retriever,
        "advanced, contextual": Reranked(Hybrid([contextual, maxp]), products),
        "advanced, fetch 100": advanced(corpus, store=store, fetch=100).retriever,
        "advanced, 768 tokens": advanced(corpus, store=store, size=768, overlap=96).retriever,
        "advanced, 256 tokens": advanced(corpus, store=store, size=256, overlap=32).retriever,
    }


def shares(systems: dict[str, Retriever], corpus: Corpus) -> Iterator[Row]:
    """What each step adds to the one before it, and what was left out would add to the preset."""
    ladder = ["naive", "MaxP", "RRF", "RRF + arithmetic MaxSim of 50", "advanced"]
    left_out = [("advanced", name) for name in systems if name.startswith("advanced,")]
    for before, after in (*pairwise(ladder), ("BM25", "RRF"), *left_out):
        pair = {name: systems[name] for name in (before, after)}
        line = compare(pair, corpus.questions, baseline=before, progress=False).table.loc[after]
        interval = f"[{line['diff_low']:+.3f}, {line['diff_high']:+.3f}]"
        sys.stdout.write(f"{before} -> {after}: {line['diff']:+.3f} {interval} p={line['p']:.3f} {line['verdict']}\n")
        yield f"core faq: {before} -> {after}, mrr@10", float(line["diff"]), "", ""


def tables(
    corpus: str, systems: dict[str, Retriever], baseline: str, tags: dict[str, tuple[Question, ...]]
) -> Iterator[Row]:
    """Figures of every system on every kind of question; the verdicts go to the terminal."""
    for tag, questions in tags.items():
        # The paraphrases ask for meaning and the keyword questions for words: each is compared with its specialist.
        first = "BM25" if tag == "keyword" else baseline
        table = compare(systems, questions, baseline=first, progress=False).table
        shown = table[["mrr@10", "hit@10", "tokens", "ms_p50", "diff", "diff_low", "diff_high", "p", "verdict"]]
        sys.stdout.write(f"\n{corpus}, {tag}: {len(questions)} questions, against {first}\n{shown.to_string()}\n")
        for name, line in table.iterrows():
            goal = {"mrr@10": ">= 0.52", "hit@10": ">= 0.8", "ms_p50": "<= 30"}
            promised = (corpus, tag, name) == ("core", "faq", "advanced")
            for column, unit in (("mrr@10", ""), ("hit@10", ""), ("ms_p50", "ms")):
                yield f"{corpus} {tag}: {name}, {column}", float(line[column]), unit, goal[column] if promised else ""


def against_rank_bm25(corpus: Corpus) -> float:
    """How many times the queries a second of rank_bm25 ours answers, on the same chunks and the same terms."""
    from rank_bm25 import BM25Okapi

    chunks = kept_chunks(FixedChunker(512, 64), corpus)
    bm25 = BM25Retriever(chunks, variant="okapi")
    terms = bm25._terms.analyzer.terms
    reference = BM25Okapi([terms(chunk.text) for chunk in chunks])
    questions = [question.text for question in corpus.questions]

    def seconds(search: object) -> float:
        assert callable(search)
        begin = time.process_time()
        for question in questions:
            search(question)
        return time.process_time() - begin

    theirs = min(seconds(lambda q: reference.get_top_n(terms(q), chunks, 10)) for _ in range(3))
    return theirs / min(seconds(lambda q: bm25.search(q, 10)) for _ in range(3))


class Foreign(Retriever):
    """A LangChain retriever; ``start_index`` says where its pieces stand."""

    def __init__(self, retriever: object) -> None:
        self.retriever = retriever

    def _search(self, query: str, k: int) -> list[Hit]:
        found = self.retriever.invoke(query)[:k]  # type: ignore[attr-defined]
        hits: dict[str, Hit] = {}
        for rank, piece in enumerate(found, 1):
            start = piece.metadata["start_index"]
            chunk = Chunk(piece.metadata["doc_id"], start, start + len(piece.page_content), piece.page_content)
            hits.setdefault(chunk.id, Hit(chunk, 1 / rank, "langchain"))
        return list(hits.values())


def langchain_systems(corpus: Corpus) -> dict[str, Retriever]:
    """The tutorial's pipeline: recursive splitter of 1000 characters, MiniLM, FAISS, BM25, equal weights.

    Vectors are MiniLM's as it ships, which reads 256 tokens. Empty where LangChain is not installed.
    """
    try:
        from langchain_classic.retrievers import EnsembleRetriever
        from langchain_community.retrievers import BM25Retriever as TheirBM25
        from langchain_community.vectorstores import FAISS
        from langchain_core.documents import Document
        from langchain_core.embeddings import Embeddings
        from langchain_text_splitters import RecursiveCharacterTextSplitter
    except ImportError:
        return {}

    embedder = load_embedder()

    class MiniLM(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return embedder.encode(texts).tolist()

        def embed_query(self, text: str) -> list[float]:
            return embedder.encode([text], "query")[0].tolist()

    splitter = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=200, add_start_index=True)
    given = [Document(page_content=d.text, metadata={"doc_id": d.id}) for d in corpus.documents]
    pieces = splitter.split_documents(given)
    bm25 = TheirBM25.from_documents(pieces, k=10)
    dense = FAISS.from_documents(pieces, MiniLM()).as_retriever(search_kwargs={"k": 10})
    ensemble = EnsembleRetriever(retrievers=[bm25, dense], weights=[0.5, 0.5])
    both = {"LangChain BM25": bm25, "LangChain dense": dense, "LangChain ensemble": ensemble}
    return {name: Foreign(retriever) for name, retriever in both.items()}
