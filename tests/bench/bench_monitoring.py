"""What a monitor costs a query: the FAQ questions of `core` through `advanced`, with it and without it by turns."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ragkit import advanced, load_pydocs
from ragkit.base import Answer
from ragkit.pipeline.trace import Monitor, Trace
from ragkit.production.monitoring import TraceMonitor

Row = tuple[str, float, str, str]
ROUNDS = 2


class Timed:
    """A monitor, and how long it took for each trace."""

    def __init__(self, inner: Monitor) -> None:
        self.inner = inner
        self.ms: list[float] = []

    def record(self, trace: Trace) -> None:
        begin = time.perf_counter()
        self.inner.record(trace)
        self.ms.append((time.perf_counter() - begin) * 1000)


def elapsed(what: Callable[[], object]) -> float:
    begin = time.perf_counter()
    what()
    return (time.perf_counter() - begin) * 1000


def quantiles(ms: list[float]) -> tuple[float, float]:
    return float(np.quantile(ms, 0.5)), float(np.quantile(ms, 0.95))


def main() -> list[Row]:
    corpus = load_pydocs("core")
    rag = advanced(corpus)
    questions = [question.text for question in corpus.questions]
    rows: list[Row] = []
    with (
        asyncio.Runner() as runner,  # one event loop and its threads for all queries, as a notebook or a server has
        tempfile.TemporaryDirectory() as folder,
        TraceMonitor(Path(folder) / "traces.db") as monitor,
    ):
        runner.run(rag.query(questions[0]))  # the first reads the store from disk
        timed = Timed(monitor)
        exclude_project: list[float] = []
        together: list[float] = []
        for i in range(ROUNDS * len(questions)):
            question = questions[i % len(questions)]
            # Which goes first changes, as the second finds the processor's caches warm.
            for watched in (i % 2 == 0, i % 2 == 1):
                rag.monitor = timed if watched else None
                (together if watched else exclude_project).append(elapsed(lambda q=question: runner.run(rag.query(q))))
        p50, p95 = quantiles(timed.ms)
        base, slow = quantiles(exclude_project)
        paired = np.array(together) - np.array(exclude_project)
        rows += [
            (f"a query of advanced(core) without a monitor, p50 of {len(exclude_project)}", base, "ms", ""),
            ("... p95", slow, "ms", ""),
            ("record() of a query's trace, p50", p50, "ms", ""),
            ("... p95", p95, "ms", ""),
            ("record(), p50, as a share of what it may take, 1 ms or 2 %", p50 / max(1, 0.02 * base), "", "<= 1"),
            ("a query with a monitor less the same without, median", float(np.median(paired)), "ms", ""),
        ]
        rows.append(("the file, a trace", monitor.path.stat().st_size / 1000 / len(timed.ms), "kB", ""))
        trace = Trace("", "How?", 10, 0.0, 5.0, answer=Answer("How?", "So."))
        for i in range(20_000):
            monitor.record(replace(trace, id=f"{i}"))
        monitor.dataframe(since=time.time())  # loads pandas
        n = 20_000 + len(timed.ms)
        rows.append((f"dataframe() of {n} traces, a thousand", elapsed(monitor.dataframe) * 1000 / n, "ms", ""))
    return rows
