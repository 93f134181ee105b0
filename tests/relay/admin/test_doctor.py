from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from relay.admin.doctor import Finding, Level, egress, examine, fitness
from relay.guard.resolver import Resolver
from relay.guard.rules import Rules
from relay.outbox.errors import REMEDIES
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.postgres.vitals import Vitals
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from relay.service.dns import system_names
from tests.cases import cases
from tests.ports import free_port
from tests.relay.admin.past import another_schema, change
from tests.relay.databases import on_sqlite
from tests.relay.deliveries import new, put
from tests.services.postgres import Server

RULES = Rules()


def findings(database: Database, rules: Rules = RULES, **environ: str) -> dict[str, Finding]:
    return {one.check: one for one in examine(database, rules, environ)}


def test_a_sound_installation_fails_nowhere(database: Database) -> None:
    found = findings(database)
    # A test's server is in a hurry, and what is no file is copied by tools that leave no trace.
    own = "backup" if isinstance(database, SqliteDatabase) else "durability"
    assert {check: one.level for check, one in found.items() if one.level is not Level.OK} == {
        "relays": Level.WARN,
        "signing": Level.WARN,
        own: Level.WARN,
    }
    assert all(one.remedy for one in found.values() if one.level is not Level.OK)


def test_a_missing_database_and_one_that_is_none_are_said(folder: Path) -> None:
    assert findings(SqliteDatabase(folder / "none.db"))["schema"].level is Level.FAIL
    (folder / "letter.txt").write_text("Dear Sir or Madam, " * 100)
    found = findings(SqliteDatabase(folder / "letter.txt"))
    assert found["schema"].level is Level.FAIL
    assert "not a database" in found["schema"].message
    assert found["schema"].remedy == "name the right database in outbox.url"
    assert found["contents"].level is Level.FAIL


@on_sqlite
def test_of_a_database_that_is_damaged_a_backup_is_the_remedy_and_no_other_file(database: SqliteDatabase) -> None:
    with database.path.open("r+b") as file:
        file.truncate(4096)
    found = findings(database)["schema"]
    assert (found.level, "malformed" in found.message, found.remedy) == (Level.FAIL, True, REMEDIES["corrupt"])


@pytest.mark.parametrize(
    ("check", "sql", "level"),
    [
        ("clock", "UPDATE outspoken_deliveries SET created_at = created_at + 3600", Level.FAIL),
        ("relays", "INSERT INTO outspoken_relays SELECT 'one', created_at FROM outspoken_deliveries", Level.OK),
        (
            "relays",
            "INSERT INTO outspoken_relays SELECT 'one', created_at - 3600 FROM outspoken_deliveries",
            Level.WARN,
        ),
        ("signing", f"INSERT INTO outspoken_signing_keys (key, created_at) VALUES ('whsec_{'A' * 44}', 1)", Level.OK),
    ],
)
def test_what_the_database_says_is_a_finding(database: Database, check: str, sql: str, level: Level) -> None:
    put(database, new())
    change(database, sql)
    assert findings(database)[check].level is level


@pytest.mark.parametrize(
    "sql",
    ["INSERT INTO outspoken_migrations VALUES ('outbox', 9999, 'future', '', 0)", "DELETE FROM outspoken_migrations"],
)
def test_a_schema_that_is_another_is_a_finding(database: Database, sql: str) -> None:
    with another_schema(database, sql):
        found = findings(database)
    assert (found["schema"].level, found["contents"].level) == (Level.FAIL, Level.FAIL)


@on_sqlite
@pytest.mark.parametrize(("age", "level"), [(3600.0, Level.OK), (3 * 86400.0, Level.WARN)])
def test_an_old_backup_is_worth_a_look(database: Database, age: float, level: Level) -> None:
    backup = "INSERT INTO outspoken_audit (at, actor, source, act, detail) VALUES (?, 'a', 'cli', 'backup', '{}')"
    change(database, backup, time.time() - age)
    assert findings(database)["backup"].level is level


@on_sqlite
def test_a_file_that_others_may_read_fails_with_the_command_that_mends_it(database: Database, path: Path) -> None:
    path.chmod(0o644)
    found = findings(database)["permissions"]
    assert found.level is Level.FAIL
    assert found.remedy.startswith(f"chmod o= {path}")


@on_sqlite
def test_a_file_that_is_shared_with_a_group_is_fine_and_named(database: Database, path: Path) -> None:
    path.chmod(0o660)
    found = findings(database)["permissions"]
    assert (found.level, found.message) == (Level.OK, f"shared with the group {path.group()}")


def at(database: Database, now: float) -> Database:
    """The same at another time."""
    return replace(database, clock=lambda: now)  # type: ignore[type-var]


