"""A quarter of a minute in the life of relay and engine, with most that can go wrong with receivers in it."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay.admin import operations
from relay.admin.audit import Actor
from relay.admin.backup import backup
from relay.admin.operations import BulkSelection
from relay.outbox import OUTBOX
from relay.outbox.model import Kind, NewDelivery, OnDead, Stream
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from relay.queue.claims import ClaimRequest
from relay.queue.deliveries import DeliveryQueue
from tests.acceptance.receiver import Arrival, Reply, callback, receiving
from tests.acceptance.speech import first_seconds
from tests.acceptance.stage import Process, Stage
from tests.operations.watchers import Watchers, fetch, until
from tests.ports import free_port
from tests.relay.deliveries import put, rows

SECONDS = 5.0
OPERATOR = Actor("operator", "cli")
STATUSES = {4: 500, 5: 413, 6: 410, 7: 404, 8: 429, 9: 302}
SILENT, PAUSED, LATE = 10, 11, 12
PATIENCE = 3600.0

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Observed:
    """What Prometheus saw between `start` and `end`; what the relay exposed at the end, and what its outbox holds."""

    watchers: Watchers
    database: Database
    start: float
    end: float = 0.0
    samples: Samples = field(default_factory=dict)

    def count(self, name: str, **labels: str) -> float:
        """One sample of the last scrape."""
        return self.samples[name, frozenset(labels.items())]

    def total(self, name: str) -> float:
        """All samples of that name together."""
        return sum(value for (known, _), value in self.samples.items() if known == name)

    def of_outbox(self, sql: str) -> Any:
        """What the outbox says, as rows."""
        return rows(self.database, sql)


@dataclass(frozen=True)
class Receivers:
    """Where the receivers are: one that minds its manners, one that talks nonsense, one that hangs up, and nobody."""

    port: int
    nonsense: int
    rude: int
    nobody: int

    def url(self, destination: int) -> str:
        """The n-th destination of the well-mannered one."""
        return callback(self.port, destination)

    def faulty(self) -> tuple[str, ...]:
        """Where no exchange gets as far as a status; the last is forbidden."""
        return (
            f"http://127.0.2.1:{self.nonsense}/",
            f"http://127.0.2.2:{self.rude}/",
            f"http://127.0.2.3:{self.nobody}/",
            f"https://127.0.2.4:{self.nonsense}/",
            "http://169.254.169.254/latest/meta-data",
        )

    def ports(self) -> str:
        """As the guard wants them."""
        return f"80, 443, {self.port}, {self.nonsense}, {self.rude}, {self.nobody}"


@asynccontextmanager
async def serving() -> AsyncIterator[Receivers]:
    """Receivers of every kind."""

    async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"HELO there\r\n\r\n")
        writer.close()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.transport.abort()

    nonsense = await asyncio.start_server(talk_nonsense, "0.0.0.0", 0)
    rude = await asyncio.start_server(hang_up, "0.0.0.0", 0)
    async with nonsense, rude, receiving(answer) as port:
        yield Receivers(port, _port(nonsense), _port(rude), free_port())


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


def answer(arrival: Arrival, reply: Reply) -> None:
    """By the destination that stands in the id; the silent one never answers. The engine's have ids of its own."""
    destination, _, _ = arrival.id.partition("-")
    if destination != str(SILENT):
        reply({str(known): status for known, status in STATUSES.items()}.get(destination, 200))


def staged(folder: Path, receivers: Receivers) -> Stage:
    """Relay and engine that lose patience quickly."""
    return Stage(
        folder,
        receivers.port,
        outbox__guard__ports=receivers.ports(),
        relay__retry__retries=1,
        relay__retry__delay=0.5,
        relay__retry__patience=PATIENCE,
        relay__http__exchange_timeout=0.6,
        relay__http__connect_timeout=0.5,
        engine__workers=1,
        engine__preload='["default"]',  # which is measured for live speech
        engine__live__sessions=1,
        engine__live__capacity_share=100,  # nobody is refused because others have the machine
    )


async def run_under_load(receivers: Receivers, stage: Stage, watchers: Watchers) -> Observed:
    """Run both daemons under load, then let them come to rest, and leave."""
    database = SqliteDatabase(stage.database)
    await _before(stage, database, receivers)
    observed = Observed(watchers, database, time.time())
    relay, engine = await asyncio.gather(stage.relay(), stage.engine())
    await asyncio.to_thread(until, lambda: len(watchers.now("up == 1")) == 2)
    speech = asyncio.create_task(asyncio.to_thread(_transcribe, stage))
    dictation = asyncio.create_task(_dictate(stage, engine))
    await _load(database, receivers)
    await asyncio.gather(speech, dictation)
    await asyncio.to_thread(_operate, database)
    await asyncio.to_thread(until, lambda: _at_rest(stage, observed))
    await asyncio.to_thread(until, lambda: bool(watchers.now("increase(relay_replays_total[1m]) > 0")))
    # What was postponed may have gone meanwhile.
    await asyncio.to_thread(until, lambda: _at_rest(stage, observed))
    observed.end = time.time() + 1  # a question over time is answered for whole seconds since its start
    await asyncio.gather(relay.stop(), engine.stop())
    return observed


