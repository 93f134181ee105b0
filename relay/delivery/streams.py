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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from relay.delivery.stream_session import Gateway, StreamSession
from relay.delivery.stream_state import NOWHERE
from relay.outbox.errors import StoreUnavailable
from relay.outbox.model import KillReason
from relay.outbox.store import POLL_SECONDS, in_step
from relay.policy.attempt import Attempted, Finish, HeldStream, Reason
from relay.queue.streams import LiveStreams, StreamChanges
from relay.service.loop import Loop, LoopObserver, turning

_GATHER_SECONDS = 0.02
_AGAIN_SECONDS = 0.5
_ORPHANED = "The relay that held its socket is gone, and the socket with it."

log = structlog.get_logger()


class StreamObserver(Protocol):
    """Who hears of ends: of messages in batches, of streams one by one."""

    def attempted(self, attempts: Sequence[Attempted]) -> None:
        """These are durable."""

    def finished(self, reason: KillReason | None) -> None:
        """A stream was closed, or killed for a reason."""


@dataclass(frozen=True, slots=True)
class StreamPace:
    """How often the loops turn, in seconds. `poll` says how long to wait for a notification while there is no stream;
    `hold` is how long a stream stays held without a word, which is said three times as often; `closing` is what
    receivers have to answer a close when the relay stops."""

    poll: Callable[[], float] = lambda: POLL_SECONDS
    hold: float = 10.0
    closing: float = 6.0


class StreamSettler:
    """Writes down what became of messages and streams, in batches. `settled` hears of streams that need to be held no
    longer; `dropped` of those that cannot be written: whoever finds them overdue kills them."""

    def __init__(
        self,
        store: LiveStreams,
        observer: StreamObserver,
        settled: Callable[[int], None],
        dropped: Callable[[Collection[int]], None],
    ) -> None:
        self.arrived = asyncio.Event()
        self._store = store
        self._observer = observer
        self._settled = settled
        self._dropped = dropped
        self._entries: list[Attempted | Finish] = []
        self._writing = asyncio.Lock()
        self._killed = 0

    def add(self, *entries: Attempted | Finish) -> None:
        """Take ends, to be written with the next batch, in this order."""
        self._entries += entries
        self.arrived.set()

    def take_killed(self) -> int:
        """Messages that died with their streams without having been sent, since the last call."""
        taken, self._killed = self._killed, 0
        return taken

    async def run_once(self) -> None:
        """Write the ends that have arrived as one transaction, and tell of them. Raises StoreUnavailable."""
        async with self._writing:
            if batch := list(self._entries):
                await self._write(batch)

    async def gather(self, _: object) -> None:
        """Between two batches: what arrives meanwhile shares the next one."""
        await asyncio.sleep(_GATHER_SECONDS)

    async def _write(self, batch: list[Attempted | Finish]) -> None:
        attempts = [entry for entry in batch if isinstance(entry, Attempted)]
        finishes = [entry for entry in batch if isinstance(entry, Finish)]
        try:
            written = await self._store.write(attempts, finishes)
        except StoreUnavailable:
            raise
        except Exception as error:
            log.error("stream.unwritten", exc_info=error)
            self._dropped({entry.delivery.stream_id or 0 for entry in attempts} | {f.stream_id for f in finishes})
            del self._entries[: len(batch)]
            return
        # Only now: until they are durable, their streams have to be held.
        del self._entries[: len(batch)]
        self._killed += written.killed
        for finish in finishes:
            self._settled(finish.stream_id)
        self._tell([attempt for attempt in attempts if attempt.delivery.lease not in written.stale], finishes)

    def _tell(self, attempts: Sequence[Attempted], finishes: Sequence[Finish]) -> None:
        try:
            self._observer.attempted(attempts)
            for finish in finishes:
                self._observer.finished(finish.reason)
        except Exception as error:
            # An observer is never in the way of a delivery.
            log.error("observer.failed", exc_info=error)


