"""A server, a client, and one second of sound."""

from __future__ import annotations

import io
import shutil
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from engine.jobs.store import migrate

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


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "outspoken.db"
    migrate(path)
    return path


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> Path:
    """A copy of a migrated database: copying spares the disk a dozen flushes a test."""
    return Path(shutil.copy(empty_database, tmp_path / "outspoken.db"))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as running:
        yield running


@pytest.fixture
async def client(server: Stage) -> AsyncIterator[aiohttp.ClientSession]:
    async with client_of(server) as session:
        yield session
