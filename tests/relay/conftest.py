from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog

from relay.outbox import OUTBOX
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from relay.service.log import LibraryLog, configure
from tests.relay.deliveries import session_kept, writing
from tests.relay.logged import Lines
from tests.services.postgres import Server, empty

# A file system in memory, where there is one: SQLite syncs as ever, but no test waits for a busy disk.
_IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@pytest.fixture(scope="session")
def empty_outbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outbox that was migrated once, to be copied."""
    path = tmp_path_factory.mktemp("outbox") / "empty.db"
    SqliteDatabase(path).migrate([OUTBOX])
    return path


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of this test's own."""
    with TemporaryDirectory(prefix="outspoken-", dir=_IN_MEMORY) as name:
        yield Path(name)


@pytest.fixture
def path(folder: Path, empty_outbox: Path) -> Path:
    """The file of an empty outbox, for what only a file can do."""
    return Path(shutil.copy(empty_outbox, folder / "outspoken.db"))


@pytest.fixture(scope="session")
def postgres_outbox(postgres: Server) -> Iterator[Database]:
    """The same on PostgreSQL: emptied between tests, because making a database anew takes longer than most of them."""
    database = PostgresDatabase(postgres.url(postgres.create()))
    database.migrate([OUTBOX])
    with session_kept(database):
        yield database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.needs("postgres"))])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty outbox: what is tested with it is the same on both."""
    if request.param == "sqlite":
        yield SqliteDatabase(request.getfixturevalue("path"))
        return
    database: Database = request.getfixturevalue("postgres_outbox")
    writing(database, empty)
    yield database


@pytest.fixture
def lines(structlog_as_it_was: None) -> Lines:
    """What is written by this process's log."""
    written = Lines()
    with redirect_stdout(written.stream):
        configure("info", "json", "relay")
    return written


@pytest.fixture
def structlog_as_it_was() -> Iterator[None]:
    """A test may configure it."""
    yield
    structlog.reset_defaults()
    root = logging.getLogger()
    root.handlers = [one for one in root.handlers if not isinstance(one, LibraryLog)]
