"""Every offline rewriter's verdict on every kind of question, over keyword, naive and advanced search, and its cost.

``python tests/run_bench.py rewriting`` prints the tables. Misspelt questions are simulated (``rewrite.misspelt``).
Settings were chosen on ``core``; ``RAGKIT_BENCH_EXTENDED=1`` adds the corpus that nothing was tuned on. The vectors of
all queries are made beforehand, so the milliseconds are those of the rewriting and not of the search.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from sample import SearchedOnce

from ragkit.base import Corpus, Question, Retriever, Rewriter
from ragkit.chunking import FixedChunker, chunk_corpus
from ragkit.corpus import load_pydocs, load_questions
from ragkit.evaluation.compare import compare
from ragkit.pipeline import advanced
from ragkit.pipeline.config import OVERLAP, SIZE
from ragkit.retrieval.bm25 import BM25Retriever
from ragkit.retrieval.dense import DenseRetriever
from ragkit.retrieval.rewrite import ClauseSplitter, Rewritten, Spelling, misspelt
from ragkit.token_store import TokenStore

Row = tuple[str, float, str, str]
KINDS = ("keyword", "paraphrase", "multihop", "en")


def main() -> list[Row]:
    corpus = load_pydocs("core")
    tags = {"faq": corpus.questions} | {kind: load_questions(kind, corpus) for kind in KINDS}
    rows = list(verdicts("core", corpus, tags))
    if os.environ.get("RAGKIT_BENCH_EXTENDED"):
        other = load_pydocs("extended")
        rows += verdicts("extended", other, {"faq": other.questions})
    return rows


def rewriters_of(corpus: Corpus) -> dict[str, Rewriter]:
    return {
        "spelling": Spelling.of(corpus.documents),
        "parts": ClauseSplitter(),
    }


def verdicts(name: str, corpus: Corpus, tags: Mapping[str, Sequence[Question]]) -> Iterator[Row]:
    """A table for each base and each kind of question; a row for each rewriter."""
    asked = [question for group in tags.values() for question in group]
    tags = {**tags, "all": asked, "misspelt": misspelt(asked)}
    rewriters = rewriters_of(corpus)
    yield from costs(name, rewriters, tags["misspelt"])
    texts = [question.text for group in (tags["all"], tags["misspelt"]) for question in group]
    queries = dict.fromkeys(q for text in texts for r in rewriters.values() for q in (text, *r.rewrite(text)))
    store = TokenStore.open(corpus).with_queries(list(queries))
    for base, systems in bases(corpus, store, rewriters).items():
        for tag, questions in tags.items():
            metric = "recall@10" if tag == "multihop" else "mrr@10"
            table = compare(systems, questions, baseline=base, metric=metric, progress=False).table
            shown = table[["mrr@10", "recall@10", "diff", "diff_low", "diff_high", "p", "verdict"]]
            sys.stdout.write(f"\n{name}, {base}, {tag}: {len(questions)} questions\n{shown.round(3).to_string()}\n")
            for system, line in table.iterrows():
                yield f"{name} {tag}: {base}, {system}, {metric}", float(line[metric]), "", ""


def bases(corpus: Corpus, store: TokenStore, rewriters: Mapping[str, Rewriter]) -> dict[str, dict[str, Retriever]]:
    chunks = chunk_corpus(FixedChunker(SIZE, OVERLAP), corpus)
    bm25, dense = BM25Retriever(chunks), DenseRetriever(chunks, store=store)
    naive, best = SearchedOnce(dense), SearchedOnce(advanced(corpus, store=store).retriever)
    found: dict[str, dict[str, Retriever]] = {}
    for base, retriever in (("BM25", bm25), ("naive", naive), ("advanced", best)):
        wrapped = {name: Rewritten(retriever, rewriter) for name, rewriter in rewriters.items()}
        found[base] = {base: retriever, **wrapped}
    return found


def costs(name: str, rewriters: Mapping[str, Rewriter], questions: Sequence[Question]) -> Iterator[Row]:
    """Searches and milliseconds for a misspelt question (the others cost less)."""
    for which, rewriter in rewriters.items():
        rewriter.rewrite(questions[0].text)
        began = time.perf_counter()
        searches = [len(rewriter.rewrite(question.text)) for question in questions]
        yield f"{name}: {which}, time", (time.perf_counter() - began) * 1000 / len(questions), "ms", ""
        yield f"{name}: {which}, searches", float(np.mean(searches)), "", ""
