"""relay.drain.postgres: how fast relays empty an outbox that they share on PostgreSQL, as a ratio to a bare client that
posts the same bodies.

The server is as it comes: it has flushed what it has confirmed. Its relays stand ready before their destination is
opened, and the clock runs until nothing is pending or leased. Bodies are noise, which no page and no log compresses.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import asyncpg

from relay.outbox import OUTBOX
from relay.outbox.postgres.database import PostgresDatabase
from tests.bench import stand
from tests.bench.bare import addresses
from tests.bench.stand import Load, Result, Scale
from tests.services import postgres

# What the tests' server leaves out to be small is what a server has that nobody configured.
AS_IT_COMES = ("shared_buffers=128MB", "max_connections=100", "autovacuum=on")

_KEY = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
_POLL_SECONDS = 0.02
_NOTED = 5000  # deliveries: enough for batches as they are under load
_FILL = """
WITH place AS (
    INSERT INTO outspoken.destinations (origin, state, held) VALUES ($1, 'paused', 1) RETURNING origin
), queued AS (
    INSERT INTO outspoken.deliveries (id, origin, path, url, body_bytes, created_at, due_at)
    SELECT CAST(gen_random_uuid() AS text), place.origin, '/callback', $2, length(CAST($3 AS bytea)), at, at
    FROM place, extract(epoch FROM clock_timestamp()) AS at, generate_series(1, CAST($4 AS integer))
    RETURNING seq
)
INSERT INTO outspoken.bodies (seq, body) SELECT seq, CAST($3 AS bytea) FROM queued
"""
_OPEN = "UPDATE outspoken.destinations SET state = 'active', held = 0, turn_at = 0"
# By what an index knows: this is asked while it counts.
_LEFT = """
SELECT (SELECT min(owner) FROM outspoken.deliveries WHERE state = 'pending' AND lane = 0) IS NOT NULL
    OR (SELECT min(due_at) FROM outspoken.deliveries WHERE state = 'pending' AND lane = 1) IS NOT NULL
    OR (SELECT min(due_at) FROM outspoken.deliveries WHERE state = 'pending' AND lane = 2) IS NOT NULL
    OR (SELECT min(lease_until) FROM outspoken.deliveries WHERE state = 'leased') IS NOT NULL
"""
_BEGAN = "SELECT min(started_at) FROM outspoken.attempts"
_NOW = "SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


@dataclass(frozen=True, slots=True)
class SharedDrain:
    """How relays emptied an outbox: deliveries a second, and for each delivery the microseconds that cores worked in
    the relays, and in the server."""

    rate: float
    relay_us: float
    server_us: float


def postgres_drain(scale: Scale) -> Result:
    """One, two and four relays, each beside a bare client of its own; and what each delivery of one relay takes: time
    of a core in the relay and in the server, and statements, which are round trips."""
    load = Load(scale.deliveries)
    names = {"ratio": 1, "two": min(2, scale.relays), "four": min(4, scale.relays)}
    with server() as one:
        drained = {relays: _beside_bare(one, load, relays) for relays in {*names.values()}}
        statements = _statements(one, Load(min(load.count, _NOTED)))
    ratios = {name: drained[relays][0] for name, relays in names.items()}
    alone = drained[1][1]
    return {
        f"relay.drain.postgres.{name}": value
        for name, value in {
            **ratios,
            "relay_us": alone.relay_us,
            "server_us": alone.server_us,
            "statements": statements,
        }.items()
    }


@contextmanager
def server() -> Iterator[postgres.Server]:
    """As it comes, on a disk."""
    with postgres.running(*AS_IT_COMES, durable=True, on=Path(gettempdir())) as server:
        yield server


def _beside_bare(server: postgres.Server, load: Load, relays: int) -> tuple[float, SharedDrain]:
    with stand.sink() as port:
        found, floor = stand.beside_bare(port, load, lambda: drain(server, port, load, relays))
        return found.rate / floor.rate, found


def drain(server: postgres.Server, port: int, load: Load, relays: int) -> SharedDrain:
    """Have so many relays empty an outbox: from the first attempt's start to the last settlement's commit."""
    with filled(server, port, load) as url, running(url, port, relays) as processes:

        def worked() -> tuple[float, float]:
            return sum(stand.core_seconds(one.pid) for one in processes), stand.core_seconds(server.pid)

        before = worked()
        took = asyncio.run(drained(url))
        relays_us, server_us = (
            1e6 * (after - until_then) / load.count for after, until_then in zip(worked(), before, strict=True)
        )
    return SharedDrain(load.count / took, relays_us, server_us)


def _statements(server: postgres.Server, load: Load) -> float:
    """How many one relay asks for each delivery. The server notes them down, which takes time of its own."""
    with (
        stand.sink() as port,
        filled(server, port, load) as url,
        server.noting(url.rpartition("/")[2]) as asked,
        running(url, port, 1),
    ):
        before = len(asked())
        asyncio.run(drained(url))
        return (len(asked()) - before) / load.count


@contextmanager
def filled(server: postgres.Server, port: int, load: Load) -> Iterator[str]:
    """The URL of a database of its own with the load in it, whose destination is still closed."""
    name = server.create()
    url = server.url(name)
    PostgresDatabase(url).migrate([OUTBOX])
    asyncio.run(_fill(url, addresses(port, 1)[0], load))
    try:
        yield url
    finally:
        server.drop(name)


async def _fill(url: str, callback: str, load: Load) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO outspoken.signing_keys (key, created_at) VALUES ($1, 0)", _KEY)
    await connection.execute(_FILL, callback.removesuffix("/callback"), callback, os.urandom(load.size), load.count)
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")
    await connection.close()


async def drained(url: str) -> float:
    """Open the destination, and wait until everything is delivered; the seconds that it took."""
    connection: Any = await asyncpg.connect(url, server_settings={"log_statement": "none"})
    await connection.execute(_OPEN)
    await connection.execute("NOTIFY outspoken")
    while await connection.fetchval(_LEFT):
        await asyncio.sleep(_POLL_SECONDS)
    took: float = await connection.fetchval(_NOW) - await connection.fetchval(_BEGAN)
    await connection.close()
    return took


@contextmanager
def running(url: str, port: int, relays: int) -> Iterator[list[stand.Program]]:
    """So many relays, each ready."""
    processes = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="outspoken-bench-")))
        for number in range(relays):
            path = folder / f"{number}.db"
            settings: Any = {"outbox__url": url, "relay__admin__token_file": folder / "token"}
            process = stack.enter_context(stand.relay(path, port, **settings, **stand.AS_CONCURRENT_AS_THE_BARE_CLIENT))
            stand.wait_until_ready(path, process)
            processes.append(process)
        time.sleep(0.5)  # what starting costs is over
        yield processes
