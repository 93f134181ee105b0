"""Four relays and two producers on one PostgreSQL: the work is shared, nothing is done twice, and caps and orders are
those of the fleet, not of each of its relays."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from relay import outbox
from relay.outbox.model import NewDelivery, OnDead, Stream
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.store import Connection, Writer
from tests.acceptance.outage import News, Producer, cancelled
from tests.acceptance.receiver import Arrival, Reply, callback, receiving
from tests.acceptance.sockets import receiving as conversing
from tests.acceptance.stage import Process, Stage
from tests.ports import free_port
from tests.services.postgres import Server

FULL = bool(os.environ.get("TESTS_FULL"))
RELAYS, CAP, LEASE = 4, 8, 3.0
DELIVERIES = 20_000 if FULL else 1_000
# So long that the slots, and not the cores of this machine, say how much is done.
_EXCHANGE_SECONDS = 0.1

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]


class Crowd(News):
    """A receiver that takes everything after a moment, and counts what is under way at each destination, which the
    stream or the name of a delivery tells."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.seen: Counter[str] = Counter()
        self.busy: Counter[bytes] = Counter()
        self.busiest: Counter[bytes] = Counter()
        self.order: defaultdict[str, list[int]] = defaultdict(list)

    def handle(self, arrival: Arrival, reply: Reply) -> None:
        self.seen[arrival.id] += 1
        stream, _, number = arrival.id.rpartition("-")
        self.order[stream].append(int(number))
        self.busy[arrival.body] += 1
        self.busiest[arrival.body] = max(self.busiest[arrival.body], self.busy[arrival.body])
        asyncio.get_running_loop().call_later(self.seconds, self._take, arrival, reply)

    def _take(self, arrival: Arrival, reply: Reply) -> None:
        self.busy[arrival.body] -= 1
        reply(200)
        self.tell()


@dataclass
class Fleet:
    """Relays that know each other, on one database."""

    database: PostgresDatabase
    stage: Stage
    news: asyncio.Condition
    relays: list[Process] = field(default_factory=list)

    async def enter(self) -> None:
        """All at once: each is joined by the others while it begins."""
        self.relays += await asyncio.gather(*(self.stage.relay(self.news) for _ in range(RELAYS)))

    async def know_each_other(self) -> None:
        """Until each has checked in when all had been there for a second: they write that down, and say nothing."""
        all_there = "SELECT max(seen_at) FROM outspoken_relays HAVING count(*) = 4"
        async with asyncio.timeout(30):
            while not (found := await self.ask(all_there)):
                await asyncio.sleep(0.05)
            again = f"SELECT 1 FROM outspoken_relays HAVING min(seen_at) > {found[0][0]} + 1"
            while not await self.ask(again):
                await asyncio.sleep(0.05)

    async def ended(self, count: int) -> None:
        """Until they have said of so many deliveries that they have come to their end."""
        await self.relays[0].until(lambda: sum(len(relay.ended) for relay in self.relays) >= count)

    async def ask(self, question: str) -> list[tuple[object, ...]]:
        """What the database says."""

        def read() -> list[tuple[object, ...]]:
            with self.database.reading() as connection:
                return [tuple(row) for row in connection.execute(question)]

        return await asyncio.to_thread(read)


@pytest.fixture
async def database(postgres: Server) -> AsyncIterator[PostgresDatabase]:
    name = await asyncio.to_thread(postgres.create)
    database = PostgresDatabase(postgres.url(name))
    await asyncio.to_thread(database.migrate, [outbox.OUTBOX])
    yield database
    await asyncio.to_thread(postgres.drop, name)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def fleet(
    stack: AsyncExitStack, folder: Path, database: PostgresDatabase, port: int, **settings: object
) -> Fleet:
    """Started, and stopped with the stack."""
    stage = Stage(folder, port, outbox__url=database.url, relay__port=0, relay__drain_seconds=1, **settings)
    started = Fleet(database, stage, asyncio.Condition())
    stack.push_async_callback(_stop, started)
    await started.enter()
    return started


