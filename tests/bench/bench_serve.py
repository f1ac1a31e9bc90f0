"""The service through HTTP beside the bare pipeline in one process: latency and throughput; for an idle machine.

The service runs in a process of its own (core, extractive, no cache; its traces go to a temporary folder). Its clients
keep their connections, and each asks the next question as soon as it has an answer. The bare pipeline is asked the same
way: as many tasks of one event loop. The overhead is measured with one client, which asks the two in turn, so that a
busy moment meets both; that client is the standard library's, since httpx takes over a millisecond of its own.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx
import numpy as np

from ragkit import advanced, load_pydocs
from ragkit.production.feedback import FeedbackStore
from ragkit.production.monitoring import TraceMonitor
from ragkit.production.serve import create_app, serve

Row = tuple[str, float | str, str, str]
Ask = Callable[[str], Awaitable[object]]
CLIENTS = (1, 4, 16, 64)
SECONDS = 10.0
CONCURRENCY = 8


def main() -> list[Row]:
    return asyncio.run(measure())


async def measure() -> list[Row]:
    corpus = load_pydocs("core")
    questions = [question.text for question in corpus.questions]
    rag = advanced(corpus, llm="extractive")
    rows: list[Row] = []
    with service() as (url, _):
        connection = http.client.HTTPConnection(url.removeprefix("http://"))

        async def served(question: str) -> None:
            body = json.dumps({"question": question})
            connection.request("POST", "/query", body, {"Content-Type": "application/json"})
            assert len(json.loads(connection.getresponse().read())["passages"]) == 10

        limits = httpx.Limits(max_connections=max(CLIENTS), max_keepalive_connections=max(CLIENTS))
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:

            async def served_to_httpx(question: str) -> None:
                (await client.post("/query", json={"question": question})).raise_for_status()

            async def bare(question: str) -> None:
                await rag.query(question)

            for ask in (served, served_to_httpx, bare):  # the first questions build what is built once
                await ask_all(ask, questions[:20])
            what = "overhead of the service, p50 of the differences"
            rows.append((what, await overhead(served, bare, questions * 3), "ms", "<= 5"))
            rows.append((f"{what}, with httpx", await overhead(served_to_httpx, bare, questions * 3), "ms", ""))
            for clients in CLIENTS:
                for name, ask in (("through HTTP", served_to_httpx), ("bare", bare)):
                    rows += await load(f"{clients} clients, {name}", ask, questions, clients)
    return rows


async def ask_all(ask: Ask, questions: Sequence[str]) -> list[float]:
    """Milliseconds of each question, one after the other."""
    times = []
    for question in questions:
        begin = time.perf_counter()
        await ask(question)
        times.append((time.perf_counter() - begin) * 1000)
    return times


async def overhead(served: Ask, bare: Ask, questions: Sequence[str]) -> float:
    """The median of what HTTP adds to a question, in milliseconds; the first of the two changes each time."""
    differences = []
    for number, question in enumerate(questions):
        order = (served, bare) if number % 2 else (bare, served)
        times = dict(zip(order, [(await ask_all(ask, [question]))[0] for ask in order], strict=True))
        differences.append(times[served] - times[bare])
    return median(differences)


async def load(name: str, ask: Ask, questions: Sequence[str], clients: int) -> list[Row]:
    """p50, p95 and throughput of ``clients`` that ask for ``SECONDS``."""
    begin = time.perf_counter()
    times = await ask_for(SECONDS, ask, questions, clients)
    seconds = time.perf_counter() - begin
    p50, p95 = np.percentile(times, (50, 95))
    return [
        (f"{name}: p50", float(p50), "ms", ""),
        (f"{name}: p95", float(p95), "ms", ""),
        (f"{name}: throughput", len(times) / seconds, "answers/s", ""),
    ]


async def ask_for(seconds: float, ask: Ask, questions: Sequence[str], clients: int) -> list[float]:
    """Milliseconds of every question that ``clients`` ask within ``seconds``."""
    end = time.monotonic() + seconds

    async def client(first: int) -> list[float]:
        times = []
        for number in itertools.count(first):
            times += await ask_all(ask, [questions[number % len(questions)]])
            if time.monotonic() > end:
                return times
        raise AssertionError

    starts = [round(i * len(questions) / clients) for i in range(clients)]
    return list(itertools.chain(*await asyncio.gather(*map(client, starts))))


@contextmanager
def service() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The URL of a service that is ready, and its process."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([sys.executable, __file__, folder], stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr
            found = re.match(r"http://\S+", process.stderr.readline())
            assert found
            while httpx.get(f"{found[0]}/ready").status_code != 200:
                time.sleep(0.2)
            yield found[0], process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    monitor = TraceMonitor(place / "traces.db")
    feedback = FeedbackStore(monitor, place / "feedback.db")
    limits = {"concurrency": CONCURRENCY, "queue": max(CLIENTS)}
    serve(create_app("core", llm="extractive", monitor=monitor, feedback=feedback, **limits), port=0)
