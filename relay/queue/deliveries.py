"""The outbox as the relay uses it: claim, settle, renew, release, read."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from relay.outbox.errors import StoreUnavailable
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database
from relay.policy.attempt import Attempted, BodyLimits, Delivery, Lease, Reason
from relay.policy.breaker import Standing
from relay.policy.signing import SigningKey, parse_key
from relay.queue import settling
from relay.queue.claiming import (
    CLAIM_READY,
    ClaimBatch,
    Claimed,
    Claimer,
    ClaimRequest,
    DestinationKey,
    DueLanes,
    Group,
    blocked_of,
    claimed_of,
    gone_of,
)
from relay.queue.stats import QueueSnapshot, QueueStats

T = TypeVar("T")

_ANYTHING_TO_DO = statement("anything_to_do", __package__)
_SWEEP = statement("sweep", __package__)
_RENEW = statement("renew", __package__)
_RELEASE = statement("release", __package__)
_GIVE_BACK = statement("give_back", __package__)
_RELEASE_LOST_CLAIM = statement("release_lost_claim", __package__)
_BODY = statement("body", __package__)
_BODY_LIMITS = statement("body_limits", __package__)
_SIGNING_KEYS = statement("signing_keys", __package__)
_KEYS_VERSION = statement("keys_version", __package__)
_HEARTBEAT = statement("heartbeat", __package__)
_RELAYS = statement("relays", __package__)
_LEAVE = statement("leave", __package__)
_NOTE_STOP = statement("note_stop", __package__)

GONE_SECONDS = 15.0
"""A relay that has not checked in for so long is at work no more."""

_ALONE_SECONDS = 5.0  # between two heartbeats, where nobody counts on them
_READY_ALONE = DueLanes(ready=True, due=False, held=False)
_EXPIRE_SLICE = 500
_KEYS_SECONDS = 0.05
_LARGE = 128 * 1024


@dataclass(frozen=True, slots=True)
class Claims:
    """What one claim brought: the deliveries, and how many leases of others (or our past) had expired.

    Of the endpoints that the caller has deliveries ahead for, `blocked` are in trouble: what was claimed of them before
    goes back; and `stopped` are those that an operator paused or disabled. `standing` is that of the destinations of
    what was claimed that may not answer. With `more`, another claim is worth while, after a `pause` in seconds.
    """

    deliveries: tuple[Delivery, ...] = ()
    lapsed: int = 0
    blocked: frozenset[DestinationKey] = frozenset()
    stopped: frozenset[DestinationKey] = frozenset()
    standing: Mapping[DestinationKey, Standing] = field(default_factory=dict)
    more: bool = False
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Membership:
    """One relay's, among those at work on a database: its rank, from 0 on, and how many there are."""

    rank: int
    relays: int


@dataclass(frozen=True, slots=True)
class _Outlook:
    """Whether something is ready, and when the first will be due, have its turn, or be free as its lease runs out."""

    ready: bool
    due_at: float | None
    turn_at: float | None
    lease_until: float | None

    def due_lanes(self, now: float) -> DueLanes:
        """What a claim would find."""
        return DueLanes(self.ready, _is_past(self.due_at, now), _is_past(self.turn_at, now))

    def next_at(self) -> float | None:
        """When there is something to do that is not ready yet."""
        moments = (self.due_at, self.turn_at, self.lease_until)
        return min((moment for moment in moments if moment is not None), default=None)


