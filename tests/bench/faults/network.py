"""A network that is slow, silent, or cut: between a store and its PostgreSQL, and between the service and its model."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from statistics import median

from bench.faults.database import Row, answers, filled, folder, running
from bench.faults.postgres import Postgres
from bench.faults.proxy import Proxy
from bench.faults.writes import Calls, open_store

LIMIT = 2.0  # seconds of a search
GRACE = 3.0  # that a call may take beyond its limit: on a machine with other work, a thread may wait for its turn


def slow(proxy: Proxy) -> None:
    proxy.delay = 0.1


def silent(proxy: Proxy) -> None:
    proxy.silent = True


TROUBLES: dict[str, Callable[[Proxy], None]] = {"slow (0.1 s a way)": slow, "silent": silent, "cut": Proxy.cut}


def between_store_and_server() -> list[Row]:
    """Three threads search and one writes while the network has trouble for some seconds."""
    rows: list[Row] = []
    with folder() as place, running(Postgres(place / "a").create()) as server, Proxy(server.socket) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        expected = answers(filled(server.url, "library"))
        for name, begin_trouble in TROUBLES.items():
            store = open_store(url, "library", LIMIT)

            def ask() -> None:
                assert answers(store) == expected, "other hits than before"  # noqa: B023
            before = times(ask)
            calls, ended = Calls(), threading.Event()

            def ask_on() -> None:
                while not ended.is_set():  # noqa: B023
                    if isinstance(calls.call(ask), Exception):  # noqa: B023
                        time.sleep(0.05)

            threads = [threading.Thread(target=ask_on, daemon=True) for _ in range(3)]
            for thread in threads:
                thread.start()
            time.sleep(0.3)
            begin_trouble(proxy)
            trouble = time.monotonic()
            time.sleep(2 * LIMIT + GRACE)
            hanging = sum(thread.is_alive() for thread in threads)
            print(name, calls, calls.longest, hanging)
            proxy.mend()
            ended.set()
            for thread in threads:
                thread.join(10)
            print(name, calls, calls.longest, sum(thread.is_alive() for thread in threads))
            after = times(ask)
            print(before, after)
    return rows


def times(ask: Callable[[], object], count: int = 20) -> float:
    """The median time of ``ask``, in seconds."""
    seconds = []
    for _ in range(count):
        begin = time.monotonic()
        ask()
        seconds.append(time.monotonic() - begin)
    return median(seconds)
