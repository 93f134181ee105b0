"""Claims: what a relay leases of what is due, in one transaction, and where all may simply go in one statement.

A claim looks first, so that the poll of an idle relay takes no write lock. What was claimed is read row by row once
that is committed; a claim whose end nobody heard of is released with the next one.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from relay.outbox.model import Kind, Method
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database, Reader, Writer
from relay.policy.attempt import Delivery, Lease
from relay.queue.bodies import Claimed, ClaimedBodies
from relay.queue.choosing import Chooser
from relay.queue.claims import READY_ALONE, ClaimBatch, ClaimRequest, Claims, DestinationKey, DueLanes, Group
from relay.queue.foresight import CLAIM_READY, Foresight
from relay.queue.holding import HELD, Holder
from relay.queue.signing_keys import SigningKeys
from relay.queue.turns import Turns

_ANYTHING_TO_DO = statement("anything_to_do", __package__)
_RENEW = statement("renew", __package__)
_SWEEP = statement("sweep", __package__)
_RELEASE_LOST_CLAIM = statement("release_lost_claim", __package__)
_CLAIMED = statement("claimed", __package__)
_BLOCKED = statement("blocked", __package__)
_GONE = statement("gone", __package__)

_SMALL = 8 * 1024
_due = itemgetter(11, 0)  # of a claimed row: its due_at, and its seq
# A string is looked up for every row otherwise.
_METHODS = {method.value: method for method in Method}
_KINDS = {kind.value: kind for kind in Kind}

_Blocked = tuple[frozenset[DestinationKey], frozenset[DestinationKey]]
"""Endpoints that are held, and those of them that an operator stopped."""


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


class Claimer:
    """Claims for one relay. `lease` is in seconds; the `holder`'s name is part of each of its lease tokens."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        reader: Reader,
        keys: SigningKeys,
        bodies: ClaimedBodies,
        lease: float,
        holder: str,
    ) -> None:
        self._is_distant = database.is_distant
        self._clock = database.now
        self._writer = writer
        self._reader = reader
        self._keys = keys
        self._bodies = bodies
        self._lease = lease
        self._holder = holder
        turns, held = Turns(), Holder()
        self._chooser = Chooser(turns, held, lease)
        self._foresight = Foresight(turns, held)
        self._claims = 0
        self._in_doubt: set[str] = set()
        self._outlook: _Outlook | None = None  # what the claim that found nothing saw
        self._ready: _Outlook | None = None  # what was seen after the last claim, if something was ready then

    async def claim(self, request: ClaimRequest) -> Claims:
        """Lease due deliveries, as many as the caller has room for, in turn."""
        now = self._clock()
        seen, self._ready = self._ready, None
        outlook = seen or await self._look()
        lanes, lapsed = outlook.due_lanes(now), _is_past(outlook.lease_until, now)
        is_plain = seen is not None and lanes == READY_ALONE and not lapsed and not self._in_doubt
        if is_plain and self._is_distant and (asked := self._foresight.foresee(request)):
            return await self._lease_foreseen(request, asked, now)
        if self._in_doubt or lapsed or lanes.ready or lanes.due or lanes.held:
            return await self._lease_due(request, lanes, now, sweep=lapsed)
        self._outlook = outlook
        held = request.ahead
        blocked, stopped = await self._reader.run(lambda connection: _blocked(connection, held))
        return Claims(blocked=blocked, stopped=stopped)

    async def next_due(self) -> float | None:
        """When a claim is worth while again: now, if something is ready; None while nothing waits for its time."""
        outlook, self._outlook = self._outlook or self._ready or await self._look(), None
        self._ready = outlook if outlook.ready else None
        return self._clock() if outlook.ready else outlook.next_at()

    def look_again(self) -> None:
        """Something was settled or given back: what was seen before it says nothing of when the next is due."""
        self._outlook = None

    async def _lease_due(self, request: ClaimRequest, lanes: DueLanes, now: float, *, sweep: bool) -> Claims:
        token, in_doubt = self._token(), frozenset(self._in_doubt)
        held = request.held() if sweep else ()

        def lease(connection: Connection) -> tuple[int, ClaimBatch]:
            for lost in in_doubt:
                connection.execute(_RELEASE_LOST_CLAIM, {"token": lost})
            lapsed = self._sweep(connection, held, now) if sweep else 0
            freed = lapsed or in_doubt
            return lapsed, self._chooser.lease(connection, request, DueLanes() if freed else lanes, token, now)

        def read(connection: Connection) -> tuple[list[Claimed], _Blocked]:
            self._keys.look(connection)  # what is claimed after a rotation is signed by the new keys
            return _claimed(connection, batch.seqs, token), _blocked(connection, request.ahead)

        self._in_doubt.add(token)  # until it is known what was leased under it
        # A claim that a power cut undoes is one that was never made: nothing of its attempts is durable before it is.
        lapsed, batch = await self._writer.run(lease, durable=False)
        self._in_doubt -= in_doubt
        self._chooser.note_committed(batch)
        self._foresight.see(batch.groups)
        claimed, (blocked, stopped) = await self._reader.run(read)
        self._in_doubt.discard(token)
        deliveries = self._bodies.keep(claimed)
        return Claims(deliveries, lapsed, blocked, stopped, batch.standing, batch.left, batch.more, batch.pause)

    def _sweep(self, connection: Connection, held: Iterable[Lease], now: float) -> int:
        """Free what has run out; returns how many. Not what is held here and could not be renewed in time, as after a
        clock was set forward: the same relay would send it twice at once."""
        seqs = json.dumps([lease.seq for lease in held])
        connection.execute(_RENEW, {"seqs": seqs, "until": now + self._lease, "holder": self._holder})
        return connection.execute(_SWEEP, {"now": now}).rowcount

    async def _lease_foreseen(self, request: ClaimRequest, asked: Counter[Group], now: float) -> Claims:
        """The same in one round trip, where all that is ready may simply go."""
        token = self._token()
        values = self._foresight.wanted(request, asked) | {"small": _SMALL, "now": now}
        values |= {"token": token, "until": now + self._lease}
        self._in_doubt.add(token)
        rows = await self._writer.execute(CLAIM_READY, values, durable=False)
        outlook, groups, held, version = json.loads(rows[0][-1])
        leased = [row[:-1] for row in rows if row[0] is not None]
        gone: frozenset[str] = frozenset()
        if any(row[-2] for row in leased):
            gone = await self._reader.run(lambda connection: _gone_of(connection, leased))
        self._in_doubt.discard(token)
        claimed = _claimed_of(leased, token, gone)
        came = Counter((delivery.owner, *delivery.endpoint) for delivery, _ in claimed)
        left, more = self._foresight.note(request, asked, came, groups)
        if self._foresight:
            self._ready = _Outlook(*outlook)
        self._keys.note_version(version)
        blocked, stopped = _blocked_of(held)
        return Claims(self._bodies.keep(claimed), blocked=blocked, stopped=stopped, left=left, more=more)

    async def _look(self) -> _Outlook:
        ((ready, *times),) = await self._reader.run(lambda connection: connection.execute(_ANYTHING_TO_DO).fetchall())
        return _Outlook(bool(ready), *times)

    def _token(self) -> str:
        self._claims += 1
        return f"{self._holder}.{self._claims}"


