"""A SQLite file brought up to date: once, whoever else does, all of a migration or nothing."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from relay import outbox
from relay.outbox import OUTBOX
from relay.outbox.errors import SchemaError, StoreUnavailable
from relay.outbox.migrations import Migration
from relay.outbox.model import Stream
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.sqlite.migrating import migrate
from tests.relay.deliveries import new, put, rows
from tests.relay.outbox.old import make_sqlite
from tests.relay.outbox.sqlite.test_producer import tables_in_between
from tests.relay.outbox.sqlite.test_schema import IMPOSSIBLE, IMPOSSIBLE_STREAMS

FIRST = Migration("room", 1, "first", "CREATE TABLE a (x INTEGER);")
SECOND = Migration("room", 2, "second", "CREATE TABLE b (x INTEGER);")
_COUNT = "SELECT count(*) FROM outspoken_deliveries"


def schema_of(path: Path) -> dict[str, str]:
    """What everything in a file is, without comments, and whatever its spelling."""
    found = rows(SqliteDatabase(path), "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {name: "".join(re.sub('--.*|"', "", sql).split()) for name, sql in found}


def tables(path: Path) -> set[str]:
    return {name for (name,) in rows(SqliteDatabase(path), "SELECT name FROM sqlite_schema WHERE type = 'table'")}


def test_a_migration_is_applied_once(folder: Path) -> None:
    path = folder / "new.db"
    assert migrate(path, [(FIRST,)]) == (FIRST,)
    assert migrate(path, [(FIRST, SECOND)]) == (SECOND,)
    assert migrate(path, [(FIRST, SECOND)]) == ()


def test_what_is_up_to_date_waits_for_no_writer(folder: Path) -> None:
    path = folder / "new.db"
    migrate(path, [OUTBOX.migrations("sqlite")])
    with closing(outbox.connect(path)) as producer:
        producer.execute("BEGIN IMMEDIATE")
        assert migrate(path, [OUTBOX.migrations("sqlite")]) == ()


@pytest.mark.acceptance
def test_what_a_program_commits_after_it_brought_its_file_up_to_date_is_seen_by_others(folder: Path) -> None:
    database = SqliteDatabase(folder / "new.db")
    database.migrate([OUTBOX])
    with closing(outbox.connect(database.path)) as producer:
        producer.execute("SELECT 1 FROM outspoken_deliveries")
        database.migrate([OUTBOX])
        _run(f"outbox.connect({str(database.path)!r}).execute('PRAGMA user_version = 7')")
        producer.execute("BEGIN IMMEDIATE")
        outbox.add(producer, new("d1"))
        producer.execute("COMMIT")
        assert _run(f"print(outbox.connect({str(database.path)!r}).execute('{_COUNT}').fetchone())") == "(1,)\n"


def _run(code: str) -> str:
    """What a process of its own prints."""
    command = [sys.executable, "-c", f"from relay import outbox; {code}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_two_rooms_share_a_file_and_number_their_migrations_apart(folder: Path) -> None:
    path = folder / "new.db"
    other = Migration("another", 1, "first", "CREATE TABLE c (x INTEGER);")
    assert migrate(path, [(FIRST,), (other,)]) == (FIRST, other)
    assert {"a", "c"} <= tables(path)


@pytest.mark.acceptance
async def test_processes_that_start_at_once_apply_each_migration_once(folder: Path) -> None:
    path = folder / "new.db"
    code = "import sys; from relay import outbox; sys.stdin.read(1);" + (
        "print(len(outbox.database_at(sys.argv[1]).migrate([outbox.OUTBOX])))"
    )
    pipe = asyncio.subprocess.PIPE
    racers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, f"sqlite:///{path}", stdin=pipe, stdout=pipe)
        for _ in range(4)
    ]
    said = await asyncio.gather(*(racer.communicate(b"!") for racer in racers))
    assert [racer.returncode for racer in racers] == [0, 0, 0, 0]
    assert sum(int(out) for out, _ in said) == len(OUTBOX.migrations("sqlite"))


def test_a_newer_database_is_refused(folder: Path) -> None:
    path = folder / "new.db"
    migrate(path, [(FIRST, SECOND)])
    with pytest.raises(SchemaError, match="has room schema 2, this program knows 1: install a newer one"):
        migrate(path, [(FIRST,)])


def test_a_file_that_changed_after_it_was_applied_is_refused(folder: Path) -> None:
    path = folder / "new.db"
    migrate(path, [(FIRST,)])
    changed = Migration("room", 1, "first", FIRST.sql + " -- a second thought\n")
    with pytest.raises(SchemaError, match="room migration 0001 was changed"):
        migrate(path, [(changed,)])


def test_a_migration_that_fails_half_way_leaves_nothing(folder: Path) -> None:
    path = folder / "new.db"
    broken = Migration("room", 2, "broken", "CREATE TABLE half (x INTEGER);\nCREATE TABLE a (x INTEGER);\n")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(path, [(FIRST, broken)])
    assert tables(path).isdisjoint({"a", "half"})
    assert migrate(path, [(FIRST, SECOND)]) == (FIRST, SECOND)


@pytest.mark.parametrize("end", ["", "\n", " -- and no semicolon", "; -- done\n-- really\n"])
def test_the_last_statement_of_a_file_counts_with_or_without_its_semicolon(folder: Path, end: str) -> None:
    path = folder / "new.db"
    migrate(path, [(Migration("room", 1, "first", f"CREATE TABLE a (x);\nCREATE TABLE last (x){end}"),)])
    assert {"a", "last"} <= tables(path)


def test_a_semicolon_in_a_text_or_a_trigger_ends_no_statement(folder: Path) -> None:
    path = folder / "new.db"
    sql = "CREATE TABLE a (x TEXT DEFAULT ';\n');\nCREATE TRIGGER t AFTER INSERT ON a BEGIN\nDELETE FROM a;\nEND;\n"
    migrate(path, [(Migration("room", 1, "first", sql),)])
    assert rows(SqliteDatabase(path), "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'") == [(1,)]


def test_the_database_its_log_and_its_folder_are_for_their_owner_only(folder: Path) -> None:
    path = folder / "var" / "outspoken.db"
    old = os.umask(0)
    try:
        migrate(path, [OUTBOX.migrations("sqlite")])
        connection = outbox.connect(path)
        connection.execute("BEGIN IMMEDIATE")
        outbox.add(connection, new())
        connection.execute("COMMIT")
        modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
        connection.close()
    finally:
        os.umask(old)
    assert modes == {"outspoken.db": 0o600, "outspoken.db-wal": 0o600, "outspoken.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_connection_is_durable_private_and_checks_foreign_keys(path: Path) -> None:
    connection = outbox.connect(path)
    pragmas = ("journal_mode", "synchronous", "foreign_keys", "auto_vacuum", "secure_delete", "temp_store")
    values = [connection.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas]
    connection.close()
    assert values == ["wal", 2, 1, 2, 2, 2]


def test_a_file_that_is_no_database_is_refused_by_name(folder: Path) -> None:
    path = folder / "letter.txt"
    path.write_text("Dear Sir or Madam, " * 100)
    with pytest.raises(StoreUnavailable, match=r"outbox.url: .*letter.txt: file is not a database"):
        migrate(path, [(FIRST,)])
    assert path.read_text().startswith("Dear Sir")


def test_a_folder_that_cannot_be_made_is_named(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        migrate(folder / "file" / "outspoken.db", [(FIRST,)])


FIRST_RELEASE = OUTBOX.migrations("sqlite")[:1]
BASELINES = [one.number for one in OUTBOX.migrations("sqlite")[:-1] if one.baseline]
COMPARISONS = 13  # the file that takes IN out of the CHECKs
WITH_STREAMS = """
INSERT INTO destinations (origin) VALUES ('http://h:80');
INSERT INTO streams (id, key, on_dead, state, position)
VALUES (1, 'forgotten', 'skip', 'open', 1), (4, 'open', 'skip', 'open', 3), (5, 'killed', 'kill', 'killed', 2),
       (9, 'forgotten too', 'skip', 'open', 1);
