"""What a monitor costs a query: the FAQ questions of `core` through `advanced`, with it and without it by turns."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ragkit import advanced, load_pydocs
from ragkit.pipeline.trace import Monitor, Trace
from ragkit.production.monitoring import TraceMonitor

Row = tuple[str, float, str, str]
ROUNDS = 2


class Timed:
    """A monitor, and how long it took for each trace."""

    def __init__(self, inner: Monitor) -> None:
        self.inner = inner
        self.ms: list[float] = []
        self.cpu: list[float] = []  # of this thread: what others do on the machine does not show
        self.traces: list[Trace] = []

    def record(self, trace: Trace) -> None:
        begin, busy = time.perf_counter(), time.thread_time()
        self.inner.record(trace)
        self.ms.append((time.perf_counter() - begin) * 1000)
        self.cpu.append((time.thread_time() - busy) * 1000)
        self.traces.append(trace)


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
        TraceMonitor(Path(folder) / "traces.db", otlp="") as monitor,
    ):
        runner.run(rag.query(questions[0]))  # the first reads the store from disk
        timed = Timed(monitor)
        without: list[float] = []
        together: list[float] = []
        for i in range(ROUNDS * len(questions)):
            question = questions[i % len(questions)]
            # Which goes first changes, as the second finds the processor's caches warm.
            for watched in (i % 2 == 0, i % 2 == 1):
                rag.monitor = timed if watched else None
                (together if watched else without).append(elapsed(lambda q=question: runner.run(rag.query(q))))
        p50, p95 = quantiles(timed.ms)
        base, slow = quantiles(without)
        paired = np.array(together) - np.array(without)
        rows += [
            (f"a query of advanced(core) without a monitor, p50 of {len(without)}", base, "ms", ""),
            ("... p95", slow, "ms", ""),
            ("record() of a query's trace, p50", p50, "ms", ""),
            ("... p95", p95, "ms", ""),
            ("... p50 of its processor time", quantiles(timed.cpu)[0], "ms", ""),
            ("... p95 of its processor time", quantiles(timed.cpu)[1], "ms", ""),
            ("record(), p50, as a share of a query's p50", 100 * p50 / base, "%", ""),
            ("record(), p95, as a share of a query's p50", 100 * p95 / base, "%", ""),
            ("record(), p50, as a share of what it may take, 1 ms or 2 %", p50 / max(1, 0.02 * base), "", "<= 1"),
            ("record(), p95, as a share of the same", p95 / max(1, 0.02 * base), "", ""),
            ("a query with a monitor less the same without, median", float(np.median(paired)), "ms", ""),
            (
                "half of the middle 50 % of these differences",
                float(np.subtract(*np.quantile(paired, [0.75, 0.25]))) / 2,
                "ms",
                "",
            ),
        ]
        pages = sqlite3.connect(monitor.path).execute(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        )
        rows.append(("the file, a trace", pages.fetchone()[0] / 1000 / len(timed.ms), "kB", ""))
        monitor.dataframe(until=0)  # loads pandas
        rows.append((f"dataframe() of {len(timed.ms)} traces", elapsed(monitor.dataframe), "ms", ""))

        # The same traces again, without the queries between them.
        gc.collect()
        for name, options in (
            ("text='none'", {"text": "none", "otlp": ""}),
            ("OTLP on, nobody there", {"otlp": "http://127.0.0.1:9"}),
        ):
            with TraceMonitor(Path(folder) / f"{len(rows)}.db", **options) as other:
                again = Timed(other)
                for trace in timed.traces:
                    again.record(trace)
                    time.sleep(0.005)
            rows += [
                (f"record() with {name}, {what}", value, "ms", "")
                for what, value in (
                    ("p50", quantiles(again.ms)[0]),
                    ("p95", quantiles(again.ms)[1]),
                    ("p50 of its processor time", quantiles(again.cpu)[0]),
                )
            ]
    return rows
