"""How fast a full outbox drains through a real relay, beside a bare client that posts the same bodies.

A delivery counts when its settlement is committed (synchronous=FULL), with everything on: guard, signature, metrics
and one JSON log line for each attempt.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from relay import outbox
from relay.model import NewDelivery
from tests.acceptance.stage import free_port
from tests.bench.bare import addresses

CONCURRENCY = 64


@dataclass(frozen=True, slots=True)
class Load:
    """So many deliveries of so many bytes, spread over so many destinations."""

    count: int = 20_000
    size: int = 2048
    destinations: int = 1


@contextmanager
def sink(*hang: str) -> Iterator[int]:
    """A running receiver; yields its port."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.sink", str(port), *hang]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield port
        finally:
            process.kill()


def bare(port: int, load: Load) -> float:
    """Requests a second of the bare client."""
    numbers = (port, load.count, load.size, CONCURRENCY, load.destinations)
    command = [sys.executable, "-m", "tests.bench.bare", *map(str, numbers)]
    return load.count / float(subprocess.check_output(command))


def fill(path: Path, urls: Sequence[str], load: Load) -> None:
    """Queue the load, in one transaction."""
    outbox.migrate(path, [outbox.outbox_migrations()])
    body = b"x" * load.size
    with closing(outbox.connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for index in range(load.count):
            outbox.add(connection, NewDelivery(str(uuid.uuid4()), urls[index % len(urls)], body))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def relay_environment(path: Path, port: int, **settings: object) -> dict[str, str]:
    """Settings for a relay under measurement: the same concurrency as the bare client."""
    return os.environ | {
        "OUTSPOKEN_OUTBOX__URL": f"sqlite:///{path}",
        "OUTSPOKEN_OUTBOX__GUARD__ALLOW_NETWORKS": "127.0.0.0/8",
        "OUTSPOKEN_OUTBOX__GUARD__PORTS": str(port),
        "OUTSPOKEN_RELAY__PORT": "0",
        "OUTSPOKEN_RELAY__CONCURRENCY": str(CONCURRENCY),
        "OUTSPOKEN_RELAY__PER_DESTINATION": str(CONCURRENCY),
        **{f"OUTSPOKEN_{name.upper()}": str(value) for name, value in settings.items()},
    }


@contextmanager
def relay(path: Path, port: int, log: Path, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """A running relay that logs to a file."""
    command = [str(Path(sys.executable).with_name("relay")), "run"]
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, env=relay_environment(path, port, **settings)) as run,
    ):
        try:
            yield run
        finally:
            run.send_signal(signal.SIGTERM)


def wait_until_drained(path: Path) -> float:
    """The time at which nothing was pending or leased any more."""
    question = "SELECT count(*) FROM deliveries WHERE state = 'pending' UNION ALL SELECT count(*) FROM deliveries WHERE state = 'leased'"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        while any(count for (count,) in connection.execute(question).fetchall()):
            time.sleep(0.02)
    return time.time()


def drain(port: int, load: Load, **settings: object) -> float:
    """Deliveries a second of a real relay, from the first attempt's start to the last settlement's commit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outspoken.db"
        fill(path, addresses(port, load.destinations), load)
        with relay(path, port, Path(folder) / "log", **settings):
            ended = wait_until_drained(path)
        return load.count / (ended - _first_attempt(path))


def _first_attempt(path: Path) -> float:
    with closing(sqlite3.connect(path)) as connection:
        began: float = connection.execute("SELECT min(started_at) FROM attempts").fetchone()[0]
        return began


if __name__ == "__main__":
    with sink() as sink_port:
        for destinations in (1, 100):
            wanted = Load(destinations=destinations)
            floor, rate = bare(sink_port, wanted), drain(sink_port, wanted)
            print(f"{destinations} destinations: bare {floor:.0f}/s, relay {rate:.0f}/s, ratio {rate / floor:.2f}")
