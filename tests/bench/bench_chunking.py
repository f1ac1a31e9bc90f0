"""Encode once, chunk later: what each way of scoring is worth, and what encoding every chunk size anew would cost."""

from __future__ import annotations

import time
from itertools import product

from ragkit import DenseRetriever, FixedChunker, TokenStore, compare, load_embedder, load_pydocs
from ragkit.base import Chunk, Corpus
from ragkit.corpus import load_questions
from ragkit.token_store import stored_bytes

Row = tuple[str, float, str, str]
SIZES = (128, 256, 512, 1024)


def cut(corpus: Corpus, size: int) -> list[Chunk]:
    return [chunk for document in corpus.documents for chunk in FixedChunker(size, size // 8).chunk(document)]


def main() -> list[Row]:
    corpus, embedder = load_pydocs("core"), load_embedder()
    store = TokenStore.open(corpus, embedder)
    names = ("keyword", "paraphrase", "multihop", "en")
    written = [question for name in names for question in load_questions(name, corpus)]
    questions = (*corpus.questions, *written)
    rows: list[Row] = []
    known = store.with_queries([q.text for q in questions])
    systems, encoding = {}, {}
    for size in SIZES:
        chunks = cut(corpus, size)
        systems[f"pooled {size}"] = DenseRetriever(chunks, store=known)
        systems[f"maxp {size}"] = DenseRetriever(chunks, store=known, scoring="maxp")
        begin = time.perf_counter()
        systems[f"direct {size}"] = DenseRetriever(chunks, embedder=embedder)
        encoding[size] = time.perf_counter() - begin
    rows.append(("re-embedding core at 512 tokens, run in full", encoding[512], "s", ""))
    rows.append(("int8 store of core on disk", stored_bytes(corpus) / 1e6, "MB", "<= 400"))

    sets = {"FAQ": corpus.questions, "all": questions}
    for name, asked_here in sets.items():
        table = compare(systems, asked_here, baseline="pooled 512", progress=False).table
        rows += [(f"{name}, {system}, MRR@10", table.loc[system, "mrr@10"], "", "") for system in systems]
    for size, (name, asked_here) in product(SIZES, sets.items()):
        trio = {kind: systems[f"{kind} {size}"] for kind in ("pooled", "maxp", "direct")}
        table = compare(trio, asked_here, progress=False).table
        for kind in ("maxp", "direct"):
            row = table.loc[kind]
            target = "<= 0.05" if kind == "maxp" and size >= 512 and name == "FAQ" else ""
            label = f"{name}, {kind} {size} is {row['diff']:+.3f} to pooled, {row['verdict']}"
            rows.append((label, row["p"], "p", target))
    return rows
