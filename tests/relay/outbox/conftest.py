from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from relay.outbox.relaying import Outbox
from relay.outbox.store import Database
from tests.relay.outbox.claims import Clock, Open
from tests.relay.outbox.producers import Producer


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
    opened: list[Outbox] = []

    def open_one(lease: float = 60.0) -> Outbox:
        opened.append(Outbox(timed, lease))
        return opened[-1]

    yield open_one
    for one in opened:
        await one.close()


@pytest.fixture
def producer(request: pytest.FixtureRequest, database: Database) -> Producer:
    """A caller who brings that kind of connection."""
    return Producer(request.param, database)