def _is_past(moment: float | None, now: float) -> bool:
    return moment is not None and moment <= now


def _blocked(connection: Connection, keys: Iterable[DestinationKey]) -> _Blocked:
    """Which of these endpoints may not have what was claimed for them."""
    wanted = list(keys)
    return _blocked_of(connection.execute(_BLOCKED, {"keys": json.dumps(wanted)}).fetchall() if wanted else ())


def _blocked_of(rows: Iterable[Sequence[Any]]) -> _Blocked:
    found = {(origin, path): bool(stopped) for origin, path, stopped in rows}
    return frozenset(found), frozenset(key for key, stopped in found.items() if stopped)


def _claimed(connection: Connection, seqs: Sequence[int], token: str) -> list[Claimed]:
    """What was leased under a token, in the order in which it was due."""
    if not seqs:
        return []
    rows = connection.execute(_CLAIMED, {"seqs": json.dumps(seqs), "token": token, "small": _SMALL}).fetchall()
    rows.sort(key=_due)
    return _claimed_of(rows, token, _gone_of(connection, rows))


def _gone_of(connection: Connection, rows: Iterable[Sequence[Any]]) -> frozenset[str]:
    """Which URLs among claimed rows answered 410."""
    urls = [row[3] for row in rows if row[-2]]
    known = {url: connection.execute(_GONE, {"sha256": fingerprint(url)}).fetchone() for url in urls}
    return frozenset(url for url, since in known.items() if since is not None)


def _claimed_of(rows: Iterable[Sequence[Any]], token: str, gone: Container[str]) -> list[Claimed]:
    """What claimed rows say, of which these URLs answered 410."""
    return [_claimed_row(row, token, gone) for row in rows]


def _claimed_row(row: Sequence[Any], token: str, gone: Container[str]) -> Claimed:
    seq, id_, origin, url, method, kind, content_type, headers, *rest, lane, _, body = row
    rest += (lane == HELD, url in gone)
    delivery = Delivery(
        Lease(seq, token),
        id_,
        origin,
        url,
        _METHODS[method],
        _KINDS[kind],
        content_type,
        json.loads(headers) if headers != "{}" else {},
        *rest,
    )
    return delivery, body


def fingerprint(url: str) -> str:
    """By which a URL that answered 410 is known: it may hold secrets."""
    return hashlib.sha256(url.encode()).hexdigest()
