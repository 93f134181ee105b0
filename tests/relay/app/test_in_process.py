"""A relay inside of another program delivers what that adds, in whatever thread, and leaves when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from relay import outbox
from relay.app.in_process import relay_in_loop, relay_in_thread
from relay.app.settings import RelaySettings
from relay.outbox import DeliveryStatus
from relay.outbox.errors import StoreUnavailable
from relay.outbox.store import Database
from tests.acceptance.receiver import Arrival, Reply, receiving
from tests.relay.deliveries import new, put, rows, states


class Receiver:
    """Takes everything."""

    def __init__(self) -> None:
        self.port = 0
        self.came: asyncio.Queue[str] = asyncio.Queue()

    def take(self, arrival: Arrival, reply: Reply) -> None:
        self.came.put_nowait(arrival.id)
        reply(200)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/callback"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    async with receiving(made.take) as made.port:
        yield made


def configuration(url: str, port: int) -> RelaySettings:
    guard: dict[str, Any] = {"allow_networks": ["127.0.0.0/8"], "ports": [port]}
    return RelaySettings.of({"outbox": {"url": url, "guard": guard}})


async def test_it_delivers_in_a_loop(database: Database, receiver: Receiver, structlog_as_it_was: None) -> None:
    async with relay_in_loop(configuration(database.url, receiver.port)):
        put(database, new(url=receiver.url))
        assert await receiver.came.get() == "d1"
    assert states(database) == {"d1": "delivered"}


async def test_it_delivers_in_a_thread(database: Database, receiver: Receiver, structlog_as_it_was: None) -> None:
    put(database, new(url=receiver.url))
    taken = receiver.came.get()

    def use() -> None:
        with relay_in_thread(configuration(database.url, receiver.port)):
            asyncio.run_coroutine_threadsafe(taken, loop).result()

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(use)
    assert states(database) == {"d1": "delivered"}


async def test_what_is_due_later_is_not_tried_before(
    database: Database, receiver: Receiver, structlog_as_it_was: None
) -> None:
    async with relay_in_loop(configuration(database.url, receiver.port)):
        put(database, new(url=receiver.url))  # the relay is at work when the other one is added
        await outbox.wait_async(database, "d1")
        put(database, new("later", receiver.url, due_at=timedelta(seconds=0.2)))
        assert (await outbox.wait_async(database, "later")).attempts == 1
    early = "SELECT started_at < due_at FROM outspoken_attempts JOIN outspoken_deliveries USING (seq)"
    assert [bool(is_early) for (is_early,) in rows(database, early)] == [False, False]


async def test_who_asks_is_told_of_each_end(database: Database, receiver: Receiver, structlog_as_it_was: None) -> None:
    told: asyncio.Queue[DeliveryStatus] = asyncio.Queue()
    async with relay_in_loop(configuration(database.url, receiver.port), told.put_nowait):
        put(database, new(url=receiver.url), new("forbidden", "http://10.0.0.1/"))
        ends = {(await told.get()).id: None for _ in range(2)}
        for id_ in ends:
            assert (await outbox.wait_async(database, id_)).ended
    assert states(database) == {"d1": "delivered", "forbidden": "dead"}


def test_an_outbox_that_cannot_be_used_is_told_of_at_once(tmp_path: Path, structlog_as_it_was: None) -> None:
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam, " * 100)
    settings = configuration(f"sqlite:///{tmp_path}/letter.txt", 8080)
    with pytest.raises(StoreUnavailable, match="not a database"), relay_in_thread(settings):
        pass
