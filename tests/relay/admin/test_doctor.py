from __future__ import annotations

import asyncio
import time
from ipaddress import ip_network
from pathlib import Path

import pytest

from relay.admin.doctor import Finding, Level, egress, examine
from relay.outbox.sqlite import SqliteDatabase
from relay.outbox.store import Database
from relay.policy.destination import Rules
from tests.relay.admin.past import change
from tests.relay.deliveries import new, put

RULES = Rules()


def findings(database: Database, rules: Rules = RULES, now: float | None = None, **environ: str) -> dict[str, Finding]:
    return {one.check: one for one in examine(database, rules, environ, time.time() if now is None else now)}


def test_a_sound_installation_fails_nowhere(database: Database) -> None:
    found = findings(database)
    assert {check: one.level for check, one in found.items() if one.level is not Level.OK} == {
        "relays": Level.WARN,
        "backup": Level.WARN,
        "signing": Level.WARN,
    }
    assert all(one.remedy for one in found.values() if one.level is not Level.OK)


def test_a_missing_database_and_one_that_is_none_are_said(folder: Path) -> None:
    assert findings(SqliteDatabase(folder / "none.db"))["schema"].level is Level.FAIL
    (folder / "letter.txt").write_text("Dear Sir or Madam, " * 100)
    found = findings(SqliteDatabase(folder / "letter.txt"))
    assert found["schema"].level is Level.FAIL
    assert "not a database" in found["schema"].message
    assert found["contents"].level is Level.FAIL


@pytest.mark.parametrize(
    ("check", "sql", "level"),
    [
        ("schema", "INSERT INTO migrations VALUES ('outbox', 9999, 'future', '', 0)", Level.FAIL),
        ("schema", "DELETE FROM migrations", Level.FAIL),
        ("clock", "UPDATE deliveries SET created_at = created_at + 3600", Level.FAIL),
        ("relays", "INSERT INTO relays VALUES ('one', unixepoch())", Level.OK),
        ("relays", "INSERT INTO relays VALUES ('one', unixepoch() - 3600)", Level.WARN),
        (
            "backup",
            "INSERT INTO audit (at, actor, source, act, detail) VALUES (unixepoch(), 'a', 'cli', 'backup', '{}')",
            Level.OK,
        ),
        (
            "backup",
            "INSERT INTO audit (at, actor, source, act, detail) VALUES (1, 'a', 'cli', 'backup', '{}')",
            Level.WARN,
        ),
        ("signing", f"INSERT INTO signing_keys (key, created_at) VALUES ('whsec_{'A' * 44}', 1)", Level.OK),
    ],
)
def test_what_the_database_says_is_a_finding(database: Database, check: str, sql: str, level: Level) -> None:
    put(database, new())
    change(database, sql)
    assert findings(database)[check].level is level


def test_a_file_that_others_may_read_fails_with_the_command_that_mends_it(database: Database, path: Path) -> None:
    path.chmod(0o644)
    found = findings(database)["permissions"]
    assert found.level is Level.FAIL
    assert found.remedy.startswith(f"chmod 600 {path}")


def test_a_clock_that_was_never_set_fails(database: Database) -> None:
    assert findings(database, now=86400.0)["clock"].level is Level.FAIL


def test_a_proxy_in_the_environment_and_an_opened_network_are_worth_a_look(database: Database) -> None:
    found = findings(database, Rules(networks=(ip_network("10.0.0.0/8"),)), HTTPS_PROXY="http://u:hunter2@proxy:3128")
    assert (found["proxy"].level, found["guard"].level) == (Level.WARN, Level.WARN)
    assert "HTTPS_PROXY" in found["proxy"].message
    assert "hunter2" not in repr(found)
    assert "10.0.0.0/8" in found["guard"].message


async def tried(database: Database, rules: Rules) -> list[Finding]:
    return [finding async for finding in egress(database, rules, time.time())]


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
        assert await asyncio.wait_for(got, 5) == b""
    assert (found.check, found.level) == (f"egress http://127.0.0.1:{port}", Level.OK)
    (refused,) = await tried(database, rules)
    assert (refused.level, "no connection" in refused.message) == (Level.FAIL, True)


async def test_egress_does_not_go_where_deliveries_may_not(database: Database) -> None:
    put(database, new(url="http://127.0.0.1:8080/"))
    (found,) = await tried(database, RULES)
    assert (found.level, found.message[:33]) == (Level.FAIL, "The destination has an address in")
    change(database, "UPDATE deliveries SET state = 'cancelled', finished_at = 1")
    (nothing,) = await tried(database, RULES)
    assert nothing.level is Level.OK
