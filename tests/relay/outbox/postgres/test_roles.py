"""Roles that own nothing: the guide's grants are enough, and without them there is one line that says so."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psycopg
import pytest

from engine.jobs.store import MIGRATION_SETS
from relay import outbox
from relay.app.in_process import relay_in_loop
from relay.outbox.model import Stream
from relay.outbox.postgres.database import PostgresDatabase
from tests import forks
from tests.acceptance.receiver import Arrival, Reply, receiving
from tests.relay.app.test_in_process import configuration
from tests.relay.deliveries import new, put, states
from tests.services.postgres import Server

GUIDE = Path(__file__).parents[4] / "docs" / "deployment.md"
PRODUCERS, RELAYS = re.findall(r"```sql\n(GRANT.*?)```", GUIDE.read_text(), re.DOTALL)

pytestmark = pytest.mark.needs("postgres")


@dataclass(frozen=True)
class Roles:
    """A database that its owner has migrated, and two roles with nothing else."""

    server: Server
    owners: PostgresDatabase
    name: str

    def url(self, role: str) -> str:
        return self.owners.url.replace("postgres@", f"{role}@")

    def grant(self, sql: str) -> None:
        self.server.sql(sql, name=self.name)

    def run(self, program: str, *arguments: str, role: str) -> subprocess.CompletedProcess[str]:
        return forks.run([program, *arguments], os.environ | {"OUTSPOKEN_OUTBOX__URL": self.url(role)})


@pytest.fixture
def roles(postgres: Server) -> Iterator[Roles]:
    name = postgres.create()
    owners = PostgresDatabase(postgres.url(name))
    owners.migrate(MIGRATION_SETS)
    postgres.sql("REVOKE ALL ON SCHEMA public FROM PUBLIC", name=name)
    postgres.sql("CREATE ROLE app LOGIN", "CREATE ROLE relay LOGIN")
    yield Roles(postgres, owners, name)
    postgres.drop(name)
    postgres.sql("DROP ROLE app", "DROP ROLE relay")


async def test_a_producer_needs_what_the_readme_grants_and_sees_nothing_else(roles: Roles) -> None:
    roles.grant(PRODUCERS)
    connection = await asyncpg.connect(roles.url("app"))
    async with connection.transaction():
        await connection.execute("SELECT outspoken.add_v1('from sql', 'http://h.example/', 'x')")
        await outbox.add(connection, new("from asyncpg"))
    assert await connection.fetchval("SELECT count(*) FROM outspoken.deliveries_v1") == 2
    for table in ("deliveries", "bodies", "signing_keys", "secrets", "jobs", "api_keys"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"SELECT * FROM outspoken.{table}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("CREATE TABLE outspoken.mine (x INTEGER)")
    await connection.close()
    with psycopg.connect(roles.url("app")) as one:
        outbox.add(one, new("from psycopg"))
        outbox.add_many(one, [new("one of many", tracked=True)])
        assert outbox.status(one, "one of many")
        assert outbox.cancel(one, "one of many")
        assert [ended.id for ended in outbox.take_ended(one)] == ["one of many"]
        outbox.begin_stream(one, Stream("live", live_until=8e9), "http://h.example/")
        outbox.keep_streams(one, ["live"], 9e9)
        outbox.end_stream(one, "live")
        assert one.execute("SELECT stream, state FROM outspoken.streams_v1").fetchall() == [("live", "closed")]
    assert set(states(roles.owners)) == {"from sql", "from asyncpg", "from psycopg", "one of many"}


def test_a_relay_needs_what_the_readme_grants(roles: Roles) -> None:
    roles.grant(RELAYS)
    own = PostgresDatabase(roles.url("relay"))
    assert own.migrate(MIGRATION_SETS) == (), "nothing is missing, and so nothing is made"
    for command in ("migrate", "status"):
        done = roles.run("relay", command, role="relay")
        assert (done.returncode, done.stderr) == (0, ""), command


async def test_under_such_a_role_a_relay_delivers(roles: Roles, structlog_as_it_was: None) -> None:
    roles.grant(RELAYS)
    came: asyncio.Queue[str] = asyncio.Queue()

    def take(arrival: Arrival, reply: Reply) -> None:
        came.put_nowait(arrival.id)
        reply(200)

    async with receiving(take) as port, relay_in_loop(configuration(roles.url("relay"), port)):
        put(roles.owners, new(url=f"http://127.0.0.1:{port}/"))
        assert await came.get() == "d1"
    assert states(roles.owners) == {"d1": "delivered"}
    connection = await asyncpg.connect(roles.url("relay"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("CREATE TABLE outspoken.mine (x INTEGER)")
    await connection.close()


@pytest.mark.parametrize("command", [("run",), ("status",), ("migrate",)])
def test_a_role_without_rights_is_one_line(roles: Roles, command: tuple[str, ...]) -> None:
    done = roles.run("relay", *command, role="relay")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "permission denied" in line)
    assert "grant its role USAGE on the schema outspoken" in line


def test_a_role_that_may_not_make_the_schema_is_told_what_to_ask_for(roles: Roles) -> None:
    empty = roles.server.create()
    there = Roles(roles.server, PostgresDatabase(roles.server.url(empty)), empty)
    for command in ("run", "migrate"):
        done = there.run("relay", command, role="relay")
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "permission denied for database" in done.stderr
    done = there.run("relay", "doctor", role="relay")
    (asked,) = re.findall(r"CREATE SCHEMA outspoken AUTHORIZATION relay", done.stdout)
    there.grant(asked)
    assert there.run("relay", "migrate", role="relay").returncode == 0
    put(PostgresDatabase(there.url("relay")), new())
    roles.server.drop(empty)


def test_the_doctor_says_who_brings_an_old_schema_up_to_date(roles: Roles) -> None:
    roles.grant(RELAYS)
    roles.grant("DELETE FROM outspoken.migrations WHERE number > 5 AND room = 'outbox'")
    assert "under the role that owns the schema" in roles.run("relay", "doctor", role="relay").stdout
    assert "under the role" not in roles.run("relay", "doctor", role="postgres").stdout


def test_the_doctor_says_what_a_role_lacks(roles: Roles) -> None:
    done = roles.run("relay", "doctor", role="relay")
    assert done.returncode != 0
    assert "permission denied for schema outspoken" in done.stdout
    roles.grant("GRANT USAGE ON SCHEMA outspoken TO relay; GRANT SELECT ON ALL TABLES IN SCHEMA outspoken TO relay")
    done = roles.run("relay", "doctor", role="relay")
    assert done.returncode != 0
    assert "INSERT" in done.stdout
    roles.grant(RELAYS)
    done = roles.run("relay", "doctor", role="relay")
    assert "may not" not in done.stdout
