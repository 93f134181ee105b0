"""Forgets what has been kept long enough, slice by slice, so that no job and no caller waits for it.

Nothing that is unfinished is ever touched. Rows go first and audio afterwards: audio whose row is gone is litter,
which the next pass clears away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.outbox.queries import statement
from relay.outbox.store import Database, Writer

if TYPE_CHECKING:
    from engine.jobs.audio_store import AudioStore, Wanted

DAY = 86400.0

_SLICE = 50  # results of hours of speech are megabytes each
_PAUSE_SECONDS = 0.01  # between two slices of a pass: others get their turn

_FORGET_RESULTS = statement("forget_results", __package__)
_FORGET_JOBS = statement("forget_jobs", __package__)
_FORGET_AUDIO = statement("forget_audio", __package__)
_FORGET_UPLOADS = statement("forget_uploads", __package__)


@dataclass(frozen=True, slots=True)
class JobRetention:
    """How long what is finished is kept, in seconds.

    `results` are transcripts, which are personal data: as long as the outbox keeps the bodies made of them. `jobs` are
    as old as dead letters may get, so that what a receiver missed can be listed. `audio` is that of finished jobs whose
    caller wants it kept, `uploads` audio sent ahead, used or not.
    """

    results: float = 3 * DAY
    jobs: float = 30 * DAY
    audio: float = DAY
    uploads: float = DAY


@dataclass(frozen=True, slots=True)
class PrunedJobs:
    """What a pass forgot: rows, and `litter`, audio that belonged to none."""

    results: int = 0
    jobs: int = 0
    audio: int = 0
    uploads: int = 0
    litter: int = 0


async def prune(database: Database, audio: AudioStore, wanted: Wanted, kept: JobRetention, now: float) -> PrunedJobs:
    """One whole pass, on a connection of its own. Raises StoreUnavailable."""
    writer = database.writer()
    try:
        results = await _forget(writer, _FORGET_RESULTS, now - kept.results)
        sounds = await _forget(writer, _FORGET_AUDIO, now - kept.audio)
        jobs = await _forget(writer, _FORGET_JOBS, now - kept.jobs)
        uploads = await _forget(writer, _FORGET_UPLOADS, now - kept.uploads)
    finally:
        await writer.close()
    for id_ in (*sounds, *jobs, *uploads):
        await audio.discard(id_)
    return PrunedJobs(len(results), len(jobs), len(sounds), len(uploads), await audio.tidy(wanted, now))


async def _forget(writer: Writer, sql: str, before: float) -> list[str]:
    """The ids of what was forgotten, all of it, in slices."""
    forgotten: list[str] = []
    values = {"before": before, "slice": _SLICE}
    for pause in _pauses():
        await asyncio.sleep(pause)
        slice_ = await writer.run(lambda connection: connection.execute(sql, values).fetchall())
        forgotten += [id_ for (id_,) in slice_]
        if len(slice_) < _SLICE:
            break
    return forgotten


def _pauses() -> Iterator[float]:
    yield 0.0
    while True:
        yield _PAUSE_SECONDS
