"""A real database, migrated once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.jobs.store import migrate
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from tests.relay.deliveries import session_kept, writing
from tests.services.postgres import Server, empty


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "outspoken.db"
    migrate(SqliteDatabase(path))
    return path


@pytest.fixture
def database_path(empty_database: Path, tmp_path: Path) -> Path:
    """A copy of a migrated file, for what only a file can do: copying spares the disk a dozen flushes a test."""
    return Path(shutil.copy(empty_database, tmp_path / "outspoken.db"))


@pytest.fixture(scope="session")
def postgres_database(postgres: Server) -> Iterator[Database]:
    """The same on PostgreSQL: emptied between tests, because making a database anew takes longer than most of them."""
    database = PostgresDatabase(postgres.url(postgres.create()))
    migrate(database)
    with session_kept(database):
        yield database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.needs("postgres"))])
def dialect(request: pytest.FixtureRequest) -> str:
    """What is tested with a database is tested on both."""
    return str(request.param)


@pytest.fixture
def database(dialect: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """Without a job."""
    if dialect == "sqlite":
        yield SqliteDatabase(request.getfixturevalue("database_path"))
        return
    database: Database = request.getfixturevalue("postgres_database")
    writing(database, empty)
    yield database
