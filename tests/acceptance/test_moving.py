"""A user who outgrows one machine moves to PostgreSQL, and may come back; killed at any point, nothing is lost."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from engine.jobs.store import migrate
from relay import outbox
from relay.outbox.model import NewDelivery, OnDead, Stream
from relay.outbox.moving import move
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Connection, Database
from tests import forks
from tests.relay.deliveries import many, new, put, reading, rows, writing
from tests.services.postgres import Server

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]

GUIDE = Path(__file__).parents[2] / "docs" / "deployment.md"
RELAY = Path(sys.executable).with_name("relay")
LARGE = os.urandom(9_000_000)
EVERY_BYTE = bytes(range(256)) * 50
# Nothing is written down about these: who is at work, what was applied, and how far a move has come.
OF_THE_DATABASE = {"outspoken_migrations", "outspoken_relays", "outspoken_moving", "outspoken_joining"}
TABLES = {
    SqliteDatabase: "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'outspoken_%'",
    PostgresDatabase: "SELECT 'outspoken_' || relname FROM pg_class WHERE relkind = 'r' "
    "AND relnamespace = to_regnamespace('outspoken')",
}
JOB = """
INSERT INTO outspoken_jobs (id, request, media, has_audio, created_at, due_at, state, finished_at, bytes, key_id,
duration)
VALUES (?, '{"dialect": "deepgram", "tag": ["\u00e9"]}', '{"size": 3}', 1, 1.5, 2.25, ?, ?, 3, ?, 0.1)
"""
# More than are copied at a time.
MULTITUDE = (
    "INSERT INTO outspoken_deliveries (id, owner, origin, path, url, body_bytes, created_at, due_at) "
    "SELECT one.id || '.' || two.id, 'ada', one.origin, one.path, one.url, one.body_bytes, 1.25, one.seq + 0.1 "
    "FROM outspoken_deliveries AS one CROSS JOIN outspoken_deliveries AS two WHERE one.seq <= 40 AND two.seq <= 40",
    "INSERT INTO outspoken_bodies SELECT seq, (SELECT body FROM outspoken_bodies WHERE seq = 1) "
    "FROM outspoken_deliveries WHERE id LIKE '%.%'",
)
PAST = (
    "UPDATE outspoken_deliveries "
    "SET state = 'delivered', attempts = 1, finished_at = 12.345678901234567 WHERE id LIKE 'd1%'",
    "UPDATE outspoken_deliveries "
    "SET state = 'dead', attempts = 11, reason = 'exhausted', finished_at = 2e9 WHERE id LIKE 'd2%'",
    "UPDATE outspoken_deliveries SET state = 'leased', lease_token = 't', lease_until = 3 WHERE id LIKE 'd3%'",
    "INSERT INTO outspoken_destinations (origin, path, state, failures, turn_at, largest_accepted) "
    "SELECT DISTINCT origin, path, 'paused', 3, 1e9, 5000000000 FROM outspoken_deliveries",
    "INSERT INTO outspoken_gone_urls SELECT DISTINCT origin, origin, path, 1.5 FROM outspoken_deliveries",
    "INSERT INTO outspoken_attempts (seq, number, started_at, lag, duration, outcome, status, excerpt) "
    "SELECT seq, attempts, 0.1, 0.2, 0.3, 'success', 200, body "
    "FROM outspoken_deliveries JOIN outspoken_bodies USING (seq) WHERE attempts > 0",
    "INSERT INTO outspoken_signing_keys (origin, key, created_at) "
    "VALUES ('https://receiver.example:443', 'whsec_canary', 1), (NULL, 'whsk_x', 2)",
    "INSERT INTO outspoken_audit (at, actor, source, act, detail) "
    "VALUES (1.5, 'ada', 'cli', 'pause', '{\"a\": [1, null]}')",
    "INSERT INTO outspoken_relays (holder, seen_at) VALUES ('long gone', 1)",
    "INSERT INTO outspoken_api_keys (id, name, sha256, created_at, max_queued) "
    "SELECT '0123456789abcdef', 'Ada', value, 1, 5 FROM outspoken_secrets",
    "INSERT INTO outspoken_uploads (id, key_id, filename, extension, size, sha256, duration, channels, created_at) "
    "VALUES ('u', '', 'a b.wav', 'wav', 1, 'x', 0.25, 2, 3)",
    "INSERT INTO outspoken_jobs (id, request, media, has_audio, created_at, due_at) "
    "VALUES ('gone', '{}', '{}', 1, 1, 1)",
    "INSERT INTO outspoken_results (seq, ended_at, result) "
    "SELECT seq, 7, '{\"text\": \"\u6771\"}' FROM outspoken_jobs WHERE state = 'done'",
    "DELETE FROM outspoken_jobs WHERE id = 'gone'",
    "DELETE FROM outspoken_bodies WHERE seq IN (SELECT seq FROM outspoken_deliveries WHERE id = 'last')",
    "DELETE FROM outspoken_deliveries WHERE id = 'last'",
)


def fill(database: Database) -> None:
    """A past: something in every table, and numbers that were given out and are in use no longer."""
    put(
        database,
        *many(40),
        new("empty", body=b"", headers={"x-name": 'caf\u00e9 "\\'}),
        new("binary", "https://u:canary@h.example/?k=canary", body=EVERY_BYTE),
        NewDelivery("large", "http://[2001:db8::1]:8080/", LARGE),
        new("after", body=EVERY_BYTE),
        new("s1", stream=Stream("s\u00e9ance", OnDead.KILL, live_until=5e9)),
        new("s2", stream=Stream("s\u00e9ance")),
        new("w1", "wss://h.example/", stream=Stream("Zoe")),
        new("w2", "wss://h.example/", stream=Stream("Zoe")),
        new("tracked", due_at=9e9, idempotency_key="k\u00e9y", tags={"a", "\u00fc", "Z", "z"}, tracked=True),
    )
    assert writing(database, lambda connection: outbox.cancel(connection, "tracked"))
    for sql in MULTITUDE:
        rows(database, sql)
    put(database, new("last"))
    for number, state in enumerate(("queued", "queued", "done", "failed")):
        over = 4.5 if state in {"done", "failed"} else None
        sql = (
            JOB if state != "failed" else JOB.replace("key_id,", "key_id, error_code,").replace("?, 0.1", "?, 'e', 0.1")
        )
        rows(database, sql, f"job-{number}", state, over, "K" if number else "k")
    for sql in PAST:
        rows(database, sql)


def all_rows(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Everything in it, by table."""

    def dump(connection: Connection) -> dict[str, list[dict[str, Any]]]:
        names = {name for (name,) in connection.execute(TABLES[type(database)]).fetchall()} - OF_THE_DATABASE
        found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in sorted(names)}
        return {
            name.removeprefix("outspoken_"): sorted((dict(row) for row in table), key=_in_order)
            for name, table in found.items()
        }

    return reading(database, dump)


