"""The memory of the service while four clients ask without a pause for half an hour.

The service is that of ``bench_serve.py``. It is warm after a tenth of the time, from where growth is counted.
``RAGKIT_SOAK_SECONDS`` is another length than 1800.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import httpx
from bench.bench_serve import Row, ask_for, service

from ragkit import load_pydocs

CLIENTS = 4


def main() -> list[Row]:
    return asyncio.run(measure(float(os.environ.get("RAGKIT_SOAK_SECONDS", "1800"))))


async def measure(seconds: float) -> list[Row]:
    questions = [question.text for question in load_pydocs("core").questions]
    with service() as (url, process):
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:

            async def ask(question: str) -> None:
                (await http.post("/query", json={"question": question})).raise_for_status()

            await ask_for(seconds / 10, ask, questions, CLIENTS)
            before = resident(process.pid)
            times = await ask_for(seconds, ask, questions, CLIENTS)
            growth = (resident(process.pid) / before - 1) * 100
    return [
        ("seconds", seconds, "s", ""),
        ("answers", len(times), "", ""),
        ("memory when it is warm", before / 1e6, "MB", ""),
        ("growth of memory", growth, "%", "<= 5"),
    ]


def resident(pid: int) -> int:
    """Bytes of a process in memory."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024
