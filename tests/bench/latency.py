"""relay.latency: from the producer's commit, and from its call, to the whole request at the receiver, one each 50 ms
with an idle relay; and from the call of a producer that adds a thousand a second.

Beside it stands `bare`, before and after it: what a process takes that does nothing but what cannot be left out (see
bare_latency.py); and what it is made of: until the attempt starts (waking the relay, and the claim), and from there
until the request has come; `flush`, the producer's own commit, which waits for the disk and is in no figure but those
from the call; and `awake`, the same where no processor sleeps meanwhile, as waking one is part of all the others.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from sqlite3 import Connection
from statistics import quantiles

import uvloop

from relay import outbox
from relay.outbox.model import NewDelivery
from tests.acceptance.receiver import Arrival, Reply, callback, receiving
from tests.bench import stand
from tests.bench.stand import Result, Scale

_WARM_UP = 20
_BUSY_RATE = 1000  # a second

GOALS = {
    "relay.latency.p50_ms": "<= 0.7",
    "relay.latency.p99_ms": "<= 2",
    "relay.latency.bare_p50_ms": "",
    "relay.latency.bare_p99_ms": "",
    "relay.latency.started_p50_ms": "",
    "relay.latency.sent_p50_ms": "",
    "relay.latency.flush_p50_ms": "",
    "relay.latency.awake_p50_ms": "",
    "relay.latency.call_p50_ms": "<= 2",
    "relay.latency.call_p99_ms": "<= 6",
    "relay.latency.busy_p99_ms": "<= 20",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """When one delivery was asked for, added, committed and received."""

    called: float
    added: float
    committed: float
    came: float


class Watch:
    """One delivery at a time, and when it came."""

    def __init__(self) -> None:
        self._came: asyncio.Future[float] | None = None

    def handle(self, arrival: Arrival, reply: Reply) -> None:
        at = time.time()
        reply(204)
        if self._came is not None:
            self._came.set_result(at)

    def wait(self) -> asyncio.Future[float]:
        self._came = asyncio.get_running_loop().create_future()
        return self._came


def latency(scale: Scale) -> Result:
    """Percentiles, in milliseconds."""
    half = replace(scale, samples=scale.samples // 2)
    bare = uvloop.run(_sample_bare(half))
    samples, started = uvloop.run(_sample(scale))
    bare += uvloop.run(_sample_bare(half))
    with stand.processors_awake():
        awake, _ = uvloop.run(_sample(scale))
    parts = {
        "": [one.came - one.committed for one in samples],
        "bare_": [one.came - one.committed for one in bare],
        "started_": [at - one.committed for at, one in zip(started, samples, strict=True)],
        "sent_": [one.came - at for at, one in zip(started, samples, strict=True)],
        "flush_": [one.committed - one.added for one in samples],
        "awake_": [one.came - one.committed for one in awake],
        "call_": [one.came - one.called for one in samples],
        "busy_": uvloop.run(_busy(scale)),
    }
    spreads = {name: quantiles((1e3 * one for one in part), n=100, method="inclusive") for name, part in parts.items()}
    found = {f"relay.latency.{name}p{at}_ms": spread[at - 1] for name, spread in spreads.items() for at in (50, 99)}
    return {key: found[key] for key in GOALS}


async def _sample(scale: Scale) -> tuple[list[Sample], Sequence[float]]:
    """What the producer and the receiver saw, and when the relay's attempts began."""
    watch = Watch()
    async with receiving(watch.handle) as port:
        with stand.new_outbox() as path, stand.relay(path, port) as relay:
            await asyncio.to_thread(stand.wait_until_ready, path, relay)
            samples = await _samples(scale, watch, path, port)
            await asyncio.to_thread(stand.wait_until_drained, path, relay)
            return samples, _started(path)[_WARM_UP:]


async def _sample_bare(scale: Scale) -> list[Sample]:
    """The same with the bare process in the relay's place."""
    watch = Watch()
    async with receiving(watch.handle) as port:
        with stand.new_outbox() as path:
            command = (sys.executable, "-m", "tests.bench.bare_latency", path)
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            stand.keep_off_the_sink(process.pid)
            try:
                assert process.stdout is not None
                assert await process.stdout.readline()
                return await _samples(scale, watch, path, port)
            finally:
                process.kill()
                await process.wait()


async def _samples(scale: Scale, watch: Watch, path: Path, port: int) -> list[Sample]:
    samples = []
    with _producing(path) as (connection, notifier):
        for number in range(_WARM_UP + scale.samples):
            samples.append(await _one(watch, connection, notifier, callback(port, 0), number))
            await asyncio.sleep(scale.rest)
    return samples[_WARM_UP:]


def _started(path: Path) -> Sequence[float]:
    with closing(outbox.connect(path)) as connection:
        return [at for (at,) in connection.execute("SELECT started_at FROM outspoken_attempts ORDER BY seq")]


@contextmanager
def _producing(path: Path) -> Iterator[tuple[Connection, outbox.Notifier]]:
    with closing(outbox.connect(path)) as connection, closing(outbox.Notifier(path)) as notifier:
        yield connection, notifier


async def _one(watch: Watch, connection: Connection, notifier: outbox.Notifier, url: str, number: int) -> Sample:
    came = watch.wait()
    called = time.time()
    connection.execute("BEGIN IMMEDIATE")
    outbox.add(connection, NewDelivery(str(number), url, bytes(2048)))
    added = time.time()
    connection.execute("COMMIT")
    committed = time.time()
    notifier.notify()
    return Sample(called, added, committed, await came)


async def _busy(scale: Scale) -> list[float]:
    """Seconds from the call of a producer in a process of its own; the first quarter is warming up."""
    took: list[float] = []

    def note(arrival: Arrival, reply: Reply) -> None:
        took.append(time.time() - struct.unpack_from("d", arrival.body)[0])
        reply(204)

    async with receiving(note) as port:
        with stand.new_outbox() as path, stand.relay(path, port) as relay:
            await asyncio.to_thread(stand.wait_until_ready, path, relay)
            command = ("-m", "tests.bench.producer", path, str(scale.seconds), callback(port, 0), str(_BUSY_RATE))
            producer = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.DEVNULL)
            await producer.wait()
            await asyncio.to_thread(stand.wait_until_drained, path, relay)
    return took[len(took) // 4 :]
