from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from relay.outbox.sqlite import SqliteOutbox


@pytest.fixture
async def outbox(database: Path) -> AsyncIterator[SqliteOutbox]:
    """The outbox as this relay sees it."""
    opened = SqliteOutbox(database)
    yield opened
    await opened.close()


@pytest.fixture
def log() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged, instead of standard output."""
    with structlog.testing.capture_logs() as lines:
        yield lines
