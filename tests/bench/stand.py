"""What the benchmarks stand on: a full outbox, a real relay, a receiver, and the bare client beside them.

Everything of a relay is on: guard, signature, metrics, and one JSON log line for each attempt.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from heapq import heappop, heappush
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import IO, Any, TypeVar
from urllib.request import urlopen

from relay import outbox
from relay.outbox.model import NewDelivery
from relay.outbox.sqlite.database import SqliteDatabase
from tests import forks
from tests.bench.bare import addresses
from tests.ports import free_port

CONCURRENCY = 64
AS_CONCURRENT_AS_THE_BARE_CLIENT: Any = {"relay__concurrency": CONCURRENCY, "relay__per_destination": CONCURRENCY}
_KEY = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
_POLL_SECONDS = 0.02
_MOMENT = 0.001  # seconds in which a slot goes on with the next delivery
_HISTORIC_DESTINATIONS = 100

Result = dict[str, float]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much each benchmark does. The numbers that count come from these; the smoke test's are tiny."""

    deliveries: int = 20_000
    history: int = 1_000_000
    large_bodies: int = 1600
    batches: int = 100
    samples: int = 300
    rest: float = 0.05
    seconds: float = 5.0
    audio_seconds: float = 60.0
    turns: int = 5
    recordings: int = 1000
    recording_seconds: float = 600.0
    dialogue_turns: int = 24
    uploads: int = 200
    queued: int = 1000
    sessions: int = 100
    callers: int = 20
    live_seconds: float = 45.0
    relays: int = 4
    dead_hosts: int = 64
    known_hosts: int = 300
    slow_names: int = 100
    limited: int = 40
    limited_seconds: float = 1.0


Program = subprocess.Popen[bytes] | forks.Child


def started(program: str, out: IO[bytes], env: Mapping[str, str]) -> Program:
    """`relay run` or `engine run`, writing its log."""
    if forks.forkable((program, "run"), env):
        return forks.Child((program, "run"), out.fileno(), env)
    return subprocess.Popen((str(Path(sys.executable).with_name(program)), "run"), stdout=out, env=env)


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


@dataclass(frozen=True, slots=True)
class Bare:
    """What the bare client did: requests a second, and microseconds of a processor for each."""

    rate: float
    cpu_us: float

    def mean(self, other: Bare) -> Bare:
        """Of two runs that posted as much."""
        return Bare(2 / (1 / self.rate + 1 / other.rate), (self.cpu_us + other.cpu_us) / 2)


def beside_bare(port: int, load: Load, measure: Callable[[], T], *, signed: bool = False) -> tuple[T, Bare]:
    """What is measured between two runs of the bare client, and what that did: a machine has its phases, and in some is
    half as fast as in the next."""
    before = bare(port, load, signed=signed)
    measured = measure()
    return measured, before.mean(bare(port, load, signed=signed))


def drain_beside_bare(path: Path, port: int, load: Load, *, signed: bool = False) -> tuple[Drained, Bare]:
    """What a relay does with a load, with as much at a time as the bare client, and what that does with it."""
    return beside_bare(
        port, load, lambda: drain(path, port, load.count, **AS_CONCURRENT_AS_THE_BARE_CLIENT), signed=signed
    )


