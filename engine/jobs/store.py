"""The durable queue: accept, lease, renew, finish. `finish` is one transaction: the job ends, its delivery is added.

A lease is a token and an expiry. Work whose lease lapsed is given to whoever asks next, and the token of the one who
held it before changes nothing any more.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from operator import itemgetter
from typing import Any

import structlog

from engine.record import media_from_json, media_to_json, request_from_json, request_to_json, result_to_json
from engine.request import Failed, Media, Request
from engine.transcript import Transcript
from relay import outbox
from relay.outbox.model import NewDelivery
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database

_ACCEPT = statement("accept", __package__)
_NAME_UPLOAD = statement("name_upload", __package__)
_WAITING = statement("waiting", __package__)
_SWEEP = statement("sweep", __package__)
_SUSPECTS = statement("suspects", __package__)
_SUSPECT = statement("suspect", __package__)
_TURNS = statement("turns", __package__)
_CANDIDATES = statement("candidates", __package__)
_LEASE = statement("lease", __package__)
_SERVED = statement("served", __package__)
_RENEW = statement("renew", __package__)
_FETCHED = statement("fetched", __package__)
_FINISH = statement("finish", __package__)
_KEEP_RESULT = statement("keep_result", __package__)
_RETRY = statement("retry", __package__)
_RELEASE = statement("release", __package__)
_SNAPSHOT = statement("snapshot", __package__)
_STATES = statement("states", __package__)
_BACKLOG = statement("backlog", __package__)
_TAKE_OVER = statement("take_over", __package__)
_IDS = statement("ids", __package__)
_FAILED = statement("failed", __package__)

JOBS = outbox.MigrationSet("engine.jobs", "jobs")
MIGRATION_SETS = (outbox.OUTBOX, JOBS)
"""The engine's own tables, which stand in the outbox's database."""

NO_KEY = ""
"""Whose jobs are those that came without a key, where none was asked for."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Job:
    """A leased job. Without `has_audio` its audio is still to be fetched; `crashes` counts recognisers that ended over
    it, `lapses` whole engines."""

    seq: int
    token: str
    request: Request
    media: Media
    has_audio: bool
    crashes: int
    lapses: int
    created_at: float

    @property
    def id(self) -> str:
        """The request's id, which is the job's and the delivery's too."""
        return self.request.id


@dataclass(frozen=True, slots=True)
class JobResult:
    """What the work on a job came to, and what is known of its audio by now."""

    media: Media
    said: Transcript | Failed


@dataclass(frozen=True, slots=True)
class JobsSnapshot:
    """The gauges at one moment: unfinished jobs, the bytes of their audio, and the age of the oldest that is due, in
    seconds, 0 when nothing is."""

    queued: int
    leased: int
    bytes: int
    oldest_due_age: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits: jobs in all, bytes of audio of unfinished jobs, jobs of one key, and that key's own bound, if any."""

    jobs: int
    bytes: int
    key_jobs: int
    key_bound: int | None


