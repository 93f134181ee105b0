"""What one PostgreSQL carries: the points that config/capacity.md is checked against.

    python -m tests.bench.capacity [--deliveries 20000] [--relays 1 2 4]

prints for each number of relays what a delivery costs: time of a core, in relays and in the server, bytes of log,
transactions and flushes; and how fast the server commits small transactions, with and without a NOTIFY in each.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.bench import shared, stand
from tests.bench.stand import Load
from tests.services import postgres

_SERVER = """
SELECT pg_current_wal_lsn() - '0/0' AS log, (SELECT wal_sync FROM pg_stat_wal) AS flushes,
       (SELECT sum(xact_commit) FROM pg_stat_database) AS commits, (SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'outspoken') AS sessions
"""
_WRITERS = (1, 2, 8, 32)
_SECONDS = 3.0
_NOTIFY = "SELECT pg_notify('outspoken', '')"


@dataclass(frozen=True)
class Spent:
    """Since the server began: seconds of a core, bytes, and counts."""

    relays: float
    server: float
    log: int
    commits: int
    flushes: int
    sessions: int


async def _spent(server: postgres.Server, url: str) -> Spent:
    connection: Any = await asyncpg.connect(url)
    row = await connection.fetchrow(_SERVER)
    await connection.close()
    own = stand.core_seconds(os.getpid()) - stand.core_seconds(server.pid)
    return Spent(
        own, stand.core_seconds(server.pid), int(row["log"]), int(row["commits"]), row["flushes"], row["sessions"]
    )


def _point(server: postgres.Server, load: Load, relays: int) -> str:
    with stand.sink() as port, shared.filled(server, port, load) as url, shared.running(url, port, relays):
        before = asyncio.run(_spent(server, url))
        took = asyncio.run(shared.drained(url))
        after = asyncio.run(_spent(server, url))
    each = 1e6 / load.count
    return (
        f"{relays} relays: {load.count / took:.0f}/s; of a core, relays and receiver"
        f" {(after.relays - before.relays) * each:.0f} us, server {(after.server - before.server) * each:.0f} us;"
        f" {(after.log - before.log) / load.count:.0f} bytes of log;"
        f" {(after.commits - before.commits) / load.count:.3f} transactions,"
        f" {(after.flushes - before.flushes) / load.count:.3f} flushes; {after.sessions / relays:.1f} sessions a relay"
    )


async def _commit(url: str, number: int, until: float, notify: bool) -> int:
    """Small transactions, one after another, each on a row of its own; returns how many."""
    connection: Any = await asyncpg.connect(url)
    done = 0
    while time.monotonic() < until:
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO outspoken.relays (holder, seen_at) VALUES ($1, 0)", f"{number}.{done}"
            )
            if notify:
                await connection.execute(_NOTIFY)
        done += 1
    await connection.close()
    return done


async def _commits(url: str, writers: int, *, notify: bool) -> float:
    """A second, of so many producers that add one thing a transaction."""
    until = time.monotonic() + _SECONDS
    kind = f"{writers}-{notify}"
    done = await asyncio.gather(*(_commit(url, hash((kind, n)), until, notify) for n in range(writers)))
    return sum(done) / _SECONDS


def main() -> None:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=20_000)
    parser.add_argument("--relays", type=int, nargs="*", default=[1, 2, 4])
    asked = parser.parse_args()
    load = Load(asked.deliveries)
    with shared.server() as server:
        with stand.sink() as port:
            floor = stand.bare(port, load).rate
            print(f"bare client: {floor:.0f}/s; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        for relays in asked.relays:
            print(_point(server, load, relays), flush=True)
        with stand.sink() as port, shared.filled(server, port, Load(1)) as url:
            for writers in _WRITERS:
                rates = [asyncio.run(_commits(url, writers, notify=notify)) for notify in (False, True)]
                print(f"{writers} writers: {rates[0]:.0f} commits/s, {rates[1]:.0f} with a NOTIFY in each", flush=True)


if __name__ == "__main__":
    main()
