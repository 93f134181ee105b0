"""Several relays on one file share the work: no delivery twice, no destination beyond its cap, and none is missed."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from relay import outbox
from relay.outbox.model import NewDelivery
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
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def enter(self) -> None:
        self.relays.append(await self.stage.relay(self.news))
        ((self.first,),) = await self._check_ins(1, since=0.0)
        self.relays += await asyncio.gather(*(self.stage.relay(self.news) for _ in range(RELAYS - 1)))

    async def know_each_other(self) -> None:
        """Until each has checked in when all were there: from then on they share a destination's cap."""
        await self._check_ins(RELAYS, since=0.0)
        await self._check_ins(RELAYS, since=time.time())

    async def _check_ins(self, count: int, since: float) -> list[tuple[Any, ...]]:
        """The names of so many that checked in: they write that down, and say nothing."""
        async with asyncio.timeout(30):
            while len(rows := self.ask("SELECT holder FROM outspoken_relays WHERE seen_at > ?", since)) < count:
                await asyncio.sleep(0.02)
        return rows

    def queue(self, count: int, destinations: int) -> list[str]:
        """Deliveries whose bodies name their destination, in one transaction; returns their ids."""
        with closing(outbox.connect(self.stage.database)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for number in range(count):
                url = callback(self.stage.callback_port, number % destinations)
                outbox.add(connection, NewDelivery(f"delivery-{number}", url, url.encode()))
            connection.execute("COMMIT")
        return [f"delivery-{number}" for number in range(count)]

    async def settled(self, ids: Collection[str], by: Sequence[Process]) -> None:
        """Until these relays have said of each of these deliveries that it has come to its end."""
        await by[0].until(lambda: sum(len(one.ended) for one in by) >= len(ids) and set(ids) <= self._ended(by))

    def _ended(self, by: Sequence[Process]) -> set[str]:
        return set[str]().union(*(process.ended for process in by))

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
        await four.settled(four.queue(4000, destinations=8), four.relays)
        await _stop(four)  # they write their last lines

        assert len(receiver.seen) == 4000
        assert set(receiver.seen.values()) == {1}
        assert four.ask("SELECT count(*), count(DISTINCT seq) FROM outspoken_attempts") == [(4000, 4000)]
        shares = [_finished(process) for process in four.relays]
        assert sum(shares) == 4000
        assert min(shares) > 0
        assert len(receiver.busiest) == 8
        assert max(receiver.busiest.values()) <= CAP


async def test_what_a_killed_relay_held_goes_on_elsewhere_once_its_leases_end(tmp_path: Path) -> None:
    receiver = Counting(seconds=0.1)  # so that much is left when one that was killed by a busy test is dead
    async with troupe(tmp_path, receiver, relay__lease_seconds=LEASE) as four:
        killed, *survivors = four.relays
        four.queue(4000, destinations=8)
        await killed.until(lambda: len(killed.ended) > 200)  # by now it claims ahead of what it sends
        await killed.kill()
        its = ("SELECT id FROM outspoken_deliveries WHERE state = 'leased' AND lease_token LIKE ?", f"{four.first}.%")
        orphans = [id_ for (id_,) in four.ask(*its)]
        await four.settled(orphans, survivors)
        left = [id_ for (id_,) in four.ask("SELECT id FROM outspoken_deliveries WHERE state <> 'delivered'")]
        await four.settled(left, survivors)

        assert orphans
        assert len(receiver.seen) == 4000
        assert four.ask("SELECT DISTINCT state FROM outspoken_deliveries") == [("delivered",)]


def _finished(process: Process) -> int:
    return sum(line.get("event") == "delivery.attempt.finished" for line in process.lines)
