"""What takes too long is cut short, and whoever else cancels is obeyed."""

from __future__ import annotations

import asyncio

import pytest

from relay.transports.deadline import TimeLimits

LONG = 3600.0


async def test_what_takes_longer_than_its_limit_is_cut_short() -> None:
    never = asyncio.Event()
    with pytest.raises(TimeoutError):
        await TimeLimits().keep(0.01, never.wait())
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0  # and nothing is left of it: the task goes on


async def test_what_is_done_in_time_comes_to_what_it_comes_to() -> None:
    limits = TimeLimits()

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ConnectionRefusedError

    assert await limits.keep(LONG, answer()) == 42
    with pytest.raises(ConnectionRefusedError):
        await limits.keep(LONG, fail())


async def test_whoever_cancels_the_task_is_obeyed() -> None:
    waits = asyncio.Event()

    async def wait() -> None:
        waits.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(TimeLimits().keep(LONG, wait()))
    await waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_task_that_is_cancelled_as_its_time_is_over_is_cancelled() -> None:
    started = asyncio.Event()

    async def wait() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:  # the limit has passed: somebody else wants it to end, too
            task.cancel()
            await asyncio.sleep(0)

    task = asyncio.create_task(TimeLimits().keep(0.01, wait()))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_the_one_that_is_due_first_is_cut_short_first_whenever_it_came() -> None:
    limits, ended = TimeLimits(), []

    async def one(name: str, seconds: float) -> None:
        with pytest.raises(TimeoutError):
            await limits.keep(seconds, asyncio.Event().wait())
        ended.append(name)

    long = asyncio.create_task(one("long", 0.1))
    await asyncio.sleep(0)
    await asyncio.gather(long, one("short", 0.01))
    assert ended == ["short", "long"]


async def by_whom(limits: TimeLimits, seconds: float) -> str:
    """Who cuts short what never ends, inside of another limit."""
    try:
        await limits.keep(seconds, asyncio.Event().wait())
    except TimeoutError:
        return "the inner one"
    return "none"


async def test_a_limit_inside_another_ends_for_itself() -> None:
    outer, inner = TimeLimits(), TimeLimits()
    assert await outer.keep(LONG, by_whom(inner, 0.01)) == "the inner one"


async def test_where_both_end_together_it_is_the_outer_one_that_counts() -> None:
    limits = TimeLimits()
    with pytest.raises(TimeoutError):
        await limits.keep(0.0, by_whom(limits, 0.0))
