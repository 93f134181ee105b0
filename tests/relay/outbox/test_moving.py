"""What is in the way of a move is said before anything is copied, and never a secret with it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay.outbox import OUTBOX
from relay.outbox.errors import MoveRefused, SchemaError, StoreUnavailable, UnfinishedMove
from relay.outbox.moving import MoveProgress, move
from relay.outbox.moving.tables import Table, in_order
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.sqlite.migrating import migrate
from relay.outbox.store import Database
from relay.queue.deliveries import DeliveryQueue
from tests.relay.deliveries import apart, many, new, put, rows
from tests.services.postgres import Server

SOON = 1.0e11


def silent(_: MoveProgress) -> None:
    """Nobody waits for it."""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.needs("postgres"))])
def target(request: pytest.FixtureRequest, folder: Path) -> Iterator[Database]:
    """A place where nothing is yet."""
    if request.param == "sqlite":
        yield SqliteDatabase(folder / "target" / "new.db")
        return
    server: Server = request.getfixturevalue("postgres")
    name = server.create()
    yield PostgresDatabase(server.url(name).replace("postgres@", "postgres:canary@"))
    server.drop(name)


def refuses(database: Database, target: Database, words: str) -> None:
    with pytest.raises(MoveRefused, match=words) as refused:
        apart(lambda: move(database, target, silent))
    assert "canary" not in str(refused.value)


class Interrupted(Exception):
    """Somebody changed their mind."""


def interrupt(progress: MoveProgress) -> None:
    """In the middle of the deliveries."""
    if progress.table == "deliveries" and progress.done:
        raise Interrupted


def test_all_of_an_outbox_arrives_and_is_told_by_table(database: Database, target: Database) -> None:
    put(database, *many(3), new("other", "https://other.example/"))
    told: list[MoveProgress] = []
    moved = move(database, target, told.append)
    assert {name: count for name, count in moved.rows.items() if count} == {
        "bodies": 4,
        "deliveries": 4,
        "secrets": 1,
    }
    query = "SELECT seq, id, body, created_at FROM outspoken_deliveries JOIN outspoken_bodies USING (seq) ORDER BY seq"
    assert rows(target, query) == rows(database, query)
    assert rows(target, "SELECT value FROM outspoken_secrets") == rows(database, "SELECT value FROM outspoken_secrets")
    assert [one for one in told if one.table == "bodies"] == [
        MoveProgress("copy", "bodies", 0, 4),
        MoveProgress("copy", "bodies", 4, 4),
        MoveProgress("compare", "bodies", 4, 8),
        MoveProgress("compare", "bodies", 8, 8),
    ]
    assert target.migrate([OUTBOX]) == ()


async def test_a_source_with_a_relay_at_work_is_refused(database: Database, target: Database) -> None:
    relay = DeliveryQueue(database)
    await relay.group.check_in()
    await relay.close()
    refuses(database, target, "somebody is at work there: .*1 relays seen lately.* Stop the engine and the relay first")


def test_a_source_whose_leases_hold_is_refused_unless_nobody_is_there(database: Database, target: Database) -> None:
    put(database, new())
    rows(database, "UPDATE outspoken_deliveries SET state = 'leased', lease_token = 't', lease_until = ?", SOON)
    refuses(database, target, "1 deliveries leased")
    assert move(database, target, silent, anyway=True).rows["deliveries"] == 1


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_file_that_a_process_is_at_work_on_is_refused(database: Database, target: Database) -> None:
    with closing(database.liveness()):
        refuses(database, target, "1 process on it")
    assert move(database, target, silent).rows["secrets"] == 1


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
@pytest.mark.needs("postgres")
def test_a_server_with_sessions_of_others_is_refused(database: Database, target: Database) -> None:
    with database.reading():
        refuses(database, target, "1 process on it")


def test_while_it_lasts_nobody_writes_to_the_source(database: Database, target: Database) -> None:
    put(database, new())
    refused: list[str] = []

    async def write() -> None:
        writer = database.writer(busy_seconds=0.1)
        with pytest.raises(StoreUnavailable) as error:
            await writer.run(lambda connection: connection.execute("UPDATE outspoken_deliveries SET url = 'another'"))
        await writer.close()
        refused.append(error.value.kind)

    def tell(progress: MoveProgress) -> None:
        if progress == MoveProgress("copy", "deliveries", 1, 1):
            apart(lambda: asyncio.run(write()))

    move(database, target, tell)
    assert refused == ["busy"]


def test_a_target_that_holds_something_is_refused(database: Database, target: Database) -> None:
    target.migrate([OUTBOX])
    put(target, new("there"))
    refuses(database, target, "there are deliver.* in it already|there are destinations in it already")
    assert rows(target, "SELECT id FROM outspoken_deliveries") == [("there",)]


def test_a_database_is_not_moved_to_itself(database: Database) -> None:
    refuses(database, database, "is both the source and the target")


def test_what_is_half_there_belongs_to_its_source(database: Database, target: Database, folder: Path) -> None:
    other = SqliteDatabase(folder / "other.db")
    other.migrate([OUTBOX])
    put(database, *many(3))
    with pytest.raises(Interrupted):
        move(database, target, interrupt)
    with pytest.raises(UnfinishedMove, match="a move into this database was begun: run `relay migrate"):
        target.migrate([OUTBOX])
    refuses(other, target, "a move from another database was begun there")
    assert move(database, target, silent).rows["deliveries"] == 3
    assert target.migrate([OUTBOX]) == ()


def test_a_table_that_the_target_lacks_is_named_with_a_remedy(database: Database, target: Database) -> None:
    rows(database, "CREATE TABLE outspoken_extra (id INTEGER PRIMARY KEY)")
    try:
        refuses(database, target, "has no table extra: make it there first")
    finally:
        rows(database, "DROP TABLE outspoken_extra")


def test_a_column_that_the_target_lacks_is_named(database: Database, target: Database) -> None:
    target.migrate([OUTBOX])
    rows(target, "ALTER TABLE outspoken_attempts DROP COLUMN excerpt")
    refuses(database, target, r"has no column attempts\.excerpt: bring both up to date")


def test_a_source_of_an_older_version_is_brought_up_to_date_first(target: Database, folder: Path) -> None:
    old = folder / "old.db"
    migrate(old, [OUTBOX.migrations("sqlite")[:-1]])
    with pytest.raises(SchemaError, match=r"has outbox schema \d+, this program knows .*: run `relay migrate` on it"):
        move(SqliteDatabase(old), target, silent)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_text_that_postgresql_cannot_keep_is_named_before_it_is_sent(
    database: Database, target: Database, path: Path
) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO outspoken_audit VALUES (7, 1.0, 'a' || char(0) || 'b', 'cli', 'x', '{}')")
    if isinstance(target, SqliteDatabase):
        assert move(database, target, silent).rows["audit"] == 1
    else:
        refuses(database, target, r"audit 7: actor holds U\+0000, which .* cannot keep: take it out")


def test_tables_that_others_refer_to_come_first() -> None:
    def table(name: str, *others: str) -> Table:
        return Table(name, {}, ("id",), frozenset(others))

    tables = [table("a", "b", "a"), table("b", "d"), table("c"), table("d", "not moved")]
    assert [one.name for one in in_order(tables)] == ["c", "d", "b", "a"]
