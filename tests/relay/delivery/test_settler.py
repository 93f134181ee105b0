from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.delivery.settler import Settler
from relay.model import Delivery, Lease
from relay.outbox import connect
from relay.outbox.sqlite import SqliteOutbox
from tests.relay.deliveries import answer, attempted, many, put, rows, states
from tests.relay.delivery.surroundings import CountedBook, full_disk


async def claim(database: Path, outbox: SqliteOutbox, count: int) -> tuple[Delivery, ...]:
    put(database, *many(count))
    return (await outbox.claim(count)).deliveries


async def handed_in(settler: Settler, *deliveries: Delivery) -> list[asyncio.Task[bool]]:
    """Attempts that wait for their settlement."""
    waiting = [asyncio.create_task(settler.settle(attempted(delivery))) for delivery in deliveries]
    await asyncio.wait(waiting, timeout=0)
    return waiting


@asynccontextmanager
async def running(settler: Settler) -> AsyncIterator[None]:
    task = asyncio.create_task(settler.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_what_ended_together_is_written_in_one_transaction(database: Path, outbox: SqliteOutbox) -> None:
    book = CountedBook(outbox)
    settler = Settler(book)
    waiting = await handed_in(settler, *await claim(database, outbox, 5))
    assert settler.waiting == 5
    await settler.run_once()
    assert await asyncio.gather(*waiting) == [True] * 5
    assert book.batches == [5]
    assert settler.waiting == 0
    assert set(states(database).values()) == {"delivered"}


async def test_the_first_after_a_quiet_time_is_written_at_once_and_the_next_share_one_write(
    database: Path, outbox: SqliteOutbox
) -> None:
    book = CountedBook(outbox)
    settler = Settler(book)
    first, *others = await claim(database, outbox, 6)
    async with running(settler):
        assert await settler.settle(attempted(first))
        assert book.batches == [1]
        await asyncio.gather(*(settler.settle(attempted(delivery)) for delivery in others))
        assert book.batches == [1, 5]


async def test_a_settlement_returns_only_when_it_is_on_disk(database: Path, outbox: SqliteOutbox) -> None:
    settler = Settler(outbox)
    (delivery,) = await claim(database, outbox, 1)
    (waiting,) = await handed_in(settler, delivery)
    assert not waiting.done()
    assert states(database) == {"d1": "leased"}
    await settler.run_once()
    await waiting
    assert states(database) == {"d1": "delivered"}


async def test_a_disk_that_was_full_for_a_while_loses_nothing(
    database: Path, outbox: SqliteOutbox, log: list[MutableMapping[str, Any]]
) -> None:
    settler = Settler(outbox)
    first, second, third = await claim(database, outbox, 3)
    waiting = await handed_in(settler, first, second)
    with full_disk():
        await settler.run_once()
        await settler.run_once()
    assert settler.failing
    assert settler.waiting == 2
    assert not any(task.done() for task in waiting)
    waiting += await handed_in(settler, third)
    await settler.run_once()
    assert await asyncio.gather(*waiting) == [True, True, True]
    assert not settler.failing
    assert set(states(database).values()) == {"delivered"}
    assert rows(database, "SELECT number FROM attempts") == [(1,), (1,), (1,)]
    (complaint,) = log
    assert (complaint["event"], complaint["operation"], complaint["held"]) == ("store.error", "settle", 2)
    assert complaint["kind"] in ("io", "full")


async def test_the_loop_itself_tries_again_when_a_write_failed(
    database: Path, outbox: SqliteOutbox, log: list[MutableMapping[str, Any]]
) -> None:
    settler = Settler(outbox)
    (delivery,) = await claim(database, outbox, 1)
    with full_disk():
        (waiting,) = await handed_in(settler, delivery)
        await settler.run_once()
    async with running(settler), asyncio.timeout(5):
        assert await waiting


async def test_one_attempt_that_cannot_be_written_does_not_hold_up_the_others(
    database: Path, outbox: SqliteOutbox
) -> None:
    settler = Settler(outbox)
    first, odd, last = await claim(database, outbox, 3)
    poison = replace(attempted(odd), answer=answer(200, peer="\udcff"))
    tasks = [asyncio.create_task(settler.settle(one)) for one in (attempted(first), poison, attempted(last))]
    await asyncio.wait(tasks, timeout=0)
    await settler.run_once()
    said = await asyncio.gather(*tasks, return_exceptions=True)
    assert [said[0], said[2]] == [True, True]
    assert isinstance(said[1], UnicodeEncodeError)
    assert states(database) == {"d1": "delivered", "d2": "leased", "d3": "delivered"}


async def test_one_attempt_that_the_database_refuses_does_not_hold_up_the_others(
    database: Path, outbox: SqliteOutbox
) -> None:
    settler = Settler(outbox)
    first, odd = await claim(database, outbox, 2)
    rows(
        database,
        "INSERT INTO attempts (seq, number, started_at, lag, duration, outcome) VALUES (?, 1, 0, 0, 0, 'dns')",
        odd.lease.seq,
    )
    waiting = await handed_in(settler, first, odd)
    await settler.run_once()
    said = await asyncio.gather(*waiting, return_exceptions=True)
    assert said[0] is True
    assert "UNIQUE" in str(said[1])
    assert not settler.failing
    assert settler.waiting == 0


async def test_a_stale_settlement_is_told_apart_and_counted(database: Path, outbox: SqliteOutbox) -> None:
    settler = Settler(outbox)
    fresh, other = await claim(database, outbox, 2)
    stale = replace(other, lease=Lease(other.lease.seq, "somebody.else"))
    waiting = await handed_in(settler, fresh, stale)
    await settler.run_once()
    assert await asyncio.gather(*waiting) == [True, False]
    assert [settler.take_stale(), settler.take_stale()] == [1, 0]
    assert states(database) == {"d1": "delivered", "d2": "leased"}


async def test_an_attempt_whose_courier_was_cancelled_is_written_all_the_same(
    database: Path, outbox: SqliteOutbox, log: list[MutableMapping[str, Any]]
) -> None:
    settler = Settler(outbox)
    (waiting,) = await handed_in(settler, *await claim(database, outbox, 1))
    with full_disk():
        await settler.run_once()
    waiting.cancel()
    await asyncio.wait([waiting])
    with full_disk():
        await settler.run_once()
    await settler.run_once()
    assert states(database) == {"d1": "delivered"}


async def test_what_a_cancelled_write_held_is_written_by_the_next(database: Path, outbox: SqliteOutbox) -> None:
    settler = Settler(outbox)
    (waiting,) = await handed_in(settler, *await claim(database, outbox, 1))
    with closing(connect(database)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(settler.run_once())
        await asyncio.wait([writing], timeout=0.01)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        other.execute("ROLLBACK")
    assert settler.waiting == 1
    await settler.run_once()
    assert await waiting
