"""Several relays on one file share the work: no delivery twice, no destination beyond its cap, and none is missed."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from relay import outbox
from relay.model import NewDelivery
from tests.acceptance.receiver import Arrival, Reply, callback, receiving
from tests.acceptance.stage import Process, Stage

RELAYS = 4
CAP = 16
LEASE = 3.0

pytestmark = pytest.mark.acceptance


@dataclass
class Counting:
    """A receiver that accepts everything after a moment, and counts what is under way at each destination."""

    seconds: float
    seen: Counter[str] = field(default_factory=Counter)
    busy: Counter[str] = field(default_factory=Counter)
    busiest: Counter[str] = field(default_factory=Counter)

    def handle(self, arrival: Arrival, reply: Reply) -> None:
        destination = arrival.body.decode()
        self.seen[arrival.id] += 1
        self.busy[destination] += 1
        self.busiest[destination] = max(self.busiest[destination], self.busy[destination])
        asyncio.get_running_loop().call_later(self.seconds, self._accept, destination, reply)

    def _accept(self, destination: str, reply: Reply) -> None:
        self.busy[destination] -= 1
        reply(200)


@dataclass
class Troupe:
    """Four relays on one file. The first one's name is known: it stands in its lease tokens."""

    stage: Stage
    relays: list[Process] = field(default_factory=list)
    first: str = ""

    async def enter(self) -> None:
        self.relays.append(await self.stage.relay())
        self.first = (await self._names())[0]
        self.relays += await asyncio.gather(*(self.stage.relay() for _ in range(RELAYS - 1)))

    async def _names(self) -> list[str]:
        while not (rows := self.ask("SELECT holder FROM relays")):
            await asyncio.sleep(0.01)
        return [name for (name,) in rows]

    async def know_each_other(self) -> None:
        """Until each has checked in once more: from then on they share a destination's cap."""
        then = time.time()
        async with asyncio.timeout(30):
            while self.ask("SELECT count(*) FROM relays WHERE seen_at > ?", then)[0][0] < RELAYS:
                await asyncio.sleep(0.05)

    def queue(self, count: int, destinations: int) -> None:
        """Deliveries whose bodies name their destination, in one transaction."""
        with closing(outbox.connect(self.stage.database)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for number in range(count):
                url = callback(self.stage.callback_port, number % destinations)
                outbox.add(connection, NewDelivery(f"delivery-{number}", url, url.encode()))
            connection.execute("COMMIT")

    async def all_delivered(self, also: str = "true", within: float = 60.0) -> None:
        """Until the deliveries of this condition are: another process does that, and only the file tells."""
        question = f"SELECT count(*) FROM deliveries WHERE state <> 'delivered' AND {also}"
        async with asyncio.timeout(within):
            while self.ask(question)[0][0]:
                await asyncio.sleep(0.02)

    def ask(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.stage.database)) as connection:
            return connection.execute(question, values).fetchall()


@asynccontextmanager
async def troupe(folder: Path, receiver: Counting, **settings: object) -> AsyncIterator[Troupe]:
    """Four relays that wait for work."""
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(receiving(receiver.handle))
        four = Troupe(Stage(folder, port, relay__port=0, relay__drain_seconds=1, **settings))
        stack.push_async_callback(_stop, four)
        await four.enter()
        yield four


async def _stop(troupe: Troupe) -> None:
    await asyncio.gather(*(process.stop() for process in troupe.relays))


async def test_four_relays_share_the_work_without_delivering_twice_or_beyond_a_cap(tmp_path: Path) -> None:
    receiver = Counting(seconds=0.01)
    async with troupe(tmp_path, receiver) as four:
        await four.know_each_other()
        four.queue(4000, destinations=8)
        await four.all_delivered()
        await _stop(four)  # they write their last lines

        assert len(receiver.seen) == 4000
        assert set(receiver.seen.values()) == {1}
        assert four.ask("SELECT count(*), count(DISTINCT seq) FROM attempts") == [(4000, 4000)]
        shares = [_finished(process) for process in four.relays]
        assert sum(shares) == 4000
        assert min(shares) > 0
        assert len(receiver.busiest) == 8
        assert max(receiver.busiest.values()) <= CAP


async def test_what_a_killed_relay_held_goes_on_elsewhere_once_its_leases_end(tmp_path: Path) -> None:
    receiver = Counting(seconds=0.01)
    async with troupe(tmp_path, receiver, relay__lease_seconds=LEASE) as four:
        its = ("state = 'leased' AND lease_token LIKE ?", f"{four.first}.%")
        four.queue(4000, destinations=8)
        while not four.ask(f"SELECT 1 FROM deliveries WHERE {its[0]} LIMIT 1", its[1]):
            await asyncio.sleep(0)
        await four.relays[0].kill()
        killed_at = time.monotonic()
        orphans = [str(seq) for (seq,) in four.ask(f"SELECT seq FROM deliveries WHERE {its[0]}", its[1])]
        await four.all_delivered(f"seq IN ({', '.join(orphans)})")
        taken_over_in = time.monotonic() - killed_at
        await four.all_delivered()

        assert orphans
        assert taken_over_in < 2 * LEASE
        assert len(receiver.seen) == 4000


def _finished(process: Process) -> int:
    return sum(line.get("event") == "delivery.attempt.finished" for line in process.lines)
