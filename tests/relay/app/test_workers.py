"""`relay run --workers`: several processes that are one relay to whoever looks."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, CookieJar
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from relay.app.workers import Silence, pause_before
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from tests.acceptance.receiver import Arrival, Reply, callback, receiving
from tests.acceptance.stage import Line, Process, Stage
from tests.ports import free_port
from tests.relay.databases import on_sqlite
from tests.relay.deliveries import new, put, states

WORKERS = 2
DESTINATIONS = 8

pytestmark = pytest.mark.acceptance


class Callee:
    """Accepts everything at once, or once it is told to while it is `patient`."""

    def __init__(self) -> None:
        self.patient = False
        self.came: Counter[str] = Counter()
        self._waiting: list[Reply] = []
        self._news = asyncio.Event()

    def handle(self, arrival: Arrival, reply: Reply) -> None:
        self.came[arrival.id] += 1
        self._news.set()
        if self.patient:
            self._waiting.append(reply)
        else:
            reply(200)

    def accept(self) -> None:
        """What waits, and what comes from now on."""
        self.patient = False
        for reply in self._waiting:
            reply(200)

    async def has_heard_of(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.came) < count:
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def relay_of_two(folder: Path, database: Database, callee: Callee) -> AsyncIterator[tuple[Stage, Process]]:
    """Two workers at work, whose leases are short; and a stage that knows where."""
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(receiving(callee.handle))
        stage = Stage(
            folder,
            port,
            outbox__url=database.url,
            relay__admin__token_file=folder / "token",
            relay__workers=WORKERS,
            relay__lease_seconds=2,
        )
        relay = await stage.relay()
        stack.push_async_callback(relay.kill)
        yield stage, relay


def queue(stage: Stage, database: Database, count: int) -> set[str]:
    ids = [f"d{number}" for number in range(count)]
    urls = [callback(stage.callback_port, number % DESTINATIONS) for number in range(count)]
    put(database, *(new(id_, url) for id_, url in zip(ids, urls, strict=True)))
    return set(ids)


def workers(relay: Process) -> dict[str, int]:
    """Their process ids, by name."""
    return {line["worker"]: line["pid"] for line in relay.lines if line["event"] == "worker.started"}


async def settled(relay: Process, ids: set[str]) -> None:
    await relay.until(lambda: ids <= relay.ended)


async def gone(pid: int) -> None:
    """Until a process that need not be a child has ended."""
    ended = asyncio.Event()
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(20):
            await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def samples(stage: Stage, name: str) -> list[Sample]:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with ClientSession(headers=accept) as session, session.get(stage.metrics_url) as response:
        families = list(text_string_to_metric_families(await response.text()))  # type: ignore[no-untyped-call]
    return [sample for family in families for sample in family.samples if sample.name == name]


async def ready(stage: Stage) -> tuple[int, dict[str, str]]:
    async with ClientSession() as session, session.get(stage.metrics_url.replace("/metrics", "/readyz")) as response:
        return response.status, (await response.json())["checks"]


@on_sqlite
async def test_what_the_workers_count_adds_up_to_what_was_delivered(folder: Path, database: Database) -> None:
    callee = Callee()
    async with relay_of_two(folder, database, callee) as (stage, relay):
        ids = queue(stage, database, 600)
        await settled(relay, ids)
        finished = await samples(stage, "relay_deliveries_finished_total")
        assert sum(one.value for one in finished) == 600
        assert {one.labels["worker"] for one in finished} == {"0", "1"}
        assert callee.came == Counter(ids)
        assert await ready(stage) == (200, {"worker.0": "ok", "worker.1": "ok"})
        assert await seen_by_operators((await relay.event("relay.ready"))["admin"], folder / "token", 600) == 600


async def seen_by_operators(console: str, token: Path, expected: int) -> int:
    """How many deliveries the console has seen delivered, asked again until it is as many."""
    known = {"token": token.read_text().strip(), "name": "Ada"}
    delivered = 0
    async with asyncio.timeout(20), ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        await session.post(f"{console}login", data=known, headers={"Origin": console[:-1]})
        while delivered < expected:
            async with session.get(f"{console}destinations") as page:
                delivered = sum(map(int, re.findall(r"delivered (\d+), failed 0", await page.text())))
    return delivered


async def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(folder: Path, database: Database) -> None:
    callee = Callee()
    callee.patient = True
    async with relay_of_two(folder, database, callee) as (stage, relay):
        ids = queue(stage, database, 300)
        await callee.has_heard_of(DESTINATIONS)  # some of them are in the hands of each
        victim = workers(relay)["1"]
        os.kill(victim, signal.SIGKILL)
        died = await relay.event("worker.died")
        assert (died["worker"], died["pid"], died["exit_code"]) == ("1", victim, -signal.SIGKILL)
        callee.accept()
        await relay.until(lambda: workers(relay)["1"] != victim)
        await settled(relay, ids)
        assert set(states(database).values()) == {"delivered"}
        assert callee.came.keys() == ids
        assert [one.value for one in await samples(stage, "relay_worker_exits_total")] == [1]


@on_sqlite
async def test_a_worker_that_cannot_be_started_again_is_tried_again_and_the_others_go_on(
    folder: Path, database: Database
) -> None:
    callee = Callee()
    async with relay_of_two(folder, database, callee) as (stage, relay):
        victim, before = workers(relay)["1"], resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (0, before[1]))
        os.kill(victim, signal.SIGKILL)
        assert (await relay.event("worker.failed"))["worker"] == "1"
        await settled(relay, queue(stage, database, 10))
        resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, before)
        await relay.until(lambda: workers(relay)["1"] != victim)


@on_sqlite
async def test_sigterm_lets_all_workers_finish_what_is_under_way(folder: Path, database: Database) -> None:
    callee = Callee()
    callee.patient = True
    async with relay_of_two(folder, database, callee) as (stage, relay):
        queue(stage, database, 400)
        await callee.has_heard_of(DESTINATIONS)
        leaving = asyncio.create_task(relay.stop())

        def drains(line: Line) -> bool:
            return line["event"] == "relay.draining" and "worker" in line

        await relay.until(lambda: sum(map(drains, relay.lines)) == WORKERS)
        status, checks = await ready(stage)
        assert (status, "drain: draining" in checks.values()) == (503, True)
        assert set(checks.values()) <= {"drain: draining", "no answer"}  # who had nothing under way has left
        heard = callee.came.keys() | set()
        callee.accept()
        assert await leaving == 0
        after = states(database)
        assert heard <= {id_ for id_, state in after.items() if state == "delivered"} == callee.came.keys()
        assert set(after.values()) <= {"delivered", "pending"}
        for pid in workers(relay).values():
            await gone(pid)


@on_sqlite
async def test_workers_whose_parent_is_killed_finish_what_is_under_way_beside_the_next_relay(
    folder: Path, database: Database
) -> None:
    callee = Callee()
    callee.patient = True
    async with relay_of_two(folder, database, callee) as (stage, relay):
        ids = queue(stage, database, 100)
        await callee.has_heard_of(DESTINATIONS)
        pids = workers(relay)
        os.kill(relay.pid, signal.SIGKILL)
        await relay.until(lambda: sum(line["event"] == "worker.orphaned" for line in relay.lines) == WORKERS)
        heir = await stage.relay()  # at the same ports
        under_way = set(callee.came)
        callee.accept()
        for pid in pids.values():
            await gone(pid)
        await settled(heir, ids - under_way)
        assert await heir.stop() == 0
        assert set(states(database).values()) == {"delivered"}
        assert callee.came == Counter(ids)


async def test_workers_are_reached_where_folders_have_long_names(folder: Path) -> None:
    deep = folder / ("long" * 30) / ("longer" * 20)
    deep.mkdir(parents=True)
    callee = Callee()
    async with receiving(callee.handle) as port:
        database = SqliteDatabase(deep / "outspoken.db")
        stage = Stage(folder, port, outbox__url=database.url, relay__workers=WORKERS)
        stage.env["TMPDIR"] = str(deep)
        relay = await stage.relay()
        await settled(relay, queue(stage, database, 20))
        assert await ready(stage) == (200, {"worker.0": "ok", "worker.1": "ok"})
        assert await relay.stop() == 0


async def test_the_folder_of_a_parent_that_was_killed_goes_with_the_next_start_and_no_other_does(folder: Path) -> None:
    place = folder / "t"
    place.mkdir()
    others = place / "outspoken-12345678"
    others.mkdir()
    (others / "letter").touch()
    stage = Stage(folder, free_port(), relay__workers=WORKERS)
    stage.env["TMPDIR"] = str(place)
    killed = await stage.relay()
    (left,) = set(place.iterdir()) - {others}
    pids = workers(killed)
    os.kill(killed.pid, signal.SIGKILL)
    for pid in pids.values():
        await gone(pid)
    first, lives = await stage.relay(), Stage(folder, free_port(), relay__workers=WORKERS)
    lives.env["TMPDIR"] = str(place)
    second = await lives.relay()
    assert left not in place.iterdir()
    assert len(set(place.iterdir())) == 3
    assert await ready(stage) == (200, {"worker.0": "ok", "worker.1": "ok"})
    for relay in (first, second):
        assert await relay.stop() == 0
    assert list(place.iterdir()) == [others]


@on_sqlite
async def test_a_ctrl_c_at_the_terminal_reaches_the_parent_alone(folder: Path, database: Database) -> None:
    async with relay_of_two(folder, database, Callee()) as (_, relay):
        assert {os.getsid(pid) for pid in workers(relay).values()}.isdisjoint({os.getsid(relay.pid)})
        os.kill(relay.pid, signal.SIGINT)
        assert await relay.finished() == 0


def test_who_was_asked_before_the_machine_stood_still_has_been_silent_since_then_at_most() -> None:
    silence = Silence()
    assert silence.goes_on(140.0) == 0.0  # 40 s after the last answer
    assert silence.goes_on(171.0) == 31.0
    silence.end()
    assert silence.goes_on(200.0) == 0.0


@pytest.mark.skipif(not os.environ.get("TESTS_FULL"), reason="it takes half a minute until one counts as hung")
@on_sqlite
async def test_a_worker_that_hangs_is_replaced(folder: Path, database: Database) -> None:
    async with relay_of_two(folder, database, Callee()) as (_, relay):
        hung = workers(relay)["1"]
        os.kill(hung, signal.SIGSTOP)
        killed = await relay.event("worker.killed")
        assert (killed["worker"], killed["reason"].startswith("no answer for 3")) == ("1", True)
        await relay.until(lambda: workers(relay)["1"] != hung)


def test_a_place_is_filled_again_after_a_pause_that_doubles_until_somebody_stays() -> None:
    pauses = [0.0]
    for lived in (1, 1, 1, 1, 1, 1, 1, 61, 1):
        pauses.append(pause_before(pauses[-1], lived=lived))
    assert pauses[1:] == [1, 2, 4, 8, 16, 30, 30, 1, 2]
