"""The outbox as the relay uses it: claim, settle, renew, release, read."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from relay.outbox.queries import statement
from relay.outbox.store import Database
from relay.policy.attempt import Attempted, BodyLimits, Delivery, Lease, Reason
from relay.policy.signing import SigningKey
from relay.queue import settling
from relay.queue.bodies import ClaimedBodies
from relay.queue.claiming import Claimer
from relay.queue.claims import ClaimRequest, Claims
from relay.queue.group import RelayGroup
from relay.queue.signing_keys import SigningKeys
from relay.queue.stats import QueueSnapshot, QueueStats

T = TypeVar("T")

_RENEW = statement("renew", __package__)
_RELEASE = statement("release", __package__)
_GIVE_BACK = statement("give_back", __package__)
_BODY_LIMITS = statement("body_limits", __package__)

_EXPIRE_SLICE = 500


class DeliveryQueue:
    """One relay's view of a database. Claims and settlements are batches: one transaction, one fsync each.

    `lease` is in seconds. A holder's name is part of each of its lease tokens.
    """

    def __init__(self, database: Database, lease: float = 60.0) -> None:
        self._is_distant = database.is_distant
        self._lease = lease
        self._clock = database.now
        self._holder = secrets.token_hex(8)
        self._writer = database.writer()
        self._reader = self._writer.reader()
        self._slow_reader = database.reader(slow=True)
        self._body_reader = database.body_reader()
        self._keys = SigningKeys(self._reader, database.now)
        self._bodies = ClaimedBodies(self._reader, self._body_reader)
        self._claimer = Claimer(database, self._writer, self._reader, self._keys, self._bodies, lease, self._holder)
        self.group = RelayGroup(self._writer, self._reader, database.now, self._holder)
        self._stats = QueueStats(database)
        self._ended = Counter[Reason]()

    async def claim(self, request: ClaimRequest) -> Claims:
        """Lease due deliveries, as many as the caller has room for, in turn."""
        return await self._claimer.claim(request)

    async def _read(self, sql: str, **values: object) -> list[Any]:
        return await self._reader.run(lambda connection: connection.execute(sql, values).fetchall())

    async def settle(self, attempts: Sequence[Attempted]) -> frozenset[Lease]:
        """Write the ends of some attempts; returns the leases that were stale, for which nothing was changed."""
        for attempt in attempts:  # what was refused or sent as a link never asked for its body
            self._bodies.drop(attempt.delivery.lease.seq)
        self._claimer.look_again()
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
        """Give claims back. Those that may have been `sent` in part get a fresh number next time; of the others a power
        cut may undo that, as their leases run out."""
        values: list[dict[str, object]] = []
        self._claimer.look_again()
        for lease in leases:
            self._bodies.drop(lease.seq)
            values.append({"seq": lease.seq, "token": lease.token})
        await self._writer.run(
            lambda connection: connection.executemany(_RELEASE if sent else _GIVE_BACK, values), durable=sent
        )

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

    async def with_body(self, delivery: Delivery, use: Callable[[bytes], T]) -> T:
        """What `use` makes of the body's bytes, the same on every attempt; of large ones in another thread."""
        return await self._bodies.use(delivery, use)

    async def body_limits(self, origin: str, path: str) -> BodyLimits:
        """What is known of an endpoint's body limit."""
        return BodyLimits(*(await self._read(_BODY_LIMITS, origin=origin, path=path))[0])

    async def keys(self, origin: str) -> tuple[SigningKey, ...]:
        """What signs for a destination now: a rotation counts at once, give or take 50 ms."""
        return await self._keys.of(origin)

    def now(self) -> float:
        """What time it is for those who decide what is due."""
        return self._clock()

    async def next_due(self) -> float | None:
        """When a claim is worth while again: now, if something is ready; None while nothing waits for its time."""
        return await self._claimer.next_due()

    async def snapshot(self, slots: int) -> QueueSnapshot:
        """The gauges, counted beside everything else. A destination has that many `slots`."""
        now = self._clock()
        return await self._slow_reader.run(lambda connection: self._stats.snapshot(connection, now, slots))

    async def close(self) -> None:
        for connection in (self._reader, self._slow_reader, self._body_reader, self._writer):
            await connection.close()
