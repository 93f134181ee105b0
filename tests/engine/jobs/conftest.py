"""A real database, and requests and results to fill it with."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncpg
import pytest

from engine.audio.fetch import HttpFetcher
from engine.jobs.store import JobResult, JobStore
from engine.request import Callback, Failed, FailureCode, Media, Request
from engine.transcript import Channel, Model, Segment, Transcript, Word
from relay.guard.resolver import Resolver
from relay.guard.rules import Rules
from relay.outbox.model import NewDelivery
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.sqlite.writer import SqliteWriter
from relay.outbox.store import BUSY_SECONDS, Database
from relay.service.dns import system_names
from tests.relay.deliveries import writing

LEASE_SECONDS = 60.0
MEDIA = Media(sha256="ab" * 32, size=1000, created=1_700_000_000.0)
UNFETCHED = Media(sha256="", size=0, created=1_700_000_000.0)
WORDS = (Word("hello", 0.0, 0.5, 0.9), Word("world", 0.5, 1.0, 0.8))
TRANSCRIPT = Transcript(Model("1b4e28ba", "small", "1", "test"), 1.0, 1, (Channel((Segment(WORDS),)),))
HEARD = JobResult(MEDIA, TRANSCRIPT)
IN_A_FILE = pytest.mark.parametrize("dialect", ["sqlite"])
"""Marks a test of what only a file can do, or have done to it."""

REFUSED = (sqlite3.IntegrityError, asyncpg.IntegrityConstraintViolationError)
"""How a database says that it cannot be so."""

BROKEN = JobResult(MEDIA, Failed(FailureCode.INTERNAL, "no luck"))


class Clock:
    """A wall clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Pauses:
    """In place of `asyncio.sleep`: remembers the seconds that were asked for, and lets nobody wait. `enough` is set
    once so many pauses were made."""

    def __init__(self, count: int = 1) -> None:
        self.asked: list[float] = []
        self.enough = asyncio.Event()
        self._count = count

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        if len(self.asked) >= self._count:
            self.enough.set()
        await asyncio.sleep(0)


@dataclass
class Transcribing:
    """Remembers what lay in the files that it was given."""

    given: list[bytes] = field(default_factory=list)

    async def __call__(self, request: Request, path: Path) -> Transcript | Failed:
        self.given.append(path.read_bytes())
        return TRANSCRIPT


@dataclass(frozen=True)
class SmallDisk(SqliteDatabase):
    """A file on a disk that can be filled: by SQLite's own limit on pages, which is the same SQLITE_FULL, and belongs
    to a writer's connection."""

    writers: list[SqliteWriter] = field(default_factory=list)

    def writer(self, busy_seconds: float = BUSY_SECONDS) -> SqliteWriter:
        self.writers.append(SqliteWriter(self.path, busy_seconds))
        return self.writers[-1]

    async def fill(self) -> None:
        await self._limit(1)

    async def free(self) -> None:
        await self._limit(1_000_000)

    async def _limit(self, pages: int) -> None:
        for writer in self.writers:
            await writer.run(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())


@pytest.fixture
def disk(database_path: Path, clock: Clock) -> SmallDisk:
    return SmallDisk(database_path, clock)


@pytest.fixture
async def store_on_disk(disk: SmallDisk) -> AsyncIterator[JobStore]:
    store = JobStore(disk, LEASE_SECONDS)
    yield store
    await store.close()


def unused_fetcher() -> HttpFetcher:
    """For jobs whose audio is there."""
    return HttpFetcher(Resolver(Rules(), system_names()))


def request(job_id: str = "job-1", audio_url: str | None = None) -> Request:
    return Request(
        id=job_id,
        dialect="deepgram",
        model="nova-3",
        recogniser="default",
        callback=Callback("http://user:pass@127.0.0.1:8080/hook?q=1"),
        audio_url=audio_url,
    )


def delivery(delivery_id: str = "job-1") -> NewDelivery:
    return NewDelivery(delivery_id, "http://127.0.0.1:8080/hook", b"{}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(database: Database, clock: Clock) -> Database:
    """At a time that only moves when a test says so."""
    return replace(database, clock=clock)  # type: ignore[type-var]


@pytest.fixture
async def store(database: Database) -> AsyncIterator[JobStore]:
    store = JobStore(database, LEASE_SECONDS)
    yield store
    await store.close()


ADD_KEY = (
    "INSERT INTO outspoken_api_keys (id, name, sha256, created_at, max_queued, max_running) VALUES (?, ?, ?, 0, ?, ?)"
)


def key(key_id: str, *, max_queued: int | None = None, max_running: int | None = None) -> tuple[object, ...]:
    """The values of a row with bounds."""
    return key_id, f"name of {key_id}", bytes(32), max_queued, max_running


Rows = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def rows(database: Database) -> Rows:
    """Ask the database directly, each time on a connection of the test's own."""

    def ask(sql: str, *values: object) -> list[tuple[object, ...]]:
        return writing(database, lambda connection: [tuple(row) for row in connection.execute(sql, values).fetchall()])

    return ask
