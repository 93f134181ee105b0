"""Live streams on SQLite, as the relay uses them: hold their sockets, read their messages, write down how they end.

The messages of a WebSocket are not leased one by one. A relay holds the whole stream, and says every few seconds that
it lives; while it holds it, nobody else reads or ends its messages. A holder that is gone, or overdue, took the socket
with it, so that stream is killed: a socket never moves. Reading takes no lock, so that a message is on its way within a
millisecond of its commit.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.guard.rules import ANYWHERE, Refusal
from relay.guard.url import LIVE, read
from relay.outbox.model import KillReason, Kind, Method, StreamState
from relay.outbox.queries import statement
from relay.outbox.sqlite.liveness import gone
from relay.outbox.store import Connection, Database
from relay.policy.attempt import Attempted, Dead, Delivery, Finish, HeldStream, Lease, Message
from relay.queue import settling
from relay.queue.holding import health_of

_TO_TEND = statement("streams_to_tend", __package__)
_DEPEND_ON = statement("streams_depend_on", __package__)
_TAKE = statement("take_streams", __package__)
_HOLD = statement("hold_streams", __package__)
_ABANDON = statement("abandon_streams", __package__)
_CLOSE = statement("close_streams", __package__)
_ORPHANED = statement("orphaned_streams", __package__)
_FINISH = statement("finish_stream", __package__)
_CHANGED = statement("changed_streams", __package__)
_MESSAGES = statement("messages", __package__)
_STILL_HELD = statement("still_held", __package__)
_END_MESSAGES = statement("end_messages", __package__)
_HELD_HEALTHS = statement("held_healths", __package__)


@dataclass(frozen=True, slots=True)
class Tasks:
    """How many streams somebody has to look after, whether some of them wait for a holder, and whether others have come
    to an end that nobody has written down."""

    live: int
    waiting: bool
    overdue: bool


@dataclass(frozen=True, slots=True)
class ReapedStreams:
    """The keys of streams whose holder was overdue, and how many messages died with them without having been sent."""

    orphans: tuple[str, ...] = ()
    killed: int = 0


@dataclass(frozen=True, slots=True)
class StreamChanges:
    """What has changed about the streams that a relay holds: which got messages, and up to which position; which have
    ended, and whether by their producer's silence; which are not its own any more."""

    grown: Mapping[int, int]
    ended: Mapping[int, bool]
    lost: frozenset[int]


@dataclass(frozen=True, slots=True)
class SettledMessages:
    """What became of a batch: leases that were `stale`, for which nothing was changed, and how many messages died with
    their streams without having been sent."""

    stale: frozenset[Lease]
    killed: int


