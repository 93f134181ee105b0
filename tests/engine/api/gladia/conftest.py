from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from relay.outbox.store import Database
from tests.engine.api.stage import Stage, client_of, stage


@pytest.fixture
async def server(tmp_path: Path, database: Database) -> AsyncIterator[Stage]:
    """On either database."""
    async with stage(tmp_path, database) as running:
        yield running


@pytest.fixture
async def client(server: Stage) -> AsyncIterator[aiohttp.ClientSession]:
    async with client_of(server) as session:
        yield session
