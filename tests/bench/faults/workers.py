"""Ingestion on Ray while its workers are killed: a process of an actor, and a whole node of a cluster."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path

import psutil
from bench.faults.database import Row

from ragkit.base import Corpus, Document, RagkitError
from ragkit.chunking import FixedChunker, chunk_corpus
from ragkit.embedding.vectors import Ids, WindowVectors
from ragkit.production.ingest import ingest, read_shard
from ragkit.testing import FakeEmbedder

CHUNKER = FixedChunker(8, 2)
DOCUMENTS = 1_000  # some thirty shards


class SlowEmbedder(FakeEmbedder):
    """Takes a while, so that there is time to kill it."""

    def encode_windows(self, windows: Sequence[Ids], kind: str = "passage") -> Iterator[tuple[int, WindowVectors]]:  # type: ignore[override]
        time.sleep(0.3)
        yield from super().encode_windows(windows)


def corpus() -> Corpus:
    texts = (f"Page {n} says red wine blue sky, and then it says some more of it." for n in range(DOCUMENTS))
    return Corpus("pages", tuple(Document(f"page {n}", text) for n, text in enumerate(texts)))


def miscounted(folder: Path) -> int:
    """How many chunks of the corpus are in the shards of ``folder`` not exactly once, or in them and not of it."""
    held = Counter(chunk.id for path in folder.glob("*.parquet") for chunk in read_shard(path)[1])
    expected = Counter(chunk.id for chunk in chunk_corpus(CHUNKER, corpus()))
    return ((held - expected) + (expected - held)).total()


class Killer:
    """Calls ``kill`` when so many shards are there as each of ``moments`` says; ``kills`` counts its successes."""

    def __init__(self, folder: Path, moments: Sequence[int], kill: Callable[[], bool]) -> None:
        self.kills, self.folder, self.moments, self.kill = 0, folder, moments, kill
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        for moment in self.moments:
            while len(list(self.folder.glob("*.parquet"))) < moment:
                if self._ended.wait(0.02):
                    return
            self.kills += self.kill()


def actors(of: psutil.Process | None = None) -> list[psutil.Process]:
    """The processes of Ray Data's actors that this process, or ``of``, has started."""
    found = []
    for process in (of or psutil.Process()).children(recursive=True):
        with suppress(psutil.Error):
            if "ray::MapWorker" in " ".join(process.cmdline()):
                found.append(process)
    return found


def kill_an_actor() -> bool:
    """SIGKILL to one of the actors' processes; whether there was one."""
    for actor in actors():
        actor.kill()
        return True
    return False


@contextmanager
def cluster() -> Iterator[Callable[[], bool]]:
    """Two nodes of Ray on this machine, connected; gives what kills the second one, if it has an actor."""
    import ray  # has read the environment that ``ingest`` set when it ran for the first time
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 2, "node_ip_address": "127.0.0.1", "object_store_memory": 200_000_000}
    nodes = Cluster(initialize_head=True, head_node_args={**options, "include_dashboard": False})
    second = nodes.add_node(**options)
    ray.init(address=nodes.address, logging_level=logging.ERROR, log_to_driver=False)

    def kill() -> bool:
        (raylet,) = second.all_processes["raylet"]
        held = bool(actors(psutil.Process(raylet.process.pid)))
        nodes.remove_node(second, allow_graceful=False)
        return held

    try:
        yield kill
    finally:
        ray.shutdown()
        nodes.shutdown()


def run(what: str, folder: Path, moments: Sequence[int], kill: Callable[[], bool]) -> list[Row]:
    begin, runs, report = time.monotonic(), 0, None
    with Killer(folder, moments, kill) as killer:
        while report is None and runs < 3:
            runs += 1
            with suppress(RagkitError):
                report = ingest(corpus(), CHUNKER, SlowEmbedder, folder, workers=2, ray=True, progress=False)
    seconds = time.monotonic() - begin
    again = ingest(corpus(), CHUNKER, SlowEmbedder, folder, workers=1, progress=False)
    return [
        (f"{what}: kills", killer.kills, "kills", f">= {len(moments)}"),
        (f"{what}: runs until it is done", runs, "runs", "<= 1"),
        (f"{what}: chunks", again.chunks, "chunks", ">= 1000"),
        (f"{what}: chunks not exactly once", miscounted(folder), "chunks", "<= 0"),
        (f"{what}: shards that the next run has to make", again.made, "shards", "<= 0"),
        (f"{what}: time", seconds, "s", "<= 120"),
    ]


def ray_killed() -> list[Row]:
    """A process of an actor is killed, twice; then a node of a cluster of two, with all that runs on it."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):  # Ray reports each death at length
        rows = run("an actor", Path(folder) / "actor", (2, 12), kill_an_actor)
        with cluster() as kill_node:
            return [*rows, *run("a node", Path(folder) / "node", (4,), kill_node)]
