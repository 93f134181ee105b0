"""The outbox in a database of somebody else's: beside an application's own tables, made by other tools, and moved there
from where earlier versions kept it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import create_engine, text

from engine.jobs.store import JOBS, MIGRATION_SETS
from relay.outbox import OUTBOX
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.sqlite.database import SqliteDatabase
from tests.relay.deliveries import new, put, rows, states
from tests.relay.outbox.old import before_the_schema, make_postgres, make_sqlite, sqlite_rows
from tests.services.postgres import Server

Neighbours = SqliteDatabase | PostgresDatabase

THEIRS = ("deliveries", "destinations", "migrations", "jobs", "secrets")
# What the tables are, whatever they are called by: by their names here, old ones and new ones apart.
SCHEMA = {
    "columns": """
        SELECT table_name, column_name, ordinal_position, column_default, is_nullable, data_type, is_identity
        FROM information_schema.columns WHERE table_schema = 'outspoken' ORDER BY 1, 3""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'outspoken'::regnamespace ORDER BY 1, 2""",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'outspoken' ORDER BY 1",
    "tables": """
        SELECT relname, relkind::text, reloptions::text FROM pg_class
        WHERE relnamespace = 'outspoken'::regnamespace ORDER BY 1""",
    "triggers": """
        SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(pg_trigger.oid) FROM pg_trigger
        JOIN pg_class ON pg_class.oid = tgrelid
        WHERE relnamespace = 'outspoken'::regnamespace AND NOT tgisinternal ORDER BY 1, 2""",
    "functions": """
        SELECT proname, pg_get_functiondef(oid), proacl::text FROM pg_proc
        WHERE pronamespace = 'outspoken'::regnamespace ORDER BY 1, 2""",
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = 'outspoken' ORDER BY 1",
}
PAST = """
INSERT INTO destinations (origin, state) VALUES ('http://h:80', 'paused');
INSERT INTO streams (key, position) VALUES ('s', 2), ('forgotten', 1);
DELETE FROM streams WHERE key = 'forgotten';
INSERT INTO deliveries (id, destination_id, url, body_bytes, created_at, due_at, stream_id, position, state, attempts,
                        lease_token, lease_until, finished_at, reason)
VALUES ('pending', 1, 'http://h/', 2, 1, 1, NULL, NULL, 'pending', 0, NULL, NULL, NULL, NULL),
       ('leased', 1, 'http://h/', 2, 1, 1, NULL, NULL, 'leased', 0, 't', 9e9, NULL, NULL),
       ('dead', 1, 'http://h/', 2, 1, 1, NULL, NULL, 'dead', 1, NULL, NULL, 2, 'exhausted'),
       ('first', 1, 'http://h/', 2, 1, 1, 1, 1, 'pending', 0, NULL, NULL, NULL, NULL),
       ('second', 1, 'http://h/', 2, 1, NULL, 1, 2, 'pending', 0, NULL, NULL, NULL, NULL);
INSERT INTO bodies (seq, body) SELECT seq, 'xx' FROM deliveries;
INSERT INTO attempts (seq, number, started_at, lag, duration, outcome) VALUES (3, 1, 1, 0, 0, 'connect');
INSERT INTO signing_keys (key, created_at) VALUES ('whsec_x', 1);
INSERT INTO audit (at, actor, source, act, detail) VALUES (1, 'ada', 'cli', 'delivery.replay', '{}');
INSERT INTO jobs (id, request, media, has_audio, created_at, due_at, bytes, key_id)
VALUES ('job', '{"dialect": "deepgram"}', '{"size": 3}', 1, 1, 1, 3, 'k');
INSERT INTO uploads (id, key_id, filename, extension, size, sha256, duration, channels, created_at)
VALUES ('u', 'k', 'f', 'wav', 1, 'x', 1, 1, 1);
"""
WAITING = """
SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
               WHERE NOT granted AND datname = current_database())
"""
KEPT = ("deliveries", "streams", "bodies", "attempts", "signing_keys", "audit", "secrets")
DELIVERY = """
seq, id, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at,
scheduled_from, schedule, stream_id, position, pointer, state, attempts, lapses,
lease_token, lease_until, finished_at, reason
"""
KEPT_BY_THE_ENGINE = ("jobs", "queues", "uploads", "results", "api_keys")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.needs("postgres"))])
def place(request: pytest.FixtureRequest, folder: Path) -> Iterator[Neighbours]:
    """A database without an outbox."""
    if request.param == "sqlite":
        yield SqliteDatabase(folder / "app.db")
        return
    server: Server = request.getfixturevalue("postgres")
    name = server.create()
    yield PostgresDatabase(server.url(name))
    server.drop(name)


def schema_of(place: Neighbours) -> dict[str, Any]:
    """All that is ours, whatever its spelling."""
    if isinstance(place, PostgresDatabase):
        return {what: rows(place, sql.strip()) for what, sql in SCHEMA.items()}
    found = sqlite_rows(place.path, "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {str(name): _plain(str(sql)) for name, sql in found}


def _plain(sql: str) -> str:
    lines = (line.partition("--")[0] for line in sql.splitlines())
    return "".join("".join(lines).replace('"', "").split())


def dump(place: Neighbours, tables: tuple[str, ...], prefix: str) -> dict[str, list[Any]]:
    return {table: sorted(rows(place, f"SELECT {_columns(table)} FROM {prefix}{table}"), key=repr) for table in tables}


def as_before(now: dict[str, list[Any]], before: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The columns that were there before: later ones have been added behind them."""
    return {table: [row[: len(before[table][0])] for row in found] for table, found in now.items()}


