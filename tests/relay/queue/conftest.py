from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from relay.outbox.store import Database
from relay.queue.deliveries import DeliveryQueue
from tests.relay.queue.claims import Clock, Open


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(database: Database, clock: Clock) -> Database:
    """The database, at a time that only moves when a test says so."""
    return replace(database, clock=clock)  # type: ignore[type-var]


@pytest.fixture
def url(database: Database) -> str:
    """What names the database to another process."""
    return str(getattr(database, "url", f"sqlite:///{database.name}"))


@pytest.fixture
async def relays(timed: Database) -> AsyncIterator[Open]:
    """Opens the outbox as one more relay would."""
    opened: list[DeliveryQueue] = []

    def open_one(lease: float = 60.0) -> DeliveryQueue:
        opened.append(DeliveryQueue(timed, lease))
        return opened[-1]

    yield open_one
    for one in opened:
        await one.close()
