"""Carries the streams that go to a WebSocket: one task and one socket each, from the first message to the last.

Three loops: one reads what was committed and hands it to the tasks, one holds the streams and takes new ones, one
writes down what became of their messages, in batches. The first never waits for the others, so that a message leaves
within milliseconds whatever the disk does.

A stream has one try. If its socket cannot be opened, or drops, it is killed: what waits is dead, nothing reconnects,
and its producer hears of it from `outbox.watch_streams`. A destination that is paused, disabled or failing gets no new
socket; one that stands goes on to its end, as an attempt under way would.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog
from msgspec.structs import replace

from relay.delivery.courier import blocked
from relay.guard.rules import Refusal
from relay.guard.url import Target
from relay.outbox.errors import StoreUnavailable
from relay.outbox.model import KillReason, Kind, Method
from relay.policy.attempt import DELIVERED, Answer, Attempted, Dead, Delivery, Failure, Lease, Outcome, Reason, Timing
from relay.policy.outcome import classify, diagnose
from relay.policy.sealing import Headers, redacted
from relay.queue.streams import Finish, HeldStream, LiveStreams, Message, News

_WINDOW = 128  # messages of one stream that were read and are not confirmed
_NOWHERE = 2**62
_GATHER_SECONDS = 0.02
_AGAIN_SECONDS = 0.5
_ORPHANED = "The relay that held its socket is gone, and the socket with it."
_DONE, _GOING_AWAY = 1000, 1001

log = structlog.get_logger()


class Fallen(Protocol):
    """Why a socket is lost."""

    def answer(self, timing: Timing, peer: str | None, reused: bool) -> Answer:
        """The same as an answer."""


class Socket(Protocol):
    """An open WebSocket, which counts the messages that were written to it and those its receiver has for certain."""

    @property
    def answer(self) -> Answer:
        """What the handshake brought."""

    @property
    def confirmed(self) -> int:
        """How many of the messages were received."""

    @property
    def lost(self) -> Fallen | None:
        """Why it is lost, once it is."""

    async def send(self, text: bytes) -> None:
        """Write a message."""

    async def close(self, code: int) -> None:
        """Say goodbye, and give everything back."""


class Opener(Protocol):
    """The only way out."""

    async def open(self, target: Target, headers: Headers, stir: Callable[[], None]) -> Socket | Answer:
        """One handshake; `stir` is called when the socket has news."""


class Clockwork(Protocol):
    """Who hears that a loop turned, or failed to."""

    def turned(self, loop: str, *, ok: bool) -> None:
        """One iteration of a named loop ended."""


class Observer(Protocol):
    """Who hears of ends: of messages in batches, of streams one by one."""

    def attempted(self, attempts: Sequence[Attempted]) -> None:
        """These are durable."""

    def finished(self, reason: KillReason | None) -> None:
        """A stream was closed, or killed for a reason."""


@dataclass(frozen=True, slots=True)
class StreamPace:
    """How often the loops turn, in seconds. `poll` is the safety net under a lost notification; `hold` is how
    long a stream stays held without a word, which is said three times as often; `goodbye` is what receivers have to
    answer one when the relay stops."""

    poll: float = 0.25
    hold: float = 10.0
    goodbye: float = 6.0


class _Line:
    """One stream under way."""

    def __init__(self, stream: HeldStream) -> None:
        self.stream = stream
        self.read_up_to = 0
        self.to_send: deque[Message] = deque()
        self.sent: deque[tuple[Delivery, float]] = deque()  # and when
        self.confirmed = 0
        self.opened_at = 0.0
        self.close_code: int | None = None  # once nothing more will come
        self.leaving = False
        self.stir = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    @property
    def room(self) -> int:
        """How many more messages to read."""
        return _WINDOW - len(self.to_send) - len(self.sent)

    @property
    def done(self) -> bool:
        """Whether the last message was confirmed."""
        return self.close_code is not None and not self.to_send and not self.sent

    @property
    def reads_from(self) -> int:
        """The position behind which there may be news; where there is no room, behind every one."""
        return self.read_up_to if self.room > 0 else _NOWHERE

    def take(self, messages: Sequence[Message], room: int, grown_to: int) -> None:
        """Have these sent next. Where they did not fill the room that they were asked for, all up to a position was
        read: what is not among them was cancelled, or never added."""
        filled = len(messages) == room
        self.to_send += messages
        last = messages[-1][0].position or 0 if messages else 0
        self.read_up_to = last if filled else max(last, grown_to)
        self.stir.set()

    def end(self, *, abandoned: bool) -> None:
        """Nothing more will come."""
        self.close_code = _GOING_AWAY if abandoned else _DONE
        self.stir.set()

    def leave(self) -> None:
        """This relay stops."""
        self.leaving = True
        self.stir.set()


class StreamCarrier:
    """Keeps at most `sockets` streams going. `read` is the guard's reading of a URL, `seal` makes the headers of a
    handshake; `wake` is set whenever something was committed."""

    def __init__(
        self,
        store: LiveStreams,
        opener: Opener,
        *,
        read: Callable[[str], Target | Refusal],
        seal: Callable[[HeldStream, Target, float], Awaitable[Headers]],
        observer: Observer,
        clockwork: Clockwork,
        wake: asyncio.Event,
        sockets: int,
        pace: StreamPace,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._opener = opener
        self._read = read
        self._seal = seal
        self._observer = observer
        self._clockwork = clockwork
        self._wake = wake
        self._sockets = sockets
        self._pace = pace
        self._clock = clock
        self._lines: dict[int, _Line] = {}
        self._entries: list[Attempted | Finish] = []
        self._arrived = asyncio.Event()
        self._writing = asyncio.Lock()
        self._tend = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended = Counter[Reason]()

    @property
    def held(self) -> int:
        """Streams that this relay holds."""
        return len(self._lines)

    def take_ended(self) -> Mapping[Reason, int]:
        """Messages that died without having been sent, since the last call."""
        taken, self._ended = self._ended, Counter[Reason]()
        return taken

    def stop(self) -> None:
        """Take no more streams; `run` returns when those that are held have ended."""
        self._stopping.set()

    async def run(self, drain_seconds: float) -> None:
        """Carry until `stop`; then let streams end by themselves for `drain_seconds`, and kill the rest."""
        loops = [
            asyncio.create_task(self._loop("stream_news", self._wake, self._pace.poll, self.read_once)),
            asyncio.create_task(self._loop("stream_hold", self._tend, self._pace.hold / 3, self.tend_once)),
            asyncio.create_task(self._loop("stream_settle", self._arrived, self._pace.hold, self.write_once)),
        ]
        try:
            await self._stopping.wait()
            await self._drain(drain_seconds)
        finally:
            await _cancel([*loops, *self._tasks()])

    async def read_once(self) -> None:
        """Hand to each stream what was added to it, and see whether there is something to tend."""
        tasks = await self._store.tasks()
        if tasks.overdue or (tasks.waiting and self._room() > 0):
            self._tend.set()
        if known := {id_: line.reads_from for id_, line in self._lines.items()}:
            news = await self._store.news(known)
            self._let_go(news.lost)
            await self._hand_out(news.grown)
            self._end(news, known)

    async def tend_once(self) -> None:
        """Hold what is held, end what is overdue, take what nobody holds."""
        tended = await self._store.tend(self._lines)
        self._ended[Reason.STREAM_KILLED] += tended.killed
        for key in tended.orphans:
            log.warning("stream.killed", stream=key, reason=KillReason.RELAY.value, diagnosis=_ORPHANED)
            self._observer.finished(KillReason.RELAY)
        if (room := self._room()) > 0 and (await self._store.tasks()).waiting:
            for stream in await self._store.take(room):
                self._start(stream)
            self._wake.set()

    async def write_once(self) -> None:
        """Write the ends that have arrived as one transaction, and tell of them."""
        async with self._writing:
            if batch := list(self._entries):
                await self._write(batch)

    def _room(self) -> int:
        return 0 if self._stopping.is_set() else self._sockets - len(self._lines)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [line.task for line in self._lines.values() if line.task]

    def _start(self, stream: HeldStream) -> None:
        self._lines[stream.id] = line = _Line(stream)
        line.task = asyncio.create_task(self._carry(line))

    async def _hand_out(self, grown: Mapping[int, int]) -> None:
        for id_, position in grown.items():
            if line := self._lines.get(id_):  # it may come to its end meanwhile
                room = line.room  # of which there may be more meanwhile
                line.take(await self._store.messages(line.stream, line.read_up_to, room), room, position)

    def _end(self, news: News, known: Mapping[int, int]) -> None:
        """What has ended and was read to its end. Whether what has just come was all, the next turn will see, and so it
        will where nobody asked for more, because there was no room for it."""
        for id_, abandoned in news.ended.items():
            if id_ in news.grown:
                self._wake.set()
            elif known[id_] != _NOWHERE and (line := self._lines.get(id_)):
                line.end(abandoned=abandoned)

    def _let_go(self, ids: Collection[int]) -> None:
        """Streams that are not ours any more, or cannot be written: whoever finds them overdue kills them."""
        for id_ in ids:
            if (line := self._lines.pop(id_, None)) and line.task:
                log.warning("stream.let_go", stream=line.stream.key)
                line.task.cancel()

    async def _carry(self, line: _Line) -> None:
        try:
            finish = await self._converse(line)
        except Exception as error:
            log.error("stream.crashed", stream=line.stream.key, exc_info=error)
            finish = Finish(line.stream.id, KillReason.INTERNAL)
        self._enter(finish)

    async def _converse(self, line: _Line) -> Finish:
        stream, started_at = line.stream, self._clock()
        if not await self._store.may_be_called(stream.origin):
            return self._killed(line, KillReason.LEFT_ALONE, "The destination is paused, disabled or failing.")
        target = self._read(stream.url)
        if isinstance(target, Refusal):
            return await self._stillborn(line, blocked(target), (), started_at)
        headers = await self._seal(stream, target, started_at)
        opened = await self._opener.open(target, headers, line.stir.set)
        if isinstance(opened, Answer):
            return await self._stillborn(line, opened, headers, started_at)
        try:
            return await self._talk(line, opened, headers)
        finally:
            await opened.close(line.close_code or _GOING_AWAY)

    async def _talk(self, line: _Line, socket: Socket, headers: Headers) -> Finish:
        line.opened_at = self._clock()
        log.info("stream.opened", stream=line.stream.key, destination=line.stream.origin, peer=socket.answer.peer)
        line.stir.set()
        while True:
            await line.stir.wait()
            line.stir.clear()
            while line.to_send and socket.lost is None:
                delivery, body = line.to_send.popleft()
                line.sent.append((delivery, self._clock()))
                await socket.send(body)
            self._confirm(line, socket, headers)
            if finish := self._verdict(line, socket, headers):
                return finish

    def _confirm(self, line: _Line, socket: Socket, headers: Headers) -> None:
        was_full = line.room <= 0
        now = self._clock()
        while line.confirmed < socket.confirmed:
            delivery, written_at = line.sent.popleft()
            answer = replace(socket.answer, timing=Timing(now - written_at), reused=line.confirmed > 0)
            self._enter(_attempted(line, delivery, answer, headers, written_at, now))
            line.confirmed += 1
        if was_full and line.room > 0:
            self._wake.set()

    def _verdict(self, line: _Line, socket: Socket, headers: Headers) -> Finish | None:
        """Whether the stream is at its end."""
        if line.done:
            log.info("stream.closed", stream=line.stream.key, destination=line.stream.origin, delivered=line.confirmed)
            return Finish(line.stream.id)
        if socket.lost is not None:
            return self._fallen(line, socket.lost, socket.answer.peer, headers)
        return self._killed(line, KillReason.RELAY, "This relay stops.") if line.leaving else None

    def _fallen(self, line: _Line, why: Fallen, peer: str | None, headers: Headers) -> Finish:
        """What was written and not confirmed may have arrived, and nobody will ever know."""
        now = self._clock()
        for delivery, written_at in line.sent:
            answer = why.answer(Timing(now - written_at), peer, line.confirmed > 0)
            self._enter(_attempted(line, delivery, answer, headers, written_at, now))
        last = why.answer(Timing(0.0), peer, reused=True)
        return self._killed(line, _LOST.get(last.failure, KillReason.DROPPED), last.detail)

    async def _stillborn(self, line: _Line, answer: Answer, headers: Headers, started_at: float) -> Finish:
        """It was not opened: the first message bears the reason, or, where there is none yet, the stream itself."""
        reason = _UNOPENED.get(answer.failure, KillReason.REFUSED)
        messages = line.to_send or await self._store.messages(line.stream, 0, 1)
        delivery = messages[0][0] if messages else _nothing(line.stream, started_at)
        line.opened_at = started_at
        attempt = _attempted(line, delivery, answer, headers, started_at, self._clock())
        if messages:
            self._enter(attempt)
        return self._killed(line, reason, attempt.diagnosis, None if messages else attempt)

    def _killed(self, line: _Line, reason: KillReason, why: str, failed_opening: Attempted | None = None) -> Finish:
        stream = line.stream
        log.warning(
            "stream.killed",
            stream=stream.key,
            destination=stream.origin,
            reason=reason.value,
            diagnosis=why,
            delivered=line.confirmed,
            unconfirmed=len(line.sent),
        )
        return Finish(stream.id, reason, failed_opening)

    def _enter(self, entry: Attempted | Finish) -> None:
        self._entries.append(entry)
        self._arrived.set()

    async def _write(self, batch: list[Attempted | Finish]) -> None:
        attempts = [entry for entry in batch if isinstance(entry, Attempted)]
        finishes = [entry for entry in batch if isinstance(entry, Finish)]
        try:
            written = await self._store.write(attempts, finishes)
        except StoreUnavailable:
            raise
        except Exception as error:
            log.error("stream.unwritten", exc_info=error)
            self._let_go({entry.delivery.stream_id or 0 for entry in attempts} | {f.stream_id for f in finishes})
            del self._entries[: len(batch)]
            return
        # Only now: until they are durable, their streams have to be held.
        del self._entries[: len(batch)]
        self._ended[Reason.STREAM_KILLED] += written.killed
        for finish in finishes:
            self._lines.pop(finish.stream_id, None)
        self._tell([attempt for attempt in attempts if attempt.delivery.lease not in written.stale], finishes)

    def _tell(self, attempts: Sequence[Attempted], finishes: Sequence[Finish]) -> None:
        try:
            self._observer.attempted(attempts)
            for finish in finishes:
                self._observer.finished(finish.reason)
        except Exception as error:
            # An observer is never in the way of a delivery.
            log.error("observer.failed", exc_info=error)

    async def _drain(self, seconds: float) -> None:
        if self._tasks():
            log.info("streams.draining", held=self.held)
            await asyncio.wait(self._tasks(), timeout=seconds)
        await self._leave()
        try:
            await self.write_once()
        except StoreUnavailable as error:  # who finds them overdue kills them
            log.error("store.error", operation="stream_settle", kind=error.kind, held=self.held)

    async def _leave(self) -> None:
        for line in self._lines.values():
            line.leave()
        if self._tasks():
            await asyncio.wait(self._tasks(), timeout=self._pace.goodbye)
        for line in self._lines.values():
            if line.task and not line.task.done():  # it waits for a receiver that reads nothing
                line.task.cancel()
                self._enter(self._killed(line, KillReason.RELAY, "This relay stops."))

    async def _loop(self, name: str, ring: asyncio.Event, seconds: float, turn: Callable[[], Awaitable[None]]) -> None:
        """Turn whenever the event was set, and every so many seconds. A loop outlives its failures."""
        while True:
            ring.clear()
            ok = await self._turn(name, turn)
            self._clockwork.turned(name, ok=ok)
            if not ok:
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            if ring is self._arrived:
                await asyncio.sleep(_GATHER_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await ring.wait()

    async def _turn(self, name: str, turn: Callable[[], Awaitable[None]]) -> bool:
        try:
            await turn()
        except StoreUnavailable as error:
            log.error("store.error", operation=name, kind=error.kind)
            return False
        except Exception as error:
            log.error("loop.failed", loop=name, exc_info=error)
            return False
        return True


_UNOPENED: Mapping[Failure | None, KillReason] = {
    Failure.BLOCKED: KillReason.FORBIDDEN,
    Failure.INTERNAL: KillReason.INTERNAL,
}
_LOST: Mapping[Failure | None, KillReason] = {
    Failure.READ_TIMEOUT: KillReason.SILENT,
    Failure.PROTOCOL: KillReason.MISBEHAVED,
}


def _attempted(
    line: _Line, delivery: Delivery, answer: Answer, headers: Headers, started_at: float, now: float
) -> Attempted:
    """The record of one message. It was not due before the socket stood; the handshake's headers go with the first."""
    if delivery.due_at < line.opened_at:
        delivery = replace(delivery, due_at=line.opened_at)
    delivered = answer.status == 101
    reason = Reason.FORBIDDEN if answer.failure is Failure.BLOCKED else Reason.STREAM_KILLED
    return Attempted(
        delivery,
        answer,
        Outcome.SUCCESS if delivered else classify(answer),
        DELIVERED if delivered else Dead(reason),
        "" if delivered else diagnose(answer),
        started_at,
        now,
        request_headers=() if answer.reused else redacted(headers),
    )


def _nothing(stream: HeldStream, now: float) -> Delivery:
    """A message that was never added, for a stream that failed before its first."""
    return Delivery(
        Lease(0, ""),
        stream.key,
        stream.origin,
        stream.url,
        Method.POST,
        Kind.PARTIAL,
        "",
        {},
        None,
        0,
        created_at=now,
        due_at=now,
        attempts=0,
        lapses=0,
    )


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
