"""What production parts leave behind when things go wrong: killed processes, shared, locked, full and corrupt files.

The pipeline is a real one on a small corpus: a word index and the quoting model. Whatever happens to the files, it
answers, and what was lost is told.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
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
from ragkit.production.database import DatabaseTrouble
from ragkit.production.feedback import FeedbackStore
from ragkit.production.monitoring import Losses, TraceMonitor
from ragkit.production.stream import SimulatedClock
from ragkit.retrieval.bm25 import BM25Retriever

PARTS = ("traces", "pruned", "feedback", "cache", "evicting")
QUESTIONS = ("How do I boil the water?", "Which bulbs fit?", "Where is the lever?", "What sets the volume?")


def killed(folder: Path, *names: str, kills: int, seed: int = 0) -> Report:
    return kill_many(folder, {name: STORES[name] for name in names}, kills, seed)


def test_nothing_acknowledged_is_lost_and_nothing_is_broken_by_kills(tmp_path):
    report = killed(tmp_path, *PARTS, kills=15)
    assert (report.lost, report.broken) == ([], [])
    assert report.kills == 15
    assert report.acknowledged > 20


def test_an_answer_that_was_seen_before_the_kill_has_its_trace_and_its_entry(tmp_path):
    report = killed(tmp_path, "pipeline", kills=3)
    assert (report.lost, report.broken) == ([], [])
    assert report.acknowledged > 3


@pytest.mark.parametrize(
    ("name", "what"),
    [("hasty", "is not there"), ("careless", "is there in part"), ("overwriting", "malformed|page|corrupt")],
)
def test_a_writer_that_is_wrong_is_caught(tmp_path, name, what):
    """Acknowledges before it commits; writes without a transaction; writes past SQLite."""
    report = killed(tmp_path, name, kills=3)
    assert re.search(what, "\n".join(report.lost + report.broken))


def test_processes_that_write_to_the_same_files_at_once_lose_nothing(tmp_path):
    report = write_together(tmp_path, {name: STORES[name] for name in PARTS}, processes=3, count=25)
    assert (report.lost, report.broken) == ([], [])
    assert report.acknowledged == 3 * 25 * len(PARTS)


class World:
    """A pipeline with everything on."""

    def __init__(self, corpus: Corpus, folder: Path, otlp: str = "") -> None:
        self.folder, self.clock = folder, SimulatedClock()
        self.monitor = TraceMonitor(folder / "traces.db", otlp=otlp, clock=self.clock)
        self.cache = SQLiteCache(folder / "cache.db", clock=self.clock)
        self.feedback = FeedbackStore(self.monitor, folder / "feedback.db", cache=self.cache, clock=self.clock)
        chunks = [chunk for document in corpus.documents for chunk in FixedChunker(64, 8).chunk(document)]
        self.rag = RAGPipeline(
            BM25Retriever(chunks),
            None,
            Extractive(),
            cache=self.cache,
            monitor=self.monitor,
            identity=f"world:{corpus.fingerprint}",
            clock=self.clock,
        )

    @property
    def files(self) -> list[Path]:
        return [self.folder / "traces.db", self.folder / "cache.db", self.folder / "feedback.db"]

    def ask(self, *questions: str) -> list[Answer]:
        async def all_of_them() -> list[Answer]:
            return [await self.rag.query(question, tenant="acme", session="s") for question in questions]

        return asyncio.run(all_of_them())

    def close(self) -> None:
        self.feedback.close()
        self.monitor.close()
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


def told(caplog: pytest.LogCaptureFixture, about: Path) -> int:
    """Lines of the log that name a file, all without a traceback."""
    assert not [record for record in caplog.records if record.exc_info]
    return sum(str(about) in record.getMessage() for record in caplog.records)


def used(world: World) -> World:
    """A world in which some questions were asked, and some answers judged."""
    answers = world.ask(*QUESTIONS)
    assert not any(answer.abstained for answer in answers)
    for answer in answers:
        world.feedback.add(answer.trace_id, 1)
    assert world.cache.stats().entries > 0
    return world


@pytest.mark.parametrize("trouble", [overwritten, truncated, foreign])
def test_a_damaged_file_costs_no_answer_is_told_once_and_is_not_touched(worlds, tmp_path, caplog, trouble):
    expected = worlds(tmp_path / "sound").ask(*QUESTIONS)
    used(worlds(tmp_path)).close()
    with trouble(worlds(tmp_path).files), caplog.at_level(logging.WARNING):
        world = worlds(tmp_path)
        before = [path.read_bytes() for path in world.files]
        answers = world.ask(*QUESTIONS, *QUESTIONS)
        assert worded(answers) == worded(expected) * 2
        traces, cache, _ = world.files
        assert (told(caplog, traces), told(caplog, cache)) == (1, 1)
        assert world.monitor.losses.waiting == 2 * len(QUESTIONS)
        assert "move" in repr(world.monitor)
        assert "move" in repr(world.cache)
        assert [path.read_bytes() for path in world.files] == before
        with pytest.raises(DatabaseTrouble, match="move"):
            world.feedback.add(answers[0].trace_id, 1)
        for path in world.files:
            path.unlink()
        world.feedback.add(answers[0].trace_id, 1)
        assert len(world.monitor.dataframe()) == 2 * len(QUESTIONS)
    assert not world.monitor.losses


def test_a_locked_file_costs_no_answer_and_what_waited_is_written(worlds, tmp_path, caplog):
    world = used(worlds(tmp_path))
    with locked(world.files), caplog.at_level(logging.WARNING):
        answers = world.ask(*QUESTIONS, *QUESTIONS)
        assert "8 traces wait in memory" in repr(world.monitor)
        assert world.monitor.dashboard().layout.title.text == "8 traces wait in memory"
        with pytest.raises(DatabaseTrouble, match="locked"):
            world.feedback.add(answers[0].trace_id, -1)
    traces, cache, _ = world.files
    assert told(caplog, traces) == 1
    assert told(caplog, cache) <= 1  # to read a file that is locked, nobody waits
    assert worded(answers[:4]) == worded(answers[4:])
    assert len(world.monitor.dataframe()) == 3 * len(QUESTIONS)
    assert not world.monitor.losses
    assert world.monitor.dashboard().layout.title.text is None
    assert world.feedback.add(answers[0].trace_id, -1).forgotten


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
    before = len(world.ask(QUESTIONS[0])) if when == "while they are open" else 0
    ballast = fill(small_disk)
    with caplog.at_level(logging.WARNING):
        answers = world.ask(*QUESTIONS, *QUESTIONS)
    assert worded(answers) == worded(expected) * 2
    traces, cache, _ = world.files
    assert (told(caplog, traces), told(caplog, cache)) == (1, 1)
    assert "free some space" in repr(world.monitor)
    ballast.unlink()
    assert len(world.monitor.dataframe()) == before + 2 * len(QUESTIONS)
    assert not world.monitor.losses
    world.close()
    assert not any(integrity(path) for path in world.files if path.exists())


@pytest.mark.skipif(not (shutil.which("mount") and shutil.which("unshare")), reason="nothing can be mounted here")
def test_a_full_disk_where_only_a_namespace_of_ones_own_may_mount(tmp_path):
    """``make test`` runs in a user namespace, where ``mount`` is refused: the tests above were skipped there."""
    ask = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True, check=False)
    if not ask.returncode:
        subprocess.run(["umount", str(tmp_path)], check=True)
        pytest.skip("the tests above ran")
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-m", "pytest", __file__, "-q"]
    options = ["-k", "a_full_disk_costs", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "inner")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.stderr.startswith("unshare:"):
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_parts_that_were_closed_cost_no_answer_and_say_that_traces_are_lost(worlds, tmp_path, caplog):
    world = used(worlds(tmp_path))
    world.close()
    answers = world.ask(*QUESTIONS)
    assert not any(answer.abstained for answer in answers)
    assert world.monitor.losses == Losses(dropped=len(QUESTIONS))
    assert "closed" in repr(world.monitor)
    assert (told(caplog, world.files[0]), told(caplog, world.files[1])) == (1, 1)


def test_a_clock_that_goes_back(worlds, tmp_path, caplog):
    world = used(worlds(tmp_path))
    for step in (-1e6, 5.0, -3e6, 4e6):
        world.clock.now += step
        world.ask(*QUESTIONS)
    frame = world.monitor.dataframe()
    assert len(frame) == 5 * len(QUESTIONS)
    assert (frame["ms"] >= 0).all()
    assert list(frame["question"]) == list(QUESTIONS) * 5
    assert (frame["began"].diff().dt.total_seconds() < 0).any()
    assert not world.monitor.losses
    assert not caplog.records


@contextmanager
def hanging() -> Iterator[str]:
    """The address of a server that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_an_endpoint_that_hangs_costs_no_answer_and_no_time(small_corpus, tmp_path, caplog):
    with hanging() as url, caplog.at_level(logging.WARNING):
        world = World(small_corpus, tmp_path, otlp=url)
        begin = time.monotonic()
        answers = [world.ask(*QUESTIONS) for _ in range(10)]
        assert len(world.monitor.dataframe()) == 10 * len(QUESTIONS)
        world.close()
        assert time.monotonic() - begin < 25  # an exporter that is waited for takes half a minute
        assert all(worded(each) == worded(answers[0]) for each in answers)
        assert world.monitor.losses.unsent > 0
        assert "spans" in repr(world.monitor)
    assert sum(url in record.getMessage() for record in caplog.records) == 1
