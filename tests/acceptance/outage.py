"""A relay on a PostgreSQL server of its own that things happen to, while a producer adds and a receiver counts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

from aiohttp import ClientSession, ClientTimeout
from prometheus_client.parser import text_string_to_metric_families

from relay import outbox
from relay.outbox.errors import DuplicateDelivery, StoreUnavailable
from relay.outbox.model import NewDelivery, Stream
from relay.outbox.postgres.database import PostgresDatabase
from relay.outbox.store import Connection
from tests.acceptance.receiver import Arrival, Reply, receiving
from tests.acceptance.stage import Process, Stage
from tests.services.postgres import Server

T = TypeVar("T")

_PACE_SECONDS = 0.01
_LOOK_SECONDS = 0.05
_AT_ONCE = 4
_PATIENCE_SECONDS = 20.0


class News:
    """Something that changes, and those who wait for it."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def tell(self) -> None:
        """It has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, so: Callable[[], bool], within: float = _PATIENCE_SECONDS) -> None:
        """Ask after every change. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while not so():
                await self._changed.wait()


class Tally(News):
    """A receiver that takes everything, and counts how often it was given each id."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.order: dict[str, list[int]] = {}

    def handle(self, arrival: Arrival, reply: Reply) -> None:
        self.seen[arrival.id] += 1
        stream, _, number = arrival.id.rpartition("-")
        if self.seen[arrival.id] == 1:
            self.order.setdefault(stream, []).append(int(number))
        reply(200)
        self.tell()

    async def has(self, ids: Collection[str]) -> None:
        """Until each of these has come."""
        missing = set(ids)

        def all_here() -> bool:
            missing.difference_update([id_ for id_ in missing if id_ in self.seen])
            return not missing

        await self.until(all_here)

    @property
    def duplicates(self) -> int:
        """Deliveries that came again."""
        return self.seen.total() - len(self.seen)


class Producer(News):
    """Adds a few deliveries at a time, for ever, and asks again while the database is away, for the same ids: what it
    does not know to be committed may be."""

    def __init__(self, database: PostgresDatabase, name: str, urls: Sequence[str], *, streams: bool = False) -> None:
        super().__init__()
        self.accepted: list[str] = []
        self.refused: Counter[str] = Counter()
        self._writer = database.writer()
        self._name = name
        self._urls = urls
        self._streams = streams

    async def run(self) -> None:
        """Until cancelled."""
        for number in count():
            await self._insist([self._delivery(number, one) for one in range(_AT_ONCE)])
            await asyncio.sleep(_PACE_SECONDS)

    def _delivery(self, number: int, one: int) -> NewDelivery:
        key = f"{self._name}-{one}"
        url = self._urls[(number * _AT_ONCE + one) % len(self._urls)]
        return NewDelivery(f"{key}-{number}", url, b"x" * 2000, stream=Stream(key) if self._streams else None)

    async def _insist(self, deliveries: Sequence[NewDelivery]) -> None:
        while True:
            try:
                await self._writer.run(partial(_add, deliveries))
                break
            except DuplicateDelivery:
                break  # it was committed, and the word of it was lost
            except StoreUnavailable as error:
                self.refused[error.kind] += 1
                self.tell()
                await asyncio.sleep(_LOOK_SECONDS)
        self.accepted += [delivery.id for delivery in deliveries]
        self.tell()

    async def close(self) -> None:
        """Give the connection back."""
        await self._writer.close()


def _add(deliveries: Sequence[NewDelivery], connection: Connection) -> None:
    for delivery in deliveries:
        outbox.add(connection, delivery)


class Watch(News):
    """Asks a relay all the time whether it lives and is ready."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._base = stage.metrics_url.removesuffix("/metrics")
        self.status = 0
        self.checks = ""
        self.signs_of_life = 0
        self.slowest_readiness = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        async with ClientSession(timeout=ClientTimeout(10)) as session:
            await asyncio.gather(self._look(session), self._listen(session))

    async def _look(self, session: ClientSession) -> None:
        while True:
            asked_at = time.monotonic()
            async with session.get(f"{self._base}/readyz") as response:
                self.status, self.checks = response.status, await response.text()
            self.slowest_readiness = max(self.slowest_readiness, time.monotonic() - asked_at)
            self.tell()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _listen(self, session: ClientSession) -> None:
        while True:
            async with session.get(f"{self._base}/livez") as response:
                assert response.status == 200
            self.signs_of_life += 1
            self.tell()
            await asyncio.sleep(_LOOK_SECONDS)

    async def says(self, status: int) -> None:
        """Until `/readyz` answers so. Raises AssertionError with what it answers instead."""
        try:
            await self.until(lambda: self.status == status)
        except TimeoutError:
            raise AssertionError(f"/readyz is {self.status}, and not {status}: {self.checks}") from None


