"""A corpus as Parquet shards with the vectors of all chunks, made by a pool of workers, and from there into a store.

    report = ingest("~/handbook", FixedChunker(256, 32), "all-MiniLM-L6-v2", "shards", workers=4)
    load_shards("shards", store)      # any ``ragkit.base.ChunkStore``

Some eight documents make a shard, and a shard is one file, named by the content of its documents, the chunker and the
embedder::

    <folder>/plan.json              settings, the names of all shards, every document that was ever in the folder
             <32 digits>.parquet    a row a chunk: id, place, text, section, pages, metadata, vector

A shard that is there and whole (its pages have checksums) is not made again. So a run that was killed goes on with the
next one, a changed document costs its own shard, and a document that is gone leaves folder and store. Workers read and
compute; only the process that started them writes, each file at once (``ragkit.files.atomic_write``).

The vectors are those of ``DenseRetriever(chunks, TokenStore.open(corpus))``: a document goes through the model once,
and a chunk's vector is the mean of its tokens there. An embedder without token vectors encodes each chunk on its own.

``workers=1`` works in this process, ``workers=4`` starts four, and ``ray=True`` runs as many actors of Ray Data (the
extra ``scale``), each on one core: in the cluster that ``ray.init`` has connected or ``$RAY_ADDRESS`` names, else in
one on this machine that listens on 127.0.0.1 only, reports no usage, and ends with the call.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import re
import secrets
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ragkit.base import (
    Chunk,
    Chunker,
    ChunkStore,
    Corpus,
    Document,
    Embedder,
    InputError,
    IntegrityError,
    RagkitError,
    StoreMismatchError,
    Vectors,
    check_whole,
    from_dict,
    identity_of,
    require,
)
from ragkit.chunking import SemanticChunker, chunk_corpus
from ragkit.corpus import load_folder
from ragkit.embedding import TokenEncoder, encode, load_embedder
from ragkit.files import atomic_write, lock
from ragkit.token_store import TokenStore

DOCUMENTS = 8  # of a shard, on average
PLAN = "plan.json"
_FORMAT = 1
_SHARD = re.compile(r"[0-9a-f]{32}\.parquet")
_UNFINISHED = re.compile(rf"\.{_SHARD.pattern}\.new\.[0-9a-f]+")  # what a kill leaves of ``atomic_write``
_RAY = {  # read when Ray is imported; the third keeps a cluster of one machine on 127.0.0.1
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else Ray leaves one in the user's home folder
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}

MakeEmbedder = Callable[[], Embedder]
Job = tuple[str, str]  # the name of a shard, and its documents as JSON


@dataclass(frozen=True)
class IngestReport:
    """What is in a folder of shards, how many of them this run has made, and how many old ones it has removed."""

    documents: int
    chunks: int
    shards: int
    made: int
    removed: int


def ingest(
    corpus: Corpus | str | Path,
    chunker: Chunker,
    embedder: str | MakeEmbedder,
    folder: str | Path,
    *,
    workers: int = 2,
    ray: bool = False,
    progress: bool = True,
) -> IngestReport:
    """Cut and encode ``corpus``, and make ``folder`` hold exactly its chunks.

    Args:
        corpus: documents, or a folder of files (``load_folder``), which this process reads.
        chunker: any but ``SemanticChunker``. Workers make their own from it, so it has to survive pickling.
        embedder: a name for ``load_embedder``, or a function of a module that makes one, such as ``FakeEmbedder``.
        folder: of the shards, one corpus cut in one way; it is made.
        workers: processes, or Ray's actors, each with the model in its memory. A script that starts processes needs
            ``if __name__ == "__main__":`` around the call.
        ray: whether Ray starts them. On a cluster ragkit is installed on every machine; nothing else is shared.

    Raises:
        InputError: ``workers`` is below 1, or the chunker reads a token store, or has no ``identity``.
        StoreMismatchError: ``folder`` holds another corpus, or was made by another chunker or embedder.
        ContractError: the chunker or the embedder broke its contract.
        RagkitError: a worker process died, as where memory is short, or an actor of Ray failed for whatever reason.
    """
    check_whole(workers, "workers")
    if isinstance(chunker, SemanticChunker):
        raise InputError("SemanticChunker reads a token store, and workers have none: use RecursiveChunker")
    corpus = corpus if isinstance(corpus, Corpus) else load_folder(corpus)
    folder = Path(folder).expanduser()
    settings = _settings(corpus.name, chunker, _make(embedder))
    groups = {_name(documents, settings): documents for documents in group_documents(corpus.documents)}
    run = _on_ray if ray else _in_processes if workers > 1 else _here
    with lock(folder / ".lock"):
        _write_plan(folder, settings, groups)
        missing = {name: documents for name, documents in groups.items() if not _is_whole(folder / f"{name}.parquet")}
        jobs = ((name, _to_json(documents)) for name, documents in missing.items())
        with _bar(sum(map(len, missing.values())), "ingesting", " documents", progress) as bar:
            for name, shard in run(jobs, (chunker, embedder, settings), workers):
                atomic_write(folder / f"{name}.parquet", shard)
                bar.update(len(missing[name]))
        old = [path for path in folder.iterdir() if _SHARD.fullmatch(path.name) and path.stem not in groups]
        for path in (*old, *(path for path in folder.iterdir() if _UNFINISHED.fullmatch(path.name))):
            path.unlink()
    parquet = require("pyarrow.parquet", "stores")
    chunks = sum(parquet.read_metadata(folder / f"{name}.parquet").num_rows for name in groups)
    return IngestReport(len(corpus.documents), chunks, len(groups), len(missing), len(old))


def load_shards(folder: str | Path, store: ChunkStore, *, progress: bool = True) -> int:
    """Put all chunks of ``folder`` into ``store``; returns how many there are.

    The chunks of a shard take the place of all that the store has of its documents. Documents that were in the folder
    once, and no longer are, leave the store; other documents in it stay. After a kill, load again.

    Raises:
        IntegrityError: ``folder`` is unfinished or damaged: run ``ingest`` again.
        StoreMismatchError, EndpointError: see ``ChunkStore``.
    """
    folder = Path(folder).expanduser()
    plan = _read_plan(folder)
    present, count = set[str](), 0
    with _bar(len(plan["shards"]), "loading", " shards", progress) as bar:
        for name in plan["shards"]:
            documents, chunks, vectors = read_shard(folder / f"{name}.parquet")
            store.replace(documents, chunks, vectors)
            present.update(documents)
            count += len(chunks)
            bar.update()
    store.delete(sorted(set(plan["documents"]) - present))
    store.refresh()
    return count


# ---- the steps, the same with and without Ray


def group_documents(documents: Iterable[Document]) -> list[tuple[Document, ...]]:
    """Groups of some ``DOCUMENTS`` documents, whatever their order: one more or less changes one group, or splits it.

    They stand in the order of the sha256 of their ids, and a group ends behind one that is divisible by ``DOCUMENTS``.

    >>> documents = [Document(f"page {n}", "Tea.") for n in range(100)]
    >>> group_documents(documents) == group_documents(reversed(documents))
    True
    """
    places = {int(hashlib.sha256(d.id.encode("utf-8", "surrogatepass")).hexdigest(), 16): d for d in documents}
    groups: list[list[Document]] = [[]]
    for place, document in sorted(places.items()):
        groups[-1].append(document)
        if place % DOCUMENTS == 0:
            groups.append([])
    return [tuple(group) for group in groups if group]


class ShardMaker:
    """From documents to a shard: cut, encode, write. A worker has one, with the model in its memory."""

    def __init__(self, chunker: Chunker, embedder: str | MakeEmbedder, settings: dict[str, Any]) -> None:
        self.chunker, self.embedder = chunker, _make(embedder)
        if (own := _settings(settings["corpus"], chunker, self.embedder)) != settings:
            raise StoreMismatchError(f"a worker has {own}, expected {settings}: install the same versions everywhere")
        self.settings = settings

    def make(self, documents: str) -> bytes:
        """The Parquet file of the documents that ``_to_json`` has written."""
        corpus = Corpus(self.settings["corpus"], _from_json(documents))
        chunks = chunk_corpus(self.chunker, corpus)
        return _to_parquet([d.id for d in corpus.documents], chunks, self._encode(corpus, chunks), self.settings)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of Ray Data: columns ``name`` and ``documents`` in, ``name`` and ``shard`` out."""
        return {"name": batch["name"], "shard": [self.make(documents) for documents in batch["documents"]]}

    def _encode(self, corpus: Corpus, chunks: Sequence[Chunk]) -> Vectors:
        if isinstance(self.embedder, TokenEncoder):
            return TokenStore.open(corpus, self.embedder, save=False, progress=False).pool(chunks)
        return encode(self.embedder, [chunk.text for chunk in chunks])


