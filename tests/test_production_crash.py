"""What production parts leave behind when things go wrong: killed processes, shared, locked, full and corrupt files.

The pipeline is a real one on a small corpus: word index, quoting model, cache. Whatever happens to the files, it answers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from crash import STORES, Report, integrity, kill_many, write_together

from ragkit.base import Answer, Corpus
from ragkit.chunking import FixedChunker
from ragkit.generation import Extractive
from ragkit.pipeline import RAGPipeline
from ragkit.production.caching import SQLiteCache
from ragkit.production.stream import SimulatedClock
from ragkit.retrieval.bm25 import BM25Retriever

QUESTIONS = ("How do I heat water?", "Which bulbs fit?", "How do I tune the radio?", "What cleans the kettle?")


def killed(folder: Path, *names: str, kills: int, seed: int = 0) -> Report:
    return kill_many(folder, {name: STORES[name] for name in names}, kills, seed)


def test_nothing_acknowledged_is_lost_and_nothing_is_broken_by_kills(tmp_path):
    report = killed(tmp_path, "plain", "cache", "evicting", kills=12)
    assert (report.lost, report.broken) == ([], [])
    assert report.kills == 12
    assert report.acknowledged > 20


@pytest.mark.parametrize(
    ("name", "what"),
    [("hasty", "is not there"), ("careless", "is there in part"), ("overwriting", "malformed|page|corrupt")],
)
def test_a_writer_that_is_wrong_is_caught(tmp_path, name, what):
    """Acknowledges before it commits; writes without a transaction; writes past SQLite."""
    report = killed(tmp_path, name, kills=4)
    assert re.search(what, "\n".join(report.lost + report.broken))


def test_processes_that_write_to_the_same_files_at_once_lose_nothing(tmp_path):
    names = ("plain", "cache", "evicting")
    report = write_together(tmp_path, {name: STORES[name] for name in names}, processes=3, count=60)
    assert (report.lost, report.broken) == ([], [])
    assert report.acknowledged == 3 * 60 * len(names)


class World:
    """A pipeline with everything on."""

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        self.folder, self.clock = folder, SimulatedClock()
        self.cache = SQLiteCache(folder / "cache.db", clock=self.clock)
        chunks = [chunk for document in corpus.documents for chunk in FixedChunker(64, 8).chunk(document)]
        identity = f"world:{corpus.fingerprint}"
        self.rag = RAGPipeline(
            BM25Retriever(chunks), None, Extractive(), cache=self.cache, identity=identity, clock=self.clock
        )

    @property
    def files(self) -> list[Path]:
        return [self.folder / "cache.db"]

    def ask(self, *questions: str) -> list[Answer]:
        async def all_of_them() -> list[Answer]:
            return [await self.rag.query(question, tenant="acme", session="s") for question in questions]

        return asyncio.run(all_of_them())

    def close(self) -> None:
        self.cache.close()


Worlds = Callable[[Path], World]


@pytest.fixture
def worlds(small_corpus: Corpus) -> Iterator[Worlds]:
    made: list[World] = []

    def make(folder: Path) -> World:
        made.append(World(small_corpus, folder))
        return made[-1]

    yield make
    for world in made:
        world.close()


@contextmanager
def locked(files: list[Path]) -> Iterator[None]:
    """Another program holds the files."""
    others = [sqlite3.connect(path, isolation_level=None) for path in files]
    for other in others:
        other.execute("BEGIN EXCLUSIVE")
    yield
    for other in others:
        other.execute("ROLLBACK")
        other.close()


@contextmanager
def overwritten(files: list[Path]) -> Iterator[None]:
    """Random bytes stand in the middle of the files."""
    for path in files:
        with path.open("r+b") as file:
            file.seek(1000)
            file.write(random.Random(1).randbytes(path.stat().st_size - 2000))
    yield


@contextmanager
def truncated(files: list[Path]) -> Iterator[None]:
    """The second half of the files is gone, and so is the log beside them."""
    for path in files:
        os.truncate(path, path.stat().st_size // 2)
        for log in (Path(f"{path}-wal"), Path(f"{path}-shm")):
            log.unlink(missing_ok=True)
    yield


@contextmanager
def foreign(files: list[Path]) -> Iterator[None]:
    """Something else stands where the files were."""
    for path in files:
        path.unlink()
        path.write_bytes(b"not a database" * 1000)
    yield


def worded(answers: list[Answer]) -> list[tuple[str, str]]:
    return [(answer.question, answer.text) for answer in answers]


@pytest.mark.parametrize("trouble", [locked, overwritten, truncated, foreign])
@pytest.mark.parametrize("running", [False, True])
def test_a_file_in_trouble_costs_no_answer_and_is_told_once(worlds, tmp_path, caplog, trouble, running):
    before = worlds(tmp_path)
    expected = before.ask(*QUESTIONS)
    assert before.cache.stats().entries > 0
    world = before if running else worlds(tmp_path)
    if not running or trouble is not locked:
        before.close()
        world = worlds(tmp_path)
    with trouble(before.files), caplog.at_level(logging.WARNING):
        answers = world.ask(*QUESTIONS, *QUESTIONS)
    assert worded(answers) == worded(expected) * 2
    assert not [record for record in caplog.records if record.exc_info]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 600 kB, to be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the space that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 512)
        except OSError:
            pass
    return ballast


@pytest.mark.parametrize("when", ["before the files are made", "while they are open"])
def test_a_full_disk_costs_no_answer_and_is_told_once(worlds, tmp_path, small_disk, caplog, when):
    expected = worlds(tmp_path).ask(*QUESTIONS)
    world = worlds(small_disk)
    if when == "while they are open":
        world.ask(QUESTIONS[0])
    ballast = fill(small_disk)
    with caplog.at_level(logging.WARNING):
        answers = world.ask(*QUESTIONS)
    assert worded(answers) == worded(expected)
    ballast.unlink()
    world.close()
    assert not any(integrity(path) for path in world.files)
