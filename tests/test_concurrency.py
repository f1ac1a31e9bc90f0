"""Coroutines: many with a limit, and one from plain code."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from ragkit.concurrency import gather_limited, run_sync


def test_at_most_keeps_order_and_limit():
    now = limit = 0

    async def one(i: int) -> int:
        nonlocal now, limit
        now += 1
        limit = max(limit, now)
        await asyncio.sleep(0.001 * (7 - i % 7))
        now -= 1
        return i

    assert asyncio.run(gather_limited(3, [partial(one, i) for i in range(20)])) == list(range(20))
    assert limit == 3


def test_at_most_stops_at_the_first_failure():
    async def one(i: int) -> int:
        if i == 2:
            raise OSError("gone")
        await asyncio.sleep(30)
        return i

    with pytest.raises(OSError, match="gone"):
        asyncio.run(gather_limited(4, [partial(one, i) for i in range(10)]))


def test_run_sync_works_where_an_event_loop_is_running():
    async def within() -> int:
        return run_sync(asyncio.sleep(0, 7))

    assert asyncio.run(within()) == run_sync(asyncio.sleep(0, 7)) == 7
    with pytest.raises(ZeroDivisionError):
        run_sync(_fails())


async def _fails() -> None:
    raise ZeroDivisionError
