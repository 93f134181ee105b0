"""An old database is brought up to date while deliveries are pending, and whoever does it is killed in the middle: none
is lost, delivered twice or out of order."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from relay.app.in_process import relay_in_loop
from relay.outbox.migrations import OUTBOX
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.sqlite.database import SqliteDatabase
from tests.acceptance.receiver import Arrival, Reply, receiving
from tests.relay.app.test_in_process import configuration
from tests.relay.deliveries import states
from tests.relay.outbox.old import before_the_schema, make_postgres, make_sqlite, sqlite_rows
from tests.services.postgres import Server

pytestmark = pytest.mark.acceptance

RELAY = Path(sys.executable).with_name("relay")
OF_A_STREAM, ALONE, DELIVERED = 20, 20, 50_000
PAST = """
INSERT INTO destinations (origin) VALUES ('{origin}');
INSERT INTO streams (key, position) VALUES ('s', {of_a_stream});
INSERT INTO deliveries (id, destination_id, url, body_bytes, created_at, due_at, stream_id, position)
SELECT 's' || n, 1, '{origin}/', 2, 1, CASE n WHEN 1 THEN 1 END, 1, n FROM numbers WHERE n <= {of_a_stream};
INSERT INTO deliveries (id, destination_id, url, body_bytes, created_at, due_at)
SELECT 'alone' || n, 1, '{origin}/', 2, 1, 1 FROM numbers WHERE n <= {alone};
INSERT INTO bodies (seq, body) SELECT seq, CAST('{{}}' AS {bytes}) FROM deliveries;
INSERT INTO deliveries (id, destination_id, url, body_bytes, created_at, due_at, state, attempts, finished_at)
SELECT 'past' || n, 1, '{origin}/', 2, 1, 1, 'delivered', 1, 4e9 FROM numbers;
"""
NUMBERS = f"CREATE TEMP TABLE numbers AS SELECT n FROM {{}} LIMIT {DELIVERED};"
RECURSIVE = "(WITH RECURSIVE up (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up) SELECT n FROM up)"
WAITING = """
SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
               WHERE NOT granted AND datname = current_database())
"""


def past(origin: str, numbers: str, of: str) -> str:
    """Deliveries that are pending, in a stream and alone, and many that are delivered."""
    return NUMBERS.format(numbers) + PAST.format(origin=origin, bytes=of, of_a_stream=OF_A_STREAM, alone=ALONE)


async def migrating(url: str) -> asyncio.subprocess.Process:
    environ = os.environ | {"OUTSPOKEN_OUTBOX__URL": url}
    return await asyncio.create_subprocess_exec(RELAY, "migrate", env=environ, stdout=asyncio.subprocess.DEVNULL)


class Receiver:
    """Takes everything, and knows when all of it has come."""

    def __init__(self) -> None:
        self.port = 0
        self.came: list[str] = []
        self.all_came = asyncio.Event()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, arrival: Arrival, reply: Reply) -> None:
        self.came.append(arrival.id)
        reply(200)
        if len(self.came) >= OF_A_STREAM + ALONE:
            self.all_came.set()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    one = Receiver()
    async with receiving(one.take) as one.port:
        yield one


async def assert_delivered(database: SqliteDatabase | PostgresDatabase, receiver: Receiver) -> None:
    """By the new version: each once, and those of the stream one after another."""
    process = await migrating(database.url)
    assert await process.wait() == 0
    async with relay_in_loop(configuration(database.url, receiver.port)):
        await receiver.all_came.wait()
    expected = [*(f"s{n}" for n in range(1, OF_A_STREAM + 1)), *(f"alone{n}" for n in range(1, ALONE + 1))]
    assert Counter(receiver.came) == Counter(expected)
    assert [id_ for id_ in receiver.came if id_.startswith("s")] == expected[:OF_A_STREAM]
    assert set(states(database).values()) == {"delivered"}


async def test_on_sqlite(folder: Path, receiver: Receiver, structlog_as_it_was: None) -> None:
    path = folder / "old.db"
    make_sqlite(path, before_the_schema(OUTBOX, "sqlite"))
    with closing(sqlite3.connect(path)) as file:
        file.executescript(past(receiver.origin, RECURSIVE, "BLOB"))
    before = everything(path, "")
    undone = False
    for looks in (1, 10):  # that find it in the middle
        process = await migrating(f"sqlite:///{path}")
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as file:
            while process.returncode is None and looks:
                looks -= is_locked(file)
                await asyncio.sleep(0.001)
        if process.returncode is None:
            process.kill()
        await process.wait()
        is_old = bool(sqlite_rows(path, "SELECT 1 FROM sqlite_schema WHERE name = 'deliveries'"))
        assert everything(path, "" if is_old else "outspoken_") == before
        undone |= is_old
    assert undone, "it was killed in the middle once at least"
    await assert_delivered(SqliteDatabase(path), receiver)


def is_locked(file: sqlite3.Connection) -> bool:
    """Whether another writes, in a transaction that is not committed yet."""
    try:
        file.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return True
    file.execute("ROLLBACK")
    return False


def everything(path: Path, prefix: str) -> list[tuple[object, ...]]:
    return sqlite_rows(path, f"SELECT seq, id, url, due_at, stream_id, position, state FROM {prefix}deliveries")


@pytest.fixture
def old_server(postgres: Server) -> Iterator[PostgresDatabase]:
    name = postgres.create()
    database = PostgresDatabase(postgres.url(name))
    make_postgres(database, before_the_schema(OUTBOX, "postgres"))
    yield database
    postgres.drop(name)


@pytest.mark.needs("postgres")
async def test_on_postgresql(
    old_server: PostgresDatabase, postgres: Server, receiver: Receiver, structlog_as_it_was: None
) -> None:
    sql = past(receiver.origin, f"generate_series(1, {DELIVERED}) AS n", "BYTEA")
    await asyncio.to_thread(postgres.sql, sql, name=old_server.url.rpartition("/")[2])
    reader = await asyncpg.connect(old_server.url)
    for table in ("streams", "secrets"):  # one of the first that are moved, and the last
        async with reader.transaction():
            await reader.execute(f"SELECT FROM {table}")  # a move has to wait for who reads it
            process = await migrating(old_server.url)
            while not await reader.fetchval(WAITING):
                assert process.returncode is None
            process.kill()
            await process.wait()
    assert await reader.fetchval("SELECT count(*) FROM deliveries") == OF_A_STREAM + ALONE + DELIVERED
    await reader.close()
    await assert_delivered(old_server, receiver)
