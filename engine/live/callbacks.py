"""Where the messages of live sessions leave for their callbacks: the outbox, in groups.

While one group is being committed the next one gathers, so that a hundred sessions cost little more than one, and an
idle database commits at once. What the relay finds out about a stream is asked for all of them together.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import structlog

from relay import outbox
from relay.outbox.errors import DuplicateDelivery, InvalidDelivery, StoreUnavailable, StreamEnded, StreamKilled
from relay.outbox.model import Kind, NewDelivery, OnDead, Stream, StreamState, StreamStatus
from relay.outbox.store import BUSY_SECONDS, Connection, Database
from relay.service.loop import Loop

_WATCH_SECONDS = 0.25
_AGAIN_SECONDS = 0.1
_LAST_COMMIT_SECONDS = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Lost:
    """Nothing of the stream arrives any more. `reason` is a word without secrets."""

    reason: str


@dataclass(frozen=True, slots=True)
class Behind:
    """So many messages wait for the receiver that no more may be added."""

    waiting: int


Trouble = Lost | Behind


class CallbackStream:
    """One session's stream. Messages go out in the order in which they were put in; `count` says how many were."""

    def __init__(
        self,
        writer: CallbackWriter,
        key: str,
        url: str,
        headers: Mapping[str, str],
        traceparent: str | None = None,
        owner: str = "",
    ) -> None:
        self.key = key
        self.owner = owner
        self.url = url
        self.headers = headers
        self.traceparent = traceparent
        self.is_over = False
        self.count = 0
        self._writer = writer
        self._troubles: asyncio.Queue[Trouble | None] = asyncio.Queue()

    def put(self, body: bytes, *, partial: bool) -> None:
        """One message. Returns at once; it is durable a few milliseconds later."""
        if not self.is_over:
            self.count += 1
            kind = Kind.PARTIAL if partial else Kind.FINAL
            self._writer.enqueue(StreamMessage(self, f"{self.key}-{self.count}", body, kind))

    def end(self) -> None:
        """The last message is in; what waits is delivered still."""
        if not self.is_over:
            self.is_over = True
            self._troubles.put_nowait(None)
            self._writer.enqueue(StreamEnd(self))

    def report(self, trouble: Trouble) -> None:
        """Have whoever iterates over the troubles know. After Lost nothing more can be put in."""
        self._troubles.put_nowait(trouble)
        if isinstance(trouble, Lost):
            self.is_over = True
            self._troubles.put_nowait(None)

    async def troubles(self) -> AsyncIterator[Trouble]:
        """What goes wrong, until the stream is over; for one reader."""
        while trouble := await self._troubles.get():
            yield trouble


@dataclass(frozen=True, slots=True)
class StreamMessage:
    stream: CallbackStream
    id: str
    body: bytes = field(repr=False)
    kind: Kind


@dataclass(frozen=True, slots=True)
class StreamEnd:
    stream: CallbackStream


StreamTask = StreamMessage | StreamEnd


