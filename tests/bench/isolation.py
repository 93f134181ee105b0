"""relay.isolation: the p95 of nine destinations while a tenth hangs, as a ratio to the p95 while it does not."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from statistics import quantiles

from relay import outbox
from relay.outbox.model import NewDelivery
from tests.bench import stand
from tests.bench.bare import addresses
from tests.bench.stand import Result, Scale

DESTINATIONS = 10
EVERY = 0.02  # seconds: one delivery for each destination, in one transaction

_TOOK = """
SELECT outspoken_attempts.started_at - outspoken_deliveries.created_at + outspoken_attempts.duration
FROM outspoken_deliveries JOIN outspoken_attempts USING (seq) WHERE outspoken_deliveries.url <> ?
"""


def isolation(scale: Scale) -> Result:
    """Steady traffic to ten destinations, from the producer's transaction to the receiver's answer."""
    undisturbed, disturbed = _p95(scale, hangs=False), _p95(scale, hangs=True)
    return {"relay.isolation.ratio": disturbed / undisturbed}


def _p95(scale: Scale, *, hangs: bool) -> float:
    tenth = "127.0.1.10"
    with stand.sink(*([tenth] if hangs else [])) as port, stand.new_outbox() as path, stand.relay(path, port) as relay:
        stand.wait_until_ready(path, relay)
        urls = addresses(port, DESTINATIONS)
        _produce(path, urls, scale.seconds)
        with closing(sqlite3.connect(path)) as connection:
            wanted = int(scale.seconds / EVERY) * (DESTINATIONS - 1)
            while len(took := connection.execute(_TOOK, (urls[-1],)).fetchall()) < wanted and relay.poll() is None:
                time.sleep(EVERY)  # the last ones are settled after their answers
    p95: float = quantiles([seconds for (seconds,) in took], n=20)[-1]
    return p95


def _produce(path: Path, urls: list[str], seconds: float) -> None:
    with closing(outbox.connect(path)) as connection, closing(outbox.Notifier(path)) as notifier:
        for number in range(int(seconds / EVERY)):
            connection.execute("BEGIN IMMEDIATE")
            for url in urls:
                outbox.add(connection, NewDelivery(f"{number} {url}", url, bytes(2048)))
            connection.execute("COMMIT")
            notifier.notify()
            time.sleep(EVERY)
