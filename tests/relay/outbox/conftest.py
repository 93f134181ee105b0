from __future__ import annotations

import pytest

from relay.outbox.store import Database
from tests.relay.outbox.producers import Producer


@pytest.fixture
def producer(request: pytest.FixtureRequest, database: Database) -> Producer:
    """A caller who brings that kind of connection."""
    return Producer(request.param, database)