@dataclass
class Play:
    """A server, a relay on it, and those around them."""

    server: Server
    database: PostgresDatabase
    stage: Stage
    relay: Process
    producer: Producer
    tally: Tally
    watch: Watch
    notes: dict[str, str] = field(default_factory=dict)

    async def unready(self) -> None:
        """Until the relay says that it cannot use the database, and answers that it lives all the same: what hangs with
        the server must never hold up the loop that sends."""
        await self.watch.says(503)
        asked = self.watch.signs_of_life + 1  # the next answer may be to what was asked before
        await self.watch.until(lambda: self.watch.signs_of_life > asked)
        assert self.watch.status == 503

    async def recovers(self, fault: str, over_at: float) -> None:
        """What is added from now on is accepted and arrives, and the relay says that it is ready. Everything that was
        accepted before has arrived too."""
        accepted = len(self.producer.accepted)
        await self.producer.until(lambda: len(self.producer.accepted) > accepted)
        await self.watch.says(200)
        await self.tally.has(self.producer.accepted)
        took = time.monotonic() - over_at
        self.notes[fault] = f"well {took:.1f} s after it, {self.tally.duplicates} duplicates until now"

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of a metric."""
        async with ClientSession() as session, session.get(self.stage.metrics_url) as response:
            families = text_string_to_metric_families(await response.text())
        samples = (sample for family in families for sample in family.samples)
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def told(self) -> str:
        """What happened, for people."""
        faults = "".join(f"\n  {fault}: {words}" for fault, words in self.notes.items())
        return (
            f"\n{len(self.producer.accepted)} accepted, {len(self.tally.seen)} arrived, "
            f"{self.tally.duplicates} duplicates, refused to the producer {dict(self.producer.refused)}, "
            f"slowest /readyz {self.watch.slowest_readiness:.2f} s"
            f"{faults}"
        )


@asynccontextmanager
async def play(folder: Path, server: Server, **settings: object) -> AsyncIterator[Play]:
    """A relay that delivers what a producer adds all the time."""
    database = PostgresDatabase(server.url(await asyncio.to_thread(server.create)))
    await asyncio.to_thread(database.migrate, [outbox.OUTBOX])
    async with AsyncExitStack() as stack:
        tally = Tally()
        port = await stack.enter_async_context(receiving(tally.handle))
        stage = Stage(folder, port, outbox__url=database.url, relay__drain_seconds=1, **settings)
        relay = await stage.relay()
        stack.push_async_callback(relay.stop)
        producer = Producer(database, "p", [stage.callback_url])
        stack.push_async_callback(producer.close)
        watch = Watch(stage)
        for work in (producer.run(), watch.run()):
            stack.push_async_callback(cancelled, asyncio.create_task(work))
        started = Play(server, database, stage, relay, producer, tally, watch)
        await watch.says(200)
        await tally.until(lambda: bool(tally.seen))
        yield started


async def cancelled(task: asyncio.Task[None]) -> None:
    """End it; if it has failed, so does the test."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