def _in_order(row: dict[str, Any]) -> str:
    return repr([(name, row[name]) for name in sorted(row) if name != "body"])


@pytest.fixture
def postgres_place(postgres: Server) -> Iterator[PostgresDatabase]:
    name = postgres.create()
    database = PostgresDatabase(postgres.url(name))
    migrate(database)
    yield database
    postgres.drop(name)


@pytest.fixture
def sqlite_place(tmp_path: Path) -> SqliteDatabase:
    database = SqliteDatabase(tmp_path / "one.db")
    migrate(database)
    return database


@pytest.fixture(scope="module")
def old_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a past, to be copied."""
    database = SqliteDatabase(tmp_path_factory.mktemp("old") / "old.db")
    migrate(database)
    fill(database)
    return database.path


@pytest.fixture(scope="module")
def old_template(postgres: Server) -> str:
    """The same on PostgreSQL."""
    name = postgres.create()
    database = PostgresDatabase(postgres.url(name))
    migrate(database)
    fill(database)
    return name


@pytest.fixture
def old_sqlite(old_file: Path, tmp_path: Path) -> SqliteDatabase:
    return SqliteDatabase(Path(shutil.copy(old_file, tmp_path / "old.db")))


@pytest.fixture
def old_postgres(old_template: str, postgres: Server) -> Iterator[PostgresDatabase]:
    name = postgres.create(old_template)
    yield PostgresDatabase(postgres.url(name))
    postgres.drop(name)


@pytest.fixture(
    params=[("old_sqlite", "postgres_place"), ("old_postgres", "sqlite_place")], ids=["to PostgreSQL", "back"]
)
def pair(request: pytest.FixtureRequest) -> tuple[Database, Database]:
    """A source with a past, and an empty target of the other kind."""
    source, target = map(request.getfixturevalue, request.param)
    return source, target


def killed_after(steps: int, source: Database, target: Database) -> str:
    """What the move was doing when it was killed; empty if it came to its end before."""
    command = [sys.executable, "-m", "tests.acceptance.mover", source.url, target.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = ""
        for step in count(1):
            said = process.stdout.readline()
            if step == steps:
                process.kill()
                break
            if not said:
                assert process.wait() == 0
                break
            process.stdin.write("go on\n")
            process.stdin.flush()
        with suppress(BrokenPipeError):
            process.stdin.close()
    return said


def test_killed_again_and_again_it_arrives_whole(pair: tuple[Database, Database]) -> None:
    source, target = pair
    before = all_rows(source)
    seen = [killed_after(steps, source, target) for steps in (1, 9, 24, 34, 1000)]
    assert [said.partition(" ")[0] for said in seen] == ["copy", "copy", "copy", "compare", ""]
    assert len({said.split()[1] for said in seen if said}) > 2
    assert all_rows(target) == before == all_rows(source)
    assert {name for name, table in before.items() if not table} == set()


def test_a_database_that_is_half_there_cannot_be_used(pair: tuple[Database, Database]) -> None:
    source, target = pair
    killed_after(9, source, target)
    environ = os.environ | {"OUTSPOKEN_OUTBOX__URL": target.url}
    for program, *words in (("relay", "run"), ("engine", "keys", "list")):
        done = forks.run([program, *words], environ)
        assert done.returncode == 1
        assert "a move into this database was begun: run `relay migrate --from" in done.stderr


def test_what_comes_afterwards_goes_on_where_it_was(pair: tuple[Database, Database]) -> None:
    source, target = pair
    move(source, target, lambda _: None, anyway=True)
    ((last,),) = rows(source, "SELECT max(seq) FROM outspoken_deliveries")
    put(target, new("next"), new("more", stream=Stream("another")))
    rows(target, JOB, "next", "queued", None, "K")
    assert rows(target, "SELECT seq FROM outspoken_deliveries WHERE id = 'next'") == [
        (last + 2,)
    ]  # one was given out and forgotten
    assert rows(target, "SELECT seq FROM outspoken_jobs WHERE id = 'next'") == [(6,)]
    assert rows(target, "SELECT queued FROM outspoken_queues WHERE key_id = 'K'") == [(2,)]
    assert rows(target, "SELECT id FROM outspoken_streams WHERE key = 'another'")[0][0] > 2


def test_there_and_back_again_is_the_same(
    old_sqlite: SqliteDatabase, postgres_place: PostgresDatabase, tmp_path: Path
) -> None:
    back = SqliteDatabase(tmp_path / "back.db")
    migrate(back)
    move(old_sqlite, postgres_place, lambda _: None, anyway=True)
    move(postgres_place, back, lambda _: None, anyway=True)
    assert all_rows(back) == all_rows(old_sqlite)
    for what in (
        "SELECT * FROM sqlite_sequence ORDER BY name",
        "SELECT type, name, sql FROM sqlite_schema ORDER BY name",
    ):
        assert rows(back, what) == rows(old_sqlite, what)


def test_the_command_shows_on_a_terminal_how_far_it_is_and_may_be_killed(pair: tuple[Database, Database]) -> None:
    source, target = pair
    rows(source, "UPDATE outspoken_deliveries SET lease_until = 1 WHERE state = 'leased'")
    command = ["relay", "migrate", "--from", source.url, "--to", target.url]
    terminal, its_end = pty.openpty()
    with subprocess.Popen(
        [RELAY, *command[1:]], stderr=its_end, env=os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    ) as process:
        os.close(its_end)
        shown = b""
        while b"copying deliveries" not in shown:
            shown += os.read(terminal, 1000)
        process.send_signal(signal.SIGKILL)
    os.close(terminal)
    done = forks.run(command, os.environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert "compared with" in done.stdout
    assert "canary" not in done.stdout
    (moved,) = (line for line in all_rows(target)["audit"] if line["act"] == "move")
    assert source.name in moved["detail"]
    again = forks.run(command, os.environ)
    assert again.returncode == 5
    assert "in it already: name an empty database" in again.stderr


def test_a_source_that_changed_meanwhile_is_noticed(pair: tuple[Database, Database]) -> None:
    source, target = pair
    killed_after(30, source, target)
    writing(
        source, lambda connection: connection.execute("UPDATE outspoken_bodies SET body = ? WHERE seq = 1", (b"x",))
    )
    command = ["relay", "migrate", "--from", source.url, "--to", target.url, "--anyway"]
    done = forks.run(command, os.environ)
    assert done.returncode == 5
    assert "bodies: 1649 rows at the source, 1649 at the target, and they are not the same" in done.stderr


def test_the_guides_commands_move_an_installation(
    sqlite_place: SqliteDatabase, postgres: Server, tmp_path: Path
) -> None:
    put(sqlite_place, *many(3))
    target = PostgresDatabase(postgres.url(postgres.create()))
    (script,) = re.findall(r"## Moving to PostgreSQL.*?```sh\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    script = script.replace("sqlite:///var/outspoken.db", sqlite_place.url)
    script = script.replace("postgresql://app@db.example/outspoken", target.url)
    environ = {"PATH": f"{RELAY.parent}:{os.environ['PATH']}", "OUTSPOKEN_OUTBOX__URL": sqlite_place.url}
    command = ["bash", "-e", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(target, "SELECT id FROM outspoken_deliveries ORDER BY seq") == [("d1",), ("d2",), ("d3",)]
