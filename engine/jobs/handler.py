"""One job from its audio to its result: fetch what is behind a URL, then transcribe it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import structlog

from engine.audio.fetch import HttpFetcher, TransientFailure
from engine.errors import StorageFull
from engine.jobs.audio_store import AudioStore
from engine.jobs.store import Job, JobResult, JobStore
from engine.request import Failed, Media, Request
from engine.transcript import Transcript
from relay.outbox.errors import StoreUnavailable

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 1.0
_STORAGE_PAUSE_SECONDS = 5.0
# A remote server may ask for a longer pause, but a worker's slot is taken meanwhile.
_LONGEST_PAUSE_SECONDS = 60.0

log = structlog.get_logger()


Transcribe = Callable[[Request, Path], Awaitable[Transcript | Failed]]
"""What is said in a file. Raises WorkerDied."""


class TranscriptionHandler:
    """Works on jobs. `tries` downloads, with pauses that double, before a job fails for want of its audio."""

    def __init__(
        self,
        transcribe: Transcribe,
        fetcher: HttpFetcher,
        audio: AudioStore,
        store: JobStore,
        *,
        tries: int = 3,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._transcribe = transcribe
        self._fetcher = fetcher
        self._audio = audio
        self._store = store
        self._tries = tries
        self._sleep = sleep

    async def handle(self, job: Job) -> JobResult:
        """The result of a job; failures to fetch or to decode are results too. Raises WorkerDied, and FileNotFoundError
        for audio that is not where it was kept."""
        media = job.media if job.has_audio else await self._fetch(job)
        if isinstance(media, Failed):
            return JobResult(job.media, media)
        async with AsyncExitStack() as stack:
            path = await self._with_storage(job, lambda: stack.enter_async_context(self._audio.at_hand(job.id)))
            return JobResult(media, await self._transcribe(job.request, path))

    async def clean_up(self, job: Job) -> None:
        """The job has ended: its audio may go, unless the caller wants it kept."""
        if not job.request.keeps_audio:
            await self._audio.discard(job.id)

    async def _fetch(self, job: Job) -> Media | Failed:
        number = 1
        while True:
            media = await self._with_storage(job, lambda: self._download(job))
            if not isinstance(media, TransientFailure):
                return media
            log.warning("audio.fetch.failed", **{"job.id": job.id, "try": number, "detail": media.message})
            if number == self._tries:
                return media
            pause = _FIRST_PAUSE_SECONDS * 2 ** (number - 1)
            await self._sleep(min(max(pause, media.wait or 0.0), _LONGEST_PAUSE_SECONDS))
            number += 1

    async def _with_storage(self, job: Job, work: Callable[[], Awaitable[T]]) -> T:
        """A full disk, or an audio store that is away, is ours and no fault of the job's: the work waits for it."""
        while True:
            try:
                return await work()
            except StorageFull:
                log.error("audio.storage_full", **{"job.id": job.id, "retry_s": _STORAGE_PAUSE_SECONDS})
            except StoreUnavailable as error:
                said = {"operation": "audio", "kind": error.kind, "detail": str(error), "job.id": job.id}
                log.error("store.error", **said, retry_s=_STORAGE_PAUSE_SECONDS)
            await self._sleep(_STORAGE_PAUSE_SECONDS)

    async def _download(self, job: Job) -> Media | Failed:
        assert job.request.audio_url is not None
        with self._audio.arriving(job.id) as path:
            stored = await self._fetcher.fetch(job.request.audio_url, path)
            if isinstance(stored, Failed):
                return stored
            await self._audio.keep(path, job.id)
        media = Media(stored.sha256, stored.size, job.media.created)
        try:
            await self._store.fetched(job, media)
        except StoreUnavailable as error:  # it costs another download if this engine is killed now
            log.error("store.error", operation="fetched", kind=error.kind)
        return media
