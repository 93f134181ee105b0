"""What became of jobs: told to whoever made them and to nobody else, until it is deleted or kept long enough."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.jobs.archive import Archive, JobFilter, Upload
from engine.jobs.folder import AudioFolder
from engine.jobs.intake import Intake
from engine.jobs.store import JobStore
from engine.record import JobState
from engine.request import Request
from engine.result_delivery import delivery_of
from relay.outbox.store import Database
from tests.engine.jobs.conftest import BROKEN, HEARD, MEDIA, UNFETCHED, Clock, Rows, request

MINE, OTHER = "0123456789abcdef", "fedcba9876543210"
EVERYTHING = JobFilter(key_id=None, limit=100)


@pytest.fixture
def folder(tmp_path: Path) -> AudioFolder:
    folder = AudioFolder(tmp_path / "audio")
    folder.create()
    return folder


@pytest.fixture
async def archive(store: JobStore, database: Database, folder: AudioFolder) -> AsyncIterator[Archive]:
    archive = Archive(database, folder)
    yield archive
    await archive.close()


def of(key_id: str, job_id: str = "job-1", **changes: object) -> Request:
    return replace(request(job_id), key_id=key_id, **changes)  # type: ignore[arg-type]


async def done(store: JobStore, asked: Request) -> None:
    await store.accept(asked, MEDIA)
    (job,) = await store.lease(1)
    await store.finish(job, HEARD, delivery_of(asked, MEDIA, HEARD.said) if asked.callback else None)


async def test_a_job_is_told_as_it_goes_on(store: JobStore, archive: Archive, clock: Clock) -> None:
    await store.accept(of(MINE), MEDIA)
    waiting = await archive.find("job-1", MINE)
    assert waiting
    assert (waiting.request, waiting.media, waiting.created_at) == (of(MINE), MEDIA, clock.now)
    assert (waiting.state, waiting.started_at, waiting.result, waiting.delivery) == (JobState.QUEUED, None, None, None)
    clock.advance(1)
    (job,) = await store.lease(1)
    working = await archive.find("job-1", MINE)
    assert working
    assert (working.state, working.started_at) == (JobState.PROCESSING, clock.now)
    clock.advance(1)
    await store.finish(job, HEARD, delivery_of(job.request, MEDIA, HEARD.said))
    ended = await archive.find("job-1", MINE)
    assert ended
    assert (ended.state, ended.finished_at, ended.duration) == (JobState.DONE, clock.now, 1.0)
    assert ended.result == HEARD.said
    assert ended.delivery
    assert (ended.delivery.state, ended.delivery.attempts, ended.delivery.last_status) == ("pending", 0, None)
    assert ended.delivery.next_attempt_at is not None


async def test_a_failure_is_told_too(store: JobStore, archive: Archive) -> None:
    await store.accept(of(MINE), MEDIA)
    (job,) = await store.lease(1)
    await store.finish(job, BROKEN, None)
    record = await archive.find("job-1", MINE)
    assert record
    assert (record.state, record.result, record.duration) == (JobState.FAILED, BROKEN.said, None)


async def test_a_job_without_a_callback_has_no_delivery(store: JobStore, archive: Archive, rows: Rows) -> None:
    await done(store, of(MINE, callback=None))
    record = await archive.find("job-1", MINE)
    assert record
    assert (record.state, record.delivery) == (JobState.DONE, None)
    assert rows("SELECT id FROM outspoken_deliveries") == []


async def test_nobody_sees_anothers_job(store: JobStore, archive: Archive) -> None:
    await done(store, of(MINE))
    assert await archive.find("job-1", OTHER) is None
    assert await archive.list(JobFilter(OTHER)) == []
    assert not await archive.delete("job-1", OTHER)
    assert await archive.find("job-1", MINE)
    assert await archive.find("job-1", None), "where no key is required, everything is seen"


async def test_the_newest_come_first_page_by_page(store: JobStore, archive: Archive, clock: Clock) -> None:
    for number in range(5):
        clock.advance(number % 2)  # some were made in the same moment
        await store.accept(of(MINE, f"job-{number}"), MEDIA)
        await store.accept(of(OTHER, f"other-{number}"), MEDIA)
    seen, behind = list[str](), None
    for expected in (2, 2, 1):
        page = await archive.page(JobFilter(MINE, limit=2, behind=behind))
        assert len(page.records) == expected
        seen += [record.request.id for record in page.records]
        behind = page.next
    assert (seen, behind) == ([f"job-{number}" for number in (4, 3, 2, 1, 0)], None)
    assert [r.request.id for r in await archive.list(JobFilter(MINE, offset=1, limit=2))] == ["job-3", "job-2"]
    assert len(await archive.list(EVERYTHING)) == 10


async def test_a_selection_goes_by_state_dialect_and_time(store: JobStore, archive: Archive, clock: Clock) -> None:
    start = clock.now
    await done(store, of(MINE, "old"))
    clock.advance(10)
    await store.accept(of(MINE, "new"), MEDIA)

    async def ids(selection: JobFilter) -> list[str]:
        return [record.request.id for record in await archive.list(selection)]

    assert await ids(JobFilter(MINE, states=(JobState.QUEUED, JobState.PROCESSING))) == ["new"]
    assert await ids(JobFilter(MINE, states=(JobState.DONE,))) == ["old"]
    assert await ids(JobFilter(MINE, since=start + 10)) == ["new"]
    assert await ids(JobFilter(MINE, before=start + 10)) == ["old"]
    assert await ids(JobFilter(MINE, dialect="gladia")) == []
    assert await ids(JobFilter(MINE, dialect="deepgram")) == ["new", "old"]


async def test_a_selection_goes_by_metadata(store: JobStore, archive: Archive) -> None:
    said = {"custom_metadata": {"user": "ann", "number": 7, "vip": True}}
    await store.accept(of(MINE, "hers", options=said), MEDIA)
    await store.accept(of(MINE, "his", options={"custom_metadata": {"user": "bob"}}), MEDIA)
    await store.accept(of(MINE, "bare"), MEDIA)
    for wanted in ({"user": "ann"}, {"number": "7"}, {"vip": "true", "user": "ann"}):
        assert [r.request.id for r in await archive.list(JobFilter(MINE, metadata=wanted))] == ["hers"]
    assert await archive.list(JobFilter(MINE, metadata={"user": "ann", "number": "8"})) == []


async def test_metadata_with_a_null_character_hide_no_other_job(store: JobStore, archive: Archive) -> None:
    odd = of(MINE, "odd", options={"custom_metadata": {"user": "\0"}}, audio_url="http://127.0.0.1/\0")
    await store.accept(odd, UNFETCHED, has_audio=False)
    await store.accept(of(MINE, "hers", options={"custom_metadata": {"user": "ann"}}), MEDIA)
    assert [r.request.id for r in await archive.list(JobFilter(MINE, metadata={"user": "ann"}))] == ["hers"]
    assert await archive.list(JobFilter(MINE, metadata={"user": "\0"})) == []
    assert len(await archive.list(JobFilter(MINE))) == 2


async def test_results_are_listed_only_when_asked_for(store: JobStore, archive: Archive) -> None:
    await done(store, of(MINE))
    assert [record.result for record in await archive.list(JobFilter(MINE))] == [None]
    assert [record.result for record in await archive.list(JobFilter(MINE), with_results=True)] == [HEARD.said]


@pytest.mark.parametrize(
    ("column", "missed"),
    [
        ("state = 'dead', finished_at = 2.0, reason = 'exhausted'", True),
        ("state = 'leased', lease_token = 't', lease_until = 9.0", True),
        ("state = 'delivered', finished_at = 2.0, attempts = 1", False),
        ("state = 'cancelled', finished_at = 2.0", False),
    ],
)
async def test_what_a_receiver_missed_can_be_listed(
    database: Database, store: JobStore, archive: Archive, rows: Rows, column: str, missed: bool
) -> None:
    await done(store, of(MINE, "pending"))
    await done(store, of(MINE, "other"))
    await done(store, of(MINE, "without", callback=None))
    await store.accept(of(MINE, "unfinished"), MEDIA)
    rows(f"UPDATE outspoken_deliveries SET {column} WHERE id = 'other'")
    listed = [record.request.id for record in await archive.list(JobFilter(MINE, undelivered=True))]
    assert listed == (["other", "pending"] if missed else ["pending"])


async def test_the_attempts_of_a_callback_are_told(store: JobStore, archive: Archive, rows: Rows) -> None:
    await done(store, of(MINE))
    rows("UPDATE outspoken_deliveries SET attempts = 2, due_at = 50.0")
    for number, status in ((1, 500), (2, 503)):
        rows(
            "INSERT INTO outspoken_attempts (seq, number, started_at, lag, duration, outcome, status)"
            " VALUES (1, ?, 9, 0, 1, ?, ?)",
            *(number, "http_5xx", status),
        )
    record = await archive.find("job-1", MINE)
    assert record
    assert record.delivery
    assert (record.delivery.attempts, record.delivery.next_attempt_at) == (2, 50.0)
    assert (record.delivery.last_status, record.delivery.last_error) == (503, "http_5xx")
    assert [(attempt.number, attempt.status) for attempt in await archive.attempts("job-1")] == [(1, 500), (2, 503)]


async def audio_of(archive: Archive, key_id: str) -> bytes | None:
    async with archive.audio("job-1", key_id) as path:
        return path.read_bytes() if path else None


async def test_a_deleted_job_leaves_nothing_behind(
    store: JobStore, archive: Archive, folder: AudioFolder, rows: Rows
) -> None:
    await done(store, of(MINE, keeps_audio=True))
    folder.path("job-1").write_bytes(b"sound")
    assert await audio_of(archive, MINE) == b"sound"
    assert await audio_of(archive, OTHER) is None
    assert await archive.delete("job-1", MINE)
    assert await archive.find("job-1", MINE) is None
    assert await audio_of(archive, MINE) is None
    assert not folder.path("job-1").exists()
    assert rows("SELECT state FROM outspoken_deliveries") == [("cancelled",)]
    assert rows(
        "SELECT (SELECT count(*) FROM outspoken_jobs), (SELECT count(*) FROM outspoken_results), count(*) "
        "FROM outspoken_bodies"
    ) == [(0, 0, 0)]
    assert not await archive.delete("job-1", MINE)


async def test_a_delivery_on_its_way_is_not_called_back(
    database: Database, store: JobStore, archive: Archive, rows: Rows
) -> None:
    await done(store, of(MINE))
    rows("UPDATE outspoken_deliveries SET state = 'leased', lease_token = 't', lease_until = 9.0")
    await archive.delete("job-1", MINE)
    assert rows("SELECT state, (SELECT count(*) FROM outspoken_bodies) FROM outspoken_deliveries") == [("leased", 1)]


async def test_work_on_a_deleted_job_comes_to_nothing(store: JobStore, archive: Archive, rows: Rows) -> None:
    await store.accept(of(MINE), MEDIA)
    (job,) = await store.lease(1)
    await archive.delete("job-1", MINE)
    assert await store.renew([job]) == frozenset()
    assert not await store.finish(job, HEARD, delivery_of(job.request, MEDIA, HEARD.said))
    assert rows("SELECT id FROM outspoken_deliveries") == []
    assert (await store.snapshot()).leased == 0


def upload(key_id: str | None = MINE) -> Upload:
    return Upload("up-1", key_id, "talk.wav", "wav", 5, "ab" * 32, 1.0, 1, 1_700_000_000.0)


async def test_an_upload_is_its_senders_and_outlives_the_job_made_of_it(
    store: JobStore, archive: Archive, folder: AudioFolder
) -> None:
    with folder.arriving("up-1") as received:
        received.write_bytes(b"sound")
        await archive.add_upload(upload(), received)
    assert await archive.upload("up-1", MINE) == upload()
    assert await archive.upload("up-1", OTHER) is None
    await Intake(store, folder, lambda: None).accept(of(MINE, upload_id="up-1"), MEDIA, None)
    (job,) = await store.lease(1)
    assert job.has_audio
    assert folder.path("job-1").read_bytes() == b"sound"
    await folder.remove("job-1")
    assert folder.path("up-1").exists()
    assert await store.need_audio(["up-1", "job-1", "none"]) == {"up-1": True, "job-1": True}


async def test_a_job_of_an_upload_that_was_forgotten_is_not_taken(
    store: JobStore, folder: AudioFolder, rows: Rows
) -> None:
    with pytest.raises(FileNotFoundError):
        await Intake(store, folder, lambda: None).accept(of(MINE, upload_id="up-1"), MEDIA, None)
    assert rows("SELECT id FROM outspoken_jobs") == []


async def test_a_row_that_cannot_be_read_does_not_hide_the_others(
    store: JobStore, archive: Archive, rows: Rows
) -> None:
    for number in range(2):
        await store.accept(of(MINE, f"job-{number}", audio_url="http://127.0.0.1/a"), UNFETCHED)
    rows("UPDATE outspoken_jobs SET request = '{}' WHERE id = 'job-1'")
    assert [record.request.id for record in await archive.list(JobFilter(MINE))] == ["job-0"]
