"""What whoever runs the engine does with jobs, whosever they are: find one by the beginning of its id, end it, try it
again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import uuid_utils

from engine.dialects import gladia
from engine.errors import EngineError
from engine.jobs.archive import Archive, JobFilter
from engine.jobs.audio_store import AudioStore
from engine.jobs.store import JobResult, JobStore
from engine.record import JobState, Record
from engine.request import Failed, FailureCode
from engine.result_delivery import delivery_of
from relay.outbox.results import PastAttempt
from relay.outbox.store import Database

CANCELLED = "The operator of this server cancelled the job. Ask them why before it is sent again."

_SHOWN = 5


class NoSuchJob(EngineError):
    """No job's id begins so."""


class Ambiguous(EngineError):
    """More than one does."""


class NotPossible(EngineError):
    """The job is in no state for that."""


class JobOperations:
    """All raise StoreUnavailable, and change nothing, when the database cannot be used. What is open is closed at the
    end of the block."""

    def __init__(self, database: Database, audio: AudioStore, lease_seconds: float) -> None:
        self._store = JobStore(database, lease_seconds)
        self._archive = Archive(database, audio)
        self._audio = audio

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._store.close()
        await self._archive.close()

    async def list(self, states: Sequence[JobState], limit: int) -> list[Record]:
        """The newest jobs, or those in these states."""
        return await self._archive.list(JobFilter(None, states=tuple(states), limit=limit), with_results=True)

    async def attempts(self, record: Record) -> tuple[PastAttempt, ...]:
        """Those at its callback, as far as they are kept."""
        return await self._archive.attempts(record.request.id)

    async def find(self, beginning: str) -> Record:
        """The one job whose id begins so. Raises NoSuchJob and Ambiguous, which names some."""
        ids = await self._store.ids(beginning, _SHOWN + 1)
        if len(ids) > 1 and beginning not in ids:
            more = ", ..." if len(ids) > _SHOWN else ""
            raise Ambiguous(f"{beginning}: several ids begin so, {', '.join(ids[:_SHOWN])}{more}; say more of it")
        record = await self._archive.find(beginning if beginning in ids else ids[0], None) if ids else None
        if record is None:
            raise NoSuchJob(f"{beginning}: no job's id begins so; `engine jobs list` shows them")
        return record

    async def cancel(self, beginning: str) -> Record:
        """End a job that is not finished. It has failed then, which its callback tells; work under way is abandoned.
        Raises NotPossible, and as `find` does."""
        record = await self.find(beginning)
        job = await self._store.take_over(record.request.id)
        if job is None:
            raise NotPossible(f"{record.request.id}: {record.state}, and cannot be cancelled any more")
        result = JobResult(job.media, Failed(FailureCode.INTERNAL, CANCELLED))
        delivery = (
            await asyncio.to_thread(delivery_of, job.request, job.media, result.said) if job.request.callback else None
        )
        await self._store.finish(job, result, delivery)
        if not job.request.keeps_audio:
            await self._audio.discard(job.id)
        return await self.find(job.id)

    async def retry(self, beginning: str) -> str:
        """Ask for a failed job once more, as a job of its own, whose id this is: what its callback was told stays told.
        Raises NotPossible where its audio is gone, and as `find` does."""
        record = await self.find(beginning)
        request = record.request
        if record.state is not JobState.FAILED:
            raise NotPossible(f"{request.id}: {record.state}; only what has failed can be tried again")
        if request.dialect == gladia.LIVE:
            raise NotPossible(f"{request.id}: a live session, which nobody can hear again")
        again = replace(request, id=str(uuid_utils.uuid7()), upload_id=None if request.audio_url else request.id)
        media = replace(record.media, sha256="", size=0) if request.audio_url else record.media
        if again.upload_id:
            try:
                await self._audio.link(request.id, again.id)
            except FileNotFoundError:
                raise NotPossible(f"{request.id}: its audio is not kept; have its caller send it again") from None
        async with self._audio.unkept_without_its_row(again.id):
            await self._store.accept(again, media, has_audio=again.upload_id is not None)
        return again.id
