"""Single-flight: equal work at once is done once, whoever leaves, whatever fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.concurrency import SingleFlight, gather_limited, run_sync


class Work:
    """Counts what is begun, done and cancelled, by key."""

    def __init__(self) -> None:
        self.begun, self.done, self.cancelled = Counter(), Counter(), Counter()

    async def __call__(self, key: str, wait: float = 0.01) -> str:
        self.begun[key] += 1
        try:
            await asyncio.sleep(wait)
        except asyncio.CancelledError:
            self.cancelled[key] += 1
            raise
        self.done[key] += 1
        return f"{key}{self.done[key]}"


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=60))
def test_distinct_keys_at_once_cost_one_each(keys):
    work, once = Work(), SingleFlight()

    async def main():
        return await asyncio.gather(*(once(key, partial(work, key, 0)) for key in keys))

    assert asyncio.run(main()) == [f"{key}1" for key in keys]
    assert work.begun == Counter(set(keys))


def test_nothing_is_remembered_after_the_end():
    work, once = Work(), SingleFlight()

    async def main():
        assert not once.under_way("a")
        first = asyncio.create_task(once("a", partial(work, "a")))
        await asyncio.sleep(0)
        assert once.under_way("a")
        return await first, once.under_way("a"), await once("a", partial(work, "a"))

    assert asyncio.run(main()) == ("a1", False, "a2")


def test_whoever_leaves_does_not_take_the_others_with_him():
    work, once = Work(), SingleFlight()

    async def main():
        tasks = [asyncio.create_task(once("a", partial(work, "a"))) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[3].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    ends = asyncio.run(main())
    assert [isinstance(end, asyncio.CancelledError) for end in ends] == [True, False, False, True, False]
    assert [end for end in ends if isinstance(end, str)] == ["a1"] * 3
    assert (work.begun["a"], work.cancelled["a"]) == (1, 0)


def test_work_that_nobody_waits_for_is_cancelled_and_the_next_begins_anew():
    work, once = Work(), SingleFlight()

    async def main():
        tasks = [asyncio.create_task(once("a", partial(work, "a", 30))) for _ in range(3)]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not once.under_way("a")
        assert len(asyncio.all_tasks()) == 1
        return await once("a", partial(work, "a"))

    assert asyncio.run(main()) == "a1"
    assert (work.begun["a"], work.cancelled["a"], work.done["a"]) == (2, 1, 1)


def test_everybody_hears_of_the_failure_and_the_next_may_succeed():
    once, tries = SingleFlight(), []

    async def failing():
        tries.append(1)
        await asyncio.sleep(0)
        if len(tries) == 1:
            raise OSError("gone")
        return "here"

    async def main():
        ends = await asyncio.gather(*(once("a", failing) for _ in range(4)), return_exceptions=True)
        return [str(end) for end in ends], await once("a", failing)

    assert asyncio.run(main()) == (["gone"] * 4, "here")
    assert len(tries) == 2


def test_event_loops_do_not_share():
    work, once = Work(), SingleFlight()

    async def main():
        return await once("a", partial(work, "a"))

    assert [asyncio.run(main()), asyncio.run(main())] == ["a1", "a2"]


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
