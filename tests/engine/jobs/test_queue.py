"""Whose turn it is: keys go round robin within their limits, and no query of the queue costs more for a long one."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from engine.jobs.store import JobResult, JobStore
from engine.request import Failed, FailureCode, Media, Request
from relay import outbox
from relay.outbox.queries import statement
from relay.outbox.store import Database
from tests.cases import cases
from tests.engine.jobs.conftest import ADD_KEY, HEARD, LEASE_SECONDS, MEDIA, UNFETCHED, Clock, Rows, key, request

BUSY, QUIET, THIRD = "a" * 16, "b" * 16, "c" * 16


def of(key_id: str | None, number: int) -> Request:
    return replace(request(f"{(key_id or 'none')[0]}{number}"), key_id=key_id)


async def queue(store: JobStore, key_id: str | None, count: int) -> None:
    for number in range(count):
        await store.accept(of(key_id, number), MEDIA)


async def test_one_job_of_a_quiet_key_is_next_behind_a_long_backlog_of_another(store: JobStore) -> None:
    await queue(store, BUSY, 20)
    await queue(store, QUIET, 1)
    taken = [job.id for _ in range(3) for job in await store.lease(1)]
    assert taken == ["a0", "b0", "a1"]


async def test_keys_take_turns_however_many_are_leased_at_once(store: JobStore) -> None:
    for key_id in (BUSY, QUIET, None):
        await queue(store, key_id, 4)
    taken = [sorted(job.id for job in await store.lease(room)) for room in (1, 2, 3, 4)]
    assert [sorted(ids[0] for ids in turn) for turn in taken] == [
        ["n"],
        ["a", "b"],
        ["a", "b", "n"],
        ["a", "b", "n", "n"],
    ]
    assert {job_id for turn in taken for job_id in turn} == {"a0", "a1", "a2", "b0", "b1", "b2", "n0", "n1", "n2", "n3"}


async def test_turns_outlive_the_engine(store: JobStore, database: Database) -> None:
    await queue(store, BUSY, 3)
    await queue(store, QUIET, 3)
    await store.lease(1)
    successor = JobStore(database, LEASE_SECONDS)
    (job,) = await successor.lease(1)
    assert job.id == "b0"
    await successor.close()


async def test_a_key_runs_no_more_than_it_may_and_nobody_waits_for_it(store: JobStore, rows: Rows) -> None:
    rows(ADD_KEY, *key(BUSY, max_running=1))
    await queue(store, BUSY, 3)
    await queue(store, QUIET, 2)
    first = await store.lease(2)
    assert sorted(job.id for job in first) == ["a0", "b0"]
    assert [job.id for job in await store.lease(2)] == ["b1"]
    await store.finish(next(job for job in first if job.id == "a0"), HEARD, None)
    assert [job.id for job in await store.lease(2)] == ["a1"]


async def test_a_job_that_waits_for_its_pause_does_not_cost_its_key_the_turn(store: JobStore) -> None:
    await queue(store, BUSY, 2)
    (job,) = await store.lease(1)
    await store.retry(job, pause=60)
    assert [job.id for job in await store.lease(2)] == ["a1"]


async def test_a_suspect_is_worked_on_alone_among_suspects(store: JobStore, clock: Clock) -> None:
    await queue(store, BUSY, 3)
    for _ in range(2):
        await store.lease(2)
        clock.advance(LEASE_SECONDS)
    first = await store.lease(5)
    assert sorted((job.id, job.lapses) for job in first) == [("a0", 2), ("a2", 0)]
    await store.finish(first[0], HEARD, None)
    assert [job.id for job in await store.lease(5)] == ["a1"]


async def test_a_job_is_found_by_the_beginning_of_its_id_and_taken_from_whoever_has_it(store: JobStore) -> None:
    await queue(store, BUSY, 2)
    assert await store.ids("a", 9) == ["a0", "a1"]
    assert await store.ids("a1", 9) == ["a1"]
    assert await store.ids("%", 9) == []
    (job,) = await store.lease(1)
    taken = await store.take_over(job.id)
    assert taken
    assert not await store.finish(job, HEARD, None)
    assert await store.finish(taken, JobResult(taken.media, Failed(FailureCode.INTERNAL, "enough")), None)
    assert await store.take_over(job.id) is None
    assert (await store.failed(60.0), await store.failed(-60.0)) == (1, 0)


async def test_the_least_suspicious_goes_first(store: JobStore, clock: Clock, rows: Rows) -> None:
    await queue(store, BUSY, 3)
    rows("UPDATE outspoken_jobs SET lapses = 4 - seq + 1")
    taken = []
    for _ in range(3):
        (job,) = await store.lease(5)
        taken.append((job.id, job.lapses))
        await store.finish(job, HEARD, None)
    assert taken == [("a2", 2), ("a1", 3), ("a0", 4)]


COUNTED = (
    "SELECT key_id, count(*) FILTER (WHERE state = 'queued'), count(*) FILTER (WHERE state = 'leased'), sum(bytes)"
    " FROM outspoken_jobs WHERE state IN ('queued', 'leased') GROUP BY key_id ORDER BY key_id"
)
KEPT = "SELECT key_id, queued, leased, bytes FROM outspoken_queues WHERE queued + leased + bytes > 0 ORDER BY key_id"


async def test_the_books_agree_with_the_jobs_whatever_happens_to_them(
    store: JobStore, clock: Clock, rows: Rows
) -> None:
    def agree() -> None:
        counted, kept = rows(COUNTED), rows(KEPT)
        assert kept == counted

    await queue(store, BUSY, 6)
    await store.accept(replace(of(QUIET, 0), audio_url="http://127.0.0.1/a"), UNFETCHED, has_audio=False)
    agree()
    jobs = {job.id: job for job in await store.lease(5)}
    agree()
    assert await store.fetched(jobs["b0"], Media("ab" * 32, 7_000, 1.0))
    agree()
    assert await store.finish(jobs["a0"], HEARD, None)
    assert await store.retry(jobs["a1"], 5)
    await store.release([jobs["a2"]])
    rows("DELETE FROM outspoken_jobs WHERE id IN ('a3', 'a5')")
    agree()
    clock.advance(LEASE_SECONDS)
    await store.lease(1)
    agree()
    snapshot = await store.snapshot()
    assert snapshot.queued + snapshot.leased == 4


# --- what it costs

VALUES: dict[str, object] = {"now": 2e9, "until": 3e9, "token": "t", "room": 4, "keys": f'["{BUSY}"]', "seqs": "[1, 2]"}
VALUES |= {"leases": "[]", "id": "a0", "key_id": BUSY, "before": 2e9, "slice": 10}
LEASE = ("waiting", "sweep", "turns", "candidates", "suspect", "lease", "served", "snapshot", "backlog")


@pytest.fixture
def connection(database_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(outbox.connect(database_path)) as opened:
        opened.execute("PRAGMA synchronous = OFF")
        yield opened


def fill(
    connection: sqlite3.Connection, key_id: str, count: int, fields: str = "state", values: str = "'queued'"
) -> None:
    connection.execute(
        f"WITH RECURSIVE n (value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n WHERE value < {count})"
        f" INSERT INTO outspoken_jobs (id, request, media, has_audio, created_at, due_at, key_id, bytes, {fields})"
        f" SELECT hex(randomblob(16)), '{{}}', '{{}}', 1, value / 10.0, value / 10.0, ?, 10, {values} FROM n",
        (key_id,),
    )


def values_of(sql: str) -> dict[str, object]:
    return {parameter: VALUES.get(parameter) for parameter in re.findall(r":(\w+)", sql)}


def steps(connection: sqlite3.Connection, name: str) -> int:
    """How many instructions of SQLite's virtual machine one execution takes, triggers included."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    sql = statement(name, "engine.jobs")
    connection.execute("SAVEPOINT measured")
    connection.set_progress_handler(count, 1)
    cursor = connection.execute(sql, values_of(sql))
    assert cursor.fetchall() or cursor.rowcount, "a statement that finds nothing measures nothing"
    connection.set_progress_handler(None, 1)
    connection.execute("ROLLBACK TO measured")
    connection.execute("RELEASE measured")
    return taken


