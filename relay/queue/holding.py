"""What is held: deliveries to destinations in trouble, which are asked in turn what they allow.

A delivery is held because of its endpoint or of the whole origin. Each of these has a row, and in it the time when it
is asked next; it has none while nothing waits for it. So what a claim costs does not depend on how many are held.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.outbox.queries import statement
from relay.outbox.store import Connection
from relay.policy.breaker import Health, Standing
from relay.policy.fairness import different_first, in_turn
from relay.queue.claims import ClaimBatch, ClaimRequest, DestinationKey

READY, HELD = 0, 1
"""Lanes of what is pending."""

_SET_LANE = statement("set_lane", __package__)
_ARM = statement("arm", __package__)
_TURNS = statement("turns", __package__)
_HEALTHS = statement("healths", __package__)
_HELD_ENDPOINTS = statement("held_endpoints", __package__)
_HELD_HEADS = statement("held_heads", __package__)
_HAD_TURN = statement("had_turn", __package__)
_FORGET = statement("forget_destination", __package__)

_SLICE = 256  # deliveries of one destination that become ready at once, when it is well again
_MOST = 17  # that are looked at of one that is held: one more than ever go at once
_ENDPOINTS = 16  # of one origin
_AGAIN_SECONDS = 1.0
_ASKED = 64  # destinations that one claim asks, besides those that may not answer


@dataclass(slots=True)
class _HeldDestination:
    """A held destination, as one claim sees and leaves it."""

    state: str
    held: bool
    tried: bool
    owner: str
    health: Health
    in_flight: int
    turn_at: float | None = None
    asked: bool = False

    @property
    def stopped(self) -> bool:
        return self.state != "active"

    @property
    def standing(self) -> Standing:
        if not self.tried:
            return Standing.UNTRIED
        return Standing.SILENT if self.health.silent else Standing.ANSWERS


Head = tuple[int, float, str]
"""A seq, when it was due, and its URL."""


class Holder:
    """Remembers whose turn it is among those in trouble."""

    def __init__(self) -> None:
        self._owner = dict.fromkeys(Standing, "")
        self._path: dict[str, str] = {}
        self.crowded = False
        """Some that were never tried wait, and whoever comes behind them does too."""

    def pass_over(self) -> None:
        """Nothing that is held has its turn."""
        self.crowded = False

    def meet_crowd(self) -> None:
        """Of those that were never tried, some that are ready have no room either."""
        self.crowded = True

    def ask(self, connection: Connection, request: ClaimRequest, batch: ClaimBatch, now: float) -> bool:
        """Take what held destinations allow, in turn, and let those go free that are well again; returns whether there
        is more to do at once."""
        slow = self._turns(connection, Standing.ANSWERS, _ASKED, now)
        untried = self._turns(connection, Standing.UNTRIED, (request.untried + 1) // 2, now)
        self.crowded = bool(untried) if request.untried else self.crowded
        keys = [*slow, *untried, *self._turns(connection, Standing.SILENT, request.silent, now)]
        if not keys:
            return False
        rows = _rows(connection, keys)
        asked = [key for key in keys if key in rows]
        going = [key for key in asked if not _is_stopped(rows, key)]
        well = [key for key in asked if not rows[key].held]
        freed = self._free(connection, well, rows, self._heads(connection, [p for p in going if p in well], _SLICE))
        heads = self._heads(connection, [key for key in going if key not in well], _MOST)
        batch.seqs += self._choose(asked, rows, heads, request, now)
        batch.standing |= {_whose(rows, key): _standing(rows, key) for key in asked}
        _leave(connection, rows)
        return freed or len(slow) == _ASKED

    def _turns(self, connection: Connection, standing: Standing, room: int, now: float) -> list[DestinationKey]:
        if room <= 0:
            return []
        values: dict[str, Any] = {"after": self._owner[standing], "now": now, "each": room, "room": room}
        values |= {"silent": standing is not Standing.ANSWERS, "tried": standing is not Standing.UNTRIED}
        found = gathered(connection, _TURNS, **values)
        if self._owner[standing] and len(found) < room:
            found += gathered(connection, _TURNS, **values | {"after": ""})
        by_owner: dict[str, dict[DestinationKey, None]] = {}
        for owner, origin, path in found:
            by_owner.setdefault(owner, {})[origin, path] = None
        first = by_owner.pop(self._owner[standing], {})
        owners = [*by_owner.items(), (self._owner[standing], first)] if first else [*by_owner.items()]
        taken: list[tuple[str, DestinationKey]] = []
        for item in in_turn([(owner, key) for key in keys] for owner, keys in owners):
            if len(taken) < room:
                taken.append(item)
        reached = {owner for owner, _ in taken}
        self._owner[standing] = next((owner for owner, _ in reversed(owners) if owner in reached), "")
        return list(dict.fromkeys(key for _, key in taken))

    def _heads(
        self, connection: Connection, keys: Sequence[DestinationKey], cap: int
    ) -> dict[DestinationKey, list[Head]]:
        """What is first in line for each: for an origin, of all its endpoints that are not held themselves."""
        origins = [origin for origin, path in keys if not path]
        wanted = [(origin, self._path.get(origin, "")) for origin in origins]
        found = _endpoints(connection, wanted)
        found += _endpoints(connection, [(origin, "") for origin, after in wanted if after])
        endpoints = list(dict.fromkeys([*(key for key in keys if key[1]), *found]))
        if not endpoints:
            return {}
        found_heads = gathered(connection, _HELD_HEADS, keys=json.dumps(endpoints), cap=cap)
        heads = dict(zip(endpoints, found_heads, strict=True))
        result: dict[DestinationKey, list[Head]] = {key: heads[key] for key in keys if key[1]}
        for origin in origins:
            own = {path: heads[origin, path] for of, path in dict.fromkeys(found) if of == origin}
            result[origin, ""] = [*in_turn(own.values())]
            self._path[origin] = next(reversed(own), "")
        return result

    @staticmethod
    def _free(
        connection: Connection,
        well: Iterable[DestinationKey],
        rows: Mapping[DestinationKey, _HeldDestination],
        heads: Mapping[DestinationKey, Sequence[Head]],
    ) -> bool:
        """Those that are well let a slice go; returns whether any did."""
        seqs: list[int] = []
        for key in well:
            freed = [seq for seq, _, _ in heads.get(key, ())][:_SLICE]
            seqs += freed
            rows[key].turn_at = 0.0 if freed else None
            rows[key].asked = True
        set_lane(connection, READY, seqs)
        return bool(seqs)

    @staticmethod
    def _choose(
        asked: Iterable[DestinationKey],
        rows: Mapping[DestinationKey, _HeldDestination],
        heads: Mapping[DestinationKey, Sequence[Head]],
        request: ClaimRequest,
        now: float,
    ) -> list[int]:
        room = {
            Standing.ANSWERS: max(1, request.room // 4),
            Standing.UNTRIED: (request.untried + 1) // 2,
            Standing.SILENT: request.silent,
        }
        lines: list[list[tuple[DestinationKey, int]]] = []
        for key in asked:
            row = rows[key]
            if row.held:
                row.asked = True
                waiting = [] if _is_stopped(rows, key) else heads.get(key, [])
                urls = different_first(waiting, [url for _, _, url in waiting])
                lines.append([(key, seq) for seq, _, _ in urls])
        free = _allowances(asked, rows, request, now)
        chosen: dict[DestinationKey, list[int]] = {}
        whole = Counter[str]()
        for key, seq in in_turn(lines):
            standing = _standing(rows, key)
            limit = free.get((key[0], ""), request.room)
            if len(chosen.get(key, ())) >= free[key] or whole[key[0]] >= limit or room[standing] <= 0:
                continue
            chosen.setdefault(key, []).append(seq)
            whole[key[0]] += 1
            room[standing] -= 1
        for line in lines:
            if line:
                _settle(rows, line[0][0], len(line), len(chosen.get(line[0][0], ())), now)
        return [seq for seqs in chosen.values() for seq in seqs]


def _allowances(
    asked: Iterable[DestinationKey], rows: Mapping[DestinationKey, _HeldDestination], request: ClaimRequest, now: float
) -> dict[DestinationKey, int]:
    """What each allows, and its origin where that is held too."""
    several = dict.fromkeys([*asked, *((origin, "") for origin, _ in asked)])
    return {
        key: rows[key].health.allows(now, rows[key].in_flight, request.few if rows[key].tried else 1)
        for key in several
        if key in rows and rows[key].held
    }


def _settle(
    rows: Mapping[DestinationKey, _HeldDestination], key: DestinationKey, waiting: int, count: int, now: float
) -> None:
    """After its turn: what went of what waits, and when it is asked again."""
    row, whole = rows[key], rows.get((key[0], ""))
    row.health = row.health.went(count, now) if count else row.health
    row.held = row.health.held
    row.turn_at = _next_turn(row, now, came_short=not count) if waiting > count or not row.held else None
    if key[1] and whole is not None and whole.held:
        whole.health = whole.health.went(count, now) if count else whole.health
        whole.asked = True
        whole.turn_at = now
        if row.turn_at is not None:
            row.turn_at = max(row.turn_at, _next_turn(whole, now, came_short=not count))


def _next_turn(row: _HeldDestination, now: float, *, came_short: bool) -> float:
    asks_at = row.health.asks_at(now)
    return now + _AGAIN_SECONDS if came_short and asks_at <= now else asks_at


def _is_stopped(rows: Mapping[DestinationKey, _HeldDestination], key: DestinationKey) -> bool:
    whole = rows.get((key[0], ""))
    return rows[key].stopped or (whole is not None and whole.stopped)


def _standing(rows: Mapping[DestinationKey, _HeldDestination], key: DestinationKey) -> Standing:
    return rows[_whose(rows, key)].standing


def _whose(rows: Mapping[DestinationKey, _HeldDestination], key: DestinationKey) -> DestinationKey:
    """Of an endpoint and its origin the one that decides how it stands: the origin, unless that answers."""
    whole = rows.get((key[0], ""))
    return key if whole is None or whole.standing is Standing.ANSWERS else (key[0], "")


def _rows(connection: Connection, keys: Sequence[DestinationKey]) -> dict[DestinationKey, _HeldDestination]:
    """These destinations, and the origins that they belong to."""
    wanted = dict.fromkeys([*keys, *((origin, "") for origin, _ in keys)])
    found: dict[DestinationKey, _HeldDestination] = {}
    for origin, path, state, held, tried, owner, *health, in_flight in connection.execute(
        _HEALTHS, {"keys": json.dumps(list(wanted))}
    ):
        found[origin, path] = _HeldDestination(state, bool(held), bool(tried), owner, health_of(health), in_flight)
    return found


def health_of(row: Sequence[Any]) -> Health:
    """From the columns of a destination, in their order."""
    silent, failures, is_open, starts, rate, every, slowed_at, allowed_at = row
    return Health(bool(silent), failures, bool(is_open), tuple(json.loads(starts)), rate, every, slowed_at, allowed_at)


def _leave(connection: Connection, rows: Mapping[DestinationKey, _HeldDestination]) -> None:
    for (origin, path), row in rows.items():
        if not row.asked:
            continue
        health = row.health
        values = {
            "origin": origin,
            "path": path,
            "held": int(row.held or row.stopped),
            "starts": json.dumps(health.starts),
            "rate": health.rate,
            "every": health.every,
            "allowed_at": health.allowed_at,
            "turn_at": row.turn_at,
        }
        connection.execute(_HAD_TURN, values)
        if path and not row.held and row.turn_at is None:
            connection.execute(_FORGET, values)


def _endpoints(connection: Connection, origins: Sequence[tuple[str, str]]) -> list[DestinationKey]:
    if not origins:
        return []
    found = gathered(connection, _HELD_ENDPOINTS, origins=json.dumps(origins), room=_ENDPOINTS)
    return [(origin, path) for origin, path in found]


def set_lane(connection: Connection, lane: int, seqs: Sequence[int]) -> None:
    """Have some that are pending stand in a lane from now on."""
    if seqs:
        connection.execute(_SET_LANE, {"lane": lane, "seqs": json.dumps(seqs)})


def arm(connection: Connection, keys: Mapping[DestinationKey, str], now: float, *, tried: bool = True) -> None:
    """Have these destinations asked for what waits for them; each with the owner of some of it."""
    if keys:
        rows = [(origin, path, owner, int(tried)) for (origin, path), owner in keys.items()]
        connection.execute(_ARM, {"keys": json.dumps(rows), "now": now})


def gathered(connection: Connection, sql: str, **values: object) -> Any:
    """The one value of a statement that gathers all it finds: cheaper than a row for each."""
    return json.loads(connection.execute(sql, values).fetchone()[0])
