"""One job from its audio to its result: fetch what is behind a URL, then listen."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

import structlog

from engine.audio.fetch import Stumbled
from engine.audio.sink import Stored
from engine.errors import StorageFull
from engine.jobs.folder import AudioFolder
from engine.jobs.store import Job, Result
from engine.request import Failed, Media, Request
from engine.transcript import Transcript
from relay.errors import StoreUnavailable

_FIRST_PAUSE_SECONDS = 1.0
_FULL_DISK_PAUSE_SECONDS = 5.0
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
        folder: AudioFolder,
        ledger: Ledger,
        *,
        tries: int = 3,
        pause: float = _FIRST_PAUSE_SECONDS,
        full_disk_pause: float = _FULL_DISK_PAUSE_SECONDS,
    ) -> None:
        self._ear = ear
        self._fetcher = fetcher
        self._folder = folder
        self._ledger = ledger
        self._tries = tries
        self._pause = pause
        self._full_disk_pause = full_disk_pause

    async def do(self, job: Job) -> Result:
        """The result of a job; failures to fetch or to decode are results too. Raises WorkerDied."""
        media = job.media if job.has_audio else await self._obtain(job)
        if isinstance(media, Failed):
            return Result(job.media, media)
        return Result(media, await self._ear.hear(job.request, self._folder.path(job.id)))

    async def forget(self, job: Job) -> None:
        """The job has ended: its audio may go, unless the caller wants it kept."""
        if not job.request.keeps_audio:
            await self._folder.remove(job.id)

    async def _obtain(self, job: Job) -> Media | Failed:
        number = 1
        while True:
            media = await self._when_there_is_room(job)
            if not isinstance(media, Stumbled):
                return media
            log.warning("audio.fetch.failed", **{"job.id": job.id, "try": number, "detail": media.message})
            if number == self._tries:
                return media
            pause = self._pause * 2 ** (number - 1)
            await asyncio.sleep(min(max(pause, media.wait or 0.0), _LONGEST_PAUSE_SECONDS))
            number += 1

    async def _when_there_is_room(self, job: Job) -> Media | Failed:
        """A full disk is ours, and no fault of the job's."""
        while True:
            try:
                return await self._download(job)
            except StorageFull:
                log.error("audio.storage_full", **{"job.id": job.id, "retry_s": self._full_disk_pause})
            await asyncio.sleep(self._full_disk_pause)

    async def _download(self, job: Job) -> Media | Failed:
        assert job.request.audio_url is not None
        with self._folder.arriving(job.id) as path:
            stored = await self._fetcher.fetch(job.request.audio_url, path)
            if isinstance(stored, Failed):
                return stored
            await self._folder.keep(path, job.id)
        media = Media(stored.sha256, stored.size, job.media.created)
        await self._remember(job, media)
        return media

    async def _remember(self, job: Job, media: Media) -> None:
        try:
            await self._ledger.fetched(job, media)
        except StoreUnavailable as error:  # it costs another download if this engine is killed now
            log.error("store.error", operation="fetched", kind=error.kind)
