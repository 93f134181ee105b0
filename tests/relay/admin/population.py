"""Twenty destinations in all their troubles, for whoever wants to look at pages and commands: tests, and people.

python -m tests.relay.admin.population FILE   # then: OUTSPOKEN_OUTBOX__URL=sqlite:///FILE relay status
python -m tests.relay.admin.population        # takes the picture in the README anew
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from relay.admin.recent import RecentAttempts
from relay.outbox import OUTBOX
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Connection, Database
from relay.policy.attempt import Failure
from tests.acceptance.stage import ROOT
from tests.relay.admin.past import attempt, change, ended
from tests.relay.admin.served import TOKEN, context, served
from tests.relay.deliveries import answer, attempted, claimed, new, put, rows, stand, writing

PICTURE = ROOT / "relay" / "admin" / "console" / "now.png"
LONG_HOST = "callbacks-for-the-transcription-of-recorded-conferences.eu-central-1.customers.longhost.example"
WELL = ("api.acme.example", "hooks.north.example", "hooks.south.example", "events.blue.example", "in.green.example")


def ids(url: str, count: int) -> list[str]:
    """As the engine makes them; those of one URL begin alike."""
    digest = sha256(url.encode()).hexdigest()
    return [f"01a1fc0a-{digest[:4]}-7{digest[4:7]}-8{digest[7:10]}-{digest[10:16]}{n:06x}" for n in range(1, count + 1)]


def add(database: Database, url: str, count: int, due_at: float | None = None) -> list[str]:
    """So many deliveries; due at once, or at that time. Returns their ids."""
    named = ids(url, count)
    put(database, *(new(id_, url) for id_ in named), due_at=due_at)
    return named


def populate(database: Database, now: float) -> None:
    """A day of a relay that is at work."""
    change(database, "INSERT INTO outspoken_relays (holder, seen_at) VALUES ('one', ?)", now)
    for host in (*WELL, LONG_HOST):
        change(database, "INSERT INTO outspoken_destinations (origin) VALUES (?)", f"https://{host}:443")
        for number, id_ in enumerate(add(database, f"https://{host}/hook", 3)):
            ended(database, id_, "delivered", at=now - 60 * number, outcome="success", status=200)
    _unreachable(database, now)
    _answering_with_errors(database, now)
    _given_up(database, now)
    _held(database, now)


def _unreachable(database: Database, now: float) -> None:
    for host, outcome, detail in (
        ("dead-port.example", "connect", "connection refused"),
        ("expired-name.example", "dns", "no such name"),
        ("old-certificate.example", "tls", "certificate has expired"),
        ("firewalled.example", "connect_timeout", "no connection within the connect timeout"),
    ):
        _tried(database, add(database, f"https://{host}/hook", 9, now - 240), outcome, None, detail, now)
        _open(database, f"https://{host}:443", "", now)


def _answering_with_errors(database: Database, now: float) -> None:
    for path, outcome, status, detail in (
        ("https://platform.example/tenants/7/hook", "http_5xx", 503, "the receiver answered 503"),
        ("https://platform.example/tenants/9/hook", "http_4xx", 401, "the receiver answered 401"),
        ("https://crashing.example/hook", "reset", None, "the connection ended before an answer came"),
        ("https://slow.example/hook", "read_timeout", None, "no answer within 30 s"),
        ("https://renamed.example/old-route", "http_4xx", 404, "the receiver answered 404"),
    ):
        origin, _, rest = path.removeprefix("https://").partition("/")
        _tried(database, add(database, path, 6, now - 90), outcome, status, detail, now)
        _open(database, f"https://{origin}:443", f"/{rest}", now)
    large = add(database, "https://small.example/hook", 4, now + 20)
    _tried(database, large, "http_413", 413, "the receiver answered 413", now, lane=2)
    change(database, "UPDATE outspoken_deliveries SET body_bytes = 300000 WHERE origin = 'https://small.example:443'")
    change(
        database,
        "INSERT INTO outspoken_destinations (origin, path, largest_accepted, smallest_refused) "
        "VALUES ('https://small.example:443', '/hook', 98304, 300000)",
    )


def _given_up(database: Database, now: float) -> None:
    for number, id_ in enumerate(add(database, "https://moved-away.example/hook", 5), 1):
        ended(database, id_, at=now - 600 * number, outcome="http_410", status=410, detail="410 Gone")
    change(database, "INSERT INTO outspoken_gone_urls VALUES ('00', 'https://moved-away.example:443', '/hook', 1)")
    for number, id_ in enumerate(add(database, "https://guarded.example/hook", 2), 1):
        ended(database, id_, at=now - 500 * number, outcome="blocked", status=None, detail="private address")


def _held(database: Database, now: float) -> None:
    add(database, "https://maintenance.example/hook", 30, now - 1800)
    stand(database, "paused", "https://maintenance.example:443")
    add(database, "https://left.example/hook", 3, now - 7200)
    stand(database, "disabled", "https://left.example:443", "/hook")
    add(database, "https://busy.example/hook", 8, now - 100)
    change(
        database,
        "INSERT INTO outspoken_destinations (origin, path, held, rate, every, allowed_at) "
        "VALUES ('https://busy.example:443', '/hook', 1, 2, 1.0, ?)",
        now + 1,
    )
    held = "('https://maintenance.example:443', 'https://left.example:443', 'https://busy.example:443')"
    change(database, f"UPDATE outspoken_deliveries SET lane = 1 WHERE origin IN {held}")
    put(database, new("later", f"https://{WELL[0]}/hook"), due_at=now + 3600)


def _tried(
    database: Database,
    named: list[str],
    outcome: str,
    status: int | None,
    detail: str,
    now: float,
    lane: int = 1,
) -> None:
    """All of them but the last once before; what waits for a destination in trouble stands in its lane."""

    def record(connection: Connection) -> None:
        for index, id_ in enumerate(named):
            tried = int(id_ != named[-1])
            if tried:
                attempt(connection, id_, 1, now - 10 * index - 5, outcome, status, detail)
            connection.execute(
                "UPDATE outspoken_deliveries SET attempts = ?, lane = ? WHERE id = ?", (tried, lane, id_)
            )

    writing(database, record)


def _open(database: Database, origin: str, path: str, now: float) -> None:
    sql = (
        "INSERT INTO outspoken_destinations (origin, path, failures, open, held, silent, starts) "
        "VALUES (?, ?, 5, 1, 1, 1, ?)"
    )
    change(database, sql, origin, path, str([now - 20, now - 15, now - 10, now - 5]))


def heard(now: float) -> RecentAttempts:
    """What the relay heard in the last hour."""
    recent = RecentAttempts(now - 7200)
    for minute in range(60):
        well = [f"https://{host}:443" for host in WELL for _ in range(6 + (minute * 7) % 5)]
        bad = ["https://dead-port.example:443", "https://platform.example:443"] * (1 if minute % 4 else 3)
        for origin in well:
            recent([replace(attempted(claimed(destination=origin), answer(200)), finished_at=now - 60 * minute)])
        for origin in bad:
            came = answer(failure=Failure.CONNECT) if "port" in origin else answer(503)
            recent([replace(attempted(claimed(destination=origin), came), finished_at=now - 60 * minute)])
    return recent


@contextmanager
def populated() -> Iterator[Database]:
    """A database of theirs, for as long as the block lasts."""
    with TemporaryDirectory(prefix="outspoken-") as folder:
        yield made(Path(folder) / "outspoken.db")


def made(path: Path) -> Database:
    """A database of theirs in a new file."""
    database = SqliteDatabase(path)
    database.migrate([OUTBOX])
    populate(database, database.now())
    return database


def main(words: list[str], shoot: Callable[[str, Path], None]) -> None:
    """Make a file, or take the picture."""
    if words:
        database = made(Path(words[0]))
        print(f"{len(rows(database, 'SELECT 1 FROM outspoken_deliveries'))} deliveries in {words[0]}")
        return
    with populated() as database, served(context(database, heard(time.time()))) as address:
        shoot(address, PICTURE)


def shot(address: str, to: Path) -> None:
    """A picture of the first page, as wide as a laptop's."""
    import shutil

    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.goto(address)
        page.get_by_label("Admin token").fill(TOKEN)
        page.get_by_label("Your name").fill("Ada")
        page.get_by_role("button", name="Sign in").click()
        page.locator(".plot canvas").wait_for()
        page.screenshot(path=to)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:], shot)
