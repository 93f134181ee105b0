"""relay.drain.workers: one relay of one, two and four processes (`workers`) that empty one SQLite file together.

Throughput grows with processors: the goals for it are those of four and of six, one of which is the receiver's. What
has to hold on any is that the processor time of a delivery stays what it is with one worker: whoever waits for a lock
in vain shows there, and in how long a transaction takes. The destinations are opened once all workers are ready.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from relay import outbox
from tests.bench import stand
from tests.bench.bare import addresses
from tests.bench.stand import Load, Result, Scale

_DESTINATIONS = 16
_CLOSED = "INSERT INTO outspoken_destinations (origin, state, held) VALUES (?, 'paused', 1)"
_OPEN = "UPDATE outspoken_destinations SET state = 'active', held = 0, turn_at = 0"
_FIRST = "SELECT min(started_at) FROM outspoken_attempts"
_JOINED_SECONDS = 2.5  # workers that know each other share the slots of a destination

GOALS = {
    "relay.drain.workers.two.growth": ">= 1.7",
    "relay.drain.workers.two.cpu": "<= 1.15",
    "relay.drain.workers.two.transaction": "",
    "relay.drain.workers.four.growth": ">= 3.4",
    "relay.drain.workers.four.cpu": "<= 1.15",
    "relay.drain.workers.four.transaction": "",
}


@dataclass(frozen=True, slots=True)
class Run:
    """Deliveries a second, and the seconds of a delivery's processor time, and of a claim's or settlement's."""

    rate: float
    cpu: float
    transaction: float


def workers(scale: Scale) -> Result:
    """Ratios to one worker: of throughput, of processor time per delivery, and of the time that a transaction takes."""
    load = Load(scale.deliveries, destinations=_DESTINATIONS)
    counts = (1, min(2, scale.relays), min(4, scale.relays))
    runs = {count: _run(load, count, min(_JOINED_SECONDS, scale.seconds)) for count in sorted({*counts})}
    one, two, four = (runs[count] for count in counts)
    return {
        f"relay.drain.workers.{name}.{key}": value
        for name, run in (("two", two), ("four", four))
        for key, value in (
            ("growth", run.rate / one.rate),
            ("cpu", run.cpu / one.cpu),
            ("transaction", run.transaction / one.transaction),
        )
    }


def _run(load: Load, count: int, joined_seconds: float) -> Run:
    with stand.sink() as port, stand.new_outbox() as path:
        urls = addresses(port, load.destinations)
        with closing(outbox.connect(path)) as connection:
            connection.executemany(_CLOSED, [(url.removesuffix("/callback"),) for url in urls])
        stand.fill(path, urls, load)
        settings = {"relay__workers": count, **stand.AS_CONCURRENT_AS_THE_BARE_CLIENT}
        with stand.relay(path, port, **settings) as process:
            stand.wait_until_ready(path, process)
            time.sleep(joined_seconds)
            worked, took = _burnt(process.pid), _transactions(path)
            with closing(outbox.connect(path)) as connection, closing(outbox.Notifier(path)) as notifier:
                connection.execute(_OPEN)
                notifier.notify()
            ended = stand.wait_until_drained(path, process)
            worked = _burnt(process.pid) - worked
            seconds, transactions = (now - before for now, before in zip(_transactions(path), took, strict=True))
        with closing(sqlite3.connect(path)) as connection:
            first: float = connection.execute(_FIRST).fetchone()[0]
    return Run(load.count / (ended - first), worked / load.count, seconds / transactions)


def _burnt(pid: int) -> float:
    """Of a process and those that it started."""
    return stand.burnt(pid) + sum(map(_burnt, _children(pid)))


def _children(pid: int) -> Iterator[int]:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (thread / "children").read_text().split())


def _transactions(path: Path) -> tuple[float, float]:
    """The seconds that claims and settlements took, waiting for the lock included, and how many there were."""
    address = re.search(r'"metrics":"([^"]+)"', path.with_suffix(".log").read_text())
    assert address is not None
    with urlopen(address[1]) as answer:
        text = answer.read().decode()
    counted = re.findall(
        r'relay_store_operation_duration_seconds_(sum|count)\{[^}]*operation="(?:claim|settle)"[^}]*\} (\S+)', text
    )
    seconds, count = (sum(float(value) for kind, value in counted if kind == wanted) for wanted in ("sum", "count"))
    return seconds, count