def some_work(connection: sqlite3.Connection) -> None:
    fill(connection, BUSY, 40)
    fill(connection, QUIET, 1)
    fill(connection, QUIET, 2, "state, lease_token, lease_until", "'leased', 't', 1.0")
    fill(connection, BUSY, 3, "state, lapses", "'queued', 2")


def test_a_lease_costs_the_same_however_long_the_backlog_and_the_history_are(connection: sqlite3.Connection) -> None:
    some_work(connection)
    before = {name: steps(connection, name) for name in LEASE}
    fill(connection, BUSY, 20_000)
    fill(connection, BUSY, 5_000, "state, finished_at", "'done', 1.0")
    fill(connection, THIRD, 5_000, "state, finished_at, error_code", "'failed', 1.0, 'audio'")
    after = {name: steps(connection, name) for name in LEASE}
    assert {name: took for name, took in after.items() if took > before[name] + 10} == {}


@cases("name", ["waiting", "sweep", "turns", "candidates", "suspect", "lease", "renew", "release"])
def test_no_query_of_the_live_queue_reads_finished_jobs(connection: sqlite3.Connection, name: str) -> None:
    sql = statement(name, "engine.jobs")
    plan = [step[3] for step in connection.execute("EXPLAIN QUERY PLAN " + sql, values_of(sql))]
    assert not [step for step in plan if step.startswith("SCAN outspoken_jobs") and "INDEX" not in step]


@cases("name", ["delivery_status", "attempts", "cancel", "go_on", "erase", "added_before"])
def test_asking_after_a_delivery_reads_one_row(connection: sqlite3.Connection, name: str) -> None:
    sql = statement(name, "relay.outbox")
    plan = [step[3] for step in connection.execute("EXPLAIN QUERY PLAN " + sql, values_of(sql))]
    assert not [step for step in plan if step.startswith("SCAN")]


@cases("name", ["find", "list_own"])
def test_asking_for_ones_own_jobs_costs_the_same_however_many_others_made(
    connection: sqlite3.Connection, name: str
) -> None:
    sql = statement(name, "engine.jobs")
    plan = " ".join(step[3] for step in connection.execute("EXPLAIN QUERY PLAN " + sql, values_of(sql)))
    assert "SCAN outspoken_jobs" not in plan
    assert "TEMP B-TREE" not in plan