class JobStore:
    """One engine's view of the queue. All but `close` raise StoreUnavailable, and change nothing, when they cannot."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._clock = database.now
        self._writer = database.writer()
        self._reader = self._writer.reader()
        self._notifier = database.notifier()
        self._holder = secrets.token_hex(8)
        self._leases = 0

    async def accept(self, request: Request, media: Media, *, has_audio: bool = True) -> None:
        """Keep a request whose audio is on the disk, or else still behind its `audio_url`. Durable on return."""
        values = {
            "id": request.id,
            "request": request_to_json(request),
            "media": media_to_json(media),
            "has_audio": has_audio,
            "now": self._clock(),
            "key_id": request.key_id or NO_KEY,
            "dialect": request.dialect,
            "bytes": media.size,
            "audio_kept": request.keeps_audio,
        }

        def accept(connection: Connection) -> None:
            if request.upload_id is not None:
                connection.execute(_NAME_UPLOAD, {"id": request.upload_id})
            connection.execute(_ACCEPT, values)

        await self._writer.run(accept)

    async def lease(self, room: int, running: Collection[Job] = ()) -> tuple[Job, ...]:
        """At most `room` due jobs, of the keys in turn and of each the oldest; those of engines that went quiet among
        them, but none of those that are `running` here, whatever the clock says of their leases."""
        now = self._clock()
        if room < 1 or not await self._anything(now, running):
            return ()
        self._leases += 1
        token = f"{self._holder}.{self._leases}"
        values = {"token": token, "until": now + self._lease_seconds, "now": now}

        def lease(connection: Connection) -> list[Any]:
            seqs = json.dumps(_choose(connection, room, now))
            return connection.execute(_LEASE, values | {"seqs": seqs}).fetchall()

        return tuple(_readable(await self._writer.run(lease), token))

    async def _anything(self, now: float, running: Collection[Job]) -> bool:
        """Whether a lease would find anything, once the leases of engines that went quiet are swept."""
        waiting, lapsed = (await self._read(_WAITING, {"now": now}))[0]
        if lapsed:
            await self._sweep(now, running)
        return bool(waiting or lapsed)

    async def _sweep(self, now: float, running: Collection[Job]) -> None:
        """A transaction of its own: it holds jobs, and then their keys; a lease does so the other way round. What runs
        here is renewed before: a clock that was set forward makes it look like that of an engine that went quiet."""
        held = {"leases": _leases(running), "until": now + self._lease_seconds}

        def sweep(connection: Connection) -> None:
            connection.execute(_RENEW, held).fetchall()
            connection.execute(_SWEEP, {"now": now})

        await self._writer.run(sweep)

    async def _read(self, sql: str, values: Mapping[str, object]) -> list[Any]:
        return await self._reader.run(lambda connection: connection.execute(sql, values).fetchall())

    async def renew(self, jobs: Iterable[Job]) -> frozenset[int]:
        """Push the expiry of running jobs out by a whole lease. Returns the seqs of those that are still held: the
        others were deleted, or taken over."""
        values = {"leases": _leases(jobs), "until": self._clock() + self._lease_seconds}
        held = await self._writer.run(lambda connection: connection.execute(_RENEW, values).fetchall())
        return frozenset(seq for (seq,) in held)

    async def fetched(self, job: Job, media: Media) -> bool:
        """The audio behind the job's URL is durable in the folder now. False when the lease is stale."""
        values = {"seq": job.seq, "token": job.token, "media": media_to_json(media), "bytes": media.size}
        return await self._changes(_FETCHED, values)

    async def finish(self, job: Job, result: JobResult, delivery: NewDelivery | None, *, crashed: bool = False) -> bool:
        """End the job, keep its result and add its delivery, if it has one: all or nothing. False, and nothing changed,
        when the lease is stale.

        `crashed` counts the recogniser's death that made the result a failure.
        """
        values = _ending(job, result) | {"crashed": crashed, "now": self._clock()}

        def finish(connection: Connection) -> bool:
            stood = connection.execute(_FINISH, values).rowcount == 1
            if stood:
                connection.execute(_KEEP_RESULT, values)
            if stood and delivery:
                outbox.add(connection, delivery)
            return stood

        stood = await self._writer.run(finish)
        if stood and delivery:
            self._notifier.notify()
        return stood

    async def take_over(self, job_id: str) -> Job | None:
        """Lease this very job, whoever works on it: that one finds its lease lost. None where it is finished."""
        self._leases += 1
        token = f"{self._holder}.{self._leases}"
        now = self._clock()
        values = {"id": job_id, "token": token, "until": now + self._lease_seconds, "now": now}
        rows = await self._writer.run(lambda connection: connection.execute(_TAKE_OVER, values).fetchall())
        return _job(rows[0], token) if rows else None

    async def ids(self, beginning: str, limit: int) -> list[str]:
        """Some of the ids that begin so, in order."""
        return [id_ for (id_,) in await self._read(_IDS, {"beginning": beginning, "limit": limit})]

    async def failed(self, seconds: float) -> int:
        """How many jobs failed in the last `seconds`."""
        return int((await self._read(_FAILED, {"since": self._clock() - seconds}))[0][0])

    async def retry(self, job: Job, pause: float) -> bool:
        """Count a crash and queue the job again, due in `pause` seconds. False when the lease is stale."""
        values = {"seq": job.seq, "token": job.token, "due_at": self._clock() + pause}
        return await self._changes(_RETRY, values)

    async def release(self, jobs: Iterable[Job]) -> None:
        """Give unfinished jobs back as they were."""
        values = {"leases": _leases(jobs)}
        await self._writer.run(lambda connection: connection.execute(_RELEASE, values))

    async def _changes(self, sql: str, values: Mapping[str, object]) -> bool:
        """Whether a statement changed its one row."""
        return await self._writer.run(lambda connection: connection.execute(sql, values).rowcount) == 1

    async def need_audio(self, ids: Sequence[str]) -> Mapping[str, bool]:
        """Of these ids, those that are jobs or uploads, and whether each still needs its audio."""
        rows = await self._read(_STATES, {"ids": json.dumps(list(ids))})
        return {job_id: bool(needed) for job_id, needed in rows}

    async def snapshot(self) -> JobsSnapshot:
        """The gauges. Cheap, but it reads: not for the scrape path."""
        now = self._clock()
        queued, leased, size, due_at = (await self._read(_SNAPSHOT, {}))[0]
        return JobsSnapshot(queued, leased, size, max(0.0, now - due_at) if due_at is not None else 0.0)

    async def backlog(self, key_id: str) -> Backlog:
        """What a bound goes by. It costs a seek and a row a key, however long the queue is."""
        return Backlog(*(await self._read(_BACKLOG, {"key_id": key_id}))[0])

    async def close(self) -> None:
        """Wait for the write under way, then close."""
        await self._reader.close()  # first: SQLite folds its log into the database when the last writer leaves
        await self._writer.close()
        self._notifier.close()