INSERT INTO deliveries (id, destination_id, url, body_bytes, created_at, due_at, stream_id, position, state, attempts,
                        finished_at, reason)
VALUES ('a', 1, 'http://h/', 2, 1, 1, 4, 1, 'delivered', 1, 2, NULL), ('b', 1, 'http://h/', 2, 1, 1, 4, 2, 'pending', 0,
        NULL, NULL), ('c', 1, 'http://h/', 2, 1, NULL, 4, 3, 'pending', 0, NULL, NULL),
       ('x', 1, 'http://h/', 2, 1, 1, 5, 2, 'dead', 1, 2, 'stream_killed'),
       ('alone', 1, 'http://h/', 2, 1, 1, NULL, NULL, 'pending', 0, NULL, NULL);
INSERT INTO bodies SELECT seq, x'7b7d' FROM deliveries;
DELETE FROM streams WHERE key LIKE 'forgotten%';
"""


def test_a_database_of_the_first_release_keeps_its_streams_and_what_is_in_them(folder: Path) -> None:
    path = folder / "old.db"
    make_sqlite(path, FIRST_RELEASE)
    with closing(outbox.connect(path)) as connection:
        connection.executescript(WITH_STREAMS)
    assert migrate(path, [OUTBOX.migrations("sqlite")]) == OUTBOX.migrations("sqlite")[1:]
    assert rows(SqliteDatabase(path), "PRAGMA foreign_key_check") == []
    assert rows(
        SqliteDatabase(path),
        "SELECT id, key, on_dead, transport, state, reason, position, finished_at > 1e9 FROM outspoken_streams",
    ) == [
        (4, "open", "skip", "http", "open", None, 3, None),
        (5, "killed", "kill", "http", "killed", "delivery_dead", 2, 1),
    ]
    put(
        SqliteDatabase(path),
        new("e", "http://h/", stream=Stream("another")),
        new("d", "http://h/", stream=Stream("open")),
    )
    assert rows(
        SqliteDatabase(path),
        "SELECT id, stream_id, position FROM outspoken_deliveries WHERE stream_id IS NOT NULL ORDER BY seq",
    ) == [
        *(("a", 4, 1), ("b", 4, 2), ("c", 4, 3), ("x", 5, 2)),
        *(("e", 10, 1), ("d", 4, 4)),
    ]
    with pytest.raises(sqlite3.IntegrityError):
        rows(SqliteDatabase(path), "DELETE FROM outspoken_streams WHERE key = 'open'")


@pytest.fixture(params=[1, *BASELINES], ids="made by {:04}".format)
def brought_up_to_date(request: pytest.FixtureRequest, folder: Path) -> SqliteDatabase:
    """A database of an earlier version, brought up to date."""
    path = folder / "old.db"
    if request.param == 1:
        make_sqlite(path, FIRST_RELEASE)
    else:
        migrate(path, [OUTBOX.migrations("sqlite")[: request.param]])
    migrate(path, [OUTBOX.migrations("sqlite")])
    return SqliteDatabase(path)


def test_a_new_database_and_one_that_was_brought_up_to_date_are_the_same(
    brought_up_to_date: SqliteDatabase, database: SqliteDatabase
) -> None:
    assert schema_of(brought_up_to_date.path) == schema_of(database.path)


def test_what_was_brought_up_to_date_is_whole_and_refuses_what_a_new_one_does(
    brought_up_to_date: SqliteDatabase,
) -> None:
    put(brought_up_to_date, new(), new(url="wss://receiver.example/live", id_="s", stream=Stream("s")))
    for table, changes in (("deliveries", IMPOSSIBLE), ("streams", IMPOSSIBLE_STREAMS)):
        for change in changes:
            with pytest.raises(sqlite3.IntegrityError):
                rows(brought_up_to_date, f"UPDATE outspoken_{table} SET {change}")
    assert rows(brought_up_to_date, "PRAGMA integrity_check") == [("ok",)]
    assert rows(brought_up_to_date, "PRAGMA foreign_key_check") == []


def test_who_has_the_file_open_finds_the_checks_that_were_rewritten_where_they_stand(folder: Path) -> None:
    path = folder / "old.db"
    known = OUTBOX.migrations("sqlite")
    migrate(path, [tuple(one for one in known if one.number < COMPARISONS)])
    with closing(outbox.connect(path)) as open_before:
        assert tables_in_between(open_before, new("before"))
        migrate(path, [known])
        assert not tables_in_between(open_before, new("after"))


def test_who_has_the_file_open_finds_what_was_changed_where_it_stands(folder: Path) -> None:
    path = folder / "old.db"
    make_sqlite(path, FIRST_RELEASE)
    with closing(outbox.connect(path)) as open_before:
        open_before.execute("SELECT count(*) FROM deliveries")
        migrate(path, [OUTBOX.migrations("sqlite")])
        open_before.execute("BEGIN IMMEDIATE")
        outbox.add(open_before, new("x" * 256))
        open_before.execute("COMMIT")
        assert open_before.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with pytest.raises(sqlite3.IntegrityError):
        rows(SqliteDatabase(path), "UPDATE outspoken_deliveries SET id = id || 'x'")


def test_what_a_new_file_is_made_with_needs_no_right_to_write_its_schema(database: SqliteDatabase) -> None:
    """Shells of SQLite refuse that, and they are what such a script is for."""
    assert "sqlite_schema" not in database.migration_script([OUTBOX])
