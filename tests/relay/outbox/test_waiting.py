"""Whoever waits for a delivery is told how it ended, whether it is there already or yet to be added."""

from __future__ import annotations

import asyncio

import pytest

from relay import outbox
from relay.outbox import DeliveryState
from relay.outbox.store import Database
from tests.relay.deliveries import apart, new, put, writing


def cancel(database: Database, id_: str = "d1") -> None:
    assert writing(database, lambda connection: outbox.cancel(connection, id_))


async def test_its_end_is_told_although_it_is_added_later(database: Database) -> None:
    waiting = [
        asyncio.create_task(outbox.wait_async(database, "d1")),
        asyncio.create_task(asyncio.to_thread(outbox.wait, database, "d1")),
    ]
    await asyncio.to_thread(put, database, new())
    await asyncio.to_thread(cancel, database)
    for told in await asyncio.gather(*waiting):
        assert (told.id, told.state, told.attempts) == ("d1", DeliveryState.CANCELLED, 0)


async def test_what_has_ended_is_told_at_once(database: Database) -> None:
    put(database, new())
    cancel(database)
    assert apart(lambda: outbox.wait(database, "d1", timeout=0)).state is DeliveryState.CANCELLED
    assert (await outbox.wait_async(database, "d1", timeout=0)).state is DeliveryState.CANCELLED


async def test_whoever_waits_no_longer_is_told_how_it_stands(database: Database) -> None:
    put(database, new())
    with pytest.raises(TimeoutError, match=r"^delivery d1 is pending after 0 attempts, 0.05 s on$"):
        await outbox.wait_async(database, "d1", timeout=0.05)
    with pytest.raises(TimeoutError, match=r"^delivery none is not in the outbox, 0 s on$"):
        apart(lambda: outbox.wait(database, "none", timeout=0))
