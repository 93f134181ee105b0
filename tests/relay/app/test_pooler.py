"""Behind pgbouncer with its own defaults: a relay and producers work in both of its modes, and what a mode keeps from
them is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest

from relay import outbox
from relay.admin.doctor import Level, examine
from relay.app.in_process import relay_in_loop
from relay.guard.rules import Rules
from relay.outbox.model import NewDelivery
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.store import Connection
from tests.acceptance.receiver import Arrival, Reply, receiving
from tests.relay.app.test_in_process import configuration
from tests.services.pgbouncer import pooling
from tests.services.postgres import Server

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres"), pytest.mark.needs("pgbouncer")]

COUNT = 200
# In transaction mode fewer sessions of the server than a relay and its producers have: who gets which, changes.
POOLS = {"session": 20, "transaction": 3}
SETTINGS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "jit")


@pytest.fixture(params=POOLS)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def url(postgres: Server, mode: str) -> AsyncIterator[str]:
    """A database of its own, behind a pgbouncer."""
    name = await asyncio.to_thread(postgres.create)
    with ExitStack() as stack:
        port = await asyncio.to_thread(stack.enter_context, pooling(postgres, mode, POOLS[mode]))
        yield f"postgresql://postgres@127.0.0.1:{port}/{name}"
    await asyncio.to_thread(postgres.drop, name)


async def test_everything_is_delivered_once_and_no_more_is_promised_than_a_mode_gives(
    url: str, mode: str, structlog_as_it_was: None, capsys: pytest.CaptureFixture[str]
) -> None:
    arrived, whole = set[str](), asyncio.Event()

    def take(arrival: Arrival, reply: Reply) -> None:
        assert arrival.id not in arrived
        arrived.add(arrival.id)
        reply(200)
        if len(arrived) == COUNT:
            whole.set()

    async with receiving(take) as port, relay_in_loop(configuration(url, port)):
        await asyncio.gather(*(asyncio.to_thread(add, url, port, part, 4) for part in range(4)))
        async with asyncio.timeout(60):
            await whole.wait()
    assert await asyncio.to_thread(states, url) == {"delivered": COUNT}
    assert capsys.readouterr().out.count("store.unheard") == (mode == "transaction")


def add(url: str, port: int, part: int, parts: int) -> None:
    """One part of the deliveries, each in a transaction of its own."""
    database = PostgresDatabase(url)
    for number in range(part, COUNT, parts):
        with database.writing() as connection:
            outbox.add(connection, NewDelivery(f"d{number}", f"http://127.0.0.1:{port}/", b"{}"))


def states(url: str) -> dict[str, int]:
    with PostgresDatabase(url).reading() as connection:
        return dict(connection.execute("SELECT state, count(*) FROM outspoken_deliveries GROUP BY state").fetchall())


async def test_a_transaction_has_our_settings_and_leaves_none_behind(url: str) -> None:
    """Others may be given the same session of the server afterwards."""

    def ours(connection: Connection) -> list[str]:
        return [connection.execute(f"SHOW {name}").fetchone()[0] for name in SETTINGS]

    writer, reader = PostgresDatabase(url).writer(), PostgresDatabase(url).reader()
    assert await writer.run(ours) == ["10s", "5s", "30s", "off"]
    assert (await reader.run(ours))[:3] == ["10s", "5s", "30s"]
    await writer.close()
    await reader.close()
    assert await asyncio.to_thread(of_the_server, url) == ["0", "0", "0"]


def of_the_server(url: str) -> list[str]:
    """What somebody else finds who comes by the same way."""
    import psycopg

    with psycopg.connect(url) as connection:
        found = [connection.execute(f"SHOW {name}").fetchone() for name in SETTINGS[:3]]
        return [str(row[0]) for row in found if row]


def test_the_doctor_says_what_a_mode_keeps_back(url: str, mode: str) -> None:
    database = PostgresDatabase(url)
    database.migrate([outbox.OUTBOX])
    found = {finding.check: finding for finding in examine(database, Rules(), {})}["pooler"]
    assert found.level is (Level.WARN if mode == "transaction" else Level.OK)
