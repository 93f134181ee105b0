"""The engine behind the API, as small as the protocols allow: keys in a dict, jobs in a list, one known transcript."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from engine.audio.decode import probe
from engine.jobs.archive import Page, Selection
from engine.jobs.store import Backlog
from engine.record import Record
from engine.request import Failed, Media, RawFormat, Request
from engine.transcript import Channel, Model, Segment, Transcript, Word
from relay.outbox.results import PastAttempt

MODEL = Model("5f3c1a52-9d3b-5d4e-8f6a-0c2b7e1d9a10", "tiny.en", "1.2.1", "whisper")
HELLO = Transcript(MODEL, 1.0, 1, (Channel((Segment((Word("hello", 0.1, 0.6, 0.9),)),)),))


@dataclass
class FakeKeys:
    needed: bool = False
    secrets: dict[str, str] = field(default_factory=lambda: {"s3cret": "key-1"})

    async def required(self) -> bool:
        return self.needed

    async def key_id(self, secret: str) -> str | None:
        return self.secrets.get(secret)


@dataclass
class FakeQueue:
    """Numbers of the store's, as the test sets them."""

    backlog_now: Backlog = field(default_factory=lambda: Backlog(jobs=0, bytes=0, key_jobs=0, key_bound=None))

    async def backlog(self, key_id: str) -> Backlog:
        return self.backlog_now


class EmptyArchive:
    async def find(self, job_id: str, key_id: str | None) -> Record | None:
        return None

    async def attempts(self, job_id: str) -> tuple[PastAttempt, ...]:
        return ()

    async def page(self, selection: Selection, *, with_results: bool = False) -> Page:
        return Page([], None)


@dataclass
class FakeIntake:
    folder: Path
    accepted: list[tuple[Request, Media, Path | None]] = field(default_factory=list)
    error: Exception | None = None

    async def accept(self, request: Request, media: Media, path: Path | None) -> None:
        if self.error:
            raise self.error
        kept = path.rename(self.folder / request.id) if path else None
        self.accepted.append((request, media, kept))


@dataclass
class FakeListener:
    """Answers at once, or when it is let go."""

    result: Transcript | Failed = HELLO
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.let_go.set()

    async def transcribe(self, request: Request, path: Path, media: Media) -> Transcript | Failed:
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return self.result


class ThreadProber:
    async def probe(self, path: Path, raw: RawFormat | None) -> object:
        return await asyncio.to_thread(probe, path, raw)