def test_a_clock_that_was_never_set_fails(database: Database) -> None:
    assert findings(at(database, 86400.0))["clock"].level is Level.FAIL


def test_a_clock_that_differs_from_the_one_that_decides_is_worth_a_look(database: Database) -> None:
    found = findings(at(database, time.time() - 300))["clock"]
    assert (found.level, "clock is +300 s off" in found.message) == (Level.WARN, True)


def test_a_proxy_in_the_environment_and_an_opened_network_are_worth_a_look(database: Database) -> None:
    found = findings(database, Rules(networks=(ip_network("10.0.0.0/8"),)), HTTPS_PROXY="http://u:hunter2@proxy:3128")
    assert (found["proxy"].level, found["guard"].level) == (Level.WARN, Level.WARN)
    assert "HTTPS_PROXY" in found["proxy"].message
    assert "hunter2" not in repr(found)
    assert "10.0.0.0/8" in found["guard"].message


async def tried(database: Database, rules: Rules) -> list[Finding]:
    return [finding async for finding in egress(database, Resolver(rules, system_names()))]


async def test_egress_connects_to_what_waits_and_sends_nothing(database: Database) -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rules = Rules(ports=frozenset({port}), networks=(ip_network("127.0.0.0/8"),))
    async with server:
        put(database, new(url=f"http://127.0.0.1:{port}/hook"))
        (found,) = await tried(database, rules)
        assert await asyncio.wait_for(got, 60) == b""
    assert (found.check, found.level) == (f"egress http://127.0.0.1:{port}", Level.OK)
    (refused,) = await tried(database, rules)
    assert (refused.level, "no connection" in refused.message) == (Level.FAIL, True)


async def test_egress_does_not_go_where_deliveries_may_not(database: Database) -> None:
    put(database, new(url="http://127.0.0.1:8080/"))
    (found,) = await tried(database, RULES)
    assert (found.level, found.message[:33]) == (Level.FAIL, "The destination has an address in")
    change(database, "UPDATE outspoken_deliveries SET state = 'cancelled', finished_at = 1")
    (nothing,) = await tried(database, RULES)
    assert nothing.level is Level.OK


async def test_egress_that_finds_no_database_says_so(folder: Path) -> None:
    (found,) = await tried(SqliteDatabase(folder / "none.db"), RULES)
    assert (found.check, found.level) == ("egress", Level.FAIL)


@pytest.mark.needs("postgres")
def test_a_server_that_does_not_answer_and_a_database_that_is_not_there_are_findings(postgres: Server) -> None:
    nobody = PostgresDatabase(f"postgresql://ada:hunter2@127.0.0.1:{free_port()}/outspoken")
    for database in (nobody, PostgresDatabase(postgres.url("nowhere"))):
        found = findings(database)
        assert (found["server"].level, "schema" in found, "certificates" in found) == (Level.FAIL, False, True)
        assert "hunter2" not in repr(found)
    assert '"nowhere" does not exist' in found["server"].message


HEALTHY = Vitals(version=14, standby=False, read_only=False, sessions=10, room=97, off=(), pooled=False, hears=True)


@cases(
    ("vitals", "check", "level", "words"),
    [
        (HEALTHY, "server", Level.OK, "PostgreSQL 14, a primary"),
        (HEALTHY, "sessions", Level.OK, "room for 87 more sessions, of 97"),
        (HEALTHY, "durability", Level.OK, "what is committed is on the server's disk"),
        (HEALTHY, "disk", Level.OK, "the server does not tell"),
        (replace(HEALTHY, pooled=True), "pooler", Level.OK, "notifications come through"),
        (replace(HEALTHY, pooled=True, hears=False), "pooler", Level.WARN, "notifications do not come through"),
        (replace(HEALTHY, version=13), "server", Level.FAIL, "too old"),
        (replace(HEALTHY, standby=True), "server", Level.FAIL, "a standby: it can be read and not written"),
        (replace(HEALTHY, read_only=True), "server", Level.FAIL, "a primary that was told to be read-only"),
        (replace(HEALTHY, sessions=90), "sessions", Level.WARN, "room for 7 more"),
        (replace(HEALTHY, sessions=100), "sessions", Level.WARN, "room for 0 more"),
        (replace(HEALTHY, off=("synchronous_commit",)), "durability", Level.WARN, "synchronous_commit is off"),
        (replace(HEALTHY, off=("fsync", "full_page_writes")), "durability", Level.WARN, "fsync, full_page_writes are"),
    ],
)
def test_what_a_server_says_of_itself_is_a_finding(vitals: Vitals, check: str, level: Level, words: str) -> None:
    found = {one.check: one for one in fitness(vitals)}[check]
    assert (found.level, words in found.message, bool(found.remedy)) == (level, True, level is not Level.OK)
