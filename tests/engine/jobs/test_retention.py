"""What is finished is forgotten in time, in slices; what is unfinished never is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.jobs.archive import Archive, Upload
from engine.jobs.audio_store import GRACE_SECONDS
from engine.jobs.folder import AudioFolder
from engine.jobs.retention import JobRetention, PrunedJobs, prune
from engine.jobs.store import JobStore
from relay.outbox.store import Database
from tests.engine.jobs.conftest import HEARD, MEDIA, Clock, Rows, request

KEPT = JobRetention(results=30, jobs=300, audio=10, uploads=20)


@pytest.fixture
def folder(tmp_path: Path) -> AudioFolder:
    folder = AudioFolder(tmp_path / "audio")
    folder.create()
    return folder


async def done(store: JobStore, folder: AudioFolder, job_id: str, *, keeps_audio: bool = False) -> None:
    await store.accept(replace(request(job_id), keeps_audio=keeps_audio), MEDIA)
    folder.path(job_id).write_bytes(b"sound")
    (job,) = await store.lease(1)
    await store.finish(job, HEARD, None)


async def test_each_thing_is_forgotten_in_its_own_time(
    store: JobStore, database: Database, folder: AudioFolder, clock: Clock, rows: Rows
) -> None:
    async def forget_after(seconds: float) -> PrunedJobs:
        clock.advance(seconds)
        return await prune(database, folder, store.need_audio, KEPT, clock.now)

    await done(store, folder, "job-1", keeps_audio=True)
    assert await forget_after(9) == PrunedJobs()
    assert folder.path("job-1").exists()
    assert await forget_after(1) == PrunedJobs(audio=1)
    assert not folder.path("job-1").exists()
    assert await forget_after(20) == PrunedJobs(results=1)
    assert rows("SELECT id, state FROM outspoken_jobs") == [("job-1", "done")]
    assert await forget_after(270) == PrunedJobs(jobs=1)
    assert rows("SELECT id FROM outspoken_jobs") == []


async def test_uploads_are_forgotten_and_jobs_made_of_them_are_not(
    store: JobStore, database: Database, folder: AudioFolder, clock: Clock
) -> None:
    archive = Archive(database, folder)
    with folder.arriving("up-1") as received:
        received.write_bytes(b"sound")
        await archive.add_upload(
            Upload("up-1", None, "talk.wav", "wav", 5, "ab" * 32, 1.0, 1, created_at=clock.now), received
        )
    await folder.link("up-1", "job-1")
    await store.accept(replace(request("job-1"), upload_id="up-1"), MEDIA)
    clock.advance(20)
    assert await prune(database, folder, store.need_audio, KEPT, clock.now) == PrunedJobs(uploads=1)
    assert await archive.upload("up-1", None) is None
    assert not folder.path("up-1").exists()
    assert folder.path("job-1").read_bytes() == b"sound"
    await archive.close()


async def test_what_is_unfinished_stays_however_old_it_is(
    store: JobStore, database: Database, folder: AudioFolder, clock: Clock, rows: Rows
) -> None:
    for job_id in ("waiting", "running"):
        await store.accept(request(job_id), MEDIA)
        folder.path(job_id).write_bytes(b"sound")
    await store.lease(1)
    clock.advance(10 * GRACE_SECONDS)
    assert await prune(database, folder, store.need_audio, KEPT, clock.now) == PrunedJobs()
    assert len(rows("SELECT 1 FROM outspoken_jobs")) == 2
    assert folder.path("waiting").exists()


async def test_a_long_history_is_forgotten_whole(
    store: JobStore, database: Database, folder: AudioFolder, clock: Clock, rows: Rows
) -> None:
    rows(
        "WITH RECURSIVE n (value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n WHERE value < 170)"
        " INSERT INTO outspoken_jobs (id, request, media, has_audio, created_at, due_at, state, finished_at)"
        " SELECT 'job-' || value, '{}', '{}', 1, 1.0, 1.0, 'done', ? FROM n",
        clock.now,
    )
    rows("INSERT INTO outspoken_results (seq, ended_at, result) SELECT seq, finished_at, '{}' FROM outspoken_jobs")
    clock.advance(300)
    forgotten = await prune(database, folder, store.need_audio, KEPT, clock.now)
    assert (forgotten.results, forgotten.jobs) == (170, 170)


async def test_litter_is_cleared_away(store: JobStore, database: Database, folder: AudioFolder, clock: Clock) -> None:
    folder.path("orphan").write_bytes(b"sound")
    long_after = folder.path("orphan").stat().st_ctime + GRACE_SECONDS + 1
    assert await prune(database, folder, store.need_audio, KEPT, long_after) == PrunedJobs(litter=1)
