"""A network that is slow, silent, or cut: between a store and its PostgreSQL, and between the service and its model."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from unittest.mock import patch

import httpx
from bench.faults.database import QUESTIONS, Row, filled, folder, running
from bench.faults.postgres import Postgres
from bench.faults.proxy import Proxy
from bench.faults.writes import Calls, Promises, open_store, write
from endpoint import Endpoint

from ragkit.base import Corpus, Document, EndpointError
from ragkit.production.access import Tokens
from ragkit.production.monitoring import TraceMonitor
from ragkit.production.serve import create_app
from ragkit.production.serve import running as serving

LIMIT = 2.0  # seconds that a call may take
GRACE = 2.0  # and beyond, since a thread may wait for its turn on a busy machine


def slow(proxy: Proxy) -> None:
    proxy.delay = 0.1


def silent(proxy: Proxy) -> None:
    proxy.silent = True


TROUBLES: dict[str, Callable[[Proxy], None]] = {"slow": slow, "silent": silent, "cut": Proxy.cut}


class Trouble:
    """Three threads call ``ask`` before, while and after ``begin`` has its effect on ``proxy``; then it is mended.

    ``before`` and ``after`` are usual times of an answer; ``longest`` counts the calls that have not ended when the
    trouble does; ``back`` is how long the first answer afterwards takes to come; ``hanging`` calls never end.
    """

    def __init__(self, proxy: Proxy, begin: Callable[[Proxy], None], ask: Callable[[], object]) -> None:
        self.calls, self._ask, self._ended = Calls(), ask, threading.Event()
        self.before = usual_time(ask)
        threads = [threading.Thread(target=self._ask_on, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        begin(proxy)
        time.sleep(LIMIT + GRACE + 1)
        self.longest = max(self.calls.longest, self.calls.under_way)
        self._ended.set()
        proxy.mend()
        mended = time.monotonic()
        while isinstance(Calls().call(ask), Exception) and time.monotonic() < mended + 30:
            time.sleep(0.05)
        self.back = time.monotonic() - mended
        for thread in threads:
            thread.join(10)
        self.hanging = sum(thread.is_alive() for thread in threads)
        self.after = usual_time(ask)

    def _ask_on(self) -> None:
        while not self._ended.is_set():
            if isinstance(self.calls.call(self._ask), Exception):
                time.sleep(0.05)


def usual_time(ask: Callable[[], object], count: int = 40) -> float:
    """Seconds that ``ask`` takes: the lower quartile, which other work on the machine changes least."""
    calls = Calls()
    for _ in range(count):
        calls.call(ask)
    if calls.good < count // 2:
        raise RuntimeError(f"of {count} calls in a healthy network only {calls.good} were answered: {calls}")
    return quantiles(calls.seconds, n=4)[0]


def store_network() -> list[Row]:
    """Between a store, whose searches may take 2 s, and its server."""
    rows: list[Row] = []
    with folder() as place, running(Postgres(place / "a").create()) as server, Proxy(server.socket) as proxy:
        library = filled(server.url, "library")
        expected = library.retriever().search(QUESTIONS[0], 10)
        store = open_store(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres", "library", LIMIT)

        def ask() -> None:
            if store.retriever().search(QUESTIONS[0], 10) != expected:
                raise ValueError("other hits than before")

        for name, begin in TROUBLES.items():
            trouble = Trouble(proxy, begin, ask)
            rows += rows_of(name, trouble, "<= 0" if begin is slow else ">= 1")
    return rows


def writer_gone() -> list[Row]:
    """A writer's network falls silent in the middle of a transaction, and comes back: another writer goes on meanwhile.

    The first one deletes, since a COPY that is under way ends with its connection alone: where the network is silent
    for long, the operating system's keepalive ends that.
    """
    theirs, ours = Calls(), Calls()
    with folder() as place, running(Postgres(place / "a").create()) as server, Proxy(server.socket) as proxy:
        direct = open_store(server.url, timeout=LIMIT)
        there = open_store(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres", timeout=LIMIT)
        theirs.call(there.delete, ["nobody"])
        first = threading.Thread(target=theirs.call, args=(there.delete, ["nobody"]), daemon=True)
        second = threading.Thread(target=write, args=(direct, Promises(), ours, ["page-9-9"]), daemon=True)
        proxy.silent_after = b"DELETE"
        first.start()
        while not proxy.silent:
            time.sleep(0.01)
        second.start()
        second.join(20)
        waited = max(ours.longest, ours.under_way)
        proxy.mend()
        second.join(10)
        first.join(10)
        hanging = first.is_alive() + second.is_alive()
    return [
        ("another one waits", waited, "s", "<= 14"),
        ("writes of the other", ours.good, "writes", ">= 1"),
        ("calls that hung, or ended otherwise", hanging + len(theirs.other + ours.other), "calls", "<= 0"),
    ]


PAGES = {
    "kettle": "Press the red lever to boil the water. Clean it with vinegar.",
    "lamp": "Turn the wheel to dim the light. Only E27 bulbs with at most 40 watts fit.",
}


def model_network() -> list[Row]:
    """Between the service, whose answers may take 2 s, and its language model, with quotes where the model fails."""
    rows: list[Row] = []
    corpus = Corpus("manuals", tuple(Document(name, text) for name, text in PAGES.items()))
    with (
        tempfile.TemporaryDirectory() as folder,
        Endpoint(answer="Press the red lever. [1]") as endpoint,
        Proxy(int(endpoint.url.split(":")[2].split("/")[0])) as proxy,
    ):
        monitor = TraceMonitor(Path(folder) / "traces.db")
        app = create_app(corpus, llm="openai", monitor=monitor, tokens=Tokens({}), seconds=LIMIT)
        environment = patch.dict(os.environ, OPENAI_BASE_URL=f"http://127.0.0.1:{proxy.port}/v1")
        with environment, serving(app) as url, httpx.Client(base_url=url, timeout=30) as http:
            while http.get("/ready").status_code != 200:
                time.sleep(0.05)

            def ask() -> None:
                answer = http.post("/query", json={"question": "How do I boil the water?"})
                if answer.status_code in (429, 502, 503, 504):
                    raise EndpointError(answer.text)
                answer.raise_for_status()

            for name, begin in TROUBLES.items():
                trouble = Trouble(proxy, begin, ask)
                rows += rows_of(name, trouble, "<= 0" if begin is slow else "")
    return rows


def rows_of(what: str, trouble: Trouble, errors: str) -> list[Row]:
    calls = trouble.calls
    return [
        (f"{what}: answered", calls.good, "calls", ">= 10"),
        (f"{what}: ended with a typed error", calls.failed, "calls", errors),
        (f"{what}: hung, or ended otherwise", trouble.hanging + len(calls.other), "calls", "<= 0"),
        (f"{what}: the longest (limit {LIMIT:g} s)", trouble.longest, "s", f"<= {LIMIT + GRACE:g}"),
        (f"{what}: first answer once it is mended", trouble.back, "s", "<= 3"),
        (f"{what}: usual time after, over that before", trouble.after / trouble.before, "", "<= 2"),
    ]
