"""Two chunk sizes at equal tokens, by recall and by coverage: the rule of the half favours the smaller one."""

from __future__ import annotations

from ragkit import BM25Retriever, DenseRetriever, FixedChunker, TokenStore, compare, load_pydocs
from ragkit.chunking import chunk_corpus
from ragkit.corpus import load_questions

Row = tuple[str, float, str, str]
METRICS = ("recall@2000", "coverage@2000")


def main() -> list[Row]:
    corpus = load_pydocs("core")
    questions = list(corpus.questions)
    for name in ("keyword", "paraphrase", "multihop", "en"):
        questions += load_questions(name, corpus)
    store = TokenStore.open(corpus).with_queries([question.text for question in questions])
    chunks = {size: chunk_corpus(FixedChunker(size, size // 8), corpus) for size in (64, 128, 256)}
    pairs = {
        "pooled vectors, 128 against 256 tokens": {
            "large": DenseRetriever(chunks[256], store=store),
            "small": DenseRetriever(chunks[128], store=store),
        },
        "BM25, 64 against 256 tokens": {"large": BM25Retriever(chunks[256]), "small": BM25Retriever(chunks[64])},
    }
    rows: list[Row] = []
    for name, systems in pairs.items():
        for metric in METRICS:
            result = compare(systems, questions, "large", same_budget=2000, metric=metric, progress=False)
            row = result.table.loc["small"]
            interval = f"[{row['diff_low']:+.3f}, {row['diff_high']:+.3f}] {row['verdict']}"
            rows.append((f"{name}, {metric}: {interval}", float(row["diff"]), "", ""))
    return rows
