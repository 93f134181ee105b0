"""Several engines on one database: no job twice, no key beyond its bound, no two suspects, and the books agree."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from engine.jobs.store import Job, JobStore
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database
from tests.engine.jobs.conftest import ADD_KEY, HEARD, LEASE_SECONDS, MEDIA, Clock, Rows, key, request
from tests.engine.jobs.test_queue import COUNTED, KEPT
from tests.relay.deliveries import writing

KEYS = tuple(letter * 16 for letter in "abcd")
BOUNDED = KEYS[0]


@pytest.fixture
async def engines(database: Database) -> AsyncIterator[list[JobStore]]:
    engines = [JobStore(database, LEASE_SECONDS) for _ in range(4)]
    yield engines
    for engine in engines:
        await engine.close()


async def accept(engines: list[JobStore], each: int) -> None:
    """So many jobs of each key, by all engines at once."""

    async def some(engine: JobStore, key_id: str) -> None:
        for number in range(each):
            await engine.accept(replace(request(f"{key_id[0]}{number}"), key_id=key_id), MEDIA)

    await asyncio.gather(*map(some, engines, KEYS))


def fair(jobs: list[Job]) -> Counter[str]:
    return Counter(job.request.key_id or "" for job in jobs)


async def test_engines_that_lease_at_once_share_the_jobs(engines: list[JobStore]) -> None:
    await accept(engines, 10)
    taken: list[Job] = []
    while some := [job for jobs in await asyncio.gather(*(engine.lease(3) for engine in engines)) for job in jobs]:
        taken += some
    assert len(taken) == len({job.id for job in taken}) == 40
    assert len({job.token for job in taken}) > 4, "nobody took all"


async def test_a_keys_bound_holds_over_all_engines(engines: list[JobStore], rows: Rows) -> None:
    rows(ADD_KEY, *key(BOUNDED, max_running=2))
    await accept(engines, 8)
    ended, most = Counter[str](), 0
    while some := [job for jobs in await asyncio.gather(*(engine.lease(4) for engine in engines)) for job in jobs]:
        most = max(most, fair(some)[BOUNDED])
        await asyncio.gather(*(engines[n % 4].finish(job, HEARD, None) for n, job in enumerate(some)))
        ended += fair(some)
    assert most == 2
    assert set(ended.values()) == {8}


async def test_only_one_of_them_has_a_suspect(engines: list[JobStore], rows: Rows) -> None:
    await accept(engines, 2)
    rows("UPDATE outspoken_jobs SET lapses = 2")
    for left in range(8, 0, -1):
        leased = [job for jobs in await asyncio.gather(*(engine.lease(5) for engine in engines)) for job in jobs]
        assert len(leased) == 1, f"with {left} suspects left"
        await engines[0].finish(leased[0], HEARD, None)


async def test_the_books_agree_whatever_all_of_them_do_at_once(
    engines: list[JobStore], clock: Clock, rows: Rows
) -> None:
    async def work(engine: JobStore, number: int) -> None:
        for turn in range(6):
            jobs = await engine.lease(5)
            await engine.accept(replace(request(f"{number}-{turn}"), key_id=KEYS[turn % 4]), MEDIA)
            await engine.release(jobs[:2])
            for job in jobs[2:4]:
                await engine.finish(job, HEARD, None)
            clock.advance(LEASE_SECONDS / 3)  # what is not finished lapses, and everybody sweeps

    await accept(engines, 12)
    await asyncio.gather(*map(work, engines, range(4)))
    counted, kept = rows(COUNTED), rows(KEPT)
    assert kept == counted
    assert rows("SELECT count(*) FROM outspoken_jobs") == [(4 * 12 + 4 * 6,)]
    assert rows("SELECT count(*) > 0 FROM outspoken_jobs WHERE state = 'done'") == [(True,)]


# --- what it costs

VALUES: dict[str, object] = {"now": 2e9, "room": 4, "suspects": "[]", "keys": f'["{BOUNDED}"]', "seqs": "[1, 2]"}
VALUES |= {"token": "t", "until": 3e9, "leases": '[[1, "t"]]', "id": "a0", "key_id": BOUNDED, "ids": '["a", "b"]'}
VALUES |= {"before": 0.5, "slice": 10, "limit": 10, "offset": 0, "older": 2e9, "older_seq": 1, "since": 0.0}
VALUES |= dict.fromkeys(("dialect", "states", "metadata"), None) | {"undelivered": False, "with_results": False}


@pytest.mark.parametrize("dialect", [pytest.param("postgres", marks=pytest.mark.needs("postgres"))])
def test_no_statement_of_a_lease_reads_the_history_or_the_whole_backlog(database: Database) -> None:
    writing(database, fill)
    seen = writing(database, lambda connection: {name: rows_read(connection, name) for name in LEASE})
    assert {name: count for name, count in seen.items() if count > 200} == {}


LEASE = (
    *("waiting", "sweep", "suspects", "suspect", "turns", "candidates", "lease", "served", "snapshot", "backlog"),
    *("renew", "release", "find", "list_own", "states", "forget_jobs", "forget_results"),
)


def fill(connection: Connection) -> None:
    for state, ended in (("queued", "NULL"), ("done", "value")):
        connection.execute(
            "INSERT INTO outspoken_jobs (id, request, media, has_audio, created_at, due_at, key_id, bytes, "
            "state, finished_at)"
            f" SELECT '{state}-' || value, '{{}}', '{{}}', 1, value, value, ?, 7, '{state}', {ended}"
            " FROM generate_series(1, 20000) AS value",
            (BOUNDED,),
        )
    connection.execute("ANALYZE outspoken_jobs")


def rows_read(connection: Connection, name: str) -> int:
    """How many rows one execution went through in the widest step of its plan, those that it threw away included."""
    explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement(name, 'engine.jobs').postgres}"
    (plan,) = json.loads(connection.execute(explain, VALUES).fetchone()[0])
    return max(map(width, steps(plan["Plan"])))


def steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from steps(below)


def width(step: dict[str, Any]) -> int:
    return int(step["Actual Loops"] * (step["Actual Rows"] + step.get("Rows Removed by Filter", 0)))
