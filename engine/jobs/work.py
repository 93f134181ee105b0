"""One job from its audio to its result: fetch what is behind a URL, then listen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from engine.audio.fetch import Stumbled
from engine.audio.sink import Stored
from engine.errors import StorageFull
from engine.jobs.audio_store import AudioStore
from engine.jobs.store import Job, Result
from engine.request import Failed, Media, Request
from engine.transcript import Transcript
from relay.outbox.errors import StoreUnavailable

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 1.0
_STORAGE_PAUSE_SECONDS = 5.0
# A remote server may ask for more patience, but a worker's place is taken meanwhile.
_LONGEST_PAUSE_SECONDS = 60.0

log = structlog.get_logger()


class Ear(Protocol):
    """Who understands speech. Raises WorkerDied."""

    async def hear(self, request: Request, path: Path) -> Transcript | Failed: ...


class Fetcher(Protocol):
    """Who downloads, and says of a failure whether it is `Stumbled`. Raises StorageFull."""

    async def fetch(self, url: str, path: Path) -> Stored | Failed: ...


class Ledger(Protocol):
    """Who remembers that a job's audio has come."""

    async def fetched(self, job: Job, media: Media) -> bool: ...


class Workshop:
    """Works on jobs. `tries` downloads, with growing pauses, before a job fails for want of its audio."""

    def __init__(
        self,
        ear: Ear,
        fetcher: Fetcher,
        audio: AudioStore,
        ledger: Ledger,
        *,
        tries: int = 3,
        pause: float = _FIRST_PAUSE_SECONDS,
        storage_pause: float = _STORAGE_PAUSE_SECONDS,
    ) -> None:
        self._ear = ear
        self._fetcher = fetcher
        self._audio = audio
        self._ledger = ledger
        self._tries = tries
        self._pause = pause
        self._storage_pause = storage_pause

    async def do(self, job: Job) -> Result:
        """The result of a job; failures to fetch or to decode are results too. Raises WorkerDied, and FileNotFoundError
        for audio that is not where it was kept."""
        media = job.media if job.has_audio else await self._obtain(job)
        if isinstance(media, Failed):
            return Result(job.media, media)
        async with AsyncExitStack() as stack:
            path = await self._patiently(job, lambda: stack.enter_async_context(self._audio.at_hand(job.id)))
            return Result(media, await self._ear.hear(job.request, path))

    async def forget(self, job: Job) -> None:
        """The job has ended: its audio may go, unless the caller wants it kept."""
        if not job.request.keeps_audio:
            await self._audio.discard(job.id)

    async def _obtain(self, job: Job) -> Media | Failed:
        number = 1
        while True:
            media = await self._patiently(job, lambda: self._download(job))
            if not isinstance(media, Stumbled):
                return media
            log.warning("audio.fetch.failed", **{"job.id": job.id, "try": number, "detail": media.message})
            if number == self._tries:
                return media
            pause = self._pause * 2 ** (number - 1)
            await asyncio.sleep(min(max(pause, media.wait or 0.0), _LONGEST_PAUSE_SECONDS))
            number += 1

    async def _patiently(self, job: Job, work: Callable[[], Awaitable[T]]) -> T:
        """A full disk, or an audio store that is away, is ours and no fault of the job's."""
        while True:
            try:
                return await work()
            except StorageFull:
                log.error("audio.storage_full", **{"job.id": job.id, "retry_s": self._storage_pause})
            except StoreUnavailable as error:
                said = {"operation": "audio", "kind": error.kind, "detail": str(error), "job.id": job.id}
                log.error("store.error", **said, retry_s=self._storage_pause)
            await asyncio.sleep(self._storage_pause)

    async def _download(self, job: Job) -> Media | Failed:
        assert job.request.audio_url is not None
        with self._audio.arriving(job.id) as path:
            stored = await self._fetcher.fetch(job.request.audio_url, path)
            if isinstance(stored, Failed):
                return stored
            await self._audio.keep(path, job.id)
        media = Media(stored.sha256, stored.size, job.media.created)
        await self._remember(job, media)
        return media

    async def _remember(self, job: Job, media: Media) -> None:
        try:
            await self._ledger.fetched(job, media)
        except StoreUnavailable as error:  # it costs another download if this engine is killed now
            log.error("store.error", operation="fetched", kind=error.kind)
