"""relay.latency: from the producer's commit to the whole request at the receiver, with an idle relay."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import Connection
from statistics import quantiles
from time import perf_counter

import uvloop

from relay import outbox
from relay.outbox.model import NewDelivery
from tests.acceptance.receiver import Arrival, Reply, callback, receiving
from tests.bench import stand
from tests.bench.stand import Result, Scale

_WARM_UP = 20
_REST = 0.01  # seconds: the relay shall be idle again


class Watch:
    """One delivery at a time, and when it came."""

    def __init__(self) -> None:
        self._came: asyncio.Future[float] | None = None

    def handle(self, arrival: Arrival, reply: Reply) -> None:
        at = perf_counter()
        reply(204)
        if self._came is not None:
            self._came.set_result(at)

    def wait(self) -> asyncio.Future[float]:
        self._came = asyncio.get_running_loop().create_future()
        return self._came


def latency(scale: Scale) -> Result:
    """Percentiles, in milliseconds."""
    took = uvloop.run(_sample(scale.samples))
    percentiles = quantiles((seconds * 1e3 for seconds in took), n=100, method="inclusive")
    return {"relay.latency.p50_ms": percentiles[49], "relay.latency.p99_ms": percentiles[98]}


async def _sample(count: int) -> list[float]:
    watch = Watch()
    async with receiving(watch.handle) as port:
        with stand.new_outbox() as path, stand.relay(path, port) as relay:
            await asyncio.to_thread(stand.wait_until_ready, path, relay)
            with _producing(path) as (connection, notifier):
                took = [await _one(watch, connection, notifier, callback(port, 0), n) for n in range(_WARM_UP + count)]
    return took[_WARM_UP:]


@contextmanager
def _producing(path: Path) -> Iterator[tuple[Connection, outbox.Notifier]]:
    with closing(outbox.connect(path)) as connection, closing(outbox.Notifier(path)) as notifier:
        yield connection, notifier


async def _one(watch: Watch, connection: Connection, notifier: outbox.Notifier, url: str, number: int) -> float:
    came = watch.wait()
    connection.execute("BEGIN IMMEDIATE")
    outbox.add(connection, NewDelivery(str(number), url, bytes(2048)))
    connection.execute("COMMIT")
    committed = perf_counter()
    notifier.notify()
    took = await came - committed
    await asyncio.sleep(_REST)
    return took
