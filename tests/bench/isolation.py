"""relay.isolation: what those who are served notice of those who are not, as ratios to what they see undisturbed.

`relay.isolation.ratio` is that of nine destinations while a tenth hangs; `hanging` of nine paths while a tenth path of
the same host hangs; `dead_hosts` of healthy hosts beside many that hang or refuse, `known_hosts` beside many that hang
at once after they answered, `slow_hosts` beside as many that take half a second to answer, `slow_dns` beside many whose
name servers say nothing. `owner_ms` is how long one delivery waits for its first attempt while another owner's many are
under way. `rate_limited` is how often a receiver that takes one a second had to answer 429 until it had all.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import quantiles
from typing import Any

from relay import outbox
from relay.outbox.model import NewDelivery
from tests.bench import stand
from tests.bench.bare import addresses
from tests.bench.sink import HANGING_PATH, SLOW_PATH, SLOW_SECONDS
from tests.bench.stand import Load, Result, Scale
from tests.nameserver import Says, name_server
from tests.ports import free_port

DESTINATIONS = 10
EVERY = 0.02  # seconds: one delivery for each destination, in one transaction
SELDOM = 0.05
SLOTS = 256  # of a relay, unless told otherwise
FLOOD = 5  # times the deliveries of other benchmarks

_POLL_SECONDS = 0.01
_TOOK = """
SELECT outspoken_attempts.started_at - outspoken_deliveries.created_at + outspoken_attempts.duration
FROM outspoken_deliveries JOIN outspoken_attempts USING (seq) WHERE outspoken_deliveries.url <> ?
"""
_TOOK_OF = """
SELECT outspoken_attempts.started_at - outspoken_deliveries.created_at + outspoken_attempts.duration
FROM outspoken_deliveries JOIN outspoken_attempts USING (seq) WHERE outspoken_deliveries.id GLOB ?
"""
_FIRST_ATTEMPT = """
SELECT min(outspoken_attempts.started_at) - outspoken_deliveries.created_at
FROM outspoken_deliveries JOIN outspoken_attempts USING (seq) WHERE outspoken_deliveries.id = ?
"""
_DELIVERED = "SELECT count(*) FROM outspoken_deliveries WHERE state = 'delivered'"
_PENDING = "SELECT count(*) FROM outspoken_deliveries WHERE state IN ('pending', 'leased')"


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


def _produce(path: Path, urls: Sequence[str], seconds: float, name: str = "", every: float = EVERY) -> None:
    with closing(outbox.connect(path)) as connection, closing(outbox.Notifier(path)) as notifier:
        for number in range(int(seconds / every)):
            connection.execute("BEGIN IMMEDIATE")
            for url in urls:
                outbox.add(connection, NewDelivery(f"{name}{number} {url}", url, bytes(2048)))
            connection.execute("COMMIT")
            notifier.notify()
            time.sleep(every)


def hanging(scale: Scale) -> Result:
    """Ten paths of one host, 20 a second to each: first without the one that hangs, then with it."""
    with stand.sink() as port, stand.new_outbox() as path, stand.relay(path, port) as relay:
        host = f"http://127.0.1.1:{port}"
        healthy = [f"{host}/callback/{number}" for number in range(DESTINATIONS - 1)]
        stand.wait_until_ready(path, relay)
        ratio = _beside(path, relay, healthy, [host + HANGING_PATH], scale.seconds)
    return {"relay.isolation.hanging": ratio}


def dead_hosts(scale: Scale) -> Result:
    """Hosts that answer, and the backlog of so many that hang or refuse to be connected to."""
    return {"relay.isolation.dead_hosts": _beside_dead_hosts(scale)}


def thousand(scale: Scale) -> Result:
    """The same beside a thousand."""
    return {"relay.isolation.dead_hosts.thousand": _beside_dead_hosts(replace(scale, dead_hosts=1000))}


def fifty_thousand(scale: Scale) -> Result:
    """The same beside so many that a pass through them takes hours."""
    return {"relay.isolation.dead_hosts.fifty_thousand": _beside_dead_hosts(replace(scale, dead_hosts=50_000))}


def _beside_dead_hosts(scale: Scale) -> float:
    closed = free_port()
    with stand.sink() as port, stand.new_outbox() as path:
        ports = f"{port}, {closed}"
        with stand.relay(path, port, outbox__guard__ports=ports) as relay:
            places = [f"127.0.{8 + number // 250}.{1 + number % 250}" for number in range(scale.dead_hosts)]
            hang = [f"http://{place}:{port}{HANGING_PATH}" for place in places[::2]]
            refuse = [f"http://{place}:{closed}/callback" for place in places[1::2]]
            stand.wait_until_ready(path, relay)
            backlog = 8 if len(places) < 10_000 else 1
            return _beside(path, relay, addresses(port, DESTINATIONS - 1), hang + refuse, scale.seconds, backlog)


def known_hosts(scale: Scale) -> Result:
    """Hosts that answer, beside more than there are slots that always did, and begin to hang at once."""
    return {"relay.isolation.known_hosts": _beside_known_hosts(scale, HANGING_PATH, backlog=4)}


def slow_hosts(scale: Scale) -> Result:
    """The same beside as many that go on to answer, half a second later, and have more waiting all the time."""
    backlog = 1 + int(2 * scale.seconds * SLOTS / SLOW_SECONDS / scale.known_hosts)
    return {"relay.isolation.slow_hosts": _beside_known_hosts(scale, SLOW_PATH, backlog)}


def _beside_known_hosts(scale: Scale, path_of_ill: str, backlog: int) -> float:
    with stand.sink() as port, stand.new_outbox() as path, stand.relay(path, port) as relay:
        hosts = [f"http://127.0.{8 + number // 250}.{1 + number % 250}:{port}" for number in range(scale.known_hosts)]
        stand.wait_until_ready(path, relay)
        _produce(path, [f"{host}/callback" for host in hosts], SELDOM, "known ", SELDOM)
        _took(path, relay, "known *", len(hosts))
        ill = [host + path_of_ill for host in hosts]
        return _beside(path, relay, addresses(port, DESTINATIONS - 1), ill, scale.seconds, backlog)


def slow_dns(scale: Scale) -> Result:
    """Names that resolve, and the backlog of so many that do not."""
    with (
        stand.sink() as port,
        stand.new_outbox() as path,
        _names() as servers,
        stand.relay(path, port, outbox__guard__name_servers=servers) as relay,
    ):
        healthy = [f"http://healthy-{number}.example:{port}/callback" for number in range(DESTINATIONS - 1)]
        slow = [f"http://slow-{number}.example:{port}/callback" for number in range(scale.slow_names)]
        stand.wait_until_ready(path, relay)
        ratio = _beside(path, relay, healthy, slow, scale.seconds, backlog=8)
    return {"relay.isolation.slow_dns": ratio}


@contextmanager
def _names() -> Iterator[str]:
    """A name server in a thread of its own; yields its address."""
    loop, ended = asyncio.new_event_loop(), asyncio.Event()
    server = name_server(lambda name: Says(silent=True) if name.startswith("slow") else Says(("127.0.0.1",)))
    opened = loop.run_until_complete(server.__aenter__())
    thread = threading.Thread(target=loop.run_until_complete, args=(ended.wait(),))
    thread.start()
    try:
        yield opened.address
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.run_until_complete(server.__aexit__(None, None, None))
        loop.close()


def _beside(
    path: Path, relay: stand.Program, healthy: Sequence[str], ill: Sequence[str], seconds: float, backlog: int = 0
) -> float:
    """The p95 of the healthy ones beside the ill, as a ratio to theirs before. The ill have a backlog, or else get as
    much as the others. A first round shows the healthy ones to the relay."""
    _produce(path, healthy, SELDOM, "first ", SELDOM)
    _took(path, relay, "first *", len(healthy))
    _produce(path, healthy, seconds, "alone ", SELDOM)
    wanted = int(seconds / SELDOM) * len(healthy)
    alone = _took(path, relay, "alone *", wanted)
    stand.fill(path, ill, Load(backlog * len(ill)))
    _produce(path, healthy if backlog else [*healthy, *ill], seconds, "beside ", SELDOM)
    beside = _took(path, relay, "beside */callback*", wanted)
    return beside / alone


def _took(path: Path, relay: stand.Program, pattern: str, wanted: int) -> float:
    """The p95 of those whose ids fit, once so many have been tried."""
    with closing(sqlite3.connect(path)) as connection:
        while len(took := connection.execute(_TOOK_OF, (pattern,)).fetchall()) < wanted:
            assert relay.poll() is None, path.with_suffix(".log").read_text()
            time.sleep(_POLL_SECONDS)
    p95: float = quantiles([seconds for (seconds,) in took], n=20)[-1]
    return p95


def owner(scale: Scale) -> Result:
    """The longest wait of several, one after another, each for a host of its own."""
    port = free_port()
    flood = stand.pending(FLOOD * scale.deliveries, port, DESTINATIONS)
    with stand.sink(port=port), stand.new_outbox(copy_of=flood) as path, stand.relay(path, port) as relay:
        stand.wait_until_ready(path, relay)
        with closing(outbox.connect(path)) as connection, closing(outbox.Notifier(path)) as notifier:
            while not connection.execute(_DELIVERED).fetchone()[0]:
                time.sleep(_POLL_SECONDS)
            waits = [_first_attempt(connection, notifier, port, number) for number in range(scale.turns)]
    return {"relay.isolation.owner_ms": 1e3 * max(waits)}


def _first_attempt(connection: Any, notifier: outbox.Notifier, port: int, number: int) -> float:
    id_ = f"lone {number}"
    connection.execute("BEGIN IMMEDIATE")
    outbox.add(connection, NewDelivery(id_, f"http://127.0.9.{1 + number}:{port}/callback", b"{}", owner="another"))
    connection.execute("COMMIT")
    notifier.notify()
    while (waited := connection.execute(_FIRST_ATTEMPT, (id_,)).fetchone()[0]) is None:
        time.sleep(_POLL_SECONDS)
    return float(waited)


def rate_limited(scale: Scale) -> Result:
    """Counts the answers of 429, and what was delivered, once nothing is left."""
    with _one_at_a_time(scale.limited_seconds) as receiver, stand.new_outbox() as path:
        port = receiver.server_port
        stand.fill(path, [f"http://127.0.0.1:{port}/callback"], Load(scale.limited))
        with stand.relay(path, port) as relay, closing(sqlite3.connect(path)) as connection:
            while connection.execute(_PENDING).fetchone()[0]:
                assert relay.poll() is None, path.with_suffix(".log").read_text()
                time.sleep(_POLL_SECONDS)
            delivered = connection.execute(_DELIVERED).fetchone()[0]
    return {"relay.isolation.rate_limited": receiver.refused, "relay.isolation.rate_limited.delivered": delivered}


class _Limited(ThreadingHTTPServer):
    """Takes one in so many seconds, and answers 429 to the others."""

    def __init__(self, seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seconds = seconds
        self.refused = 0
        self._free_at = 0.0
        self._lock = threading.Lock()

    def takes(self) -> bool:
        with self._lock:
            if time.monotonic() < self._free_at:
                self.refused += 1
                return False
            self._free_at = time.monotonic() + self.seconds
            return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Limited

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        takes = self.server.takes()
        self.send_response(200 if takes else 429)
        if not takes:
            self.send_header("Retry-After", f"{self.server.seconds:g}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing."""


@contextmanager
def _one_at_a_time(seconds: float) -> Iterator[_Limited]:
    with _Limited(seconds) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