def read_shard(path: Path) -> tuple[list[str], list[Chunk], Vectors]:
    """The ids of the documents of a shard, its chunks, and their vectors ``(n, d)``.

    Raises:
        IntegrityError: the file is missing, cut short or damaged.
    """
    table = _read(path)
    rows = table.drop_columns(["id", "vector"]).to_pylist()
    chunks = [from_dict(Chunk, row | {"metadata": json.loads(row["metadata"])}) for row in rows]
    vectors = table["vector"].combine_chunks()
    flat = np.asarray(vectors.flatten(), dtype=np.float32)
    documents: list[str] = json.loads(table.schema.metadata[b"ragkit"])["documents"]
    return documents, chunks, flat.reshape(-1, vectors.type.list_size)


def _make(embedder: str | MakeEmbedder) -> Embedder:
    return load_embedder(embedder) if isinstance(embedder, str) else embedder()


def _settings(corpus: str, chunker: Chunker, embedder: Embedder) -> dict[str, Any]:
    """What all shards of a folder have in common."""
    vectors = "mean of token vectors" if isinstance(embedder, TokenEncoder) else "one text a chunk"
    made_by = {"chunker": identity_of(chunker), "embedder": embedder.identity, "vectors": vectors}
    return {"format": _FORMAT, "corpus": corpus, **made_by}


