"""``ragkit serve`` under two hundred clients at once, good and bad."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median

import httpx
import psutil
from bench.faults.database import Row
from bench.faults.network import usual_time
from bench.faults.writes import TOPICS

CLIENTS, STORMS, SECONDS = 200, 3, 8
LIMIT = 10.0  # seconds of an answer
GRACE = 5.0  # and beyond: client and server share the machine
# Of a hundred clients: how many do what.
KINDS = {"asks": 58, "streams": 10, "leaves": 10, "reads slowly": 8, "sends too much": 7, "sends half": 7}
TYPED = {200, 413, 429, 503, 504}


@contextmanager
def service() -> Iterator[tuple[str, psutil.Process]]:
    """``ragkit serve`` over a folder of notes, in a process of its own: its URL, once it answers."""
    with tempfile.TemporaryDirectory() as folder:
        notes, choose = Path(folder) / "notes", random.Random(0)
        notes.mkdir()
        for topic in TOPICS:
            facts = [f"To mend the {topic}, turn part {n} and press {choose.randrange(99)}." for n in range(40)]
            (notes / f"{topic}.md").write_text(f"# {topic.title()}\n\n" + "\n\n".join(facts))
        command = [sys.executable, "-m", "ragkit.cli", "serve", "--corpus", str(notes), "--port", "0", "--no-cache"]
        command += ["--llm", "extractive", "--seconds", f"{LIMIT:g}"]
        environment = {**os.environ, "RAGKIT_HOME": str(Path(folder) / "home")}
        environment.pop("RAGKIT_TOKENS", None)
        with (
            (Path(folder) / "log").open("w+") as log,
            subprocess.Popen(command, env=environment, stderr=log) as process,
        ):
            try:
                while not (line := (Path(folder) / "log").read_text()).count(" answers "):
                    time.sleep(0.05)
                url = line.split(" answers ")[0].split()[-1]
                while httpx.get(f"{url}/ready").status_code != 200:
                    time.sleep(0.1)
                yield url, psutil.Process(process.pid)
            finally:
                process.terminate()


@dataclass
class Results:
    """What became of requests: ``closed`` had no status, ``late`` had not ended in time, ``cut`` have half an answer.

    ``seconds`` is how long each took that ended, by status (0: none).
    """

    statuses: Counter[int] = field(default_factory=Counter)
    closed: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    seconds: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))


def request(choose: random.Random, kind: str) -> bytes:
    """A whole request, or the beginning of one."""
    question = f"How do I mend the {choose.choice(TOPICS)} with part {choose.randrange(40)}?"
    k = 50 if kind == "reads slowly" else 10
    body = json.dumps({"question": question, "k": k, "stream": kind == "streams"}).encode()
    size = 50_000_000 if kind == "sends too much" else len(body)
    head = f"POST /query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {size}\r\n"
    whole = f"{head}Content-Type: application/json\r\n\r\n".encode() + body
    return whole[: choose.randrange(1, len(whole))] if kind == "sends half" else whole


async def once(port: int, kind: str, choose: random.Random, results: Results) -> int:
    """One request; its status, 0 where none came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4_096)
    data = b""
    try:
        writer.write(request(choose, kind))
        if kind == "leaves":
            await asyncio.sleep(choose.uniform(0, 0.5))
            return 0
        sending = asyncio.create_task(send_on(writer)) if kind == "sends too much" else None
        with suppress(ConnectionError):
            while piece := await reader.read(1_024 if kind == "reads slowly" else 65_536):
                data += piece
                if kind == "reads slowly":
                    await asyncio.sleep(0.05)
        if sending:
            sending.cancel()
    finally:
        writer.transport.abort()
    head, _, body = data.partition(b"\r\n\r\n")
    if not head:
        results.closed[kind] += 1
        return 0
    results.cut[kind] += not body.endswith((b"}", b"0\r\n\r\n"))  # JSON; the last chunk of a stream
    return int(head.split()[1])


async def send_on(writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while True:
            writer.write(b" " * 65_536)
            await writer.drain()


async def client(port: int, kind: str, number: int, until: float, results: Results) -> None:
    """Requests of one kind, one after the other."""
    choose = random.Random(number)
    while time.monotonic() < until:
        begin = time.monotonic()
        try:
            async with asyncio.timeout(LIMIT + GRACE):
                status = await once(port, kind, choose, results)
        except TimeoutError:
            results.late[kind] += 1
            continue
        results.statuses[status] += status > 0
        results.seconds[status].append(time.monotonic() - begin)
        await asyncio.sleep(choose.uniform(0.2, 0.6) if status in (0, 429) else 0)


async def storm(port: int, results: Results) -> None:
    kinds = [kind for kind, share in KINDS.items() for _ in range(share * CLIENTS // 100)]
    until = time.monotonic() + SECONDS
    await asyncio.gather(*(client(port, kind, number, until, results) for number, kind in enumerate(kinds)))


def answer_time(url: str) -> float:
    """The usual seconds of an answer when nobody else asks."""
    numbers = count()
    with httpx.Client(base_url=url, timeout=30) as http:

        def ask() -> None:
            question = f"How do I mend the lamp, part {next(numbers)}?"
            http.post("/query", json={"question": question}).raise_for_status()

        return usual_time(ask)


def service_load() -> list[Row]:
    """Storms of 200 clients: most ask, some leave, read slowly, send 50 MB or half a request.

    Memory is compared with that after the first one, which makes threads and fills caches.
    """
    results, memory = Results(), list[int]()
    with service() as (url, process):
        before, files = answer_time(url), process.num_fds()
        for _ in range(STORMS):
            asyncio.run(storm(int(url.rpartition(":")[2]), results))
            time.sleep(1)
            memory.append(process.memory_info().rss)
        after, left_open = answer_time(url), process.num_fds() - files
        lines = httpx.get(f"{url}/metrics").text.splitlines()
        in_flight = sum(float(line.split()[1]) for line in lines if line.startswith("ragkit_in_flight "))
    statuses, closed = results.statuses, results.closed
    longest = max(map(max, results.seconds.values()))
    untyped = sum(count for status, count in statuses.items() if status not in TYPED)
    return [
        ("clients at once", CLIENTS, "clients", ">= 200"),
        ("answers (200)", statuses[200], "requests", ">= 20"),
        ("refused, too many at once (429)", statuses[429], "requests", ""),
        ("refused, too large (413)", statuses[413], "requests", ">= 50"),
        ("given up at their time limit (504)", statuses[504], "requests", ""),
        ("half requests, closed by the server", closed["sends half"], "requests", ">= 10"),
        ("other requests without a status", closed.total() - closed["sends half"], "requests", "<= 0"),
        ("any other status", untyped, "requests", "<= 0"),
        ("not ended in time", results.late.total(), "requests", "<= 0"),
        ("cut short", results.cut.total(), "answers", "<= 0"),
        (f"the longest (limit {LIMIT:g} s)", longest, "s", f"<= {LIMIT + GRACE:g}"),
        ("median time of a 429", median(results.seconds[429] or [0.0]), "s", ""),
        ("still in flight afterwards", in_flight, "requests", "<= 0"),
        ("files left open afterwards", left_open, "files", "<= 8"),
        ("growth of memory, from after the first storm", (memory[-1] - memory[0]) / 1e6, "MB", "<= 30"),
        ("usual time of an answer before", before, "s", ""),
        ("usual time after, over that before", after / before, "", "<= 2"),
    ]
