from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest

from relay import outbox
from relay.errors import SchemaError, StoreUnavailable
from relay.model import Stream
from relay.outbox.migrate import Migration
from tests.relay.deliveries import new, put, rows

FIRST = Migration("room", 1, "first", "CREATE TABLE a (x INTEGER);")
SECOND = Migration("room", 2, "second", "CREATE TABLE b (x INTEGER);")


def tables(path: Path) -> set[str]:
    return {name for (name,) in rows(path, "SELECT name FROM sqlite_schema WHERE type = 'table'")}


def test_a_migration_is_applied_once(folder: Path) -> None:
    path = folder / "new.db"
    assert outbox.migrate(path, [(FIRST,)]) == (FIRST,)
    assert outbox.migrate(path, [(FIRST, SECOND)]) == (SECOND,)
    assert outbox.migrate(path, [(FIRST, SECOND)]) == ()


def test_two_rooms_share_a_file_and_number_their_migrations_apart(folder: Path) -> None:
    path = folder / "new.db"
    other = Migration("another", 1, "first", "CREATE TABLE c (x INTEGER);")
    assert outbox.migrate(path, [(FIRST,), (other,)]) == (FIRST, other)
    assert {"a", "c"} <= tables(path)


async def test_processes_that_start_at_once_apply_each_migration_once(folder: Path) -> None:
    path = folder / "new.db"
    code = "import sys; from pathlib import Path; from relay import outbox; sys.stdin.read(1);" + (
        "print(len(outbox.migrate(Path(sys.argv[1]), [outbox.outbox_migrations()])))"
    )
    pipe = asyncio.subprocess.PIPE
    racers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(path), stdin=pipe, stdout=pipe)
        for _ in range(4)
    ]
    said = await asyncio.gather(*(racer.communicate(b"!") for racer in racers))
    assert [racer.returncode for racer in racers] == [0, 0, 0, 0]
    assert sum(int(out) for out, _ in said) == len(outbox.outbox_migrations())


def test_a_newer_database_is_refused(folder: Path) -> None:
    path = folder / "new.db"
    outbox.migrate(path, [(FIRST, SECOND)])
    with pytest.raises(SchemaError, match="has room schema 2, this program knows 1: install a newer one"):
        outbox.migrate(path, [(FIRST,)])


def test_a_file_that_changed_after_it_was_applied_is_refused(folder: Path) -> None:
    path = folder / "new.db"
    outbox.migrate(path, [(FIRST,)])
    changed = Migration("room", 1, "first", FIRST.sql + " -- a second thought\n")
    with pytest.raises(SchemaError, match="room migration 0001 was changed"):
        outbox.migrate(path, [(changed,)])


def test_a_migration_that_fails_half_way_leaves_nothing(folder: Path) -> None:
    path = folder / "new.db"
    broken = Migration("room", 2, "broken", "CREATE TABLE half (x INTEGER);\nCREATE TABLE a (x INTEGER);\n")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        outbox.migrate(path, [(FIRST, broken)])
    assert "half" not in tables(path)
    assert outbox.migrate(path, [(FIRST, SECOND)]) == (SECOND,)


@pytest.mark.parametrize("end", ["", "\n", " -- and no semicolon", "; -- done\n-- really\n"])
def test_the_last_statement_of_a_file_counts_with_or_without_its_semicolon(folder: Path, end: str) -> None:
    path = folder / "new.db"
    outbox.migrate(path, [(Migration("room", 1, "first", f"CREATE TABLE a (x);\nCREATE TABLE last (x){end}"),)])
    assert {"a", "last"} <= tables(path)


def test_a_semicolon_in_a_text_or_a_trigger_ends_no_statement(folder: Path) -> None:
    path = folder / "new.db"
    sql = "CREATE TABLE a (x TEXT DEFAULT ';\n');\nCREATE TRIGGER t AFTER INSERT ON a BEGIN\nDELETE FROM a;\nEND;\n"
    outbox.migrate(path, [(Migration("room", 1, "first", sql),)])
    assert rows(path, "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'") == [(1,)]


def test_the_database_its_log_and_its_folder_are_for_their_owner_only(folder: Path) -> None:
    path = folder / "var" / "outspoken.db"
    old = os.umask(0)
    try:
        outbox.migrate(path, [outbox.outbox_migrations()])
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


def test_a_connection_is_durable_private_and_checks_foreign_keys(database: Path) -> None:
    connection = outbox.connect(database)
    pragmas = ("journal_mode", "synchronous", "foreign_keys", "auto_vacuum", "secure_delete")
    values = [connection.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas]
    connection.close()
    assert values == ["wal", 2, 1, 2, 2]


def test_a_file_that_is_no_database_is_refused_by_name(folder: Path) -> None:
    path = folder / "letter.txt"
    path.write_text("Dear Sir or Madam, " * 100)
    with pytest.raises(StoreUnavailable, match=r"outbox.url: .*letter.txt: file is not a database"):
        outbox.migrate(path, [(FIRST,)])
    assert path.read_text().startswith("Dear Sir")


