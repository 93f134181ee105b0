"""relay.console: what a page of the console takes at the server, with a million deliveries in the file.

Milliseconds, and not a ratio: it is a person who waits. The slowest page counts, each by the median of its visits.
"""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from urllib.parse import quote

from relay.admin.auth import Authenticator
from relay.admin.console.serving import COOKIE
from tests.bench import stand
from tests.bench.stand import Result, Scale

_VISITS = 5
_TOKEN = "the-token-of-the-benchmark"
_TROUBLES = """
UPDATE outspoken_deliveries SET state = 'dead', reason = 'exhausted' WHERE seq % 50 = 0;
UPDATE outspoken_attempts SET outcome = 'http_5xx', status = 503 WHERE seq % 50 = 0;
UPDATE outspoken_deliveries SET state = 'pending', finished_at = NULL, reason = NULL, due_at = due_at + 86400, lane = 2
WHERE seq > (SELECT max(seq) * 0.98 FROM outspoken_deliveries);
UPDATE outspoken_destinations SET state = 'paused', held = 1 WHERE origin LIKE '%1:8080';
UPDATE outspoken_destinations SET failures = 9, open = 1, held = 1 WHERE origin LIKE '%2:8080';
"""


def console(scale: Scale) -> Result:
    """Two in a hundred were given up, two in a hundred wait; a tenth of the destinations is in trouble."""
    with stand.new_outbox(stand.delivered(scale.history)) as path:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(_TROUBLES)
        with stand.relay(path, 8080, relay__admin__token=_TOKEN) as process:
            stand.wait_until_ready(path, process)
            address = _address(path.with_suffix(".log"))
            slowest = max(median(_visit(address + page) for _ in range(_VISITS)) for page in _pages(path))
    return {"relay.console.page_max_ms": 1000 * slowest}


def _pages(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(path)) as connection:
        (id_,) = connection.execute("SELECT id FROM outspoken_deliveries WHERE state = 'dead' LIMIT 1").fetchone()
        (origin,) = connection.execute("SELECT origin FROM outspoken_destinations LIMIT 1").fetchone()
    yield from ("/", "/destinations", "/audit", f"/deliveries/{id_}", f"/destination?origin={quote(origin)}")
    for query in ("", "state=dead", "state=pending", "state=delivered", "state=cancelled", "outcome=dns", "since=1h"):
        yield f"/deliveries?{query}"
    yield f"/deliveries?state=dead&outcome=dns&destination={quote(origin)}"
    yield "/replay?state=dead"


def _visit(url: str) -> float:
    """Seconds until the whole page is here."""
    session = Authenticator(_TOKEN).session("bench", time.time())
    began = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Cookie": f"{COOKIE}={session}"})) as answer:
        assert answer.status == 200
        assert b"<main" in answer.read()
    return time.perf_counter() - began


def _address(log: Path) -> str:
    lines = (json.loads(line) for line in log.read_text().splitlines())
    address: str = next(line["admin"] for line in lines if line["event"] == "relay.ready")
    return address.rstrip("/")