class CallbackWriter:
    """All streams of this engine. The relay ends them once the engine is gone, or has been silent for `liveness`
    seconds; a stream of which more than `backlog` messages wait is in trouble."""

    def __init__(
        self,
        database: Database,
        *,
        backlog: int = 1000,
        liveness: float = 10.0,
        committed: Callable[[int, float], None] = lambda _count, _seconds: None,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        """`committed` is told of every group: how many messages, and for how many seconds the first of them waited. A
        database that is locked is waited for, for `busy_seconds`, before that is a trouble."""
        self._backlog = backlog
        self._liveness = liveness
        self._clock = database.now
        self._committed = committed
        self._producer = database.liveness()
        self._writer = database.writer(busy_seconds)
        self._reader = database.reader()
        self._notifier = database.notifier()
        self._streams: dict[str, CallbackStream] = {}
        self._tasks: list[StreamTask] = []
        self._first_at = 0.0
        self._awake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._committing = Loop("live", self._commit, None, wake=self._awake, again=_AGAIN_SECONDS)
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        watching = Loop("live.watch", self.watch_once, _WATCH_SECONDS)
        renewing = Loop("live.renew", self.renew_once, self._liveness / 4)
        works = (self._committing.run(until=self._stopping), watching.run(), renewing.run())
        self._running = [asyncio.create_task(work) for work in works]

    async def stop(self) -> None:
        """Commit what is there, if that can be, then close."""
        self._stopping.set()
        self._awake.set()
        committing, *others = self._running
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_COMMIT_SECONDS):
                await committing
                while self._tasks:
                    ok, _ = await self._committing.run_once()
                    await asyncio.sleep(0.0 if ok else _AGAIN_SECONDS)
        for task in others:
            task.cancel()
        await asyncio.wait(self._running)
        await self._writer.close()
        await self._reader.close()
        self._notifier.close()
        self._producer.close()

    async def open(
        self,
        key: str,
        url: str,
        headers: Mapping[str, str],
        traceparent: str | None = None,
        owner: str = "",
    ) -> CallbackStream:
        """Begin a stream, durably; a WebSocket is opened as soon as the relay hears of it. `owner` is whose it is.

        Raises StoreUnavailable.
        """
        handshake = {**({"traceparent": traceparent} if traceparent else {}), **headers}
        await self._writer.run(lambda connection: outbox.begin_stream(connection, self._stream(key), url, handshake))
        self._notifier.notify()
        self._streams[key] = stream = CallbackStream(self, key, url, headers, traceparent, owner)
        return stream

    def enqueue(self, task: StreamTask) -> None:
        if not self._tasks:
            self._first_at = time.perf_counter()
        self._tasks.append(task)
        self._awake.set()

    async def _commit(self) -> None:
        """Commit what has gathered. What the database refuses for now keeps its place."""
        if not self._tasks:
            return
        tasks, self._tasks = self._tasks, []
        began = self._first_at
        try:
            failures = await self._writer.run(partial(self._write, tasks))
        except StoreUnavailable:
            self._tasks = tasks + self._tasks
            self._first_at = began
            self._stop_those_who_wait()
            raise
        self._notifier.notify()
        self._committed(sum(isinstance(task, StreamMessage) for task in tasks), time.perf_counter() - began)
        for task in tasks:
            if isinstance(task, StreamEnd):
                self._streams.pop(task.stream.key, None)
        for stream, reason in failures.items():
            self._lose(stream, reason)

    async def watch_once(self) -> None:
        """Ask how the streams stand, and report trouble to those that are in it."""
        keys = tuple(self._streams)
        statuses = await self._statuses(keys) if keys else {}
        for key in keys:
            if stream := self._streams.get(key):
                self._judge(stream, statuses.get(key))

    async def renew_once(self) -> None:
        """Say that this engine lives."""
        if keys := tuple(self._streams):
            until = self._clock() + self._liveness
            await self._writer.run(lambda connection: outbox.keep_streams(connection, keys, until))

    async def _statuses(self, keys: Sequence[str]) -> Mapping[str, StreamStatus]:
        return await self._reader.run(lambda connection: outbox.watch_streams(connection, keys))

    def _judge(self, stream: CallbackStream, status: StreamStatus | None) -> None:
        match status:
            case StreamStatus(state=StreamState.KILLED, reason=reason):
                self._lose(stream, reason.value if reason else "killed")
            case None | StreamStatus(state=StreamState.ENDED | StreamState.CLOSED) if not stream.is_over:
                self._lose(stream, "ended")
            case StreamStatus(undelivered=waiting) if waiting >= self._backlog and not stream.is_over:
                stream.report(Behind(waiting))
            case _:
                pass

    def _lose(self, stream: CallbackStream, reason: str) -> None:
        self._streams.pop(stream.key, None)
        stream.report(Lost(reason))

    def _stop_those_who_wait(self) -> None:
        """While nothing can be committed, no session may fill the memory."""
        for stream, count in Counter(task.stream for task in self._tasks).items():
            if count >= self._backlog and not stream.is_over:
                stream.report(Behind(count))

    def _write(self, tasks: Sequence[StreamTask], connection: Connection) -> Mapping[CallbackStream, str]:
        """In one transaction. A stream that takes nothing more holds up nobody else; the answer says which and why."""
        failures: dict[CallbackStream, str] = {}
        for task in tasks:
            try:
                if task.stream not in failures:
                    self._do(task, connection)
            except (StreamKilled, StreamEnded, InvalidDelivery, DuplicateDelivery) as error:
                log.warning("live.message.refused", detail=str(error))
                failures[task.stream] = "killed" if isinstance(error, StreamKilled) else "ended"
        return failures

    def _do(self, task: StreamTask, connection: Connection) -> None:
        if isinstance(task, StreamEnd):
            outbox.end_stream(connection, task.stream.key)
        else:
            outbox.add(connection, self._delivery(task))

    def _delivery(self, put: StreamMessage) -> NewDelivery:
        return NewDelivery(
            id=put.id,
            url=put.stream.url,
            body=put.body,
            kind=put.kind,
            headers=put.stream.headers,
            traceparent=put.stream.traceparent,
            stream=self._stream(put.stream.key),
            owner=put.stream.owner,
        )

    def _stream(self, key: str) -> Stream:
        return Stream(key, OnDead.SKIP, live_until=self._clock() + self._liveness, producer=self._producer.name)
