"""The durable queue: what was accepted is worked on until it ends, and ends once."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing, suppress
from pathlib import Path

import pytest

from engine.jobs.store import JobStore
from relay import outbox
from relay.outbox.errors import DuplicateDelivery, StoreUnavailable
from relay.outbox.model import NewDelivery
from relay.outbox.store import Database
from tests.engine.jobs.conftest import (
    BROKEN,
    HEARD,
    IN_A_FILE,
    LEASE_SECONDS,
    MEDIA,
    REFUSED,
    UNFETCHED,
    Clock,
    Rows,
    SmallDisk,
    delivery,
    request,
)
from tests.relay.deliveries import writing


async def test_what_was_accepted_is_leased_whole(store: JobStore) -> None:
    await store.accept(request(), MEDIA)
    (job,) = await store.lease(5)
    assert (job.request, job.media, job.crashes, job.id) == (request(), MEDIA, 0, "job-1")


async def test_jobs_are_leased_in_the_order_they_came_and_never_twice(store: JobStore) -> None:
    for number in range(3):
        await store.accept(request(f"job-{number}"), MEDIA)
    first = await store.lease(2)
    second = await store.lease(2)
    assert [job.id for job in first + second] == ["job-0", "job-1", "job-2"]
    assert await store.lease(2) == ()


async def test_without_room_nothing_is_leased(store: JobStore) -> None:
    await store.accept(request(), MEDIA)
    assert await store.lease(0) == ()


async def test_a_lapsed_lease_gives_the_job_to_another_engine_without_counting_a_crash(
    store: JobStore, database: Database, clock: Clock
) -> None:
    await store.accept(request(), MEDIA)
    await store.lease(1)
    other = JobStore(database, LEASE_SECONDS)
    clock.advance(LEASE_SECONDS - 1)
    assert await other.lease(1) == ()
    clock.advance(1)
    (job,) = await other.lease(1)
    assert (job.id, job.crashes) == ("job-1", 0)
    await other.close()


async def test_a_renewed_lease_does_not_lapse(store: JobStore, clock: Clock) -> None:
    await store.accept(request(), MEDIA)
    jobs = await store.lease(1)
    clock.advance(LEASE_SECONDS - 1)
    await store.renew(jobs)
    clock.advance(LEASE_SECONDS - 1)
    assert await store.lease(1) == ()


async def test_a_stale_lease_changes_nothing(store: JobStore, clock: Clock, rows: Rows) -> None:
    await store.accept(request(), MEDIA)
    (stale,) = await store.lease(1)
    clock.advance(LEASE_SECONDS)
    (held,) = await store.lease(1)
    before = rows("SELECT * FROM outspoken_jobs")
    assert not await store.finish(stale, HEARD, delivery())
    assert not await store.retry(stale, 0)
    assert not await store.fetched(stale, MEDIA)
    await store.release([stale])
    clock.advance(1)
    await store.renew([stale])
    assert rows("SELECT * FROM outspoken_jobs") == before
    assert rows("SELECT id FROM outspoken_deliveries") == []
    assert await store.finish(held, HEARD, delivery())


async def test_finishing_ends_the_job_adds_the_delivery_and_rings(
    store: JobStore, database: Database, rows: Rows
) -> None:
    heard = asyncio.Event()
    notifier = database.listener(heard)
    await notifier.open()
    await store.accept(request(), MEDIA)
    (job,) = await store.lease(1)
    assert await store.finish(job, HEARD, delivery())
    await asyncio.wait_for(heard.wait(), 60)
    await notifier.close()
    assert rows("SELECT state, error_code, crashes FROM outspoken_jobs") == [("done", None, 0)]
    assert rows("SELECT id FROM outspoken_deliveries") == [("job-1",)]
    assert not await store.finish(job, HEARD, delivery("again"))


async def test_a_failed_job_keeps_its_code_and_its_last_crash(store: JobStore, rows: Rows) -> None:
    await store.accept(request(), MEDIA)
    (job,) = await store.lease(1)
    assert await store.finish(job, BROKEN, delivery(), crashed=True)
    assert rows("SELECT state, error_code, crashes FROM outspoken_jobs") == [("failed", "internal", 1)]


async def test_a_job_is_not_finished_when_its_delivery_cannot_be_added(
    store: JobStore, rows: Rows, database: Database
) -> None:
    writing(database, lambda connection: outbox.add(connection, delivery("job-1")))
    await store.accept(request(), MEDIA)
    (job,) = await store.lease(1)
    with pytest.raises(DuplicateDelivery):
        await store.finish(job, HEARD, delivery("job-1"))
    assert rows("SELECT state FROM outspoken_jobs") == [("leased",)]
    assert await store.finish(job, HEARD, delivery("job-1b")), "the lease still stands"


@IN_A_FILE
async def test_on_a_full_disk_neither_the_end_nor_the_delivery_is_kept_and_the_lease_stands(
    disk: SmallDisk, store_on_disk: JobStore, rows: Rows
) -> None:
    store = store_on_disk
    await store.accept(request(), MEDIA)
    (job,) = await store.lease(1)
    await disk.fill()
    big = a_delivery_of(1_000_000)
    with pytest.raises(StoreUnavailable, match="full"):
        await store.finish(job, HEARD, big)
    assert rows("SELECT state FROM outspoken_jobs") == [("leased",)]
    assert rows("SELECT count(*) FROM outspoken_deliveries") == [(0,)]
    await disk.free()
    assert await store.finish(job, HEARD, big)


def a_delivery_of(size: int) -> NewDelivery:
    return NewDelivery("job-1", "http://127.0.0.1:8080/hook", b"x" * size)


async def test_a_crash_is_counted_and_the_job_waits_for_its_pause(store: JobStore, clock: Clock) -> None:
    await store.accept(request(), MEDIA)
    (job,) = await store.lease(1)
    assert await store.retry(job, pause=5)
    assert await store.lease(1) == ()
    clock.advance(5)
    (again,) = await store.lease(1)
    assert again.crashes == 1


async def test_released_jobs_are_due_at_once_and_uncounted(store: JobStore) -> None:
    await store.accept(request(), MEDIA)
    jobs = await store.lease(1)
    await store.release(jobs)
    (again,) = await store.lease(1)
    assert (again.id, again.crashes) == ("job-1", 0)


async def test_audio_behind_a_url_is_remembered_once_fetched(store: JobStore, clock: Clock) -> None:
    await store.accept(request(audio_url="http://127.0.0.1:8080/a.wav"), UNFETCHED, has_audio=False)
    (job,) = await store.lease(1)
    assert not job.has_audio
    assert await store.fetched(job, MEDIA)
    clock.advance(LEASE_SECONDS)
    (again,) = await store.lease(1)
    assert (again.media, again.has_audio) == (MEDIA, True)


async def test_an_id_is_accepted_once(store: JobStore, rows: Rows) -> None:
    await store.accept(request(), MEDIA)
    with pytest.raises(REFUSED):
        await store.accept(request(), MEDIA)
    assert rows("SELECT count(*) FROM outspoken_jobs") == [(1,)]


async def test_a_job_that_cannot_be_read_does_not_hold_up_the_others(store: JobStore, rows: Rows) -> None:
    for number in range(3):
        await store.accept(request(f"job-{number}"), MEDIA)
    rows("UPDATE outspoken_jobs SET request = '{}' WHERE id = 'job-1'")
    assert [job.id for job in await store.lease(5)] == ["job-0", "job-2"]


async def test_the_gauges_count_unfinished_jobs_only(store: JobStore, clock: Clock) -> None:
    for number in range(3):
        await store.accept(request(f"job-{number}"), MEDIA)
    (done, _) = await store.lease(2)
    await store.finish(done, HEARD, delivery())
    clock.advance(7)
    snapshot = await store.snapshot()
    assert (snapshot.queued, snapshot.leased, snapshot.oldest_due_age) == (1, 1, 7.0)


@IN_A_FILE
async def test_a_locked_database_is_waited_for(store: JobStore, database_path: Path, rows: Rows) -> None:
    with closing(outbox.connect(database_path)) as other:
        other.execute("BEGIN IMMEDIATE")
        accepting = asyncio.create_task(store.accept(request(), MEDIA))
        done, _ = await asyncio.wait([accepting], timeout=0.05)
        assert not done
        other.execute("COMMIT")
        await accepting
    assert rows("SELECT id FROM outspoken_jobs") == [("job-1",)]


JOB = {
    "id": "job-1",
    "request": json.dumps({"audio_url": None}),
    "media": json.dumps({}),
    "has_audio": 1,
    "created_at": 1.0,
    "due_at": 1.0,
    "state": "queued",
    "lease_token": None,
    "lease_until": None,
    "finished_at": None,
    "error_code": None,
}


class Undone(Exception):
    """What was tried is undone."""


def try_to_insert(database: Database, **changes: object) -> None:
    row = JOB | changes
    names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
    with suppress(Undone), database.writing() as connection:
        connection.execute(f"INSERT INTO outspoken_jobs ({names}) VALUES ({marks})", row)
        raise Undone


@pytest.mark.parametrize(
    "impossible",
    [
        {"id": "../escape"},
        {"id": ""},
        {"state": "lost"},
        {"state": "leased"},
        {"state": "leased", "lease_token": "t"},
        {"lease_token": "t", "lease_until": 2.0},
        {"state": "done"},
        {"finished_at": 2.0},
        {"state": "failed", "finished_at": 2.0},
        {"error_code": "internal"},
        {"media": None},
        {"has_audio": 0},
        {"has_audio": 0, "request": json.dumps({"audio_url": "u"}), "state": "done", "finished_at": 2.0},
    ],
    ids=str,
)
def test_the_database_refuses_impossible_jobs(database: Database, impossible: dict[str, object]) -> None:
    try_to_insert(database)
    with pytest.raises(REFUSED):
        try_to_insert(database, **impossible)
