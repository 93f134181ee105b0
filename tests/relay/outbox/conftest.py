from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.outbox.sqlite import SqliteOutbox
from tests.relay.outbox.claims import Clock, Open


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def relays(database: Path, clock: Clock) -> AsyncIterator[Open]:
    """Opens the outbox as one more relay would."""
    opened: list[SqliteOutbox] = []

    def open_one(lease: float = 60.0) -> SqliteOutbox:
        opened.append(SqliteOutbox(database, lease, clock))
        return opened[-1]

    yield open_one
    for one in opened:
        await one.close()