class LiveStreams:
    """One relay's view. `lease` is in seconds: without a word for so long, it would be taken for dead."""

    def __init__(self, database: Database, lease: float = 10.0) -> None:
        self._liveness = database.liveness()
        self._holder = self._liveness.name
        self._lease = lease
        self._clock = database.now
        self._writer = database.writer()
        self._reader = self._writer.reader()

    async def tasks(self) -> Tasks:
        """What there is to do besides carrying: a read, so that an idle relay takes no write lock."""
        now = self._clock()

        def look(connection: Connection) -> Tasks:
            live, waiting, overdue = connection.execute(_TO_TEND, {"now": now}).fetchone()
            return Tasks(live, bool(waiting), bool(overdue) or bool(live and _gone(connection)))

        return await self._reader.run(look)

    async def take(self, room: int) -> tuple[HeldStream, ...]:
        """Hold at most so many streams that nobody holds."""
        values = {"holder": self._holder, "until": self._clock() + self._lease, "room": room}
        rows = await self._writer.run(lambda connection: connection.execute(_TAKE, values).fetchall())
        return tuple(_held(*row) for row in rows)

    async def tend(self, held: Iterable[int]) -> ReapedStreams:
        """Keep what is held, end what is overdue."""
        now = self._clock()
        values = {"ids": json.dumps(list(held)), "holder": self._holder, "until": now + self._lease, "now": now}

        def work(connection: Connection) -> ReapedStreams:
            values["gone"] = json.dumps(list(_gone(connection)))
            connection.execute(_HOLD, values)
            connection.execute(_ABANDON, values)
            connection.execute(_CLOSE, values)
            orphans = connection.execute(_ORPHANED, values).fetchall()
            killed = [_finish(connection, Finish(id_, KillReason.RELAY), holder, now) for id_, _, holder in orphans]
            return ReapedStreams(tuple(key for _, key, _ in orphans), sum(killed))

        return await self._writer.run(work)

    async def news(self, read_up_to: Mapping[int, int]) -> StreamChanges:
        """What has changed about these held streams, each with the position up to which it was read."""
        rows = await self._read(_CHANGED, known=json.dumps(read_up_to), holder=self._holder)
        return StreamChanges(
            {id_: position for id_, position, held, _, _ in rows if held and position},
            {id_: bool(abandoned) for id_, _, held, ended, abandoned in rows if held and ended},
            frozenset(id_ for id_, _, held, _, _ in rows if not held),
        )

    async def messages(self, stream: HeldStream, after: int, room: int) -> tuple[Message, ...]:
        """The next messages of a stream behind a position, in order."""
        rows = await self._read(_MESSAGES, stream_id=stream.id, after=after, room=room)
        return tuple(self._message(stream, row) for row in rows)

    def _message(self, stream: HeldStream, row: Sequence[Any]) -> Message:
        seq, id_, method, kind, content_type, traceparent, body_bytes, created_at, attempts, lapses, position, body = (
            row
        )
        delivery = Delivery(
            Lease(seq, self._holder),
            id_,
            stream.origin,
            stream.url,
            Method(method),
            Kind(kind),
            content_type,
            {},
            traceparent,
            body_bytes,
            created_at,
            created_at,
            attempts,
            lapses,
            None,
            stream.id,
            position,
            path=stream.path,
        )
        return delivery, body

    async def may_be_called(self, origin: str, path: str) -> bool:
        """Whether an endpoint, and its origin, allow an attempt now."""
        now = self._clock()
        rows = await self._read(_HELD_HEALTHS, origin=origin, path=path)
        return all(state == "active" and health_of(columns).allows(now, 0, 1) > 0 for state, *columns in rows)

    async def write(self, attempts: Sequence[Attempted], finishes: Sequence[Finish]) -> SettledMessages:
        """The ends of some messages, and after them those of some streams, in one transaction."""
        now = self._clock()

        def work(connection: Connection) -> SettledMessages:
            standing = self._standing(connection, attempts)
            for verdict, of_one in _by_verdict(attempts, standing).items():
                _end(connection, verdict, of_one)
            written = [attempt for attempt in attempts if attempt.delivery.lease.seq in standing]
            settling.note(connection, written)
            settling.record_health(connection, [finish.failed_opening for finish in finishes if finish.failed_opening])
            killed = sum(_finish(connection, finish, self._holder, now) for finish in finishes)
            stale = (attempt.delivery.lease for attempt in attempts if attempt.delivery.lease.seq not in standing)
            return SettledMessages(frozenset(stale), killed)

        return await self._writer.run(work)

    def _standing(self, connection: Connection, attempts: Iterable[Attempted]) -> Collection[int]:
        seqs = json.dumps([attempt.delivery.lease.seq for attempt in attempts])
        found = connection.execute(_STILL_HELD, {"seqs": seqs, "holder": self._holder}).fetchone()[0]
        return frozenset(json.loads(found))

    async def _read(self, sql: str, **values: object) -> list[Any]:
        return await self._reader.run(lambda connection: connection.execute(sql, values).fetchall())

    async def close(self) -> None:
        """Close both connections. Whatever is held still, is held no longer."""
        await self._reader.close()
        await self._writer.close()
        self._liveness.close()


def _gone(connection: Connection) -> frozenset[str]:
    """The processes that live streams depend on and that have ended, although they are not overdue yet."""
    return gone(connection, _depended_on(connection))


def _depended_on(connection: Connection) -> Iterator[str]:
    for (name,) in connection.execute(_DEPEND_ON):
        yield name


def _held(id_: int, key: str, url: str, headers: str) -> HeldStream:
    target = read(url, ANYWHERE, LIVE)
    origin, path = ("", "/") if isinstance(target, Refusal) else (target.origin, target.endpoint)
    return HeldStream(id_, key, origin, url, json.loads(headers), path)


def _by_verdict(attempts: Iterable[Attempted], standing: Collection[int]) -> dict[str | None, list[Attempted]]:
    """Those that still stand, by the reason that they died of; None for the delivered."""
    groups: dict[str | None, list[Attempted]] = {}
    for attempt in attempts:
        if attempt.delivery.lease.seq in standing:
            reason = attempt.verdict.reason.value if isinstance(attempt.verdict, Dead) else None
            groups.setdefault(reason, []).append(attempt)
    return groups


def _end(connection: Connection, reason: str | None, attempts: Sequence[Attempted]) -> None:
    values = {
        "seqs": json.dumps([attempt.delivery.lease.seq for attempt in attempts]),
        "state": "dead" if reason else "delivered",
        "reason": reason,
        "finished_at": attempts[-1].finished_at,
    }
    connection.execute(_END_MESSAGES, values)


def _finish(connection: Connection, finish: Finish, holder: str, now: float) -> int:
    """Nothing happens to a stream that another holder was given; returns how many messages died with this one."""
    state = StreamState.KILLED if finish.reason else StreamState.CLOSED
    values = {
        "stream_id": finish.stream_id,
        "state": state.value,
        "reason": finish.reason and finish.reason.value,
        "holder": holder,
        "now": now,
    }
    if not connection.execute(_FINISH, values).rowcount or finish.reason is None:
        return 0
    return settling.kill_followers(connection, values)
