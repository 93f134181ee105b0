"""Whatever connection a producer holds: what is added is part of its transaction, or it is told why not."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg
import psycopg
import psycopg2
import psycopg2.extras
import pytest
from django.db import connections, transaction
from django.db.backends.dummy.base import DatabaseWrapper
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from relay import outbox
from relay.outbox.errors import DuplicateDelivery, InvalidDelivery
from relay.outbox.migrations import OUTBOX
from relay.outbox.model import Kind, Method, NewDelivery, OnDead, Stream
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.sqlite.migrating import migrate
from relay.outbox.store import Database
from tests.relay.databases import on_sqlite
from tests.relay.deliveries import TRACE, new, rows
from tests.relay.outbox.old import make_sqlite
from tests.relay.outbox.producers import Producer, django_settings, done, every_kind, sqlalchemy_url
from tests.services.postgres import Server

_POSTGRES = pytest.mark.needs("postgres")
on_postgres = pytest.mark.parametrize("database", [pytest.param("postgres", marks=_POSTGRES)], indirect=True)

IN_AUTOCOMMIT = r"^connection: in autocommit mode; "
FAILED = r"^connection: its transaction has failed; roll it back"
CLOSED = r"^connection: closed, or back in its pool; pass an open one"
NO_OUTBOX = r"^connection: its database has no outbox, .*`relay migrate`$"


@every_kind
def test_a_delivery_exists_once_the_transaction_commits(producer: Producer) -> None:
    async def add(connection: Any) -> None:
        await done(outbox.add(connection, new()))
        assert rows(producer.database, "SELECT id FROM outspoken_deliveries") == []

    producer.commit(add)
    assert rows(producer.database, "SELECT id, state FROM outspoken_deliveries") == [("d1", "pending")]


@every_kind
def test_nothing_is_left_of_one_whose_transaction_was_rolled_back(producer: Producer) -> None:
    producer.roll_back(new(), new("d2", stream=Stream("s")))
    for table in ("deliveries", "bodies", "destinations", "streams"):
        assert rows(producer.database, f"SELECT * FROM outspoken_{table}") == []


@every_kind
def test_everything_that_was_handed_in_is_stored(producer: Producer) -> None:
    body = bytes(range(256)) + "100 % 'ü' %s :name $1 ? \\".encode()
    headers = {"x-100%": "50 %s :name"}
    given = NewDelivery(
        "id-%s", "https://h.example/x?y=%41:b", body, Method.PUT, Kind.ERROR, "text/plain", headers, TRACE,
        "exponential", Stream("s", OnDead.KILL),
    )  # fmt: skip
    producer.put(given, new("plain"))
    found = (
        "SELECT outspoken_deliveries.id, url, body, method, kind, content_type, headers, traceparent, "
        "schedule FROM outspoken_deliveries"
    )
    assert rows(producer.database, f"{found} JOIN outspoken_bodies USING (seq) WHERE stream_id IS NOT NULL") == [
        ("id-%s", "https://h.example/x?y=%41:b", body, "PUT", "error", "text/plain", '{"x-100%": "50 %s :name"}',
         TRACE, "exponential"),
    ]  # fmt: skip


@every_kind
def test_what_is_refused_leaves_the_transaction_as_good_as_it_was(producer: Producer) -> None:
    producer.put(new("taken"))

    async def add(connection: Any) -> None:
        with pytest.raises(DuplicateDelivery):
            await done(outbox.add(connection, new("taken")))
        with pytest.raises(InvalidDelivery, match="url"):
            await done(outbox.add(connection, new("bad", url="ftp://h.example")))
        await done(outbox.add(connection, new("good")))

    producer.commit(add)
    assert rows(producer.database, "SELECT id FROM outspoken_deliveries ORDER BY seq") == [("taken",), ("good",)]


@every_kind
def test_a_stream_begins_is_kept_and_ends(producer: Producer) -> None:
    producer.begin(Stream("s", live_until=1e10), "https://h.example/x")
    producer.keep(["s"], 2e10)
    assert rows(producer.database, "SELECT key, state, producer_until FROM outspoken_streams") == [("s", "open", 2e10)]
    producer.end("s")
    assert rows(producer.database, "SELECT key, state FROM outspoken_streams") == [("s", "closed")]


def on_sqlite3(database: Database) -> None:
    with closing(sqlite3.connect(database.name, isolation_level=None)) as connection:
        outbox.add(connection, new())


def on_aiosqlite(database: Database) -> None:
    async def add() -> None:
        async with aiosqlite.connect(database.name, isolation_level=None) as connection:
            await outbox.add(connection, new())

    asyncio.run(add())


def on_asyncpg(database: Database) -> None:
    async def add() -> None:
        connection = await asyncpg.connect(database.url)
        try:
            await outbox.add(connection, new())
        finally:
            await connection.close()

    asyncio.run(add())


def on_psycopg(database: Database) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        outbox.add(connection, new())


def on_async_psycopg(database: Database) -> None:
    async def add() -> None:
        async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as connection:
            await outbox.add(connection, new())

    asyncio.run(add())


def on_psycopg2(database: Database) -> None:
    with closing(psycopg2.connect(database.url)) as connection:
        connection.autocommit = True
        outbox.add(connection, new())


def on_django(database: Database) -> None:
    django_settings(database)
    with closing(connections["outbox"]) as connection:
        outbox.add(connection, new())


def on_a_session(driver: str) -> Callable[[Database], None]:
    def add(database: Database) -> None:
        engine = create_engine(sqlalchemy_url(database, driver), isolation_level="AUTOCOMMIT")
        with Session(engine) as session:
            session.execute(text("SELECT 1"))
            try:
                outbox.add(session, new())
            finally:
                session.close()
                engine.dispose()

    return add


def on_an_async_session(driver: str) -> Callable[[Database], None]:
    def add(database: Database) -> None:
        async def one() -> None:
            engine = create_async_engine(sqlalchemy_url(database, driver), isolation_level="AUTOCOMMIT")
            try:
                async with AsyncSession(engine) as session:
                    await outbox.add(session, new())
            finally:
                await engine.dispose()

        asyncio.run(one())

    return add


@pytest.mark.parametrize(
    ("database", "add"),
    [
        pytest.param("sqlite", on_sqlite3, id="sqlite3"),
        pytest.param("sqlite", on_aiosqlite, id="aiosqlite"),
        pytest.param("sqlite", on_django, id="django-sqlite"),
        pytest.param("sqlite", on_a_session("pysqlite"), id="session-sqlite3"),
        pytest.param("sqlite", on_an_async_session("aiosqlite"), id="session-aiosqlite"),
        *(
            pytest.param("postgres", add, id=name, marks=_POSTGRES)
            for name, add in {
                "asyncpg": on_asyncpg,
                "psycopg": on_psycopg,
                "psycopg-async": on_async_psycopg,
                "psycopg2": on_psycopg2,
                "django-postgres": on_django,
                "session-psycopg": on_a_session("psycopg"),
                "session-psycopg2": on_a_session("psycopg2"),
                "session-asyncpg": on_an_async_session("asyncpg"),
                "session-psycopg-async": on_an_async_session("psycopg"),
            }.items()
        ),
    ],
    indirect=["database"],
)
def test_where_every_statement_is_committed_by_itself_nothing_is_added(
    database: Database, add: Callable[[Database], None]
) -> None:
    with pytest.raises(InvalidDelivery, match=IN_AUTOCOMMIT):
        add(database)
    assert rows(database, "SELECT id FROM outspoken_deliveries") == []


@on_postgres
def test_a_transaction_that_has_failed_is_refused_until_it_is_rolled_back(database: Database) -> None:
    django_settings(database)
    engine = create_engine(sqlalchemy_url(database, "psycopg2"))
    with (
        psycopg.connect(database.url) as three,
        closing(psycopg2.connect(database.url)) as two,
        Session(engine) as session,
        closing(connections["outbox"]) as django,
    ):
        for number, connection in enumerate((three, two)):
            with pytest.raises((psycopg.Error, psycopg2.Error)):
                connection.cursor().execute("SELECT 1 / 0")
            with pytest.raises(InvalidDelivery, match=FAILED):
                outbox.add(connection, new("no"))
            connection.rollback()
            outbox.add(connection, new(f"yes{number}"))
            connection.commit()
        with pytest.raises(DBAPIError):
            session.execute(text("SELECT 1 / 0"))
        with pytest.raises(InvalidDelivery, match=FAILED):
            outbox.add(session, new("no"))
        session.rollback()
        outbox.add(session, new("yes2"))
        session.commit()
        with transaction.atomic(using="outbox"):
            transaction.set_rollback(True, using="outbox")
            with pytest.raises(InvalidDelivery, match=FAILED):
                outbox.add(django, new("no"))
        with transaction.atomic(using="outbox"):
            outbox.add(django, new("yes3"))
    engine.dispose()
    assert rows(database, "SELECT id FROM outspoken_deliveries ORDER BY seq") == [
        (f"yes{number}",) for number in range(4)
    ]


@on_postgres
def test_a_closed_connection_is_refused(database: Database) -> None:
    engine = create_engine(sqlalchemy_url(database, "psycopg"))
    for connection in (psycopg.connect(database.url), psycopg2.connect(database.url), engine.connect()):
        connection.close()
        with pytest.raises(InvalidDelivery, match=CLOSED):
            outbox.add(connection, new())
    engine.dispose()


@on_sqlite
def test_a_closed_file_is_refused(database: Database) -> None:
    connection = sqlite3.connect(database.name)
    connection.close()
    with pytest.raises(InvalidDelivery, match=CLOSED):
        outbox.add(connection, new())


def test_a_file_without_an_outbox_is_told_of(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection, pytest.raises(InvalidDelivery, match=NO_OUTBOX):
        outbox.add(connection, new())
    engine = create_engine(f"sqlite:///{tmp_path}/other.db")
    with Session(engine) as session, pytest.raises(InvalidDelivery, match=NO_OUTBOX):
        outbox.add(session, new())
    engine.dispose()


def test_a_file_with_an_older_outbox_is_told_of(tmp_path: Path) -> None:
    first, *_ = known = OUTBOX.migrations("sqlite")
    older = [one for one in known if one.number < 11]
    make_sqlite(tmp_path / "first.db", [first])
    migrate(tmp_path / "older.db", [tuple(older)])
    for name, table in (("first", "deliveries"), ("older", "outspoken_deliveries")):
        with closing(sqlite3.connect(tmp_path / f"{name}.db")) as connection:
            with pytest.raises(InvalidDelivery, match=NO_OUTBOX):
                outbox.add(connection, new("x" * 256))
            connection.commit()
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=_POSTGRES)])
def test_so_is_one_that_is_newer_in_a_way_that_does_not_fit(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if database == "sqlite":
        place: Database = SqliteDatabase(tmp_path / "newer.db")
    else:
        server: Server = request.getfixturevalue("postgres")
        place = PostgresDatabase(server.url(server.create()))
    place.migrate([OUTBOX])
    engine = create_engine(sqlalchemy_url(place, "pysqlite" if database == "sqlite" else "psycopg"))
    with engine.begin() as connection:
        if database == "sqlite":
            connection.execute(text("ALTER TABLE outspoken_deliveries RENAME COLUMN owner TO tenant"))
        else:
            connection.execute(text("ALTER SCHEMA outspoken RENAME TO elsewhere"))
    with Session(engine) as session:
        for add in (lambda: outbox.add(session, new()), lambda: outbox.add_many(session, [new()])):
            with pytest.raises(InvalidDelivery, match=NO_OUTBOX):
                add()
            session.rollback()
    engine.dispose()


def test_a_database_of_another_kind_is_named() -> None:
    django = DatabaseWrapper({"ENGINE": "django.db.backends.dummy"})
    with pytest.raises(InvalidDelivery, match=r"^connection: the outbox is on .*, and not on unknown$"):
        outbox.add(django, new())


@on_postgres
async def test_a_closed_one_is_refused_where_it_has_to_be_awaited(database: Database) -> None:
    engine = create_async_engine(sqlalchemy_url(database, "asyncpg"))
    closed: list[Any] = [await psycopg.AsyncConnection.connect(database.url), await engine.connect()]
    for connection in closed:
        await connection.close()
        with pytest.raises(InvalidDelivery, match=CLOSED):
            await outbox.add(connection, new())
    await engine.dispose()
    file = await aiosqlite.connect(":memory:")
    await file.close()
    with pytest.raises(InvalidDelivery, match=CLOSED):
        await outbox.add(file, new())


@pytest.mark.needs("postgres")
async def test_a_server_without_an_outbox_is_told_of(postgres: Server) -> None:
    url = postgres.url(postgres.create())
    with psycopg.connect(url) as connection, pytest.raises(InvalidDelivery, match=NO_OUTBOX):
        outbox.add(connection, new())
    asynchronous = await asyncpg.connect(url)
    with pytest.raises(InvalidDelivery, match=NO_OUTBOX):
        async with asynchronous.transaction():
            await outbox.add(asynchronous, new())
    await asynchronous.close()


@on_postgres
def test_what_rows_the_callers_own_cursors_give_does_not_matter(database: Database) -> None:
    with psycopg.connect(database.url, row_factory=psycopg.rows.dict_row, cursor_factory=psycopg.RawCursor) as three:
        outbox.add(three, new("three"))
    with closing(psycopg2.connect(database.url, cursor_factory=psycopg2.extras.RealDictCursor)) as two, two:
        outbox.add(two, new("two"))
    assert rows(database, "SELECT id FROM outspoken_deliveries ORDER BY seq") == [("three",), ("two",)]


IN_A_SAVEPOINT = r"^connection: in a savepoint, .*have SQLAlchemy begin transactions itself"


@on_sqlite
def test_a_savepoint_around_which_there_may_be_no_transaction_is_refused(database: Database) -> None:
    engine = create_engine(sqlalchemy_url(database, "pysqlite"))
    with Session(engine) as session:
        with session.begin_nested(), pytest.raises(InvalidDelivery, match=IN_A_SAVEPOINT):
            outbox.add(session, new())
        session.rollback()
    engine.dispose()
    assert rows(database, "SELECT id FROM outspoken_deliveries") == []


@on_sqlite
def test_so_it_is_on_aiosqlite(database: Database) -> None:
    async def add() -> None:
        engine = create_async_engine(sqlalchemy_url(database, "aiosqlite"))
        async with AsyncSession(engine) as session, session.begin_nested():
            with pytest.raises(InvalidDelivery, match=IN_A_SAVEPOINT):
                await outbox.add(session, new())
        await engine.dispose()

    asyncio.run(add())
    assert rows(database, "SELECT id FROM outspoken_deliveries") == []


@on_sqlite
def test_it_is_taken_where_sqlalchemy_begins_transactions_itself(database: Database) -> None:
    def leave_them_to_sqlalchemy(connection: Any, _: object) -> None:
        connection.isolation_level = None

    async def add() -> None:
        engine = create_async_engine(sqlalchemy_url(database, "aiosqlite"))
        event.listen(engine.sync_engine, "connect", leave_them_to_sqlalchemy)
        event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        for name, end in (("kept", AsyncSession.commit), ("undone", AsyncSession.rollback)):
            async with AsyncSession(engine) as session:
                async with session.begin_nested():
                    await outbox.add(session, new(name))
                await end(session)
        await engine.dispose()

    asyncio.run(add())
    assert rows(database, "SELECT id FROM outspoken_deliveries") == [("kept",)]


@on_sqlite
def test_sessions_and_django_notify_after_their_commit(database: Database) -> None:
    async def heard_of(commit: Callable[[], None]) -> None:
        heard = asyncio.Event()
        listener = database.listener(heard)
        await listener.open()
        await asyncio.to_thread(commit)
        await heard.wait()
        await listener.close()

    def by_a_session() -> None:
        engine = create_engine(database.url)
        with Session(engine) as session, session.begin():
            outbox.add(session, new("session"))
        engine.dispose()

    def by_django() -> None:
        django_settings(database)
        with closing(connections["outbox"]) as connection, transaction.atomic(using="outbox"):
            outbox.add(connection, new("django"))

    asyncio.run(heard_of(by_a_session))
    asyncio.run(heard_of(by_django))


def test_anything_else_is_told_what_is_taken() -> None:
    with pytest.raises(
        TypeError, match=r"^connection: expected .*psycopg.*SQLAlchemy.*Django's connection; got builtins\.str$"
    ):
        outbox.add("postgresql://localhost", new())  # type: ignore[call-overload]


@on_sqlite
async def test_a_call_that_was_not_awaited_fails_the_commit_of_its_session(database: Database) -> None:
    engine = create_async_engine(sqlalchemy_url(database, "aiosqlite"))
    async with AsyncSession(engine) as session:
        late, never = outbox.add(session, new("late")), outbox.add(session, new("never"))
        await outbox.add(session, new("at once"))
        with pytest.raises(InvalidDelivery, match=r"^connection: a call on this session was not awaited"):
            await session.commit()
        never.close()
        await session.rollback()  # what was rolled back is no longer waited for
        await outbox.add(session, new("after"))
        await session.commit()
        with pytest.raises(InvalidDelivery, match=r"^connection: a call on this session was not awaited"):
            other = outbox.cancel(session, "after")
            await session.commit()
        assert await other
        await late
        await session.commit()
    await engine.dispose()
    assert rows(database, "SELECT id, state FROM outspoken_deliveries ORDER BY seq") == [
        ("after", "cancelled"),
        ("late", "pending"),
    ]
