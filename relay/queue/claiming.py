"""Which deliveries go next: inside one write transaction, fair between destinations, flat in their backlogs.

The transaction runs in the writer's thread beside a busy event loop. Each row that a statement returns there costs a
turn at the interpreter lock, so statements gather what they find into one JSON value; what was claimed is read row by
row afterwards, in the loop.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from relay.outbox.model import Kind, Method
from relay.outbox.queries import statement
from relay.outbox.store import Connection
from relay.policy.attempt import Delivery, Lease
from relay.policy.fairness import share

_DUE_DESTINATIONS = statement("due_destinations", __package__)
_IN_FLIGHT = statement("in_flight", __package__)
_CANDIDATES = statement("candidates", __package__)
_BLOCKED = statement("blocked", __package__)
_LEASE = statement("lease", __package__)
_CLAIMED = statement("claimed", __package__)
_ORIGIN = statement("origin", __package__)

_LAST_ID = 2**63 - 1
_SMALL = 8 * 1024
# A string is looked up for every row otherwise.
_METHODS = {method.value: method for method in Method}
_KINDS = {kind.value: kind for kind in Kind}

Claimed = tuple[Delivery, bytes | None]
"""A delivery, and its body where that is small."""


class Claimer:
    """Remembers whose turn it is, and the names of destinations."""

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._last_served = 0
        self._origins: dict[int, str] = {}
        self._ids: dict[str, int] = {}

    def due(self, connection: Connection, room: int, now: float) -> dict[int, bool]:
        """Destinations with something due, and whether they are on probation: round robin after the last one."""
        after = {"after": self._last_served, "until": _LAST_ID, "room": room, "now": now}
        due = _json(connection, _DUE_DESTINATIONS, after)
        before = {"after": 0, "until": self._last_served, "room": room - len(due), "now": now}
        due += _json(connection, _DUE_DESTINATIONS, before) if self._last_served else []
        return {id_: bool(on_probation) for id_, on_probation in due}

    def choose(self, connection: Connection, room: int, free: Mapping[str, int], most: int, now: float) -> list[int]:
        """The seqs to lease: at most `room`, and of each destination `free[origin]`, or `most` where none is named."""
        due = self.due(connection, room + len(free), now)
        quota = {id_: free.get(self.origin(connection, id_), most) for id_ in due}
        quota |= self._probes(connection, due)
        turn = [id_ for id_ in due if quota[id_] > 0][:room]
        # Full ones have had their turn too: they must not hide those behind them from the next claim.
        self._last_served = turn[-1] if turn else next(reversed(due), self._last_served)
        if not turn:
            return []
        # Twice an even share each: enough to fill the room although some have less, and no more than that is read.
        deepest = 2 * -(-room // len(turn))
        depths = {id_: min(quota[id_], deepest) for id_ in turn}
        return share(room, _candidates(connection, depths, now), depths)

    @staticmethod
    def _probes(connection: Connection, due: Mapping[int, bool]) -> dict[int, int]:
        """One delivery at a time, over all relays, to a destination that has yet to prove itself."""
        if not any(due.values()):
            return {}
        busy = dict(connection.execute(_IN_FLIGHT).fetchall())
        return {id_: 0 if busy.get(id_) else 1 for id_, on_probation in due.items() if on_probation}

    def lease(
        self, connection: Connection, room: int, free: Mapping[str, int], most: int, token: str, now: float
    ) -> list[int]:
        """Choose, and claim what was chosen under a token; returns the seqs."""
        seqs = self.choose(connection, room, free, most, now)
        if seqs:
            connection.execute(_LEASE, {"token": token, "until": now + self._lease, "seqs": json.dumps(seqs)})
        return seqs

    def claimed(self, connection: Connection, seqs: list[int], token: str) -> list[Claimed]:
        """What was leased under a token, in the order in which it was due."""
        if not seqs:
            return []
        rows = connection.execute(_CLAIMED, {"seqs": json.dumps(seqs), "small": _SMALL})
        return [self._claimed(connection, row, token) for row in rows]

    def _claimed(self, connection: Connection, row: Sequence[Any], token: str) -> Claimed:
        seq, id_, destination_id, url, method, kind, content_type, headers, *rest, body = row
        delivery = Delivery(
            Lease(seq, token),
            id_,
            self.origin(connection, destination_id),
            url,
            _METHODS[method],
            _KINDS[kind],
            content_type,
            json.loads(headers) if headers != "{}" else {},
            *rest,
        )
        return delivery, body

    def origin(self, connection: Connection, destination_id: int) -> str:
        """The name of a destination, which never changes."""
        if destination_id not in self._origins:
            origin: str = connection.execute(_ORIGIN, {"id": destination_id}).fetchone()[0]
            self._origins[destination_id] = origin
            self._ids[origin] = destination_id
        return self._origins[destination_id]

    def blocked(self, connection: Connection, origins: Iterable[str], now: float) -> frozenset[str]:
        """Which of these destinations must be left alone now: paused, disabled, or their breaker opened."""
        ids = [self._ids[origin] for origin in origins if origin in self._ids]
        rows = connection.execute(_BLOCKED, {"ids": json.dumps(ids), "now": now}).fetchall() if ids else ()
        return frozenset(self._origins[id_] for (id_,) in rows)


def _json(connection: Connection, sql: str, values: Mapping[str, object]) -> Any:
    """The one value of a statement that gathers all it finds: a row for each would cost a turn of the interpreter."""
    return json.loads(connection.execute(sql, values).fetchone()[0])


def _candidates(connection: Connection, depths: Mapping[int, int], now: float) -> dict[int, list[int]]:
    """The heads of the queues of some destinations, at least as deep as asked."""
    queues: dict[int, list[int]] = {}
    for cap, destinations in _by_power_of_four(depths).items():
        values = {"destinations": json.dumps(destinations), "cap": cap, "now": now}
        queues |= {int(id_): seqs for id_, seqs in _json(connection, _CANDIDATES, values).items()}
    return queues


def _by_power_of_four(depths: Mapping[int, int]) -> dict[int, list[int]]:
    """A handful of queries whatever the depths are, because a query has one LIMIT for all its destinations."""
    groups: dict[int, list[int]] = defaultdict(list)
    for destination, depth in depths.items():
        groups[4 ** ((depth - 1).bit_length() + 1 >> 1)].append(destination)
    return groups
