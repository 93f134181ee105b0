"""Promise 5, one fault at a time: a bad URL, path, host or caller hurts only itself. What comes in which order decides
here, over real sockets and with a real relay; how fast it comes is measured by the benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from relay.outbox import Notifier
from relay.outbox.model import NewDelivery
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from tests.acceptance.stage import Process, Stage
from tests.relay.deliveries import new, put, rows
from tests.services.postgres import Server

Answers = Callable[[web.Request], Awaitable[web.Response]]

NEVER = 1000.0  # seconds: longer than any test waits
WITHIN = 60.0  # seconds in which everything here has long come to its end
NEIGHBOURS = 9
HANGING = 64  # hosts
MANY_KNOWN = 300  # more than there are slots
SLOW = 1.0  # seconds: a machine that is busy besides has that long for each of those that answer at once
TOO_MANY_KNOWN = 600  # more than may hang

pytestmark = pytest.mark.acceptance


async def takes(_: web.Request) -> web.Response:
    return web.Response()


async def fails(_: web.Request) -> web.Response:
    return web.Response(status=503)


async def takes_its_time(_: web.Request) -> web.Response:
    await asyncio.sleep(SLOW)
    return web.Response()


async def hangs(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


class Receiver:
    """Each path answers in its own way, and takes everything unless told otherwise. `came` are the deliveries that
    arrived, in order and as often as they did; `taken` those that were answered with a 200."""

    def __init__(self, answers: Mapping[str, Answers]) -> None:
        self.port = 0
        self.came: list[str] = []
        self.taken: list[str] = []
        self._answers = answers
        self._news = asyncio.Condition()

    async def receive(self, request: web.Request) -> web.Response:
        id_ = request.headers["webhook-id"]
        self.came.append(id_)
        await self._tell()
        response = await self._answers.get(request.path, takes)(request)
        if response.status == 200:
            self.taken.append(id_)
            await self._tell()
        return response

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def until(self, done: Callable[[], bool]) -> None:
        """Ask this whenever something arrives or is taken, until it is so."""
        async with asyncio.timeout(WITHIN), self._news:
            await self._news.wait_for(done)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


class Play:
    """A receiver, a relay, and a producer for it."""

    def __init__(self, stage: Stage, receiver: Receiver, relay: Process, url: str | None) -> None:
        self.receiver = receiver
        self.relay = relay
        self._path = stage.database
        self._database: Database = PostgresDatabase(url) if url else SqliteDatabase(stage.database)

    async def send(self, *deliveries: NewDelivery) -> None:
        """In one transaction."""
        await asyncio.to_thread(put, self._database, *deliveries)
        with closing(Notifier(self._path)) as notifier:
            notifier.notify()

    async def known(self, *hosts: str) -> None:
        """From here on the relay knows these hosts as ones that answer."""
        first = [new(f"known {host}", self.receiver.url("/known", host)) for host in hosts]
        await self.send(*first)
        await self.ended(ids(first))

    def known_long_since(self, *hosts: str) -> None:
        """These answered, but not just now."""
        for host in hosts:
            origin = self.receiver.url("", host)
            rows(self._database, "INSERT INTO outspoken_destinations (origin) VALUES (?) RETURNING origin", origin)

    async def taken(self, ids: Iterable[str]) -> None:
        """Until the receiver has taken all of these."""
        wanted = set(ids)
        await self.receiver.until(lambda: wanted <= set(self.receiver.taken))

    async def ended(self, ids: Iterable[str]) -> None:
        """Until all of these have come to their end."""
        wanted = set(ids)
        await self.relay.until(lambda: wanted <= self.relay.ended, WITHIN)

    def ends(self, pattern: str) -> set[tuple[Any, ...]]:
        """State, attempts and reason of those whose ids fit."""
        sql = "SELECT state, attempts, reason FROM outspoken_deliveries WHERE id LIKE ?"
        return set(rows(self._database, sql, pattern.replace("*", "%")))


@asynccontextmanager
async def play(folder: Path, url: str | None = None, **answers: Answers) -> AsyncIterator[Play]:
    """The paths /NAME answer like this. Nothing times out, and nothing that failed is tried again meanwhile. `url` is
    that of a database on PostgreSQL."""
    receiver = Receiver({f"/{name}": answer for name, answer in answers.items()})
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", 0)
    await site.start()
    receiver.port = runner.addresses[0][1]
    settings: dict[str, object] = {"relay__http__exchange_timeout": NEVER, "relay__retry__delay": NEVER}
    stage = Stage(folder, receiver.port, **settings | ({"outbox__url": url} if url else {}))
    relay = await stage.relay()
    try:
        yield Play(stage, receiver, relay, url)
    finally:
        await relay.kill()
        await runner.cleanup()


def several(name: str, url: str, count: int, **fields: Any) -> list[NewDelivery]:
    return [new(f"{name} {number}", url, **fields) for number in range(count)]


def ids(deliveries: Iterable[NewDelivery]) -> list[str]:
    return [delivery.id for delivery in deliveries]


async def test_a_url_that_is_gone_takes_none_of_its_neighbours_along(tmp_path: Path) -> None:
    async def goes(request: web.Request) -> web.Response:
        return web.Response(status=410 if request.query_string == "user=1" else 200)

    async with play(tmp_path, hook=goes) as a:
        gone = a.receiver.url("/hook?user=1")
        await a.send(new("gone", gone))
        await a.ended(["gone"])
        neighbours = several("other user", a.receiver.url("/hook?user=2"), 15)
        neighbours += several("no user", a.receiver.url("/hook"), 15) + several("path", a.receiver.url("/other"), 15)
        await a.send(new("gone too", gone), *neighbours)
        await a.ended(["gone too", *ids(neighbours)])
        assert a.ends("gone*") == {("dead", 1, "gone")}
        assert sorted(a.receiver.taken) == sorted(ids(neighbours))
        assert "gone too" not in a.receiver.came
        assert a.ends("other user*") | a.ends("no user*") | a.ends("path*") == {("delivered", 1, None)}


async def test_a_path_that_fails_keeps_no_other_path_of_its_host_waiting(tmp_path: Path) -> None:
    async with play(tmp_path, bad=fails) as a:
        bad = several("bad", a.receiver.url("/bad"), 40)
        await a.send(*bad)
        await a.receiver.until(lambda: len(a.receiver.came) >= 5)  # so many in a row, and it is left alone
        good = several("good", a.receiver.url("/good"), 150)
        await a.send(*good)
        await a.ended(ids(good))
        assert a.ends("good*") == {("delivered", 1, None)}
        assert {state for state, _, _ in a.ends("bad*")} == {"pending"}


@pytest.mark.parametrize("hosts", [["127.0.0.1"], []], ids=["known", "cold"])
async def test_a_path_that_hangs_keeps_no_other_path_of_its_host_waiting(tmp_path: Path, hosts: list[str]) -> None:
    async with play(tmp_path, hanging=hangs) as a:
        await a.known(*hosts)
        hanging = several("hanging", a.receiver.url("/hanging"), 40)
        await a.send(*hanging)
        await a.receiver.until(lambda: len(a.receiver.came) > len(hosts))
        healthy = [
            delivery
            for number in range(NEIGHBOURS)
            for delivery in several(f"healthy {number}", a.receiver.url(f"/healthy/{number}"), 20)
        ]
        await a.send(*healthy)
        await a.taken(ids(healthy))
        # All of them beside those that hold their slots to this moment.
        assert not a.relay.ended & set(ids(hanging))


async def test_hosts_that_hang_keep_no_other_host_waiting(tmp_path: Path) -> None:
    async with play(tmp_path, hanging=hangs) as a:
        await a.known("127.0.2.1")
        await hang(a)
        healthy = several("healthy", a.receiver.url("/", "127.0.2.1"), 200)
        strangers = [new(f"new {number}", a.receiver.url("/", f"127.0.3.{number}")) for number in range(1, 101)]
        await a.send(*healthy, *strangers)
        await a.taken(ids([*healthy, *strangers]))
        assert not a.relay.ended & {id_ for id_ in a.receiver.came if id_.startswith("hanging")}


async def hang(a: Play) -> None:
    """Until each of many hosts that nobody knew has an attempt under way that is never answered."""
    hosts = [f"127.0.1.{number}" for number in range(1, HANGING + 1)]
    await a.send(*(one for host in hosts for one in several(f"hanging {host}", a.receiver.url("/hanging", host), 8)))
    await a.receiver.until(
        lambda: len({id_.rpartition(" ")[0] for id_ in a.receiver.came if "hanging" in id_}) == HANGING
    )


async def test_known_hosts_that_begin_to_hang_together_keep_no_other_host_waiting(tmp_path: Path) -> None:
    async with play(tmp_path, hanging=hangs) as a:
        healthy = [f"127.0.2.{number}" for number in range(1, 21)]
        unwell = [f"127.0.{4 + number // 250}.{1 + number % 250}" for number in range(MANY_KNOWN)]
        await a.known(*healthy, *unwell)
        hung = [one for host in unwell for one in several(f"hung {host}", a.receiver.url("/hanging", host), 4)]
        await a.send(*hung)
        await a.receiver.until(lambda: sum(id_.startswith("hung") for id_ in a.receiver.came) >= HANGING)
        strangers = [new(f"new {number}", a.receiver.url("/", f"127.0.3.{number}")) for number in range(1, 21)]
        served = [one for host in healthy for one in several(f"healthy {host}", a.receiver.url("/", host), 20)]
        await a.send(*served, *strangers)
        await a.taken(ids([*served, *strangers]))
        # All of them beside those that hold their slots to this moment.
        assert not {id_ for id_ in a.relay.ended if id_.startswith("hung")}


async def test_known_hosts_that_hang_never_take_all_slots_however_many_they_are(tmp_path: Path) -> None:
    async with play(tmp_path, hanging=hangs) as a:
        unwell = [f"127.0.{4 + number // 250}.{1 + number % 250}" for number in range(TOO_MANY_KNOWN)]
        a.known_long_since(*unwell)
        await a.send(*(new(f"hung {host}", a.receiver.url("/hanging", host)) for host in unwell))
        strangers: list[NewDelivery] = []
        for number in range(1, 21):  # the last of them long after all that may hang do
            strangers.append(new(f"new {number}", a.receiver.url("/", f"127.0.3.{number}")))
            await a.send(strangers[-1])
            await a.taken(ids(strangers))
        assert not {id_ for id_ in a.relay.ended if id_.startswith("hung")}


async def test_many_hosts_that_take_their_time_keep_none_waiting_that_answers_at_once(tmp_path: Path) -> None:
    async with play(tmp_path, slow=takes_its_time) as a:
        slow = [f"127.0.{4 + number // 250}.{1 + number % 250}" for number in range(MANY_KNOWN)]
        await a.known("127.0.2.1", *slow)
        backlog = [one for host in slow for one in several(f"slow {host}", a.receiver.url("/slow", host), 8)]
        await a.send(*backlog)
        await a.taken({backlog[0].id})
        quick = several("quick", a.receiver.url("/", "127.0.2.1"), 10)
        for one in quick:  # each when the one before has arrived
            await a.send(one)
            await a.taken({one.id})
        # In turn with all of them this would have been their whole backlog.
        assert len(a.receiver.taken) < len(backlog) / 2


@pytest.fixture
def url(postgres: Server) -> Iterator[str]:
    """An empty database."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.mark.needs("postgres")
