"""Real applications on the frameworks that people use: what they store and what they emit are one transaction, or they
are told why not. A relay delivers to a receiver meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from relay import outbox
from relay.outbox.store import Database
from tests.acceptance.stage import Process, Stage
from tests.ports import free_callback_port
from tests.relay.deliveries import states
from tests.services.postgres import Server

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.needs("postgres"),
]

WAYS = {
    "fastapi": ("told", "session.begin", "engine.begin"),
    "flask": ("told", "session.begin", "engine.begin", "scoped"),
    "flask-sqlite": ("told", "session.begin", "engine.begin", "scoped"),
    "django": ("atomic", "told"),
}


@dataclass(frozen=True, slots=True)
class Said:
    """What an application answered."""

    status: int
    text: str


GIVE_UP, GIVEN_UP = ["give up"], Said(409, "GivenUp: ")
names = (f"n{number}" for number in count())


class Application:
    """One of them, its database with the outbox in it, and what its receiver has got."""

    def __init__(self, url: str, database: Database, receiver: Process, session: aiohttp.ClientSession) -> None:
        self._url = f"{url}/orders"
        self._database = database
        self._receiver = receiver
        self._session = session

    async def asked(self, way: str, *steps: list[Any]) -> Said:
        """What it says to a transaction of these steps."""
        async with self._session.post(self._url, params={"way": way}, json=steps) as answer:
            return Said(answer.status, await answer.text())

    async def orders(self) -> set[str]:
        """Those that it has stored."""
        async with self._session.get(self._url) as answer:
            return set(await answer.json())

    def callbacks(self) -> set[str]:
        """Those that are in the outbox, whatever became of them."""
        return set(states(self._database))

    async def arrive(self, *wanted: str) -> None:
        """Wait until the receiver has got these."""
        await self._receiver.until(lambda: set(wanted) <= self._arrived())

    def _arrived(self) -> set[str]:
        return {line["headers"]["webhook-id"] for line in self._receiver.lines if "headers" in line}

    async def kept(self, *wanted: str) -> bool:
        """Whether these were stored, and arrived."""
        await self.arrive(*wanted)
        return set(wanted) <= await self.orders()

    async def forgot(self, *unwanted: str) -> bool:
        """Whether nothing is left of these, neither order nor callback."""
        return not set(unwanted) & (await self.orders() | self.callbacks() | self._arrived())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def applications(
    postgres: Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Application]]:
    """Three on one server and one on a file; a relay for each of the two."""
    folder, port = tmp_path_factory.mktemp("applications"), free_callback_port()
    on_file = Stage(folder, port)
    on_server = Stage(folder, port, outbox__url=postgres.url(postgres.create()))
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        receiver = await on_file.receiver()
        stack.push_async_callback(receiver.stop)
        for stage in (on_file, on_server):
            relay = await stage.relay()
            stack.push_async_callback(relay.stop)
        made = {}
        for name, stage in {
            "fastapi": on_server,
            "flask": on_server,
            "django": on_server,
            "flask-sqlite": on_file,
        }.items():
            module = f"tests.acceptance.applications.on_{name.partition('-')[0]}"
            url = stage.env["OUTSPOKEN_OUTBOX__URL"]
            process = await Process.start("python", "-m", module, url, stage.callback_url)
            stack.push_async_callback(process.stop)
            ready = await process.event("application.ready")
            made[name] = Application(ready["url"], outbox.database_at(url), receiver, session)
        yield made


@pytest.fixture
def application(request: pytest.FixtureRequest, applications: dict[str, Application]) -> Application:
    return applications[request.param]


def in_every_way_of(*which: str) -> pytest.MarkDecorator:
    """Each of these applications, in each way in which it begins and ends transactions."""
    each = [(name, way) for name in which for way in WAYS[name]]
    return pytest.mark.parametrize(("application", "way"), each, indirect=["application"])


every_way = in_every_way_of(*WAYS)
on_a_server = in_every_way_of("fastapi", "flask", "django")
of_fastapi = in_every_way_of("fastapi")


def in_either_order(step: str) -> dict[str, list[list[Any]]]:
    """Two transactions, by the names of their orders: the application's own step first, and the callback first."""
    before, after = next(names), next(names)
    return {before: [[step, before], ["callback", before]], after: [["callback", after], [step, after]]}


