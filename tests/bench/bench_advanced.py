"""What each step of the advanced preset is worth, on which questions, at what price; LangChain's tutorial beside it.

``python tests/run_bench.py advanced`` prints the figures. ``RAGKIT_BENCH_EXTENDED=1`` adds the corpus that nothing
was tuned on. The tables' milliseconds leave out the model's run for the question, which is the same for everybody;
``bench_speed.py`` measures with it.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ragkit.base import Chunk, Corpus, Hit, Question, Retriever
from ragkit.chunking import FixedChunker, chunk_corpus
from ragkit.corpus import load_pydocs, load_questions
from ragkit.embedding import CachedEmbedder, load_embedder
from ragkit.evaluation.compare import compare
from ragkit.pipeline import advanced, naive
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.hybrid import Hybrid
from ragkit.retrieval.rerank import LateInteraction, Reranked
from ragkit.token_store import TokenStore

Row = tuple[str, float, str, str]


KINDS = ("keyword", "paraphrase", "multihop", "en")
# The system that each kind of question is the strength of: the preset must not be worse than it.
SPECIALIST = {"keyword": "BM25", "paraphrase": "MaxP"}
LADDER = ("naive", "MaxP", "RRF", "+ arithmetic MaxSim", "+ geometric MaxSim", "advanced")


def main() -> list[Row]:
    corpus = load_pydocs("core")
    store = TokenStore.open(corpus)
    questions = {"faq": corpus.questions} | {kind: load_questions(kind, corpus) for kind in KINDS}
    everything = [question for group in questions.values() for question in group]
    fast = store.with_queries([question.text for question in everything], tokens=True)
    systems = {name: Recorded(system) for name, system in steps(corpus, fast).items()}
    rows = list(tables("core", systems, "naive", questions))
    rows += shares(systems, everything)
    same_tokens(systems, corpus.questions)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
    rows.append(("resident memory with every system loaded", memory, "MB", "<= 1536"))
    if tutorial := langchain_systems(corpus):
        beside = {name: systems[name] for name in ("naive", "advanced")}
        others = {name: Recorded(system) for name, system in tutorial.items()}
        rows += tables("core beside LangChain", others | beside, "LangChain dense", questions)
    else:
        sys.stdout.write("LangChain's tutorial left out: install the extra 'tutorial'\n")
    if os.environ.get("RAGKIT_BENCH_EXTENDED"):
        other = load_pydocs("extended")
        store = TokenStore.open(other)
        both = {"naive": naive(other, store=store).retriever, "advanced": advanced(other, store=store).retriever}
        rows += tables("extended", both, "naive", {"faq": other.questions})
    return rows


class Recorded(Retriever):
    """Remembers what was found, so that later tables search nothing twice. Times are those of the first table."""

    def __init__(self, retriever: Retriever) -> None:
        self.retriever, self.found, self.replay = retriever, dict[tuple[str, int], list[Hit]](), False

    def _search(self, query: str, k: int) -> list[Hit]:
        if not self.replay or (query, k) not in self.found:
            self.found[query, k] = self.retriever.search(query, k)
        return self.found[query, k]


def steps(corpus: Corpus, store: TokenStore) -> dict[str, Retriever]:
    """From the naive preset to the advanced one, a step at a time; then what was tried and left out."""
    chunks = chunk_corpus(FixedChunker(512, 64), corpus)
    bm25, maxp = BM25Retriever(chunks), DenseRetriever(chunks, store=store, scoring="maxp")
    words = BM25Retriever(chunks, contextual=True)
    hybrid, convex = Hybrid([bm25, maxp]), Hybrid([bm25, maxp], fusion="convex")
    last = LateInteraction(store, "geometric", pooled_below=0.5)
    return {
        "naive": naive(corpus, store=store).retriever,
        "MaxP": maxp,
        "BM25": bm25,
        "contextual BM25": words,
        "RRF": hybrid,
        "+ arithmetic MaxSim": Reranked(hybrid, LateInteraction(store), fetch_k=50),
        "+ geometric MaxSim": Reranked(hybrid, LateInteraction(store, "geometric"), fetch_k=50),
        "advanced": advanced(corpus, store=store).retriever,
        "advanced, contextual BM25": Reranked(Hybrid([words, maxp]), last, fetch_k=50),
        "advanced, convex": Reranked(convex, last, fetch_k=50),
        "advanced, convex, fetch 20": Reranked(convex, last, fetch_k=20),
        "advanced, fetch 10": advanced(corpus, store=store, fetch_k=10).retriever,
        "advanced, fetch 100": advanced(corpus, store=store, fetch_k=100).retriever,
        "advanced, 768 tokens": advanced(corpus, store=store, size=768, overlap=96).retriever,
        "advanced, 256 tokens": advanced(corpus, store=store, size=256, overlap=32).retriever,
    }


def shares(systems: dict[str, Recorded], questions: Sequence[Question]) -> Iterator[Row]:
    """What each step adds to the one before it, and what was left out would add to the preset: all questions."""
    skipped = [("advanced", name) for name in systems if name.startswith("advanced,")]
    context = [("BM25", "contextual BM25")]
    sys.stdout.write(f"\ncore, all {len(questions)} questions: one step after the other\n")
    for before, after in (*pairwise(LADDER), ("BM25", "RRF"), *context, *skipped):
        pair = {name: systems[name] for name in (before, after)}
        line = compare(pair, questions, baseline=before, progress=False).table.loc[after]
        sys.stdout.write(f"{before} -> {after}: {told(line)}\n")
        yield f"core all: {before} -> {after}, mrr@10", float(line["diff"]), "", ""


def told(line: Mapping[str, Any]) -> str:
    interval = f"[{line['diff_low']:+.3f}, {line['diff_high']:+.3f}]"
    return f"{line['diff']:+.3f} {interval} p={line['p']:.3f} {line['verdict']}"


def same_tokens(systems: dict[str, Recorded], questions: Sequence[Question]) -> None:
    """Chunk sizes at equal context tokens instead of equal k: ten chunks of 768 tokens say more than ten of 256."""
    sizes = {name: system for name, system in systems.items() if name == "advanced" or name.endswith(" tokens")}
    found = compare(sizes, questions, baseline="advanced", same_budget=2000, progress=False)
    shown = found.table[
        [found.metric, f"mrr@{found.budget}", "tokens", "diff", "diff_low", "diff_high", "p", "verdict"]
    ]
    sys.stdout.write(f"\ncore, faq, at {found.budget} tokens of context for everybody\n{shown.to_string()}\n")


def tables(
    corpus: str, systems: Mapping[str, Retriever], baseline: str, tags: Mapping[str, Sequence[Question]]
) -> Iterator[Row]:
    """Figures of every system on every kind of question; the verdicts go to the terminal."""
    for tag, questions in tags.items():
        special = SPECIALIST.get(tag, baseline)
        first = special if special in systems else baseline
        table = compare(systems, questions, baseline=first, progress=False).table
        shown = table[["mrr@10", "hit@10", "tokens", "ms_p50", "diff", "diff_low", "diff_high", "p", "verdict"]]
        sys.stdout.write(f"\n{corpus}, {tag}: {len(questions)} questions, against {first}\n{shown.to_string()}\n")
        for name, line in table.iterrows():
            goal = {"mrr@10": ">= 0.52", "hit@10": ">= 0.8"}
            promised = (corpus, tag, name) == ("core", "faq", "advanced")
            for column in goal:
                yield f"{corpus} {tag}: {name}, {column}", float(line[column]), "", goal[column] if promised else ""
        if tag in SPECIALIST and first == special:
            # Alone, so that the verdict is about this one difference: "not worse" is what was promised.
            pair = {name: systems[name] for name in (first, "advanced")}
            line = compare(pair, questions, baseline=first, progress=False).table.loc["advanced"]
            sys.stdout.write(f"{tag}: advanced against {first} alone: {told(line)}\n")
            yield f"{corpus} {tag}: advanced - {first}, mrr@10", float(line["diff"]), "", ">= 0"
            yield f"{corpus} {tag}: advanced is worse than {first}", float(line["verdict"] == "worse"), "", "<= 0"
    for system in systems.values():
        if isinstance(system, Recorded):
            system.replay = True


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
    kept = CachedEmbedder(embedder)  # a second run of the bench encodes no piece again

    class MiniLM(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return kept.encode(texts).tolist()

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