async def test_all_of_this_at_once_on_postgresql(tmp_path: Path, url: str) -> None:
    async def goes(_: web.Request) -> web.Response:
        return web.Response(status=410)

    async with play(tmp_path, url, hanging=hangs, bad=fails, gone=goes) as a:
        await a.known("127.0.0.1")
        await hang(a)
        ill = [one for name in ("hanging", "bad", "gone") for one in several(name, a.receiver.url(f"/{name}"), 20)]
        await a.send(*several("flood", a.receiver.url("/many"), 1000, owner="many"), *ill)
        await a.receiver.until(lambda: "gone 0" in a.receiver.came)
        healthy = several("healthy", a.receiver.url("/healthy"), 50, owner="few")
        strangers = [new(f"new {number}", a.receiver.url("/", f"127.0.3.{number}")) for number in range(1, 51)]
        await a.send(*healthy, *strangers)
        await a.ended(ids([*healthy, *strangers]))
        assert a.ends("healthy*") | a.ends("new*") == {("delivered", 1, None)}
        assert {state for state, *_ in a.ends("hanging*") | a.ends("bad*")} <= {"pending", "leased"}


async def test_a_receiver_that_takes_one_at_a_time_gets_all_at_its_pace(tmp_path: Path) -> None:
    unit, count = 0.1, 40
    clock = asyncio.get_running_loop().time
    free_at = clock()
    refused = 0

    async def limits(_: web.Request) -> web.Response:
        nonlocal free_at, refused
        if clock() < free_at:
            refused += 1
            return web.Response(status=429, headers={"Retry-After": str(unit)})
        free_at = clock() + unit
        return web.Response()

    async with play(tmp_path, limited=limits) as a:
        limited = several("limited", a.receiver.url("/limited"), count)
        await a.send(*limited)
        await a.taken(ids(limited))
        assert len(a.receiver.taken) == count
        assert refused < 1.5 * count
        # Until the last one's end is durable, and none was charged for being early.
        await a.relay.until(lambda: a.ends("limited*") == {("delivered", 1, None)})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"], ids=["same URL", "another host"])
async def test_what_one_owner_adds_comes_before_no_other_owners_one(tmp_path: Path, host: str) -> None:
    async with play(tmp_path) as a:
        flood = several("flood", a.receiver.url("/hook"), 4000, owner="many")
        await a.send(*flood)
        await a.receiver.until(lambda: len(a.receiver.came) > 100)
        before = len(a.receiver.came)
        await a.send(new("one", a.receiver.url("/hook", host), owner="few"))
        await a.receiver.until(lambda: "one" in a.receiver.came)
        print(f"{before} came before it was added, {a.receiver.came.index('one') - before} between that and itself")
        assert a.receiver.came.index("one") < len(flood) // 2
