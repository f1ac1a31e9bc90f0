"""Coroutines: run one from plain code, many with a limit; and plain code that they wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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


async def in_daemon_thread(call: Callable[[], T]) -> T:
    """The result of ``call``, which may take minutes: unlike ``asyncio.to_thread``, it does not keep a program from
    ending.

    Raises:
        Exception: whatever ``call`` raises.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # from now on nobody who gives up waiting can cancel it

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(future)