async def _before(stage: Stage, database: Database, receivers: Receivers) -> None:
    """What the relay finds: a claim of one that died, and what has waited too long for a paused destination."""
    database.migrate([OUTBOX])
    put(database, NewDelivery("0-lost", receivers.url(0), b"{}"), due_at=1.0)
    dead = DeliveryQueue(database, lease=0.001)
    assert (await dead.claim(ClaimRequest(1, 1, few=1))).deliveries
    await dead.close()
    put(database, *_some(LATE, receivers, 3), due_at=time.time() - PATIENCE - 60)
    put(database, *_some(PAUSED, receivers, 5))
    backup(database, stage.folder / "backup.db", OPERATOR)
    for destination in (LATE, PAUSED):
        operations.pause(database, _origin(receivers, destination), OPERATOR)


def _origin(receivers: Receivers, destination: int) -> str:
    return receivers.url(destination).removesuffix("/callback")


def _some(
    destination: int, receivers: Receivers, count: int, body: bytes = b'{"text":"hello"}'
) -> Iterable[NewDelivery]:
    stamp = time.monotonic_ns()
    kinds = (Kind.FINAL, Kind.FINAL, Kind.ERROR)
    return [
        NewDelivery(f"{destination}-{stamp}-{n}", receivers.url(destination), body, kind=kinds[n % 3])
        for n in range(count)
    ]


async def _load(database: Database, receivers: Receivers) -> None:
    put(database, *_killed(receivers))
    put(database, *(NewDelivery(f"99-{n}", url, b"{}") for n, url in enumerate(receivers.faulty())))
    put(database, *_some(SILENT, receivers, 2), *_some(1, receivers, 4, body=bytes(1_200_000)))
    started = time.monotonic()
    while time.monotonic() < started + SECONDS:
        put(database, *(one for destination in (0, 1, 2, 3) for one in _some(destination, receivers, 10)))
        put(database, *(one for destination in STATUSES for one in _some(destination, receivers, 1)))
        await asyncio.sleep(0.2)  # the pace of the load
    operations.resume(database, _origin(receivers, PAUSED), OPERATOR)


def _killed(receivers: Receivers) -> Iterable[NewDelivery]:
    stream = Stream("a-stream", OnDead.KILL)
    return [NewDelivery(f"6-stream-{n}", receivers.url(6), b"{}", stream=stream) for n in range(3)]


def _transcribe(stage: Stage) -> None:
    request = urllib.request.Request(
        f"{stage.engine_url}/v1/listen?callback={stage.callback_url}",
        data=first_seconds(2.0),
        headers={"Content-Type": "audio/wav"},
    )
    with urllib.request.urlopen(request, timeout=30) as accepted:
        assert accepted.status == 200
    until(lambda: 'engine_jobs_total{result="done"} 1.0' in fetch(f"{stage.engine_url}/metrics"))


_WAV_HEADER = 44


async def _dictate(stage: Stage, engine: Process) -> None:
    """Live sessions, heard to their end, once it is known what that costs: one with a callback, and one that is shown
    interim results, beside which there is no room for another."""
    await engine.event("live.measured")
    listen = f"{stage.engine_url}/v1/listen"
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(listen, params={"callback": stage.callback_url}) as socket:
            await socket.send_bytes(first_seconds(1.0))
            await socket.send_str('{"type":"CloseStream"}')
            assert [message.json()["type"] async for message in socket] == ["Metadata"]
        await engine.event("live.ended")
        raw = {"encoding": "linear16", "sample_rate": "16000", "interim_results": "true"}
        async with http.ws_connect(listen, params=raw) as socket:
            await socket.send_bytes(first_seconds(0.9)[_WAV_HEADER:])  # a sentence has begun
            assert (await socket.receive_json())["is_final"] is False
            with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
                await http.ws_connect(listen)
            await socket.send_str('{"type":"CloseStream"}')
            assert [message.json()["type"] async for message in socket][-1] == "Metadata"


def _operate(database: Database) -> None:
    """An operator brings some of the dead back, and gives up what waits for one destination."""
    dead = BulkSelection(limit=2)
    list(operations.replay(database, dead, operations.plan_replay(database, dead), OPERATOR))
    pending = BulkSelection(limit=1)
    list(operations.cancel(database, pending, operations.plan_cancel(database, pending), OPERATOR))


def _at_rest(stage: Stage, observed: Observed) -> bool:
    """All that may be attempted was, the metrics have heard of it, and the outbox was counted since."""
    still = (
        "SELECT count(*) FROM outspoken_deliveries AS it WHERE state = 'leased' OR (state = 'pending' AND NOT EXISTS"
    )
    still += (
        " (SELECT 1 FROM outspoken_destinations AS d WHERE d.origin = it.origin AND d.path IN ('', it.path) AND held))"
    )
    ((waiting,),) = rows(observed.database, still)
    ((attempts, last),) = rows(observed.database, "SELECT count(*), max(started_at + duration) FROM outspoken_attempts")
    observed.samples = read(fetch(stage.metrics_url))
    ((dead,),) = rows(observed.database, "SELECT count(*) FROM outspoken_deliveries WHERE state = 'dead'")
    counted = observed.count("relay_outbox_stats_timestamp_seconds") > last
    counted &= observed.count("relay_outbox_deliveries", state="dead") == dead  # those expire without an attempt
    return not waiting and counted and observed.total("relay_delivery_attempts_total") == attempts


def read(text: str) -> Samples:
    """An exposition as samples by name and labels."""
    families = text_string_to_metric_families(text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}
