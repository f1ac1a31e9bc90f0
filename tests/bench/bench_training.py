"""What training is worth: on questions about projects that were in it, about others, and about another world.

``python tests/run_bench.py training`` prints the figures. Two halves of ``core`` take turns: a model trained on Celery
and Scrapy is asked about all five projects, and so is one trained on the other three. XQuAD's English paragraphs (set
``RAGKIT_XQUAD`` to the file) are the other world. ``RAGKIT_BENCH_EXTENDED=1`` adds a corpus that nothing was tuned on.
``RAGKIT_BENCH_LONG=1`` trains all layers with hard negatives instead of appendix B's short training.
``RAGKIT_RECORD=data/fine_tuning.json`` keeps the table that the notebook shows. Seconds mean something on an idle
machine only; a model that is already on disk keeps the seconds of its training.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from ragkit.base import Corpus, Embedder, Question, Retriever
from ragkit.chunking import FixedChunker, chunk_corpus
from ragkit.corpus import load_pydocs, load_questions, load_squad
from ragkit.embedding import load_embedder
from ragkit.evaluation.compare import compare
from ragkit.files import atomic_write
from ragkit.retrieval.dense import DenseRetriever
from ragkit.token_store import TokenStore
from ragkit.training.adapter import adapted, train_adapter
from ragkit.training.finetune import FineTuneSettings, fine_tune
from ragkit.training.pairs import make_pairs
from ragkit.training.quantization import binary, int8, knn_recall, pca

Row = tuple[str, float, str, str]
HALVES = {"celery, scrapy": ("celery", "scrapy"), "aiohttp, black, gunicorn": ("aiohttp", "black", "gunicorn")}
SHORT = FineTuneSettings(tokens=64, frozen=3, learning_rate=5e-5, share=0.05, checks=4)  # as in appendix B
LONG = FineTuneSettings(tokens=64, share=0.05, checks=5)
COMMAND = "RAGKIT_RECORD=data/fine_tuning.json python tests/run_bench.py training"


def main() -> list[Row]:
    corpus = load_pydocs("core")
    base = load_embedder()
    store = TokenStore.open(corpus)
    rows: list[Row] = []
    table: list[dict[str, Any]] = []
    long = bool(os.environ.get("RAGKIT_BENCH_LONG"))
    for name, projects in HALVES.items():
        documents = tuple(d for d in corpus.documents if d.metadata["project"] in projects)
        learn = Corpus(name, documents, tuple(q for q in corpus.questions if q.gold[0].doc_id.startswith(projects)))
        pairs = make_pairs(learn, tokens=64, negatives=int(long))
        begin = time.perf_counter()
        adapter = train_adapter(pairs, base, store=store)
        rows.append((f"{name}: adapter trained, {len(pairs)} pairs", time.perf_counter() - begin, "s", "<= 30"))
        tuned = fine_tune(pairs, LONG if long else SHORT)
        rows.append((f"{name}: fine-tuned, {len(pairs)} pairs", tuned.seconds, "s", "<= 360"))
        sys.stdout.write(f"{name}: losses {[(m.step, m.training, m.held_out) for m in tuned.history]}\n")
        embedders: dict[str, Embedder] = {
            "base": base,
            "adapter": adapted(base, adapter),
            "fine-tuned": tuned.embedder(),
        }
        for group, systems, questions in groups(corpus, projects, embedders):
            table += lines(name, group, systems, questions)
    rows += [(f"{r['trained on']} > {r['asked about']}: {r['system']}, mrr@10", r["after"], "", "") for r in table]
    rows += compressed(corpus, store)
    if path := os.environ.get("RAGKIT_RECORD"):
        machine = f"{os.cpu_count()} cores, {platform.machine()}"
        told = {"command": COMMAND, "date": date.today().isoformat(), "machine": machine, "rows": table}
        atomic_write(Path(path), (json.dumps(told, indent=1) + "\n").encode())
    return rows


Group = tuple[str, dict[str, Retriever], tuple[Question, ...]]


def groups(corpus: Corpus, projects: tuple[str, ...], embedders: dict[str, Embedder]) -> Iterator[Group]:
    """What each model is asked about: projects in the training (and there FAQ pages alone), others, another world."""
    stores = {name: TokenStore.open(corpus, embedder) for name, embedder in embedders.items()}
    chunks = chunk_corpus(FixedChunker(256, 32), corpus)
    asked = {kind: load_questions(kind, corpus) for kind in ("en", "keyword", "paraphrase")}
    questions = [*corpus.questions, *(question for kind in asked.values() for question in kind)]
    texts = [question.text for question in questions]
    systems: dict[str, Retriever] = {n: DenseRetriever(chunks, s.with_queries(texts)) for n, s in stores.items()}
    inside = tuple(q for q in questions if q.gold[0].doc_id.startswith(projects))
    yield "projects in the training", systems, inside
    yield "their FAQ pages, left out of it", systems, tuple(q for q in inside if "faq" in q.tags)
    yield "other projects", systems, tuple(q for q in questions if q not in inside)
    others = []
    if (file := os.environ.get("RAGKIT_XQUAD")) and Path(file).is_file():
        others.append(("XQuAD, English", load_squad(file)))
    if os.environ.get("RAGKIT_BENCH_EXTENDED"):
        others.append(("extended", load_pydocs("extended")))
    for name, other in others:
        pieces, texts = chunk_corpus(FixedChunker(256, 32), other), [question.text for question in other.questions]
        there = {n: TokenStore.open(other, e).with_queries(texts) for n, e in embedders.items()}
        yield name, {n: DenseRetriever(pieces, s) for n, s in there.items()}, other.questions


def lines(
    trained: str, group: str, systems: dict[str, Retriever], questions: tuple[Question, ...]
) -> Iterator[dict[str, Any]]:
    """The rows of the recorded table; the whole comparison goes to the terminal."""
    result = compare(systems, questions, baseline="base", progress=False)
    sys.stdout.write(f"\ntrained on {trained}, asked about {group}\n{result}\n")
    for name in systems:
        if name != "base":
            line, first = result.table.loc[name], result.table.loc["base", "mrr@10"]
            numbers = {"before": first, "after": line["mrr@10"], "from": line["diff_low"], "to": line["diff_high"]}
            words = {"trained on": trained, "asked about": group, "system": name, "questions": len(questions)}
            yield words | {k: round(float(v), 3) for k, v in numbers.items()} | {"verdict": line["verdict"]}


def compressed(corpus: Corpus, store: TokenStore) -> Iterator[Row]:
    """How many of the ten nearest chunks a smaller vector keeps, over the questions of ``core``."""
    vectors = store.pool(chunk_corpus(FixedChunker(256, 32), corpus))
    queries = store.encode_queries([question.text for question in corpus.questions])
    codes = {f"{n} numbers": pca(vectors, n) for n in (192, 96, 48)}
    codes |= {"int8": int8(vectors), "binary": binary(vectors)}
    for name, each in codes.items():
        yield f"{name} ({each.bytes_per_vector} bytes): neighbours kept", knn_recall(queries, vectors, each), "", ""
