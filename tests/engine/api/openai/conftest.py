"""A client that names the type of what it sends: a form's has its boundary."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.engine.api.stage import Stage, client_of


@pytest.fixture
async def client(server: Stage) -> AsyncIterator[aiohttp.ClientSession]:
    async with client_of(server) as session:
        yield session