def bare(port: int, load: Load, *, signed: bool = False) -> Bare:
    """Have it post a load."""
    numbers = (port, load.count, load.size, CONCURRENCY, load.destinations, int(signed))
    command = [sys.executable, "-m", "tests.bench.bare", *map(str, numbers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        keep_off_the_sink(process.pid)
        seconds, worked = map(float, process.communicate()[0].split())
    return Bare(load.count / seconds, 1e6 * worked / load.count)


def keep_off_the_sink(pid: int) -> None:
    """The receiver has the last processor for itself, where there are two: the scheduler would let whoever sends to it
    wander there, and the same code is half as fast in one run as in the next."""
    if others := (processors := os.sched_getaffinity(0)) - {max(processors)}:
        os.sched_setaffinity(pid, others)


@contextmanager
def processors_awake() -> Iterator[None]:
    """One that has nothing to do sleeps, and to wake it takes a virtual machine some tenths of a millisecond. Here each
    has a program that never rests, of the least priority there is: whoever else wants the processor has it at once."""
    command = [sys.executable, "-c", "while True: pass"]
    with ExitStack() as stack:
        for processor in os.sched_getaffinity(0):
            process = stack.enter_context(subprocess.Popen(command))
            stack.callback(process.kill)
            os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setaffinity(process.pid, {processor})
        yield


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
def relay(path: Path, port: int, **settings: object) -> Iterator[Program]:
    """A relay that logs to a file beside the outbox; killed at the end, since some receivers would keep it waiting."""
    log = path.with_suffix(".log")
    with log.open("wb") as out:
        process = started("relay", out, relay_environment(path, port, **settings))
    keep_off_the_sink(process.pid)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until_ready(path: Path, process: Program) -> None:
    """Until its log says so."""
    while b"relay.ready" not in path.with_suffix(".log").read_bytes():
        assert process.poll() is None, path.with_suffix(".log").read_text()
        time.sleep(_POLL_SECONDS)


def wait_until_drained(path: Path, process: Program, but: str = "") -> float:
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
    that processors worked, with how often a thread of the relay gave its processor up, and its share of a commit.
    `dry` is the share of the time in which a slot was free although something was due.

    What it took to start is not in it.
    """

    rate: float
    wall_us: float
    cpu_us: float
    switches: float
    commits: float
    dry: float

    def told(self, key: str, floor: Bare) -> Result:
        """What the time went to, beside a ratio to the bare client: `idle` is the share of it in which the relay only
        waited."""
        return {
            f"{key}.ratio": self.rate / floor.rate,
            f"{key}.cpu_ratio": self.cpu_us / floor.cpu_us,
            f"{key}.wall_us": self.wall_us,
            f"{key}.cpu_us": self.cpu_us,
            f"{key}.idle": max(0.0, 1 - self.cpu_us / self.wall_us),
            f"{key}.dry": self.dry,
            f"{key}.switches": self.switches,
            f"{key}.commits": self.commits,
        }


WHY = {
    "cpu_ratio": "<= 0.9",
    "wall_us": "",
    "cpu_us": "",
    "idle": "<= 0.1",
    "dry": "<= 0.02",
    "switches": "",
    "commits": "",
}


def drain(path: Path, port: int, count: int, *, but: str = "", **settings: object) -> Drained:
    """Have a real relay empty it: from the first attempt's start to the last settlement's commit."""
    began = time.time()
    with relay(path, port, **settings) as process:
        wait_until_ready(path, process)
        worked, gave_up = burnt(process.pid), switches(process.pid)
        ended = wait_until_drained(path, process, but)
        worked, gave_up = burnt(process.pid) - worked, switches(process.pid) - gave_up
        committed = _commits(path)
    made = (
        "SELECT started_at, started_at + duration FROM outspoken_attempts JOIN outspoken_deliveries USING (seq) "
        "WHERE started_at > ? AND origin <> ? ORDER BY started_at"
    )
    with closing(sqlite3.connect(path)) as connection:
        attempts = connection.execute(made, (began, but)).fetchall()
    took = ended - attempts[0][0]
    return Drained(
        count / took, 1e6 * took / count, 1e6 * worked / count, gave_up / count, committed / count, _dry(attempts)
    )


def _commits(path: Path) -> float:
    """Claims and settlements, by the relay's own count."""
    address = re.search(r'"metrics":"([^"]+)"', path.with_suffix(".log").read_text())
    assert address is not None
    with urlopen(address[1]) as answer:
        lines = answer.read().decode().splitlines()
    counted = re.compile(r'relay_store_operation_duration_seconds_count\{operation="(?:claim|settle)"\} (\S+)')
    return sum(float(found[1]) for line in lines if (found := counted.fullmatch(line)))


def _dry(attempts: Sequence[tuple[float, float]]) -> float:
    """The share of the time in which a slot that had been taken before was free for longer than a moment, until the
    last attempt was started: something was due all the time. Whoever starts takes the slot that was left last."""
    left: list[float] = []  # when the free slots were left
    ends: list[float] = []  # of what is under way
    dry, seen = 0.0, attempts[0][0]
    for started, ended in attempts:
        while ends and ends[0] <= started:
            left.append(heappop(ends))
        if left and started - left[-1] > _MOMENT:
            dry += started - max(seen, left[-1])
        seen = started
        del left[-1:]
        heappush(ends, ended)
    return dry / (attempts[-1][0] - attempts[0][0])


def burnt(pid: int) -> float:
    """CPU seconds of all threads of a process, to the nanosecond: /proc/PID/stat counts in hundredths."""
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in _threads(pid)) / 1e9


def core_seconds(parent: int) -> float:
    """CPU of a process and of all that descend from it, those that ended and were waited for too."""
    ticks = 0
    for pid in _processes(parent):
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _processes(parent: int) -> Iterator[int]:
    yield parent
    with suppress(OSError):  # it has just ended
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            yield from _processes(int(child))


def switches(pid: int) -> int:
    """How often its threads gave their processor up, or had it taken away."""
    lines = (line for thread in _threads(pid) for line in (thread / "status").read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


def _threads(pid: int) -> Iterator[Path]:
    return Path(f"/proc/{pid}/task").iterdir()