def _name(documents: Sequence[Document], settings: dict[str, Any]) -> str:
    content = json.dumps([settings, Corpus("", tuple(documents)).fingerprint], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _to_json(documents: Sequence[Document]) -> str:
    """Values of the metadata that JSON does not have become text."""
    return json.dumps([asdict(document) for document in documents], default=str)


def _from_json(text: str) -> tuple[Document, ...]:
    return tuple(from_dict(Document, row) for row in json.loads(text))


def _to_parquet(documents: Sequence[str], chunks: Sequence[Chunk], vectors: Vectors, settings: dict[str, Any]) -> bytes:
    arrow, parquet = require("pyarrow", "stores"), require("pyarrow.parquet", "stores")
    text, number, words = arrow.string(), arrow.int64(), arrow.list_(arrow.string())
    place = {"doc_id": text, "start": number, "end": number}
    section = arrow.struct({"path": words, "start": number, "body": number, "end": number})
    page = arrow.struct({"number": number, "start": number, "end": number})
    source = {"section": words, "sections": arrow.list_(section), "pages": arrow.list_(page), "metadata": text}
    vector = arrow.list_(arrow.float32(), vectors.shape[1])
    about = {"ragkit": json.dumps(settings | {"documents": list(documents)})}
    schema = arrow.schema({"id": text, **place, "text": text, **source, "vector": vector}, about)
    rows = [
        asdict(c) | {"id": c.id, "metadata": json.dumps(dict(c.metadata), default=str), "vector": v}
        for c, v in zip(chunks, vectors, strict=True)
    ]
    file = BytesIO()
    table = arrow.Table.from_pylist(rows, schema)
    parquet.write_table(table, file, compression="zstd", write_page_checksum=True)
    return file.getvalue()


# ---- the folder


def _read(path: Path) -> Any:
    """The table of a shard, its checksums compared."""
    arrow, parquet = require("pyarrow", "stores"), require("pyarrow.parquet", "stores")
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read()
    except (OSError, arrow.ArrowException) as error:
        raise IntegrityError(f"{path} is missing or damaged; run the ingestion again: {error}") from error


def _is_whole(path: Path) -> bool:
    try:
        _read(path)
    except IntegrityError:
        return False
    return True


def _read_plan(folder: Path) -> dict[str, Any]:
    try:
        plan = json.loads((folder / PLAN).read_bytes())
        return {key: plan[key] for key in ("settings", "shards", "documents")}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise IntegrityError(
            f"{folder} is no folder of shards: it has no readable {PLAN} ({error!r}); name another folder, or move "
            "that file away and run the ingestion again"
        ) from error


def _write_plan(folder: Path, settings: dict[str, Any], groups: dict[str, tuple[Document, ...]]) -> None:
    """Which shards the folder shall have, before the first is made. Documents of earlier plans stay on the list."""
    documents = {document.id for group in groups.values() for document in group}
    if (folder / PLAN).exists():
        earlier = _read_plan(folder)
        for what, own in settings.items():
            if (made := earlier["settings"].get(what)) != own:
                raise StoreMismatchError(f"{folder} holds shards of the {what} {made}, not {own}: name another folder")
        documents.update(earlier["documents"])
    plan = {"settings": settings, "shards": sorted(groups), "documents": sorted(documents)}
    atomic_write(folder / PLAN, json.dumps(plan, indent=1).encode())


def _bar(total: int, what: str, unit: str, progress: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=what, unit=unit, disable=not (progress and total))


# ---- three ways to run: names and bytes of shards, as they are done

MakerArguments = tuple[Chunker, str | MakeEmbedder, dict[str, Any]]


def _here(jobs: Iterable[Job], arguments: MakerArguments, workers: int) -> Iterator[tuple[str, bytes]]:
    maker = ShardMaker(*arguments)
    for name, documents in jobs:
        yield name, maker.make(documents)


def _in_processes(jobs: Iterator[Job], arguments: MakerArguments, workers: int) -> Iterator[tuple[str, bytes]]:
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    threads = max(1, (os.cpu_count() or 1) // workers)
    try:
        with ProcessPoolExecutor(workers, spawn, _start_worker, (threads, *arguments)) as pool:
            waiting = {pool.submit(_work, job) for job in islice(jobs, 2 * workers)}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                waiting |= {pool.submit(_work, job) for job in islice(jobs, len(done))}
                yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        what = "a worker process ended early: its error stands above, or memory was short."
        raise RagkitError(f"{what} Run it again: it goes on from here") from error


_maker: ShardMaker  # of a worker process


def _start_worker(threads: int, *arguments: Any) -> None:
    global _maker
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # torch, which reads it, is imported later
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _maker = ShardMaker(*arguments)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _work(job: Job) -> tuple[str, bytes]:
    return job[0], _maker.make(job[1])


def _on_ray(jobs: Iterable[Job], arguments: MakerArguments, workers: int) -> Iterator[tuple[str, bytes]]:
    rows = [{"name": name, "documents": documents} for name, documents in jobs]
    if not rows:
        return
    with _ray(workers) as data:
        pool = data.ActorPoolStrategy(size=workers)
        # A document that kills its actor ends with the restarts. Every look at a node that is gone counts as a retry.
        retries: Any = partial(dict, max_restarts=3, max_task_retries=-1)
        made = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            ShardMaker,
            fn_constructor_args=arguments,
            batch_size=1,
            compute=pool,
            num_cpus=1,
            ray_remote_args_fn=retries,
        )
        try:
            yield from ((row["name"], row["shard"]) for row in made.iter_rows())
        except require("ray.exceptions", "scale").RayError as error:
            lines = str(error).strip().splitlines()  # a traceback, or one sentence and details
            what = next((line for line in lines if re.match(r"[\w.]+Error: ", line)), lines[0])
            raise RagkitError(f"an actor of Ray failed: {what} Run it again: it goes on from here") from error


@contextmanager
def _ray(workers: int) -> Iterator[Any]:
    """``ray.data``, connected; a cluster that was started here ends with the block."""
    connected = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    local = not connected and "RAY_ADDRESS" not in os.environ
    if local:
        for name, value in _RAY.items():
            os.environ.setdefault(name, value)
    ray, data = require("ray", "scale"), require("ray.data", "scale")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False  # there is one already
    if local:
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        ray.init("local", num_cpus=workers, **quiet)
    elif not connected:
        ray.init()
    try:
        yield data
    finally:
        if not connected:
            ray.shutdown()
