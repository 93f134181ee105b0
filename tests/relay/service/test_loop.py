"""Loops that outlive their failures, say how each turn went, and stop when they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from structlog.testing import capture_logs

from relay.outbox.errors import StoreUnavailable
from relay.service.loop import Asked, Loop, turning
from tests.cases import cases

BUSY, FULL = StoreUnavailable("busy"), StoreUnavailable("full")


class Work:
    """Turns that go as they are told to; the last way goes on for ever."""

    def __init__(self, ways: Iterable[Exception | int] = (0,)) -> None:
        self.ways = list(ways)
        self.done = 0
        self.turns: list[tuple[str, bool]] = []
        self.turned_once_more = asyncio.Event()

    async def __call__(self) -> int:
        way = self.ways[min(self.done, len(self.ways) - 1)]
        self.done += 1
        if isinstance(way, Exception):
            raise way
        return way

    def turned(self, loop: str, *, ok: bool) -> None:
        self.turns.append((loop, ok))
        self.turned_once_more.set()

    async def until(self, turns: int) -> None:
        async with asyncio.timeout(60):
            while len(self.turns) < turns:
                self.turned_once_more.clear()
                await self.turned_once_more.wait()


async def test_a_turn_says_how_it_went_and_what_it_brought() -> None:
    work = Work([7, ZeroDivisionError()])
    loop = Loop("count", work, 60.0, observer=work)
    assert await loop.run_once() == (True, 7)
    assert await loop.run_once() == (False, None)
    assert (loop.turns, work.turns) == (2, [("count", True), ("count", False)])


async def test_a_turn_that_asks_nothing_of_a_database_that_refused_does_not_take_it_for_well() -> None:
    work = Work([Asked.NOTHING, FULL, Asked.NOTHING, 0])
    loop = Loop("claim", work, 60.0, observer=work)
    with capture_logs() as log:
        before = [await loop.run_once() for _ in range(3)]
        trouble, claimed_at = loop.trouble(), loop.succeeded_at
        after = await loop.run_once()
    assert [ok for ok, _ in [*before, after]] == [True, False, False, True]
    assert trouble == "the outbox cannot be used (full)"
    assert loop.succeeded_at > claimed_at
    assert [(line["event"], line["operation"]) for line in log] == [
        ("store.error", "claim"),
        ("store.recovered", "claim"),
    ]


async def test_a_loop_outlives_a_fault_and_whoever_reads_the_log_finds_it() -> None:
    work = Work([ZeroDivisionError(), 0])
    with capture_logs() as log:
        async with turning(Loop("count", work, 0.001, observer=work)):
            await work.until(3)
    assert [(line["event"], line["loop"]) for line in log] == [("loop.failed", "count"), ("loop.recovered", "count")]


async def test_a_fault_that_comes_again_and_again_is_told_once_until_it_is_another() -> None:
    work = Work([*[ZeroDivisionError()] * 3, KeyError(), 0, 0])
    loop = Loop("count", work, 60.0)
    with capture_logs() as log:
        troubles = [loop.trouble() for _ in work.ways if await loop.run_once()]
    assert [line["event"] for line in log] == ["loop.failed", "loop.failed", "loop.recovered"]
    assert troubles == [*["count fails, see the log"] * 4, None, None]


async def test_an_outage_is_told_once_until_it_changes_or_ends() -> None:
    work = Work([BUSY, BUSY, FULL, 0, 0])
    loop = Loop("count", work, 60.0, observer=work)
    refused = []
    with capture_logs() as log:
        for _ in range(5):
            await loop.run_once()
            refused.append(loop.refused)
    assert refused == ["busy", "busy", "full", None, None]
    assert [(line["event"], line.get("kind")) for line in log] == [
        ("store.error", "busy"),
        ("store.error", "full"),
        ("store.recovered", None),
    ]


async def test_what_wakes_a_loop_brings_the_next_turn_at_once() -> None:
    work, wake = Work(), asyncio.Event()
    async with turning(Loop("count", work, None, wake=wake, observer=work)):
        await asyncio.sleep(0)
        assert work.done == 0
        for turns in (1, 2, 3):
            wake.set()
            await work.until(turns)


async def test_after_a_failure_nothing_wakes_a_loop_that_backs_off() -> None:
    work, wake = Work([BUSY]), asyncio.Event()
    async with turning(Loop("count", work, 0.0, wake=wake, again=60.0, observer=work)):
        await work.until(1)
        wake.set()
        for _ in range(10):
            await asyncio.sleep(0)
    assert work.done == 1


async def test_a_loop_that_knows_better_how_long_to_rest_is_told_what_its_turn_brought() -> None:
    work, brought = Work([1, 2, 3]), []

    async def rest(result: int) -> float:
        brought.append(result)
        return 0.0

    async with turning(Loop("count", work, 60.0, rest=rest, observer=work)):
        await work.until(3)
    assert brought[:2] == [1, 2]


@cases("before", [True, False])
async def test_a_loop_ends_when_it_is_told_to_stop(before: bool) -> None:
    work, wake, stop = Work(), asyncio.Event(), asyncio.Event()
    loop = Loop("count", work, 60.0, wake=wake, observer=work)
    if before:
        stop.set()
    running = asyncio.create_task(loop.run(until=stop))
    if not before:
        await work.until(1)
        stop.set()
        wake.set()
    async with asyncio.timeout(60):
        await running
    assert work.done == (0 if before else 1)


async def test_a_loop_is_busy_only_while_it_turns() -> None:
    work, wake = Work(), asyncio.Event()
    loop = Loop("count", work, 60.0, wake=wake, observer=work)
    assert loop.busy_since is None
    async with turning(loop):
        await work.until(1)
        await asyncio.sleep(0)
        assert loop.busy_since is None