def test_a_folder_that_cannot_be_made_is_named(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        outbox.migrate(folder / "file" / "outspoken.db", [(FIRST,)])


FIRST_RELEASE = outbox.outbox_migrations()[:1]
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
    outbox.migrate(path, [FIRST_RELEASE])
    with closing(outbox.connect(path)) as connection:
        connection.executescript(WITH_STREAMS)
    assert outbox.migrate(path, [outbox.outbox_migrations()]) == outbox.outbox_migrations()[1:]
    assert rows(path, "PRAGMA foreign_key_check") == []
    assert rows(
        path, "SELECT id, key, on_dead, transport, state, reason, position, finished_at > 1e9 FROM streams"
    ) == [
        (4, "open", "skip", "http", "open", None, 3, None),
        (5, "killed", "kill", "http", "killed", "delivery_dead", 2, 1),
    ]
    put(path, new("e", "http://h/", stream=Stream("another")), new("d", "http://h/", stream=Stream("open")))
    assert rows(path, "SELECT id, stream_id, position FROM deliveries WHERE stream_id IS NOT NULL ORDER BY seq") == [
        *(("a", 4, 1), ("b", 4, 2), ("c", 4, 3), ("x", 5, 2)),
        *(("e", 10, 1), ("d", 4, 4)),
    ]
    with pytest.raises(sqlite3.IntegrityError):
        rows(path, "DELETE FROM streams WHERE key = 'open'")


def test_a_new_database_and_one_that_was_brought_up_to_date_are_the_same(folder: Path, database: Path) -> None:
    path = folder / "old.db"
    outbox.migrate(path, [FIRST_RELEASE])
    outbox.migrate(path, [outbox.outbox_migrations()])
    schema = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
    assert rows(path, schema) == rows(database, schema)


IMPOSSIBLE = [
    "state = 'lost'",
    "state = 'leased'",
    "state = 'leased', lease_token = 't'",
    "state = 'leased', lease_until = 1.0",
    "lease_token = 't', lease_until = 1.0",
    "state = 'delivered', attempts = 1",
    "state = 'delivered', finished_at = 1.0",
    "state = 'dead', finished_at = 1.0",
    "state = 'dead', reason = 'exhausted'",
    "state = 'cancelled'",
    "state = 'cancelled', finished_at = 1.0, reason = 'operator'",
    "finished_at = 1.0",
    "reason = 'exhausted'",
    "attempts = -1",
    "lapses = -1",
    "body_bytes = -1",
    "method = 'DELETE'",
    "kind = 'rumour'",
    "headers = '[]'",
    "id = ''",
    "destination_id = 99",
    "due_at = NULL",
    "due_at = 'tomorrow'",
    "url = NULL",
]


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_the_database_refuses_an_impossible_delivery(database: Path, change: str) -> None:
    put(database, new())
    with pytest.raises(sqlite3.IntegrityError):
        rows(database, f"UPDATE deliveries SET {change}")


POSSIBLE = [
    "state = 'leased', lease_token = 't', lease_until = 1.0",
    "state = 'delivered', attempts = 1, finished_at = 1.0",
    "state = 'dead', finished_at = 1.0, reason = 'operator'",
    "state = 'cancelled', finished_at = 1.0",
]


@pytest.mark.parametrize("change", POSSIBLE)
def test_the_database_accepts_every_state_that_there_is(database: Path, change: str) -> None:
    put(database, new())
    assert rows(database, f"UPDATE deliveries SET {change} RETURNING id") == [("d1",)]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO deliveries (id, destination_id, url, body_bytes, created_at, due_at) SELECT id, 1, '', 0, 0, 0"
        " FROM deliveries",
        "INSERT INTO bodies VALUES (99, x'00')",
        "INSERT INTO bodies VALUES (1, x'00')",
        "DELETE FROM deliveries",
        "INSERT INTO destinations (origin) SELECT origin FROM destinations",
        "INSERT INTO destinations (origin) VALUES ('receiver.example')",
        "UPDATE destinations SET smallest_refused = -1",
        "INSERT INTO attempts (seq, number, started_at, lag, duration, outcome) VALUES (1, 0, 0, 0, 0, 'success')",
        "INSERT INTO attempts (seq, number, started_at, lag, duration, outcome) VALUES (1, 1, 0, -1, 0, 'success')",
        "INSERT INTO attempts (seq, number, started_at, lag, duration, outcome) VALUES (9, 1, 0, 0, 0, 'success')",
    ],
)
def test_the_database_refuses_rows_that_contradict_others(database: Path, sql: str) -> None:
    put(database, new())
    with pytest.raises(sqlite3.IntegrityError):
        rows(database, sql)


def test_the_number_of_a_deleted_delivery_is_not_handed_out_again(database: Path) -> None:
    put(database, new("d1"))
    rows(database, "DELETE FROM bodies")
    rows(database, "DELETE FROM deliveries")
    put(database, new("d2"))
    assert rows(database, "SELECT seq FROM deliveries") == [(2,)]