def migrate(database: Database) -> None:
    """Make the database, or bring it up to date: the outbox's tables and the engine's own. Blocks. Raises SchemaError
    and StoreUnavailable."""
    database.migrate(MIGRATION_SETS)


def _readable(rows: Iterable[Sequence[Any]], token: str) -> Iterator[Job]:
    for row in sorted(rows, key=itemgetter(0)):
        try:
            yield _job(row, token)
        except ValueError:  # written by another version, or by hand: it must not hold up the others
            log.exception("job.unreadable", seq=row[0])


def _job(row: Sequence[Any], token: str) -> Job:
    seq, request, media, has_audio, *counts_and_age = row
    return Job(seq, token, request_from_json(request), media_from_json(media), bool(has_audio), *counts_and_age)


def _choose(connection: Connection, room: int, now: float) -> list[int]:
    """The seqs to lease. Keys go round robin, so that a backlog waits for itself; a suspect goes alone."""
    suspects = _suspects(connection, now)
    room -= len(suspects)
    values: dict[str, object] = {"now": now, "room": room, "suspects": json.dumps(suspects)}
    quotas: dict[str, int | None] = dict(connection.execute(_TURNS, values).fetchall())
    if not quotas:
        return suspects
    values["keys"] = json.dumps(list(quotas))
    queues: dict[str, list[int]] = {key_id: [] for key_id in quotas}
    for key_id, seq in connection.execute(_CANDIDATES, values):
        queues[key_id].append(seq)
    connection.execute(_SERVED, values)
    rounds = zip_longest(*(queues[key_id][:quota] for key_id, quota in quotas.items()))
    return suspects + [seq for turns in rounds for seq in turns if seq is not None][:room]


def _suspects(connection: Connection, now: float) -> list[int]:
    """One, or none."""
    if connection.execute(_SUSPECTS, {"now": now}).fetchone() is None:
        return []
    return [seq for (seq,) in connection.execute(_SUSPECT, {"now": now})]


def _ending(job: Job, result: JobResult) -> dict[str, object]:
    """A job's end as its row and its result are told of it."""
    return {
        "seq": job.seq,
        "token": job.token,
        "error_code": result.said.code.value if isinstance(result.said, Failed) else None,
        "media": media_to_json(result.media),
        "bytes": result.media.size,
        "has_audio": bool(result.media.sha256),
        "duration": None if isinstance(result.said, Failed) else result.said.duration,
        "result": result_to_json(result.said),
    }


def _leases(jobs: Iterable[Job]) -> str:
    return json.dumps([(job.seq, job.token) for job in jobs])
