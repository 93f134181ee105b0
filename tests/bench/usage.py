"""relay.memory and relay.idle: what a relay takes with nothing to do, with a million pending rows, and with a million
delivered ones."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing
from functools import cache
from pathlib import Path

from relay import outbox
from relay.outbox import OUTBOX
from relay.outbox.postgres.database import PostgresDatabase
from tests.bench import shared, stand
from tests.bench.bare import addresses
from tests.bench.stand import Result, Scale
from tests.ports import free_port

HANGING = 10
KNOWN = 50_000

_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'outspoken'"


def memory(scale: Scale) -> Result:
    """Resident memory of an idle relay, and how much more it is with many due rows of ten destinations that hang, in
    MiB."""
    port = _port()
    hosts = [url.split("/")[2].split(":")[0] for url in addresses(port, HANGING)]
    with stand.sink(*hosts, port=port):
        idle = _resident(port, scale, None)
        burdened = _resident(port, scale, stand.pending(scale.history, port, HANGING))
    return {"relay.memory_mib": idle / 1024, "relay.memory_growth_mib": (burdened - idle) / 1024}


@cache
def _port() -> int:
    """One for all runs: it stands in the rows."""
    return free_port()


def _resident(port: int, scale: Scale, copy_of: Path | None) -> float:
    with stand.new_outbox(copy_of) as path, stand.relay(path, port) as relay:
        stand.wait_until_ready(path, relay)
        time.sleep(scale.seconds)
        status = Path(f"/proc/{relay.pid}/status").read_text().splitlines()
        return float(next(line for line in status if line.startswith("VmRSS")).split()[1])


# As often as an idle relay has to be woken.
_BARE_LOOP = """
import asyncio, uvloop
async def wake() -> None:
    while True:
        await asyncio.sleep(0.25)
uvloop.run(wake())
"""


def idle(scale: Scale) -> Result:
    """Percent of a core, with nothing to do and many delivered rows in the file; where many destinations are known,
    for as long as everything that is done now and then takes to come round; and what a bare event loop takes that is
    woken as often."""
    with subprocess.Popen((sys.executable, "-c", _BARE_LOOP)) as loop:
        time.sleep(scale.seconds / 2)
        floor = _percent(loop.pid, scale.seconds * 2)
        loop.kill()
    with stand.new_outbox(stand.delivered(scale.history)) as path, stand.relay(path, 8080) as relay:
        stand.wait_until_ready(path, relay)
        time.sleep(scale.seconds / 2)
        percent = _percent(relay.pid, scale.seconds * 2)
        _know(path, min(scale.history, KNOWN))
        known = _percent(relay.pid, scale.seconds * 6)
    return {
        "relay.idle.cpu_percent": percent,
        "relay.idle.known_percent": known,
        "relay.idle.floor_percent": floor,
    }


def _know(path: Path, count: int) -> None:
    """So many destinations have taken what was sent to them."""
    with closing(outbox.connect(path)) as connection, connection:
        connection.execute(
            "WITH RECURSIVE n (value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n WHERE value < ?)"
            " INSERT INTO outspoken_destinations (origin, largest_accepted)"
            " SELECT 'http://known' || value || '.example:80', 2000 FROM n",
            (count,),
        )


def _percent(pid: int, seconds: float) -> float:
    before, began = stand.burnt(pid), time.perf_counter()
    time.sleep(seconds)
    return 100 * (stand.burnt(pid) - before) / (time.perf_counter() - began)


def postgres_idle(scale: Scale) -> Result:
    """The same on PostgreSQL, with the statements that it asks in a second and the sessions that it keeps open."""
    with shared.server() as server:
        name = server.create()
        url = server.url(name)
        PostgresDatabase(url).migrate([OUTBOX])
        with server.noting(name) as asked, shared.running(url, 8080, 1) as (relay,):
            time.sleep(scale.seconds * 4)  # sessions that starting took are closed
            before, seconds = len(asked()), scale.seconds * 4
            percent = _percent(relay.pid, seconds)
            return {
                "relay.idle.postgres.cpu_percent": percent,
                "relay.idle.postgres.statements_per_s": (len(asked()) - before) / seconds,
                "relay.idle.postgres.sessions": float(server.sql(_SESSIONS.format(name))),
            }