def _columns(table: str) -> str:
    """Those that were there before the move, and still are."""
    return {"deliveries": DELIVERY, "signing_keys": "id, key, created_at, retires_at"}.get(table, "*")


def make_old(place: Neighbours) -> None:
    """With something in it, as the version before the schema left it."""
    if isinstance(place, PostgresDatabase):
        make_postgres(place, *(before_the_schema(room, "postgres") for room in MIGRATION_SETS))
        with place.writing() as connection:
            connection.script(PAST)  # type: ignore[attr-defined]
        return
    make_sqlite(place.path, *(before_the_schema(room, "sqlite") for room in MIGRATION_SETS))
    with closing(sqlite3.connect(place.path)) as file:
        file.executescript(PAST.replace("'xx'", "x'7878'"))


def test_tables_of_the_same_names_are_left_alone(place: Neighbours) -> None:
    make_theirs(place)
    assert place.migrate(MIGRATION_SETS)
    put(place, new())
    assert states(place) == {"d1": "pending"}
    assert {table: rows(place, f"SELECT * FROM {table}") for table in THEIRS} == {table: [(7,)] for table in THEIRS}
    assert place.migrate(MIGRATION_SETS) == ()


def make_theirs(place: Neighbours) -> None:
    if isinstance(place, SqliteDatabase):
        sqlite3.connect(place.path).close()
        with closing(sqlite3.connect(place.path)) as file:
            file.executescript(
                "".join(f"CREATE TABLE {one} (x INTEGER); INSERT INTO {one} VALUES (7);" for one in THEIRS)
            )
        return
    for table in THEIRS:
        rows(place, f"CREATE TABLE {table} (x INTEGER)")
        rows(place, f"INSERT INTO {table} VALUES (7)")


def test_an_old_database_is_moved_with_everything_in_it(place: Neighbours) -> None:
    make_old(place)
    tables = KEPT + KEPT_BY_THE_ENGINE
    before = dump(place, tables, "")
    assert {one.name for one in place.migrate(MIGRATION_SETS)} >= {"schema"}
    assert as_before(dump(place, tables, "outspoken_"), before) == before
    assert len(before["deliveries"]) == 5
    assert rows(place, "SELECT origin, path, state, held FROM outspoken_destinations") == [
        ("http://h:80", "", "paused", 1)
    ]
    assert set(rows(place, "SELECT origin, path FROM outspoken_deliveries")) == {("http://h:80", "/")}
    assert place.migrate(MIGRATION_SETS) == ()
    put(place, new("after", "http://h/"))
    assert rows(place, "SELECT seq FROM outspoken_deliveries WHERE id = 'after'") == [(6,)]


def test_a_moved_database_and_a_new_one_are_the_same(
    place: Neighbours, folder: Path, request: pytest.FixtureRequest
) -> None:
    make_old(place)
    place.migrate(MIGRATION_SETS)
    if isinstance(place, SqliteDatabase):
        fresh: Neighbours = SqliteDatabase(folder / "fresh.db")
    else:
        server: Server = request.getfixturevalue("postgres")
        fresh = PostgresDatabase(server.url(server.create()))
    fresh.migrate(MIGRATION_SETS)
    assert schema_of(place) == schema_of(fresh)


def test_the_relay_moves_what_is_its_own_and_the_engine_the_rest(place: Neighbours) -> None:
    make_old(place)
    before = dump(place, KEPT_BY_THE_ENGINE, "")
    assert {one.room for one in place.migrate([OUTBOX])} == {"outbox"}
    assert dump(place, KEPT_BY_THE_ENGINE, "") == before
    assert {one.room for one in place.migrate(MIGRATION_SETS)} == {"jobs"}
    assert as_before(dump(place, KEPT_BY_THE_ENGINE, "outspoken_"), before) == before
    assert place.migrate([JOBS]) == ()


def test_the_sql_that_is_printed_makes_the_same(
    place: Neighbours, folder: Path, request: pytest.FixtureRequest
) -> None:
    script = folder / "outbox.sql"
    script.write_text(place.migration_script(MIGRATION_SETS))
    if isinstance(place, SqliteDatabase):
        with closing(sqlite3.connect(place.path)) as file:
            file.executescript(script.read_text())
        fresh: Neighbours = SqliteDatabase(folder / "fresh.db")
    else:
        server: Server = request.getfixturevalue("postgres")
        server.script(script.read_text(), place.url.rpartition("/")[2])
        fresh = PostgresDatabase(server.url(server.create()))
    assert place.migrate(MIGRATION_SETS) == ()
    fresh.migrate(MIGRATION_SETS)
    assert schema_of(place) == schema_of(fresh)
    put(place, new())
    assert states(place) == {"d1": "pending"}


