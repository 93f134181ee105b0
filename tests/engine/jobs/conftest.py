"""A real database file, and requests and results to fill it with."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.jobs.store import JobStore, Result, migrate
from engine.request import Callback, Failed, FailureCode, Media, Request
from engine.transcript import Channel, Model, Segment, Transcript, Word
from relay import outbox
from relay.model import NewDelivery

LEASE_SECONDS = 60.0
MEDIA = Media(sha256="ab" * 32, size=1000, created=1_700_000_000.0)
UNFETCHED = Media(sha256="", size=0, created=1_700_000_000.0)
WORDS = (Word("hello", 0.0, 0.5, 0.9), Word("world", 0.5, 1.0, 0.8))
TRANSCRIPT = Transcript(Model("1b4e28ba", "small", "1", "test"), 1.0, 1, (Channel((Segment(WORDS),)),))
HEARD = Result(MEDIA, TRANSCRIPT)
BROKEN = Result(MEDIA, Failed(FailureCode.INTERNAL, "no luck"))


class Clock:
    """A wall clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def request(job_id: str = "job-1", audio_url: str | None = None) -> Request:
    return Request(
        id=job_id,
        dialect="deepgram",
        model="nova-3",
        recogniser="pocketsphinx",
        callback=Callback("http://user:pass@127.0.0.1:8080/hook?q=1"),
        audio_url=audio_url,
    )


def delivery(delivery_id: str = "job-1") -> NewDelivery:
    return NewDelivery(delivery_id, "http://127.0.0.1:8080/hook", b"{}")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "outspoken.db"
    migrate(path)
    return path


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> Path:
    """A copy of a migrated database: copying spares the disk a dozen flushes a test."""
    return Path(shutil.copy(empty_database, tmp_path / "outspoken.db"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(database: Path, clock: Clock) -> AsyncIterator[JobStore]:
    store = JobStore(database, LEASE_SECONDS, clock)
    yield store
    await store.close()


Rows = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def rows(database: Path) -> Iterator[Rows]:
    """Ask the database directly, on a connection of the test's own."""
    with closing(outbox.connect(database)) as connection:

        def ask(sql: str, *values: object) -> list[tuple[object, ...]]:
            return connection.execute(sql, values).fetchall()

        yield ask
