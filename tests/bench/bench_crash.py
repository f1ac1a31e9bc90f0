"""Nothing that was acknowledged is lost: a process writes traces, feedback and answers, and is killed, 200 times.

``python tests/run_bench.py crash``. Each process goes on with the files that the ones before it have left, and writes
to a pipe what was acknowledged. ``RAGKIT_BENCH_KILLS`` is the number of kills.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ragkit.base import Answer
from ragkit.pipeline.trace import CacheKey, Trace
from ragkit.production.caching import SQLiteCache
from ragkit.production.feedback import FeedbackStore
from ragkit.production.monitoring import TraceMonitor

Row = tuple[str, float, str, str]
FILES = ("traces.db", "feedback.db", "cache.db")


def write(folder: Path, run: int) -> Iterator[str]:
    """Write without end; each item says what has just been acknowledged."""
    monitor = TraceMonitor(folder / "traces.db")
    cache = SQLiteCache(folder / "cache.db")
    feedback = FeedbackStore(monitor, folder / "feedback.db")
    for number in range(10**9):
        question = f"Question {number} of run {run}?"
        answer = Answer(question, "An answer. " * 50, trace_id=f"{run * 10**6 + number:032x}")
        key = CacheKey("settings", question)
        cache.put(key, answer)
        yield f"cache {key.digest}"
        monitor.record(Trace(answer.trace_id, question, 10, time.time(), 5.0, answer=answer, cache_key=key.digest))
        yield f"trace {answer.trace_id}"
        feedback.add(answer.trace_id, thumb=1, who="ann")
        yield f"feedback {answer.trace_id}"


def killed(folder: Path, run: int, seconds: float) -> set[str]:
    """What a process had acknowledged when it was killed, ``seconds`` after it began."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for line in write(folder, run):
                os.write(writer, f"{line}\n".encode())
        finally:
            os._exit(1)
    os.close(writer)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reader, encoding="ascii") as pipe:
        return set(pipe.read().split("\n")[:-1])


def stored(folder: Path) -> set[str]:
    """All that the three files hold."""
    monitor, cache = TraceMonitor(folder / "traces.db"), SQLiteCache(folder / "cache.db")
    feedback = FeedbackStore(monitor, folder / "feedback.db")
    with cache.database.transaction() as connection:
        digests = [row["digest"] for row in connection.execute("SELECT digest FROM answers")]
    return {
        *(f"trace {trace_id}" for trace_id in monitor.dataframe()["trace_id"]),
        *(f"cache {digest}" for digest in digests if cache.answer(digest) is not None),
        *(f"feedback {opinion.trace_id}" for opinion in feedback.all()),
    }


def damaged(folder: Path) -> int:
    """How many of the files do not pass SQLite's own check."""
    checks = 0
    for name in FILES:
        with closing(sqlite3.connect(folder / name)) as connection:
            checks += connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok"
    return checks


def losses(kills: int, folder: Path) -> tuple[int, int, int]:
    """What was acknowledged, how much of it is lost, and how many files are damaged."""
    times, acknowledged = random.Random(0), set[str]()
    for run in range(kills):
        acknowledged |= killed(folder, run, times.uniform(0.0, 0.3))
    return len(acknowledged), len(acknowledged - stored(folder)), damaged(folder)


def main() -> list[Row]:
    kills = int(os.environ.get("RAGKIT_BENCH_KILLS", "200"))
    with tempfile.TemporaryDirectory() as folder:
        acknowledged, lost, broken = losses(kills, Path(folder))
    return [
        ("kills while traces, feedback and answers are written", kills, "kills", ""),
        ("acknowledged before them", acknowledged, "records", ">= 1"),
        ("of these, lost", lost, "records", "<= 0"),
        ("files that are damaged", broken, "files", "<= 0"),
    ]
