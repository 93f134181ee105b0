"""What the benchmarks stand on: a full outbox, a real relay, a receiver, and the bare client beside them.

Everything of a relay is on: guard, signature, metrics, and one JSON log line for each attempt.
"""

from __future__ import annotations

import base64
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from relay import outbox
from relay.outbox.model import NewDelivery
from relay.outbox.sqlite.database import SqliteDatabase
from tests.acceptance.stage import free_port
from tests.bench.bare import addresses

CONCURRENCY = 64
AS_CONCURRENT_AS_THE_BARE_CLIENT: Any = {"relay__concurrency": CONCURRENCY, "relay__per_destination": CONCURRENCY}
RELAY = (str(Path(sys.executable).with_name("relay")), "run")

_KEY = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
_POLL_SECONDS = 0.02
_HISTORIC_DESTINATIONS = 100

Result = dict[str, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much each benchmark does. The numbers that count come from these; the smoke test's are tiny."""

    deliveries: int = 20_000
    history: int = 1_000_000
    large_bodies: int = 400
    samples: int = 300
    seconds: float = 5.0
    audio_seconds: float = 60.0
    turns: int = 5
    recordings: int = 1000
    recording_seconds: float = 600.0
    uploads: int = 200
    queued: int = 1000
    sessions: int = 100
    callers: int = 20
    live_seconds: float = 45.0
    relays: int = 4
    dead_hosts: int = 64
    slow_names: int = 100
    limited: int = 40
    limited_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """So many deliveries of so many bytes, spread over so many destinations."""

    count: int = 20_000
    size: int = 2048
    destinations: int = 1


@contextmanager
def sink(*hang: str, port: int | None = None) -> Iterator[int]:
    """A running receiver; yields its port. It never answers what comes to the addresses in `hang`."""
    port = port or free_port()
    command = [sys.executable, "-m", "tests.bench.sink", str(port), *hang]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield port
        finally:
            process.kill()


def bare(port: int, load: Load, *, signed: bool = False) -> float:
    """Requests a second of the bare client."""
    numbers = (port, load.count, load.size, CONCURRENCY, load.destinations, int(signed))
    command = [sys.executable, "-m", "tests.bench.bare", *map(str, numbers)]
    return load.count / float(subprocess.check_output(command))


@contextmanager
def new_outbox(copy_of: Path | None = None, *, signed: bool = True) -> Iterator[Path]:
    """A file in a folder of its own: empty, or a copy. A key signs whatever leaves it, unless told otherwise."""
    with TemporaryDirectory(prefix="outspoken-bench-") as folder:
        path = Path(folder) / "outspoken.db"
        if copy_of is not None:
            shutil.copy(copy_of, path)
        SqliteDatabase(path).migrate([outbox.OUTBOX])
        if signed:
            with closing(outbox.connect(path)) as connection:
                connection.execute("INSERT INTO outspoken_signing_keys (key, created_at) VALUES (?, 0)", (_KEY,))
        yield path


def fill(path: Path, urls: Sequence[str], load: Load) -> None:
    """Queue the load, in one transaction."""
    body = b"x" * load.size
    with closing(outbox.connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for index in range(load.count):
            outbox.add(connection, NewDelivery(str(uuid.uuid4()), urls[index % len(urls)], body))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_DESTINATION = "INSERT INTO outspoken_destinations (origin) VALUES (?)"
_DELIVERIES = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
INSERT INTO outspoken_deliveries
    (id, origin, path, url, body_bytes, created_at, due_at, state, attempts, finished_at)
SELECT printf('%036d', n), place.origin, '/callback', place.origin || '/callback', 100, :then, :then, :state,
       :state = 'delivered', CASE WHEN :state = 'delivered' THEN :then END
FROM numbers
JOIN (SELECT origin, row_number() OVER (ORDER BY origin) AS id FROM outspoken_destinations) AS place
     ON place.id = 1 + n % :destinations
"""
_BODIES = "INSERT INTO outspoken_bodies (seq, body) SELECT seq, randomblob(100) FROM outspoken_deliveries"
_ATTEMPTS = """
INSERT INTO outspoken_attempts (seq, number, started_at, lag, duration, outcome, status)
SELECT seq, 1, due_at, 0.001, 0.01, 'success', 204 FROM outspoken_deliveries WHERE state = 'delivered'
"""


@cache
def delivered(count: int) -> Path:
    """A file with so many delivered rows, their bodies (100 bytes) and attempts. Built once."""
    return _built(count, "delivered", addresses(8080, _HISTORIC_DESTINATIONS))


@cache
def pending(count: int, port: int, destinations: int) -> Path:
    """A file with so many due rows, in equal parts for the first so many destinations. Built once."""
    return _built(count, "pending", addresses(port, destinations))


def _built(count: int, state: str, urls: Sequence[str]) -> Path:
    path = _workshop() / f"{state}-{uuid.uuid4()}.db"
    SqliteDatabase(path).migrate([outbox.OUTBOX])
    values = {"count": count, "state": state, "then": time.time() - 60, "destinations": len(urls)}
    with closing(outbox.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_DESTINATION, [(url.removesuffix("/callback"),) for url in urls])
        for statement in (_DELIVERIES, _BODIES, _ATTEMPTS):
            connection.execute(statement, values)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@cache
def _workshop() -> Path:
    """Where what is built once lies until this process ends."""
    import atexit

    folder = mkdtemp(prefix="outspoken-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def relay_environment(path: Path, port: int, **settings: object) -> dict[str, str]:
    """Settings for a relay under measurement, and none that a developer may have exported."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OUTSPOKEN_")}
    return inherited | {
        "OUTSPOKEN_OUTBOX__URL": f"sqlite:///{path}",
        "OUTSPOKEN_OUTBOX__GUARD__ALLOW_NETWORKS": "127.0.0.0/8",
        "OUTSPOKEN_OUTBOX__GUARD__PORTS": str(port),
        "OUTSPOKEN_RELAY__PORT": "0",
        "OUTSPOKEN_RELAY__ADMIN__PORT": "0",
        **{f"OUTSPOKEN_{name.upper()}": str(value) for name, value in settings.items()},
    }


