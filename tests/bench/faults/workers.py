"""Ingestion on Ray while its workers are killed: a process of an actor, and a whole node of a cluster."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from bench.faults.database import Row

from ragkit.base import Corpus, Document
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


def kill_an_actor() -> bool:
    """SIGKILL to a process of this process's Ray that runs an actor; whether there was one."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "ray::MapWorker" in " ".join(process.cmdline()):
                process.kill()
                return True
    return False


def run(what: str, folder: Path, moments: Sequence[int], kill: Callable[[], bool]) -> list[Row]:
    begin = time.monotonic()
    with Killer(folder, moments, kill) as killer:
        report = ingest(corpus(), CHUNKER, SlowEmbedder, folder, workers=2, ray=True, progress=False)
    seconds = time.monotonic() - begin
    again = ingest(corpus(), CHUNKER, SlowEmbedder, folder, workers=1, progress=False)
    return [
        (f"{what}: kills", killer.kills, "kills", f">= {len(moments)}"),
        (f"{what}: chunks", report.chunks, "chunks", ">= 1000"),
        (f"{what}: chunks not exactly once", miscounted(folder), "chunks", "<= 0"),
        (f"{what}: shards that the next run has to make", again.made, "shards", "<= 0"),
        (f"{what}: time", seconds, "s", "<= 120"),
    ]