@every_way
async def test_an_order_and_its_callback_come_together(application: Application, way: str) -> None:
    asked = in_either_order("order")
    for steps in asked.values():
        assert (await application.asked(way, *steps)).status == 200
    assert await application.kept(*asked)


@every_way
async def test_of_a_transaction_that_is_rolled_back_nothing_is_left(application: Application, way: str) -> None:
    asked = in_either_order("order")
    for steps in asked.values():
        assert await application.asked(way, *steps, GIVE_UP) == GIVEN_UP
    assert await application.forgot(*asked)


@every_way
async def test_of_a_commit_that_fails_nothing_is_left(application: Application, way: str) -> None:
    asked = in_either_order("orphan")
    for steps in asked.values():
        said = await application.asked(way, *steps)
        assert (said.status, said.text.partition(":")[0]) == (409, "IntegrityError")
    assert await application.forgot(*asked)


@every_way
async def test_a_savepoint_is_kept_or_undone_by_itself(application: Application, way: str) -> None:
    outer, inner, undone = next(names), next(names), next(names)
    said = await application.asked(
        way,
        ["savepoint", [["order", undone], ["callback", undone], GIVE_UP]],
        ["savepoint", [["callback", inner], ["order", inner]]],
        ["order", outer],
        ["callback", outer],
    )
    assert said.status == 200
    assert await application.kept(outer, inner)
    assert await application.forgot(undone)


@every_way
async def test_a_savepoint_that_was_kept_is_undone_with_its_transaction(application: Application, way: str) -> None:
    name = next(names)
    said = await application.asked(way, ["savepoint", [["callback", name], ["order", name]]], GIVE_UP)
    assert said == GIVEN_UP
    assert await application.forgot(name)


@pytest.mark.parametrize("application", WAYS, indirect=True)
async def test_where_every_statement_is_committed_by_itself_nothing_is_added(application: Application) -> None:
    name = next(names)
    for steps in ([["callback", name]], [["order", name], ["flush"], ["callback", name]]):
        said = await application.asked("autocommit", *steps)
        assert said.status == 409
        assert "InvalidDelivery: connection: in autocommit mode; " in said.text
    assert name in await application.orders()
    assert name not in application.callbacks()


@every_way
async def test_a_pool_of_two_connections_serves_many_and_mixes_nothing_up(application: Application, way: str) -> None:
    asked = {next(names): number % 3 for number in range(9)}
    ends = {0: [], 1: [GIVE_UP], 2: [["callback", "taken"]]}
    await application.asked(way, ["callback", "taken"])
    said = await asyncio.gather(
        *(application.asked(way, ["order", name], ["callback", name], *ends[number]) for name, number in asked.items())
    )
    assert [one.status for one in said] == [200, 409, 409] * 3
    assert await application.kept(*(name for name, number in asked.items() if number == 0))
    assert await application.forgot(*(name for name, number in asked.items() if number > 0))


@on_a_server
async def test_after_a_statement_that_failed_nothing_is_added(application: Application, way: str) -> None:
    name = next(names)
    said = await application.asked(way, ["order", name], ["flush"], ["break"], ["callback", name])
    assert said.status == 409
    assert "InvalidDelivery: connection: its transaction has failed; roll it back" in said.text
    assert await application.forgot(name)


@every_way
async def test_the_drivers_own_connection_is_in_the_same_transaction(application: Application, way: str) -> None:
    kept, undone = next(names), next(names)
    assert (await application.asked(way, ["order", kept], ["flush"], ["below", kept])).status == 200
    assert await application.asked(way, ["order", undone], ["flush"], ["below", undone], GIVE_UP) == GIVEN_UP
    assert await application.kept(kept)
    assert await application.forgot(undone)


@of_fastapi
async def test_until_sqlalchemy_begins_one_on_asyncpg_it_is_refused(application: Application, way: str) -> None:
    name = next(names)
    said = await application.asked(way, ["order", name], ["below", name])
    assert said.status == 409
    assert "connection: in autocommit mode; " in said.text
    assert "pass SQLAlchemy's own session" in said.text
    assert await application.forgot(name)