async def _stop(fleet: Fleet) -> None:
    await asyncio.gather(*(relay.stop() for relay in fleet.relays))


async def test_four_relays_share_what_two_producers_add_and_one_that_is_killed_is_replaced(
    tmp_path: Path, database: PostgresDatabase, stack: AsyncExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    crowd = Crowd(_EXCHANGE_SECONDS)
    port = await stack.enter_async_context(receiving(crowd.handle))
    four = await fleet(stack, tmp_path, database, port, relay__lease_seconds=LEASE, relay__per_destination=CAP)
    await four.know_each_other()
    await _add_backlog(database, port)
    await four.ended(DELIVERIES)
    shares = sorted(len(relay.ended) for relay in four.relays)
    assert crowd.seen.total() == len(crowd.seen) == DELIVERIES
    assert await four.ask("SELECT count(*), count(DISTINCT seq) FROM outspoken_attempts") == [(DELIVERIES, DELIVERIES)]
    assert max(crowd.busiest.values()) <= CAP
    mean = DELIVERIES / RELAYS
    assert mean - shares[0] <= 0.2 * mean, shares
    assert shares[-1] - mean <= 0.2 * mean, shares

    producers = [
        Producer(database, name, [callback(port, number)], streams=True) for number, name in enumerate(("p", "q"))
    ]
    crowd.seconds = 0.0  # the messages of a stream go one by one
    running = [asyncio.create_task(producer.run()) for producer in producers]
    killed = four.relays.pop()
    already = len(killed.ended)
    await killed.until(lambda: len(killed.ended) > already + 10)
    await killed.kill()
    for task, producer in zip(running, producers, strict=True):
        await cancelled(task)
        await producer.close()
    accepted = {id_ for producer in producers for id_ in producer.accepted}
    await crowd.until(lambda: all(id_ in crowd.seen for id_ in accepted))
    again = crowd.seen.total() - len(crowd.seen)
    with capsys.disabled():
        print(
            f"\n{DELIVERIES} shared {shares}, at most {max(crowd.busiest.values())} of {CAP} at once; after a kill "
            f"{len(accepted)} more, {again} of them twice"
        )
    for stream, numbers in crowd.order.items():
        first_seen = list(dict.fromkeys(numbers))
        assert first_seen == sorted(first_seen), stream


async def _add_backlog(database: PostgresDatabase, port: int) -> None:
    writer = database.writer()
    for start in range(0, DELIVERIES, 500):
        await writer.run(partial(_add, port, range(start, start + 500)))
    await writer.close()


def _add(port: int, numbers: range, connection: Connection) -> None:
    for number in numbers:
        url = callback(port, 10 + number % 8)
        outbox.add(connection, NewDelivery(f"b{number}-0", url, url.encode()))


async def test_the_socket_of_a_stream_belongs_to_one_relay_and_never_moves(
    tmp_path: Path, database: PostgresDatabase, stack: AsyncExitStack
) -> None:
    receiver = await stack.enter_async_context(conversing())
    four = await fleet(stack, tmp_path, database, receiver.port, relay__streams__hold_seconds=2)
    writer = database.writer()
    stack.push_async_callback(writer.close)
    keys = [f"s{number}" for number in range(8)]
    for number in range(5):
        await writer.run(partial(_speak, receiver.url, keys, number))
    conversations = [await receiver.next() for _ in keys]
    for conversation in conversations:
        assert await conversation.heard(5) == [str(number) for number in range(5)]
    holders = await four.ask("SELECT holder, count(*) FROM outspoken_streams GROUP BY holder")
    await four.relays.pop().kill()
    await writer.run(partial(_end, keys))
    codes = Counter([await conversation.closed() for conversation in conversations])
    assert sum(int(str(count)) for _, count in holders) == len(keys)
    assert set(codes) <= {1000, 1006}  # the killed one said no goodbye
    assert [numbers.texts for numbers in conversations] == [[str(number) for number in range(5)]] * len(keys)
    await asyncio.gather(*(relay.stop() for relay in four.relays))
    assert receiver.opened.empty()


def _speak(url: str, keys: list[str], number: int, connection: Connection) -> None:
    for key in keys:
        stream = Stream(key, OnDead.KILL, time.time() + 60)
        outbox.add(connection, NewDelivery(f"{key}-{number}", url, str(number).encode(), stream=stream))


def _end(keys: list[str], connection: Connection) -> None:
    for key in keys:
        outbox.end_stream(connection, key)


KEY = "whsec_" + "c2VjcmV0" * 4


class Skewed(News):
    """Refuses each delivery once, and keeps when and with what timestamp each request came."""

    def __init__(self) -> None:
        super().__init__()
        self.came: defaultdict[str, list[tuple[float, dict[str, str], bytes]]] = defaultdict(list)

    async def answer(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        requests = self.came[headers["webhook-id"]]
        requests.append((time.time(), headers, await request.read()))
        self.tell()
        return web.Response(status=200 if len(requests) > 1 else 404)


def _at(offset: str) -> dict[str, str]:
    """What makes a process take the time for another. Its monotonic clock stays what it is, as on a real machine."""
    told = subprocess.run(["faketime", "-f", offset, "env"], capture_output=True, text=True, check=True).stdout
    env = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    return {"LD_PRELOAD": env["LD_PRELOAD"], "FAKETIME": env["FAKETIME"], "DONT_FAKE_MONOTONIC": "1"} | {
        "FAKETIME_DONT_FAKE_MONOTONIC": "1"
    }


async def _both_times(receiver: Skewed, writer: Writer, ids: Sequence[str], url: str) -> None:
    """Add deliveries, and wait until each was refused and came again."""
    await writer.run(lambda c: [outbox.add(c, NewDelivery(id_, url, b"{}")) for id_ in ids] and None)
    await receiver.until(lambda: all(len(receiver.came[id_]) > 1 for id_ in ids), within=15)


@pytest.mark.needs("faketime")
async def test_relays_whose_clocks_are_minutes_apart_send_nothing_early_and_sign_with_the_right_time(
    tmp_path: Path, database: PostgresDatabase, stack: AsyncExitStack
) -> None:
    receiver, port, delay = Skewed(), free_port(), 1.5
    site = web.Application()
    site.router.add_post("/{path:.*}", receiver.answer)
    runner = web.AppRunner(site)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    stage = Stage(tmp_path, port, outbox__url=database.url, relay__port=0, relay__retry__delay=delay)
    writer = database.writer()
    stack.push_async_callback(writer.close)
    await writer.run(
        lambda c: c.execute("INSERT INTO outspoken_signing_keys (key, created_at) VALUES (?, 1.0)", (KEY,))
    )
    relays = []
    for offset in ("+5m", "-5m", "+0"):
        process = await Process.start("relay", "run", env=stage.env | _at(offset))
        stack.push_async_callback(process.stop)
        relays.append(process)
    for process in relays:
        await process.event("relay.ready")
    apart = [line["timestamp"] for process in relays for line in process.lines if line["event"] == "relay.ready"]
    assert len({text[:16] for text in apart}) == 3
    for batch in count():  # a relay may be too slow for its share of the first
        await _both_times(receiver, writer, [f"d{batch}-{number}" for number in range(24)], stage.callback_url)
        if all(any(line.get("event") == "delivery.attempt.finished" for line in each.lines) for each in relays):
            break
    for requests in receiver.came.values():
        (first_at, _, _), (second_at, _, _) = requests
        assert second_at - first_at > delay - 0.1
        for came_at, headers, body in requests:
            assert abs(int(headers["webhook-timestamp"]) - came_at) < 60  # the clocks are five minutes apart
            Webhook(KEY).verify(body, headers)