class StreamCarrier:
    """One relay's streams to WebSockets: `run` until `stop`, then let them end. At most so many `sockets` at once;
    `wake` is set when something was committed."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        observer: StreamObserver,
        loops: LoopObserver,
        wake: asyncio.Event,
        sockets: int,
        pace: StreamPace,
    ) -> None:
        self._gateway = gateway
        self._store = gateway.store
        self._observer = observer
        self._wake = wake
        self._sockets = sockets
        self._hold, self._closing = pace.hold, pace.closing
        self._poll = pace.poll
        self._sessions: dict[int, StreamSession] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._settler = StreamSettler(gateway.store, observer, self._settled, self._let_go)
        self._tend = asyncio.Event()
        self._stopping = asyncio.Event()
        self._orphaned = 0
        settle, again = self._settler, _AGAIN_SECONDS
        self._loops = (
            Loop("stream_news", self.read_once, POLL_SECONDS, wake=wake, again=again, rest=self._rest, observer=loops),
            Loop(
                "stream_hold",
                self.tend_once,
                pace.hold / 3,
                wake=self._tend,
                again=again,
                rest=self._rest_of_hold,
                observer=loops,
            ),
            Loop(
                "stream_settle",
                settle.run_once,
                pace.hold,
                wake=settle.arrived,
                again=again,
                rest=settle.gather,
                observer=loops,
            ),
        )

    @property
    def held(self) -> int:
        """Streams that this relay holds."""
        return len(self._sessions)

    def trouble(self) -> str | None:
        """Why the outbox cannot be used, by the last turns of the loops; None while it can."""
        return next(filter(None, (loop.trouble() for loop in self._loops)), None)

    def take_ended(self) -> Mapping[Reason, int]:
        """Messages that died without having been sent, since the last call."""
        taken, self._orphaned = self._orphaned + self._settler.take_killed(), 0
        return {Reason.STREAM_KILLED: taken}

    def stop(self) -> None:
        """Take no more streams; `run` returns when those that are held have ended."""
        self._stopping.set()

    async def run(self, drain_seconds: float) -> None:
        """Carry until `stop`; then let streams end by themselves for `drain_seconds`, and kill the rest."""
        try:
            async with turning(*self._loops):
                await self._stopping.wait()
                await self._drain(drain_seconds)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def read_once(self) -> int:
        """Hand to each stream what was added to it, and see whether there is something to tend; returns how many
        streams there are, whoever holds them."""
        await asyncio.sleep(0)  # what woke this loop may have brought a delivery, which is sent first
        tasks = await self._store.tasks()
        if tasks.overdue or (tasks.waiting and self._room() > 0):
            self._tend.set()
        if known := {id_: session.state.reads_from for id_, session in self._sessions.items()}:
            news = await self._store.news(known)
            self._let_go(news.lost)
            await self._hand_out(news.grown)
            self._end(news, known)
        return tasks.live

    async def _rest(self, live: int | None) -> float:
        """What becomes overdue, nobody tells of."""
        return in_step(POLL_SECONDS if live else self._poll())

    async def _rest_of_hold(self, _: object) -> float | None:
        """Who holds nothing need not say so."""
        return self._hold / 3 if self._sessions else None

    async def tend_once(self) -> None:
        """Hold what is held, end what is overdue, take what nobody holds."""
        tended = await self._store.tend(self._sessions)
        self._orphaned += tended.killed
        for key in tended.orphans:
            log.warning("stream.killed", stream=key, reason=KillReason.RELAY.value, diagnosis=_ORPHANED)
            self._observer.finished(KillReason.RELAY)
        if (room := self._room()) > 0 and (await self._store.tasks()).waiting:
            for stream in await self._store.take(room):
                self._start(stream)
            self._wake.set()

    def _room(self) -> int:
        return 0 if self._stopping.is_set() else self._sockets - self.held

    def _start(self, stream: HeldStream) -> None:
        session = StreamSession(stream, self._gateway, self._settler.add, self._wake.set)
        self._sessions[stream.id] = session
        self._tasks[stream.id] = asyncio.create_task(self._carry(session))

    async def _carry(self, session: StreamSession) -> None:
        ending = await session.run()
        self._settler.add(*ending.attempts, ending.finish)

    async def _hand_out(self, grown: Mapping[int, int]) -> None:
        for id_, position in grown.items():
            if session := self._sessions.get(id_):  # it may come to its end meanwhile
                state, room = session.state, session.state.room  # of which there may be more meanwhile
                state.take(await self._store.messages(state.stream, state.read_up_to, room), room, position)
                session.stir()

    def _end(self, news: StreamChanges, known: Mapping[int, int]) -> None:
        """What has ended and was read to its end. Whether what has just come was all, the next turn will see, and so it
        will where nobody asked for more, because there was no room for it."""
        for id_, abandoned in news.ended.items():
            if id_ in news.grown:
                self._wake.set()
            elif known[id_] != NOWHERE and (session := self._sessions.get(id_)):
                session.state.end(abandoned=abandoned)
                session.stir()

    def _settled(self, id_: int) -> None:
        self._sessions.pop(id_, None)
        self._tasks.pop(id_, None)

    def _let_go(self, ids: Collection[int]) -> None:
        """Streams that are not ours any more, or cannot be written."""
        for id_ in ids:
            if session := self._sessions.pop(id_, None):
                log.warning("stream.let_go", stream=session.state.stream.key)
                self._tasks.pop(id_).cancel()

    async def _drain(self, seconds: float) -> None:
        if self._tasks:
            log.info("streams.draining", held=self.held)
            await asyncio.wait(self._tasks.values(), timeout=seconds)
        await self._leave()
        try:
            await self._settler.run_once()
        except StoreUnavailable as error:  # who finds them overdue kills them
            log.error("store.error", operation="stream_settle", kind=error.kind, held=self.held, remedy=error.remedy)

    async def _leave(self) -> None:
        for session in self._sessions.values():
            session.state.leave()
            session.stir()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=self._closing)
        for id_, session in self._sessions.items():
            if not self._tasks[id_].done():  # it waits for a receiver that reads nothing
                self._tasks[id_].cancel()
                ending = session.state.cut_off()
                session.announce(ending)
                self._settler.add(ending.finish)
