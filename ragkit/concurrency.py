"""Coroutines: run one from plain code, many with a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


async def gather_limited(limit: int, work: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """The results of all of ``work``, in order, with at most ``limit`` of it under way at a time.

    >>> from functools import partial
    >>> asyncio.run(gather_limited(2, [partial(asyncio.sleep, 0, i) for i in range(4)]))
    [0, 1, 2, 3]

    Raises:
        Exception: the first that any of it raises; the rest is cancelled.
    """
    gate = asyncio.Semaphore(limit)

    async def one(start: Callable[[], Awaitable[T]]) -> T:
        async with gate:
            return await start()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(start)) for start in work]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def run_sync(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, from plain code: also within a notebook, where an event loop is running already.

    >>> run_sync(asyncio.sleep(0, "done"))
    'done'

    Raises:
        Exception: whatever ``work`` raises.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
