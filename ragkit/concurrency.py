"""Coroutines: run one from plain code, many with a limit, and equal ones once (single-flight).

The name and the idea of single-flight are those of ``golang.org/x/sync/singleflight``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Flight(Generic[T]):
    """Work under way, and how many wait for it."""

    task: asyncio.Task[T]
    waiting: int = 0


class SingleFlight(Generic[T]):
    """Work that is asked for again while it is under way is done once, and all who asked get its result, or its error.

    Nothing is remembered: what is asked for after the end is done anew. Who is cancelled leaves the others waiting; the
    work itself is cancelled when nobody waits for it any more. Each event loop has its own flights.

    >>> async def many() -> int:
    ...     once, calls = SingleFlight(), []
    ...     async def work() -> None:
    ...         calls.append(await asyncio.sleep(0))
    ...     await asyncio.gather(*(once("key", work) for _ in range(100)))
    ...     return len(calls)
    >>> asyncio.run(many())
    1
    """

    def __init__(self) -> None:
        self._flights: dict[tuple[asyncio.AbstractEventLoop, Hashable], _Flight[T]] = {}

    def under_way(self, key: Hashable) -> bool:
        """Whether work of this key is under way, so that asking for it would mean waiting for another's result."""
        return (asyncio.get_running_loop(), key) in self._flights

    async def __call__(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of ``work()``, or of the equal work that is under way.

        Raises:
            Exception: whatever the work raises, to everybody who waits for it.
        """
        place = (asyncio.get_running_loop(), key)
        if place not in self._flights:
            # A task of its own, else the first caller's cancellation would end the work for all.
            started = self._flights[place] = _Flight(asyncio.create_task(work()))
            started.task.add_done_callback(lambda _: self._remove(place, started))
        flight = self._flights[place]
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._remove(place, flight)  # whoever comes now must not wait for work that is being cancelled
                flight.task.cancel()
                await asyncio.wait([flight.task])

    def _remove(self, place: tuple[asyncio.AbstractEventLoop, Hashable], flight: _Flight[T]) -> None:
        if self._flights.get(place) is flight:
            del self._flights[place]


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