@contextmanager
def relay(path: Path, port: int, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """A relay that logs to a file beside the outbox; killed at the end, since some receivers would keep it waiting."""
    log = path.with_suffix(".log")
    with log.open("wb") as out:
        process = subprocess.Popen(RELAY, stdout=out, env=relay_environment(path, port, **settings))
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until_ready(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Until its log says so."""
    while b"relay.ready" not in path.with_suffix(".log").read_bytes():
        assert process.poll() is None, path.with_suffix(".log").read_text()
        time.sleep(_POLL_SECONDS)


def wait_until_drained(path: Path, process: subprocess.Popen[bytes], but: str = "") -> float:
    """The time at which nothing was pending or leased any more, `but` for one origin. A relay that ends before that
    fails the measurement."""
    question = " OR ".join(
        f"EXISTS (SELECT 1 FROM outspoken_deliveries WHERE {where} AND origin <> '{but}')"
        for where in (*(f"state = 'pending' AND lane = {lane}" for lane in range(3)), "state = 'leased'")
    )
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        while connection.execute(f"SELECT {question}").fetchone()[0]:
            assert process.poll() is None, path.with_suffix(".log").read_text()
            time.sleep(_POLL_SECONDS)
    return time.time()


@dataclass(frozen=True, slots=True)
class Drained:
    """How a relay emptied an outbox: deliveries a second, and of each delivery the microseconds that went by and those
    that processors worked, with how often a thread of the relay gave its processor up.

    What it took to start is not in it.
    """

    rate: float
    wall_us: float
    cpu_us: float
    switches: float

    def told(self, key: str) -> Result:
        """What the time went to, beside a ratio: `idle` is the share of it in which the relay only waited."""
        return {
            f"{key}.wall_us": self.wall_us,
            f"{key}.cpu_us": self.cpu_us,
            f"{key}.idle": max(0.0, 1 - self.cpu_us / self.wall_us),
            f"{key}.switches": self.switches,
        }


WHY = {"wall_us": "", "cpu_us": "", "idle": "<= 0.1", "switches": ""}


def drain(path: Path, port: int, count: int, *, but: str = "", **settings: object) -> Drained:
    """Have a real relay empty it: from the first attempt's start to the last settlement's commit."""
    began = time.time()
    with relay(path, port, **settings) as process:
        wait_until_ready(path, process)
        worked, gave_up = burnt(process.pid), switches(process.pid)
        ended = wait_until_drained(path, process, but)
        worked, gave_up = burnt(process.pid) - worked, switches(process.pid) - gave_up
    first = (
        "SELECT min(started_at) FROM outspoken_attempts JOIN outspoken_deliveries USING (seq) "
        "WHERE started_at > ? AND origin <> ?"
    )
    with closing(sqlite3.connect(path)) as connection:
        started: float = connection.execute(first, (began, but)).fetchone()[0]
    took = ended - started
    return Drained(count / took, 1e6 * took / count, 1e6 * worked / count, gave_up / count)


def burnt(pid: int) -> float:
    """CPU seconds of all threads of a process, to the nanosecond: /proc/PID/stat counts in hundredths."""
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in _threads(pid)) / 1e9


def switches(pid: int) -> int:
    """How often its threads gave their processor up, or had it taken away."""
    lines = (line for thread in _threads(pid) for line in (thread / "status").read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


def _threads(pid: int) -> Iterator[Path]:
    return Path(f"/proc/{pid}/task").iterdir()
