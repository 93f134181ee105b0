"""A real database, migrated once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine.jobs.store import migrate
from relay.outbox.sqlite import SqliteDatabase
from relay.outbox.store import Database


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "outspoken.db"
    migrate(SqliteDatabase(path))
    return path


@pytest.fixture
def database_path(empty_database: Path, tmp_path: Path) -> Path:
    """A copy of a migrated file, for what only a file can do: copying spares the disk a dozen flushes a test."""
    return Path(shutil.copy(empty_database, tmp_path / "outspoken.db"))


@pytest.fixture
def database(database_path: Path) -> Database:
    """Without a job."""
    return SqliteDatabase(database_path)
