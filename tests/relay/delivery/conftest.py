from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from relay.outbox.store import Database
from relay.queue.deliveries import DeliveryQueue


@pytest.fixture
async def outbox(database: Database) -> AsyncIterator[DeliveryQueue]:
    """The outbox as this relay sees it."""
    opened = DeliveryQueue(database)
    yield opened
    await opened.close()


@pytest.fixture
def log() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged, instead of standard output."""
    with structlog.testing.capture_logs() as lines:
        yield lines
