"""What became of jobs, for whoever made them: found, listed, deleted; and audio sent ahead of the jobs that use it.

A job is visible to the key that made it and to nobody else; `key_id` None is a caller of an engine that asks for no
key, who sees everything.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from engine.jobs.audio_store import AudioStore
from engine.jobs.store import NO_KEY
from engine.record import (
    CallbackStatus,
    JobState,
    Record,
    media_from_json,
    media_to_json,
    request_from_json,
    request_to_json,
    result_from_json,
    result_to_json,
)
from engine.request import Failed
from relay import outbox
from relay.outbox.queries import statement
from relay.outbox.results import PastAttempt, attempts, erase
from relay.outbox.store import Connection, Database

_FIND = statement("find", __package__)
_LIST_OWN = statement("list_own", __package__)
_LIST_ALL = statement("list_all", __package__)
_LOCATE = statement("locate", __package__)
_FORGET_RESULT = statement("forget_result", __package__)
_FORGET_JOB = statement("forget_job", __package__)
_ADD_UPLOAD = statement("add_upload", __package__)
_UPLOAD = statement("upload", __package__)
_ADD_SESSION = statement("add_session", __package__)
_KEEP_RESULT = statement("keep_result", __package__)

_STATES = {"queued": JobState.QUEUED, "leased": JobState.PROCESSING, "done": JobState.DONE, "failed": JobState.FAILED}
_STORED = {state: stored for stored, state in _STATES.items()}
_END_OF_TIME = 1e300

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the list of all jobs; opaque outside of this room."""

    created_at: float
    seq: int


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs. What is None, or empty, lets everything through.

    `since` (inclusive) and `before` (exclusive) are epoch seconds and about when a job was made; `undelivered` means
    that it has ended and its callback was not delivered; `metadata` are values that must stand in the request's
    `options["custom_metadata"]`. A page goes on behind `behind`, the `next` of the page before.
    """

    key_id: str | None
    dialect: str | None = None
    states: tuple[JobState, ...] = ()
    since: float | None = None
    before: float | None = None
    undelivered: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    offset: int = 0
    limit: int = 20
    behind: Position | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """A part of a list, the newest first. `next` is None where nothing follows."""

    records: list[Record]
    next: Position | None


@dataclass(frozen=True, slots=True)
class Upload:
    """Audio that was sent ahead. `size` is in bytes, `duration` in seconds, `created_at` in epoch seconds."""

    id: str
    key_id: str | None
    filename: str
    extension: str
    size: int
    sha256: str
    duration: float
    channels: int
    created_at: float


class Archive:
    """All but `close` raise StoreUnavailable, and change nothing, when the database cannot be used."""

    def __init__(self, database: Database, audio: AudioStore) -> None:
        self._database = database
        self._audio = audio
        self._writer = database.writer()
        self._reader = self._writer.reader()
        # Of its own, and one: what filters pass over may take long, and must not hold up those who store audio.
        self._lists = ThreadPoolExecutor(1, thread_name_prefix="archive-list")

    async def find(self, job_id: str, key_id: str | None) -> Record | None:
        """A job as it stands now; None when there is none, and also when another key made it."""

        def find(connection: Connection) -> Record | None:
            row = connection.execute(_FIND, {"id": job_id, "key_id": key_id}).fetchone()
            return _record(connection, row) if row else None

        return await self._reader.run(find)

    async def attempts(self, job_id: str) -> tuple[PastAttempt, ...]:
        """The attempts at a job's callback, as far as they are kept. Whether to tell them is for `find` to say."""
        return await self._reader.run(lambda connection: attempts(connection, job_id))

    @asynccontextmanager
    async def audio(self, job_id: str, key_id: str | None) -> AsyncIterator[Path | None]:
        """A file with a job's audio, inside of the block; None when it is not here, not kept any more, or not the
        caller's."""
        async with AsyncExitStack() as stack:
            path = None
            if await self._row(_LOCATE, job_id, key_id):
                with suppress(FileNotFoundError):
                    path = await stack.enter_async_context(self._audio.at_hand(job_id))
            yield path

    async def list(self, selection: JobFilter, *, with_results: bool = False) -> list[Record]:
        """The jobs of a selection, the newest first; their results are None unless asked for."""
        return (await self.page(selection, with_results=with_results)).records

    async def page(self, selection: JobFilter, *, with_results: bool = False) -> JobPage:
        """The same, and where it goes on."""
        if any("\0" in part for pair in selection.metadata.items() for part in pair):
            return JobPage([], None)  # what no database compares
        work = partial(self._page, selection, with_results)
        return await asyncio.get_running_loop().run_in_executor(self._lists, work)

    def _page(self, selection: JobFilter, with_results: bool) -> JobPage:
        sql = _LIST_ALL if selection.key_id is None else _LIST_OWN
        with self._database.reading() as connection:
            rows = connection.execute(sql, _filters(selection) | {"with_results": with_results}).fetchall()
            records = list(_readable(connection, rows[: selection.limit]))
        last = rows[selection.limit - 1] if len(rows) > selection.limit else None
        return JobPage(records, Position(last[4], last[0]) if last else None)

    async def delete(self, job_id: str, key_id: str | None) -> bool:
        """Forget a job with its result and its audio; a callback that is pending is cancelled, and work under way is
        abandoned. False when there is none, or another key made it."""

        def forget(connection: Connection) -> bool:
            row = connection.execute(_LOCATE, {"id": job_id, "key_id": key_id}).fetchone()
            if row is None:
                return False
            connection.execute(_FORGET_RESULT, {"seq": row[0]})
            connection.execute(_FORGET_JOB, {"seq": row[0]})
            outbox.cancel(connection, job_id)
            erase(connection, job_id)
            return True

        forgotten = await self._writer.run(forget)
        if forgotten:
            await self._audio.discard(job_id)
        return forgotten

    async def add_session(self, record: Record, audio: Path | None = None) -> None:
        """Keep a live session that has ended: a job that was never queued. Its audio is moved away from `audio`, where
        it is to be kept. Durable on return.

        Raises StorageFull or StoreUnavailable, with nothing kept.
        """
        values = _session(record) | {"audio_kept": audio is not None}

        def add(connection: Connection) -> None:
            (seq,) = connection.execute(_ADD_SESSION, values).fetchone()
            connection.execute(_KEEP_RESULT, values | {"seq": seq})

        if audio is None:
            await self._writer.run(add)
            return
        await self._audio.keep(audio, record.request.id)
        async with self._audio.unkept_without_its_row(record.request.id):
            await self._writer.run(add)

    async def add_upload(self, upload: Upload, received: Path) -> None:
        """Keep the file at `received`, which is moved away. Durable on return.

        Raises StorageFull or StoreUnavailable, with nothing kept.
        """
        await self._audio.keep(received, upload.id)
        values = asdict(upload) | {"key_id": upload.key_id or NO_KEY}
        async with self._audio.unkept_without_its_row(upload.id):
            await self._writer.run(lambda connection: connection.execute(_ADD_UPLOAD, values))

    async def upload(self, upload_id: str, key_id: str | None) -> Upload | None:
        """An upload; None when there is none, when it was forgotten, and also when another key sent it."""
        row = await self._row(_UPLOAD, upload_id, key_id)
        return Upload(row[0], row[1] or None, *row[2:]) if row else None

    async def _row(self, sql: str, id_: str, key_id: str | None) -> Any:
        values = {"id": id_, "key_id": key_id}
        return await self._reader.run(lambda connection: connection.execute(sql, values).fetchone())

    async def close(self) -> None:
        """Wait for the write under way, then close."""
        self._lists.shutdown()
        await self._reader.close()
        await self._writer.close()


