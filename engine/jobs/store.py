"""The durable queue: accept, lease, renew, finish. `finish` is one transaction: the job ends, its delivery is added.

A lease is a token and an expiry. Work whose lease lapsed is given to whoever asks next, and the token of the one who
held it before changes nothing any more.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from engine.request import (
    FailureCode,
    Media,
    Request,
    media_from_json,
    media_to_json,
    request_from_json,
    request_to_json,
)
from relay import outbox
from relay.model import NewDelivery
from relay.outbox.database import connect_read_only
from relay.outbox.queries import statement
from relay.outbox.writer import Writer, store_errors

_ACCEPT = statement("accept", __package__)
_WAITING = statement("waiting", __package__)
_SWEEP = statement("sweep", __package__)
_LEASE = statement("lease", __package__)
_RENEW = statement("renew", __package__)
_FETCHED = statement("fetched", __package__)
_FINISH = statement("finish", __package__)
_RETRY = statement("retry", __package__)
_RELEASE = statement("release", __package__)
_SNAPSHOT = statement("snapshot", __package__)
_STATES = statement("states", __package__)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Job:
    """A leased job. Without `has_audio` its audio is still to be fetched; `crashes` counts recognisers it ended."""

    seq: int
    token: str
    request: Request
    media: Media
    has_audio: bool
    crashes: int
    created_at: float

    @property
    def id(self) -> str:
        """The request's id, which is the job's and the delivery's too."""
        return self.request.id


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The gauges at one moment; the age, in seconds, is 0 when nothing is due."""

    queued: int
    leased: int
    oldest_due_age: float


class JobStore:
    """One engine's view of the queue. All but `close` raise StoreUnavailable, and change nothing, when they cannot."""

    def __init__(self, path: Path, lease_seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._writer = Writer(path)
        self._reader = connect_read_only(path)
        self._bell = outbox.Bell(path)
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
        }
        async with self._writer.transaction() as connection:
            connection.execute(_ACCEPT, values)

    async def lease(self, room: int) -> tuple[Job, ...]:
        """At most `room` due jobs, oldest first; those of engines that went quiet among them."""
        now = self._clock()
        if room < 1 or not self._anything(now):
            return ()
        self._leases += 1
        token = f"{self._holder}.{self._leases}"
        values = {"token": token, "until": now + self._lease_seconds, "room": room, "now": now}
        async with self._writer.transaction() as connection:
            connection.execute(_SWEEP, {"now": now})
            rows = connection.execute(_LEASE, values).fetchall()
        return tuple(_readable(rows, token))

    def _anything(self, now: float) -> bool:
        return bool(self._read(_WAITING, {"now": now})[0][0])

    def _read(self, sql: str, values: Mapping[str, object]) -> list[Any]:
        with store_errors():
            return self._reader.execute(sql, values).fetchall()

    async def renew(self, jobs: Iterable[Job]) -> None:
        """Push the expiry of running jobs out by a whole lease."""
        values = {"leases": _leases(jobs), "until": self._clock() + self._lease_seconds}
        async with self._writer.transaction() as connection:
            connection.execute(_RENEW, values)

    async def fetched(self, job: Job, media: Media) -> bool:
        """The audio behind the job's URL is durable in the folder now. False when the lease is stale."""
        values = {"seq": job.seq, "token": job.token, "media": media_to_json(media)}
        async with self._writer.transaction() as connection:
            return connection.execute(_FETCHED, values).rowcount == 1

    async def finish(
        self, job: Job, delivery: NewDelivery, error: FailureCode | None = None, *, crashed: bool = False
    ) -> bool:
        """End the job and add its delivery, both or neither. False, and nothing changed, when the lease is stale.

        `error` marks the job as failed, `crashed` counts the recogniser's death that made it so.
        """
        values = {
            "seq": job.seq,
            "token": job.token,
            "error_code": error and error.value,
            "crashed": int(crashed),
            "now": self._clock(),
        }
        async with self._writer.transaction() as connection:
            stood = connection.execute(_FINISH, values).rowcount == 1
            if stood:
                outbox.add(connection, delivery)
        if stood:
            self._bell.ring()
        return stood

    async def retry(self, job: Job, pause: float) -> bool:
        """Count a crash and queue the job again, due in `pause` seconds. False when the lease is stale."""
        values = {"seq": job.seq, "token": job.token, "due_at": self._clock() + pause}
        async with self._writer.transaction() as connection:
            return connection.execute(_RETRY, values).rowcount == 1

    async def release(self, jobs: Iterable[Job]) -> None:
        """Give unfinished jobs back as they were."""
        async with self._writer.transaction() as connection:
            connection.execute(_RELEASE, {"leases": _leases(jobs)})

    async def need_audio(self, ids: Sequence[str]) -> Mapping[str, bool]:
        """Of these ids, those that are jobs, and whether each is unfinished."""
        rows = self._read(_STATES, {"ids": json.dumps(list(ids))})
        return {job_id: bool(unfinished) for job_id, unfinished in rows}

    def snapshot(self) -> Snapshot:
        """The gauges. Cheap, but it reads: not for the scrape path."""
        now = self._clock()
        queued, leased, due_at = self._read(_SNAPSHOT, {})[0]
        return Snapshot(queued, leased, max(0.0, now - due_at) if due_at is not None else 0.0)

    async def close(self) -> None:
        """Wait for the write under way, then close."""
        self._reader.close()  # first: SQLite folds its log into the database when the last writer leaves
        await self._writer.close()
        self._bell.close()


def migrate(path: Path) -> None:
    """Make the database, or bring it up to date: the outbox's tables and the engine's own. Raises SchemaError."""
    outbox.migrate(path, [outbox.outbox_migrations(), outbox.migrations_of("engine.jobs", "jobs")])


def _readable(rows: Iterable[tuple[Any, ...]], token: str) -> Iterator[Job]:
    for row in sorted(rows):
        try:
            yield _job(row, token)
        except ValueError:  # written by another version, or by hand: it must not hold up the others
            log.exception("job.unreadable", seq=row[0])


def _job(row: Sequence[Any], token: str) -> Job:
    seq, request, media, has_audio, crashes, created_at = row
    return Job(seq, token, request_from_json(request), media_from_json(media), bool(has_audio), crashes, created_at)


def _leases(jobs: Iterable[Job]) -> str:
    return json.dumps([(job.seq, job.token) for job in jobs])
