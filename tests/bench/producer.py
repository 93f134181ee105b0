"""A producer that commits row by row.

    python -m tests.bench.producer DATABASE SECONDS URL [ROWS_PER_SECOND]

as fast as commits go, or so many a second. Each body begins with the time at which it was handed in. It prints how many
rows it committed, the longest that a transaction took, and when it ended, as JSON. A locked database is asked again
every millisecond: SQLite's own busy handler backs off to 100 ms, and with several producers each starves behind the
others, whether a relay runs or not.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import sys
import time
import uuid
from contextlib import closing
from math import inf
from pathlib import Path

from relay import outbox
from relay.outbox.model import NewDelivery

_ASK_AGAIN_SECONDS = 0.001


def produce(path: Path, seconds: float, url: str, rate: float = inf) -> dict[str, float]:
    """At a rate, or as fast as commits go."""
    rows, longest, start = 0, 0.0, time.perf_counter()
    with closing(outbox.connect(path)) as connection, closing(outbox.Notifier(path)) as notifier:
        connection.execute("PRAGMA busy_timeout = 0")
        while (began := time.perf_counter()) < start + seconds:
            body = struct.pack("d2040x", time.time())
            _begin(connection)
            outbox.add(connection, NewDelivery(str(uuid.uuid4()), url, body))
            connection.execute("COMMIT")
            longest, rows = max(longest, time.perf_counter() - began), rows + 1
            notifier.notify()
            time.sleep(max(0.0, start + rows / rate - time.perf_counter()))
    return {"rows": rows, "longest": longest, "ended": time.time()}


def _begin(connection: sqlite3.Connection) -> None:
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY":
                raise
            time.sleep(_ASK_AGAIN_SECONDS)


if __name__ == "__main__":
    print(json.dumps(produce(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3], *map(float, sys.argv[4:]))))
