"""A hundred hosts whose name servers do not answer keep no others waiting, new ones neither: how fast it goes beside
them is measured by the benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path

import aiohttp
import pytest

from relay.outbox import Notifier
from relay.outbox.sqlite.database import SqliteDatabase
from tests.acceptance.receiver import Arrival, Reply, receiving
from tests.acceptance.speech import first_seconds
from tests.acceptance.stage import Stage
from tests.nameserver import NXDOMAIN, NameServer, Says, name_server
from tests.relay.deliveries import new, put

pytestmark = pytest.mark.acceptance

SLOW, HEALTHY = 100, 50
HONEST = 5


def zone(name: str) -> Says:
    if name.startswith("slow"):
        return Says(silent=True)
    return Says(("127.0.0.1",)) if name.startswith("healthy") else Says(code=NXDOMAIN)


def all_slow(asked: Sequence[str]) -> bool:
    return sum(name.startswith("slow") for name in asked) >= SLOW


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    async with name_server(zone) as server:
        yield server


async def test_names_that_do_not_resolve_slow_no_others(tmp_path: Path, names: NameServer) -> None:
    def accept(_: Arrival, reply: Reply) -> None:
        reply(200)

    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(receiving(accept))
        stage = Stage(tmp_path, port, outbox__guard__name_servers=names.address)
        relay = await stage.relay()
        stack.push_async_callback(relay.kill)
        database = SqliteDatabase(stage.database)
        notifier = stack.enter_context(closing(Notifier(stage.database)))

        def send(wave: str, hosts: str, count: int) -> None:
            put(database, *(new(f"{wave}-{n}", f"http://{hosts}-{n}.example:{port}/") for n in range(count)))
            notifier.notify()

        send("lost", "slow", SLOW)
        await names.until(all_slow)
        send("beside", "healthy-now", HEALTHY)
        healthy = {f"beside-{number}" for number in range(HEALTHY)}
        await relay.until(lambda: healthy <= relay.ended)
        # All of them, at the first attempt, before one of the others is given up.
        assert {line["outcome"] for line in relay.lines if "outcome" in line} == {"success"}


async def test_submissions_with_names_that_do_not_resolve_cost_others_none_of_theirs(
    tmp_path: Path, names: NameServer
) -> None:
    audio, port = first_seconds(0.5), 8080

    async with AsyncExitStack() as stack:
        stage = Stage(tmp_path, port, outbox__guard__name_servers=names.address)
        engine = await stage.engine()
        stack.push_async_callback(engine.kill)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))

        async def submit(host: str) -> tuple[int, str | None]:
            callback = {"callback": f"http://{host}.example:{port}/"}
            async with session.post(f"{stage.engine_url}/v1/listen", params=callback, data=audio) as answer:
                return answer.status, answer.headers.get("Retry-After")

        slow = [asyncio.create_task(submit(f"slow-{number}")) for number in range(SLOW)]
        await names.until(all_slow)
        honest = await asyncio.gather(*(submit(f"healthy-{number}") for number in range(HONEST)), submit("nowhere"))
        assert honest == [(200, None)] * HONEST + [(400, None)]
        assert not any(one.done() for one in slow)
        assert await asyncio.gather(*slow) == [(503, "5")] * SLOW