class DeliveryQueue:
    """One relay's view of a database. Claims and settlements are batches: one transaction, one fsync each.

    `lease` is in seconds. A holder's name is part of each of its lease tokens.
    """

    def __init__(self, database: Database, lease: float = 60.0) -> None:
        self._database = database
        self._is_distant = database.is_distant
        self._lease = lease
        self._clock = database.now
        self._writer = database.writer()
        self._reader = database.reader()
        self._slow_reader = database.reader(slow=True)
        self._body_reader = database.body_reader()
        self._claimer = Claimer(lease)
        self._holder = secrets.token_hex(8)
        self._claims = 0
        self._in_doubt: set[str] = set()
        self._relays = 0
        self._seen_at = -math.inf
        self._outlook: _Outlook | None = None  # what the claim that found nothing saw
        self._ready: _Outlook | None = None  # what was seen after the last claim, if something was ready then
        self._stats = QueueStats(database)
        self._ended = Counter[Reason]()
        self._bodies: dict[int, bytes] = {}
        self._written_keys: dict[str | None, list[str]] = {}  # by whose they are
        self._keys: dict[str | None, tuple[SigningKey, ...]] = {}
        self._keys_version: list[Any] = []
        self._keys_at = 0.0

    async def claim(self, request: ClaimRequest) -> Claims:
        """Lease due deliveries, as many as the caller has room for, in turn."""
        now = self._clock()
        seen, self._ready = self._ready, None
        outlook = seen or await self._look()
        lanes, lapsed = outlook.due_lanes(now), _is_past(outlook.lease_until, now)
        is_plain = seen is not None and lanes == _READY_ALONE and not lapsed and not self._in_doubt
        if is_plain and self._is_distant and (asked := self._claimer.foresee(request)):
            return await self._lease_foreseen(request, asked, now)
        if self._in_doubt or lapsed or lanes.ready or lanes.due or lanes.held:
            return await self._lease_due(request, lanes, now, sweep=lapsed)
        self._outlook = outlook
        held = request.ahead
        blocked, stopped = await self._reader.run(lambda connection: self._claimer.blocked(connection, held))
        return Claims(blocked=blocked, stopped=stopped)

    async def _lease_due(self, request: ClaimRequest, lanes: DueLanes, now: float, *, sweep: bool) -> Claims:
        token, in_doubt = self._token(), frozenset(self._in_doubt)

        def lease(connection: Connection) -> tuple[int, ClaimBatch]:
            for lost in in_doubt:
                connection.execute(_RELEASE_LOST_CLAIM, {"token": lost})
            lapsed = connection.execute(_SWEEP, {"now": now}).rowcount if sweep else 0
            freed = lapsed or in_doubt
            return lapsed, self._claimer.lease(connection, request, DueLanes() if freed else lanes, token, now)

        def read(
            connection: Connection,
        ) -> tuple[list[Claimed], tuple[frozenset[DestinationKey], frozenset[DestinationKey]]]:
            claimed = self._claimer.claimed(connection, batch.seqs, token)
            return claimed, self._claimer.blocked(connection, request.ahead)

        self._in_doubt.add(token)  # until it is known what was leased under it
        # A claim that a power cut undoes is one that was never made: nothing of its attempts is durable before it is.
        lapsed, batch = await self._writer.run(lease, durable=False)
        self._in_doubt -= in_doubt
        claimed, (blocked, stopped) = await self._reader.run(read)
        self._in_doubt.discard(token)
        self._keys_at = 0.0  # what is claimed after a rotation is signed by the new keys
        return Claims(self._taken(claimed), lapsed, blocked, stopped, batch.standing, batch.more, batch.pause)

    async def _lease_foreseen(self, request: ClaimRequest, asked: Counter[Group], now: float) -> Claims:
        """The same in one round trip, where all that is ready may simply go."""
        token = self._token()
        values = self._claimer.ready_claim(request, asked) | {"token": token, "until": now + self._lease, "now": now}
        self._in_doubt.add(token)
        rows = await self._writer.execute(CLAIM_READY, values, durable=False)
        outlook, groups, held, version = json.loads(rows[0][-1])
        leased = [row[:-1] for row in rows if row[0] is not None]
        gone: frozenset[str] = frozenset()
        if any(row[-2] for row in leased):
            gone = await self._reader.run(lambda connection: gone_of(connection, leased))
        self._in_doubt.discard(token)
        claimed = claimed_of(leased, token, gone)
        came = Counter((delivery.owner, *delivery.endpoint) for delivery, _ in claimed)
        more = self._claimer.note_foreseen(request, asked, came, groups)
        if self._claimer.foresees:
            self._ready = _Outlook(*outlook)
        self._keys_at = time.monotonic() if self._keys_version == [tuple(version)] else 0.0
        blocked, stopped = blocked_of(held)
        return Claims(self._taken(claimed), blocked=blocked, stopped=stopped, more=more)

    def _taken(self, claimed: Iterable[Claimed]) -> tuple[Delivery, ...]:
        """The deliveries of a claim; their bodies are kept until they are asked for."""
        self._bodies.update((delivery.lease.seq, body) for delivery, body in claimed if body is not None)
        return tuple(delivery for delivery, _ in claimed)

    async def _look(self) -> _Outlook:
        """A read first, so that the poll of an idle relay takes no write lock."""
        ((ready, *times),) = await self._read(_ANYTHING_TO_DO)
        return _Outlook(bool(ready), *times)

    def _token(self) -> str:
        self._claims += 1
        return f"{self._holder}.{self._claims}"

    async def _read(self, sql: str, **values: object) -> list[Any]:
        return await self._reader.run(lambda connection: connection.execute(sql, values).fetchall())

    async def settle(self, attempts: Sequence[Attempted]) -> frozenset[Lease]:
        """Write the ends of some attempts; returns the leases that were stale, for which nothing was changed."""
        for attempt in attempts:  # what was refused or sent as a link never asked for its body
            self._bodies.pop(attempt.delivery.lease.seq, None)
        self._outlook = None
        if self._is_distant and settling.is_plain(attempts):
            ((noteworthy, seqs),) = await self._writer.execute(settling.DELIVER_PLAIN, settling.plain_end(attempts))
            if noteworthy == "[]":
                written, leases = frozenset(seqs), (attempt.delivery.lease for attempt in attempts)
                return frozenset(lease for lease in leases if lease.seq not in written)
        settled = await self._writer.run(lambda connection: settling.settle(connection, attempts))
        self._ended[Reason.STREAM_KILLED] += settled.killed
        return settled.stale

    async def renew(self, leases: Iterable[Lease]) -> None:
        """Push the expiry of what this relay holds out by a whole lease."""
        seqs = json.dumps([lease.seq for lease in leases])
        values = {"seqs": seqs, "until": self._clock() + self._lease, "holder": self._holder}
        await self._writer.execute(_RENEW, values)

    async def release(self, leases: Iterable[Lease], *, sent: bool) -> None:
        """Give claims back. Those that may have been `sent` in part get a fresh number next time."""
        values: list[dict[str, object]] = []
        self._outlook = None
        for lease in leases:
            self._bodies.pop(lease.seq, None)
            values.append({"seq": lease.seq, "token": lease.token})
        await self._writer.run(lambda connection: connection.executemany(_RELEASE if sent else _GIVE_BACK, values))

    async def expire(self, before: float) -> int:
        """Give up deliveries that have been due since `before`, a slice at a time; returns how many."""
        values = {"before": before, "now": self._clock(), "slice": _EXPIRE_SLICE}
        expired, killed = await self._writer.run(lambda connection: settling.expire(connection, values))
        self._ended += Counter({Reason.EXPIRED: expired, Reason.STREAM_KILLED: killed})
        return expired

    def take_ended(self) -> Mapping[Reason, int]:
        """Deliveries that this relay gave up without an attempt, since the last call."""
        taken, self._ended = self._ended, Counter[Reason]()
        return taken

    async def check_in(self) -> Membership:
        """Say that this relay is at work, unless it is alone and that was said a moment ago; returns its place."""
        now, began = self._clock(), time.monotonic()
        values = {"holder": self._holder, "now": now, "since": now - GONE_SECONDS}
        if self._relays == 1 and began - self._seen_at < _ALONE_SECONDS:
            ((others, before),) = await self._read(_RELAYS, **values)
        else:
            ((others, before),) = await self._writer.execute(_HEARTBEAT, values)
            self._seen_at = began
        self._relays = 1 + others
        return Membership(before, self._relays)

    async def leave(self) -> None:
        """Say that this relay is at work no more, and if it was the last one, that none is."""
        await self._writer.run(self._leave)

    def _leave(self, connection: Connection) -> None:
        now = self._clock()
        connection.execute(_LEAVE, {"holder": self._holder})
        connection.execute(_NOTE_STOP, {"now": now, "since": now - GONE_SECONDS})

    async def with_body(self, delivery: Delivery, use: Callable[[bytes], T]) -> T:
        """What `use` makes of the body's bytes, the same on every attempt. A large one is read only now, held by
        nobody who waits, and used where it was read: in a thread, because both take milliseconds."""
        body = self._bodies.pop(delivery.lease.seq, None)
        if body is not None:
            return use(body)
        if delivery.body_bytes > _LARGE:
            return await self._body_reader.read(_BODY, {"seq": delivery.lease.seq}, use)
        return use((await self._read(_BODY, seq=delivery.lease.seq))[0][0])

    async def body_limits(self, origin: str, path: str) -> BodyLimits:
        """What is known of an endpoint's body limit."""
        return BodyLimits(*(await self._read(_BODY_LIMITS, origin=origin, path=path))[0])

    async def keys(self, origin: str) -> tuple[SigningKey, ...]:
        """What signs for a destination now, its own keys or else those for all: a rotation counts at once, give or take
        50 ms."""
        if not self._keys_version or time.monotonic() - self._keys_at > _KEYS_SECONDS:
            await self._read_changed_keys()
        whose = origin if origin in self._written_keys else None
        if whose not in self._keys:
            self._keys[whose] = tuple(parse_key(text) for text in self._written_keys.get(whose, ()))
        return self._keys[whose]

    async def _read_changed_keys(self) -> None:
        self._keys_at = time.monotonic()  # whoever comes meanwhile goes on with those before
        try:
            version = [*map(tuple, await self._read(_KEYS_VERSION, now=self._clock()))]
            if version == self._keys_version:
                return
            written: dict[str | None, list[str]] = defaultdict(list)
            for origin, text in await self._read(_SIGNING_KEYS, now=self._clock()):
                written[origin].append(text)
        except StoreUnavailable:
            self._keys_at = 0.0
            raise
        self._keys_version, self._written_keys, self._keys = version, dict(written), {}

    def now(self) -> float:
        """What time it is for those who decide what is due."""
        return self._clock()

    async def next_due(self) -> float | None:
        """When a claim is worth while again: now, if something is ready; None while nothing waits for its time."""
        outlook, self._outlook = self._outlook or self._ready or await self._look(), None
        self._ready = outlook if outlook.ready else None
        return self._clock() if outlook.ready else outlook.next_at()

    async def snapshot(self, slots: int) -> QueueSnapshot:
        """The gauges, counted beside everything else. A destination has that many `slots`."""
        now = self._clock()
        return await self._slow_reader.run(lambda connection: self._stats.snapshot(connection, now, slots))

    async def close(self) -> None:
        for connection in (self._writer, self._reader, self._slow_reader, self._body_reader):
            await connection.close()


def _is_past(moment: float | None, now: float) -> bool:
    return moment is not None and moment <= now