def _session(record: Record) -> dict[str, object]:
    request, result = record.request, record.result
    assert result is not None
    return {
        "id": request.id,
        "request": request_to_json(request),
        "media": media_to_json(record.media),
        "created_at": record.created_at,
        "started_at": record.started_at,
        "now": record.finished_at,
        "state": _STORED[record.state],
        "error_code": result.code.value if isinstance(result, Failed) else None,
        "key_id": request.key_id or NO_KEY,
        "dialect": request.dialect,
        "bytes": record.media.size,
        "duration": record.duration,
        "result": result_to_json(result),
    }


def _filters(selection: JobFilter) -> dict[str, object]:
    older = (_END_OF_TIME if selection.before is None else selection.before, -1)
    if selection.behind:
        older = min(older, (selection.behind.created_at, selection.behind.seq))
    return {
        "key_id": selection.key_id,
        "dialect": selection.dialect,
        "states": json.dumps([_STORED[state] for state in selection.states]) if selection.states else None,
        "since": -_END_OF_TIME if selection.since is None else selection.since,
        "older": older[0],
        "older_seq": older[1],
        "undelivered": selection.undelivered,
        "metadata": json.dumps(dict(selection.metadata)) if selection.metadata else None,
        "offset": selection.offset,
        "limit": selection.limit + 1,  # one more than asked for: whether anything follows
    }


def _readable(connection: Connection, rows: Iterable[Sequence[Any]]) -> Iterator[Record]:
    for row in rows:
        try:
            yield _record(connection, row)
        except ValueError:  # written by another version, or by hand: it must not hide the others
            log.exception("job.unreadable", seq=row[0])


def _record(connection: Connection, row: Sequence[Any]) -> Record:
    _, request, media, stored, created_at, started_at, finished_at, duration, result = row
    state, asked = _STATES[stored], request_from_json(request)
    return Record(
        request=asked,
        media=media_from_json(media),
        state=state,
        created_at=created_at,
        started_at=started_at,
        finished_at=finished_at,
        duration=duration,
        result=result_from_json(result, state) if result else None,
        delivery=_delivered(connection, asked.id) if asked.callback and finished_at else None,
    )


def _delivered(connection: Connection, job_id: str) -> CallbackStatus | None:
    stands = outbox.status(connection, job_id)
    if stands is None:
        return None
    pending = stands.finished_at is None
    failed = None if stands.state == "delivered" else stands.reason or stands.last_outcome
    return CallbackStatus(
        stands.state.value, stands.attempts, stands.due_at if pending else None, stands.last_status, failed
    )
