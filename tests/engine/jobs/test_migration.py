"""A database of the first release is brought up to date with what waits in it."""

from __future__ import annotations

from pathlib import Path

from engine.jobs.archive import Archive, JobFilter
from engine.jobs.folder import AudioFolder
from engine.jobs.store import JOBS, Backlog, JobStore, migrate
from engine.record import JobState, media_to_json, request_to_json
from relay import outbox
from relay.outbox.sqlite.database import SqliteDatabase
from tests.engine.jobs.conftest import HEARD, MEDIA, request
from tests.relay.outbox.old import before_the_schema, make_sqlite

KEY = "a" * 16
JOB = (
    "INSERT INTO jobs (id, request, media, has_audio, created_at, due_at, state, finished_at) VALUES (?,?,?,1,1,1,?,?)"
)


async def test_jobs_of_the_first_release_are_counted_told_and_worked_on(tmp_path: Path) -> None:
    path = tmp_path / "outspoken.db"
    (first, *_) = JOBS.migrations("sqlite")
    make_sqlite(path, before_the_schema(outbox.OUTBOX, "sqlite"), (first,))
    database = SqliteDatabase(path)
    asked = request_to_json(request()).replace('"key_id":null', f'"key_id":"{KEY}"')
    with database.writing() as connection:
        for name, state in (("waiting-1", "queued"), ("waiting-2", "queued"), ("ended", "done")):
            known = asked.replace('"job-1"', f'"{name}"')
            ended_at = 2.0 if state == "done" else None
            connection.execute(JOB, (name, known, media_to_json(MEDIA), state, ended_at))
    migrate(database)
    store, archive = JobStore(database, 60.0), Archive(database, AudioFolder(tmp_path))
    assert await store.backlog(KEY) == Backlog(jobs=2, bytes=2000, key_jobs=2, key_bound=None)
    (job,) = await store.lease(1)
    await store.finish(job, HEARD, None)
    told = {record.request.id: record.state for record in await archive.list(JobFilter(KEY))}
    assert told == {"waiting-1": JobState.DONE, "waiting-2": JobState.QUEUED, "ended": JobState.DONE}
    record = await archive.find("ended", KEY)
    assert record
    assert record.result is None, "its result was not kept then"
    await archive.close()
    await store.close()