@pytest.mark.acceptance
@pytest.mark.parametrize("place", ["postgres"], indirect=True)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_sqlalchemy_runs_it_as_the_guide_says(place: PostgresDatabase, driver: str) -> None:
    sql = "\n".join(place.migration_script(MIGRATION_SETS).splitlines()[1:-1])
    engine = create_engine(place.url.replace("postgresql", f"postgresql+{driver}"))
    with engine.begin() as connection:
        connection.execute(text(sql.replace(":", "\\:")))
    engine.dispose()
    assert place.migrate(MIGRATION_SETS) == ()
    put(place, new())


async def test_a_running_loop_is_no_hindrance(place: Neighbours) -> None:
    assert place.migrate([OUTBOX])
    assert place.migrate([OUTBOX]) == ()


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_a_move_that_is_cut_short_leaves_the_old_database(place: PostgresDatabase, postgres: Server) -> None:
    make_old(place)
    before = dump(place, KEPT, "")
    rows(place, "CREATE SCHEMA outspoken")
    rows(place, "CREATE TABLE outspoken.api_keys (x INTEGER)")  # in the way of the last of them
    with pytest.raises(Exception, match="api_keys"):
        place.migrate(MIGRATION_SETS)
    assert dump(place, KEPT, "") == before
    rows(place, "DROP TABLE outspoken.api_keys")
    place.migrate(MIGRATION_SETS)
    assert dump(place, KEPT, "outspoken_") == before


@pytest.mark.acceptance
@pytest.mark.parametrize("place", ["postgres"], indirect=True)
async def test_a_move_that_is_killed_in_the_middle_leaves_the_old_database_too(place: PostgresDatabase) -> None:
    await asyncio.to_thread(make_old, place)
    before = await asyncio.to_thread(dump, place, KEPT, "")
    command = [str(Path(sys.executable).with_name("relay")), "migrate"]
    reader = await asyncpg.connect(place.url)
    async with reader.transaction():
        await reader.execute("SELECT FROM secrets")  # the last of them, for which the move has to wait
        moving = await asyncio.create_subprocess_exec(*command, env=os.environ | {"OUTSPOKEN_OUTBOX__URL": place.url})
        while not await reader.fetchval(WAITING):
            await asyncio.sleep(0.01)
        moving.kill()
        await moving.wait()
    await reader.close()
    assert await asyncio.to_thread(dump, place, KEPT, "") == before
    place.migrate(MIGRATION_SETS)
    assert await asyncio.to_thread(dump, place, KEPT, "outspoken_") == before


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_producers_may_go_on_calling_the_functions_by_their_old_names(
    place: PostgresDatabase, postgres: Server
) -> None:
    make_old(place)
    name = place.url.rpartition("/")[2]
    postgres.sql(
        "CREATE ROLE before",
        "GRANT EXECUTE ON FUNCTION outspoken_add_v1, outspoken_try_add_v1, outspoken_begin_stream_v1,"
        " outspoken_keep_streams_v1, outspoken_end_stream_v1 TO before",
        "GRANT SELECT ON outspoken_deliveries_v1, outspoken_streams_v1 TO before",
        name=name,
    )
    place.migrate(MIGRATION_SETS)
    said = postgres.sql(
        "SET ROLE before",
        "SELECT outspoken_add_v1('new', 'http://h/', 'x')",
        "SELECT refusal FROM outspoken_try_add_v1('new', 'http://h/', 'x')",
        "SELECT outspoken_begin_stream_v1('live', 'http://h/', live_until => 9e9)",
        "SELECT outspoken_keep_streams_v1(ARRAY['live'], 9.5e9)",
        "SELECT outspoken_end_stream_v1('live')",
        "SELECT id, state FROM outspoken_deliveries_v1 WHERE id IN ('new', 'dead') ORDER BY id",
        "SELECT stream, state FROM outspoken_streams_v1 WHERE stream = 'live'",
        name=name,
    )
    assert said.split() == ["duplicate_delivery", "dead|dead", "new|pending", "live|closed"]
    postgres.sql("DROP OWNED BY before", "DROP ROLE before", name=name)


@pytest.mark.acceptance
def test_the_command_prints_it_without_a_connection(tmp_path: Path) -> None:
    for program in ("relay", "engine"):
        url = "postgresql://nobody@192.0.2.1:5432/nowhere"
        done = subprocess.run(
            [Path(sys.executable).with_name(program), "migrate", "--sql"],
            env=os.environ | {"OUTSPOKEN_OUTBOX__URL": url},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith("BEGIN;\n")
        assert "CREATE SCHEMA IF NOT EXISTS outspoken;" in done.stdout
        assert ("outspoken.jobs" in done.stdout) == (program == "engine")
