"""A server, a client, and one second of sound."""

from __future__ import annotations

import io
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from .stage import Stage, client_of, stage


def wav(seconds: float = 1.0, channels: int = 1) -> bytes:
    """A quiet saw tooth as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(bytes(range(64)) * int(seconds * 16000 * channels * 2 / 64))
    return file.getvalue()


@pytest.fixture
def dialect() -> str:
    """What goes over the wire is the same, whichever database stands behind it."""
    return "sqlite"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as running:
        yield running


@pytest.fixture
async def client(server: Stage) -> AsyncIterator[aiohttp.ClientSession]:
    """Sends no header of its own accord that matters here."""
    async with client_of(server, skip_auto_headers=["Content-Type"]) as session:
        yield session
