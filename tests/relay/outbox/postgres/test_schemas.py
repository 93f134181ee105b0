"""Two installations in one database: each in a schema of its own, which a word of SQL may name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from engine.jobs.store import MIGRATION_SETS
from relay import outbox
from relay.app.in_process import relay_in_loop
from relay.app.settings import RelaySettings
from relay.outbox import InvalidDelivery, Outbox, Stream
from relay.outbox.errors import ConfigError
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.testing import Recording, added
from tests.acceptance.receiver import Arrival, Reply, receiving
from tests.cases import cases
from tests.relay.deliveries import new, put, rows, states
from tests.relay.outbox.test_neighbours import schema_of
from tests.services.postgres import Server

pytestmark = pytest.mark.needs("postgres")

OTHER = "order"


@pytest.fixture(scope="module")
def both(postgres: Server) -> Iterator[tuple[PostgresDatabase, PostgresDatabase]]:
    name = postgres.create()
    found = PostgresDatabase(postgres.url(name)), PostgresDatabase(postgres.url(name), schema_name=OTHER)
    for database in found:
        database.migrate(MIGRATION_SETS)
    yield found
    postgres.drop(name)


@pytest.fixture
def usual(both: tuple[PostgresDatabase, PostgresDatabase]) -> PostgresDatabase:
    rows(both[0], "TRUNCATE outspoken_deliveries CASCADE")
    return both[0]


@pytest.fixture
def other(both: tuple[PostgresDatabase, PostgresDatabase]) -> PostgresDatabase:
    rows(both[1], "TRUNCATE outspoken_deliveries CASCADE")
    return both[1]


def cells(place: PostgresDatabase) -> list[str]:
    return [str(cell) for found in schema_of(place).values() for row in found for cell in row]


def test_all_of_it_is_the_same_but_for_its_name(usual: PostgresDatabase, other: PostgresDatabase) -> None:
    there = [cell.replace('"order"', "outspoken").replace("'order'", "'outspoken'") for cell in cells(other)]
    assert there == cells(usual)
    assert not [cell for cell in cells(other) if "outspoken." in cell]


def test_the_sql_that_is_printed_makes_it(postgres: Server) -> None:
    name = postgres.create()
    place = PostgresDatabase(postgres.url(name), schema_name=OTHER)
    postgres.script(place.migration_script(MIGRATION_SETS), name)
    assert place.migrate(MIGRATION_SETS) == ()
    assert (
        postgres.sql("SELECT nspname FROM pg_namespace WHERE nspname IN ('outspoken', 'order')", name=name) == "order\n"
    )
    postgres.drop(name)


def test_a_producer_says_which_one_is_meant(usual: PostgresDatabase, other: PostgresDatabase) -> None:
    theirs = Outbox(OTHER)
    with psycopg.connect(usual.url) as connection:
        assert theirs.add(connection, new(tracked=True)) == "d1"
        assert theirs.add_many(connection, [new("d2"), new("d3")]) == ["d2", "d3"]
        assert [one.id for one in added(connection, OTHER)] == ["d1", "d2", "d3"]
        assert added(connection) == []
        assert outbox.add(connection, new("ours")) == "ours"
        assert theirs.cancel(connection, "d1")
        assert not outbox.cancel(connection, "d2")
        (ended,) = theirs.take_ended(connection)
        stands = theirs.status(connection, "d1")
        assert stands == ended
        assert outbox.status(connection, "d1") is None
    assert states(usual) == {"ours": "pending"}
    assert states(other) == {"d1": "cancelled", "d2": "pending", "d3": "pending"}


async def test_so_it_does_on_asyncpg_and_sqlalchemy(usual: PostgresDatabase, other: PostgresDatabase) -> None:
    theirs = Outbox(OTHER)
    session = await asyncpg.connect(usual.url)
    async with session.transaction():
        await theirs.begin_stream(session, Stream("s", live_until=9e9), "https://h.example/x")
        await theirs.keep_streams(session, ["s"], 9.5e9)
        await theirs.add(session, new(stream=Stream("s")))
        await theirs.end_stream(session, "s")
    await session.close()
    engine = create_async_engine(usual.url.replace("postgresql", "postgresql+asyncpg"))
    async with AsyncSession(engine) as one, one.begin():
        await theirs.add(one, new("d2"))
    await engine.dispose()
    assert (states(usual), states(other)) == ({}, {"d1": "pending", "d2": "pending"})
    assert rows(other, "SELECT key, state FROM outspoken_streams") == [("s", "ended")]


def test_our_own_connections_know_theirs(usual: PostgresDatabase, other: PostgresDatabase) -> None:
    with Recording(other) as recording:
        put(usual, new("ours"))
        put(other, new())
    assert [one.id for one in recording.deliveries] == ["d1"]
    with pytest.raises(TimeoutError, match="d1 is pending"):
        outbox.wait(other, "d1", timeout=0)
    with pytest.raises(TimeoutError, match="d1 is not in the outbox"):
        outbox.wait(usual, "d1", timeout=0)


async def test_a_relay_delivers_what_is_in_its_own(
    usual: PostgresDatabase, other: PostgresDatabase, structlog_as_it_was: None
) -> None:
    came: list[str] = []

    def take(arrival: Arrival, reply: Reply) -> None:
        came.append(arrival.id)
        reply(200)

    async with receiving(take) as port:
        guard = {"allow_networks": ["127.0.0.0/8"], "ports": [port]}
        settings: dict[str, Any] = {"url": other.url, "postgres_schema": OTHER, "guard": guard}
        for database, id_ in ((usual, "ours"), (other, "theirs")):
            put(database, new(id_, f"http://127.0.0.1:{port}/"))
        async with relay_in_loop(RelaySettings.of({"outbox": settings})):
            await outbox.wait_async(other, "theirs")
    assert came == ["theirs"]
    assert (states(usual), states(other)) == ({"ours": "pending"}, {"theirs": "delivered"})


def test_a_schema_that_is_not_there_is_no_outbox(usual: PostgresDatabase) -> None:
    with psycopg.connect(usual.url) as connection, pytest.raises(InvalidDelivery, match="its database has no outbox"):
        Outbox("elsewhere").add(connection, new())


@cases("name", ["", "public", "pg_mine", "Mine", "a-b", "1a", 'a"b', "a" * 64, "information_schema"])
def test_what_no_outbox_is_called_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^outbox\.postgres_schema: expected a name of its own"):
        Outbox(name)
    with pytest.raises(ConfigError, match=r"^outbox\.postgres_schema: expected a name of its own"):
        outbox.database_at("postgresql://db.example/app", name)


@pytest.mark.acceptance
def test_the_commands_take_it_from_the_settings(usual: PostgresDatabase, other: PostgresDatabase) -> None:
    put(usual, new("ours"))

    def relay(*words: str, schema: str) -> str:
        environ = {"OUTSPOKEN_OUTBOX__URL": usual.url, "OUTSPOKEN_OUTBOX__POSTGRES_SCHEMA": schema}
        command = [str(Path(sys.executable).with_name("relay")), *words]
        done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert "ours" in relay("list", schema="outspoken")
    assert "ours" not in relay("list", schema=OTHER)
    assert relay("migrate", schema=OTHER) == "up to date\n"
    found = relay("doctor", schema=OTHER)
    assert "the role may read and write every table" in found
    assert "outbox.postgres_schema" in relay("migrate", schema="public")
