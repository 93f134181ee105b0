"""What is held: deliveries to destinations in trouble, which are asked in turn what they allow.

A delivery is held because of its endpoint or of the whole origin. Each of these has a row, and in it the time when it
is asked next; it has none while nothing waits for it. So what a claim costs does not depend on how many are held.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.outbox.queries import statement
from relay.outbox.store import Connection
from relay.policy.breaker import Health, Standing
from relay.policy.fairness import different_first, in_turn

if TYPE_CHECKING:
    from relay.queue.claiming import Place, Taken, Wanted

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
        self.crowded = False  # some that were never tried wait, and whoever comes behind them does too

    def ask(self, connection: Connection, wanted: Wanted, taken: Taken, now: float) -> bool:
        """Take what held destinations allow, in turn, and let those go free that are well again; returns whether there
        is more to do at once."""
        slow = self._turns(connection, Standing.ANSWERS, _ASKED, now)
        untried = self._turns(connection, Standing.UNTRIED, (wanted.untried + 1) // 2, now)
        self.crowded = bool(untried) if wanted.untried else self.crowded
        places = [*slow, *untried, *self._turns(connection, Standing.SILENT, wanted.silent, now)]
        if not places:
            return False
        rows = _rows(connection, places)
        asked = [place for place in places if place in rows]
        going = [place for place in asked if not _is_stopped(rows, place)]
        well = [place for place in asked if not rows[place].held]
        freed = self._free(connection, well, rows, self._heads(connection, [p for p in going if p in well], _SLICE))
        heads = self._heads(connection, [place for place in going if place not in well], _MOST)
        taken.seqs += self._choose(asked, rows, heads, wanted, now)
        taken.standing |= {_whose(rows, place): _standing(rows, place) for place in asked}
        _leave(connection, rows)
        return freed or len(slow) == _ASKED

    def _turns(self, connection: Connection, standing: Standing, room: int, now: float) -> list[Place]:
        if room <= 0:
            return []
        values: dict[str, Any] = {"after": self._owner[standing], "now": now, "each": room, "room": room}
        values |= {"silent": standing is not Standing.ANSWERS, "tried": standing is not Standing.UNTRIED}
        found = gathered(connection, _TURNS, **values)
        if self._owner[standing] and len(found) < room:
            found += gathered(connection, _TURNS, **values | {"after": ""})
        by_owner: dict[str, dict[Place, None]] = {}
        for owner, origin, path in found:
            by_owner.setdefault(owner, {})[origin, path] = None
        first = by_owner.pop(self._owner[standing], {})
        owners = [*by_owner.items(), (self._owner[standing], first)] if first else [*by_owner.items()]
        taken: list[tuple[str, Place]] = []
        for item in in_turn([(owner, place) for place in places] for owner, places in owners):
            if len(taken) < room:
                taken.append(item)
        reached = {owner for owner, _ in taken}
        self._owner[standing] = next((owner for owner, _ in reversed(owners) if owner in reached), "")
        return list(dict.fromkeys(place for _, place in taken))

    def _heads(self, connection: Connection, places: Sequence[Place], cap: int) -> dict[Place, list[Head]]:
        """What is first in line for each: for an origin, of all its endpoints that are not held themselves."""
        origins = [origin for origin, path in places if not path]
        wanted = [(origin, self._path.get(origin, "")) for origin in origins]
        found = _endpoints(connection, wanted)
        found += _endpoints(connection, [(origin, "") for origin, after in wanted if after])
        endpoints = list(dict.fromkeys([*(place for place in places if place[1]), *found]))
        if not endpoints:
            return {}
        found_heads = gathered(connection, _HELD_HEADS, places=json.dumps(endpoints), cap=cap)
        heads = dict(zip(endpoints, found_heads, strict=True))
        result: dict[Place, list[Head]] = {place: heads[place] for place in places if place[1]}
        for origin in origins:
            own = {path: heads[place, path] for place, path in dict.fromkeys(found) if place == origin}
            result[origin, ""] = [*in_turn(own.values())]
            self._path[origin] = next(reversed(own), "")
        return result

    @staticmethod
    def _free(
        connection: Connection,
        well: Iterable[Place],
        rows: Mapping[Place, _HeldDestination],
        heads: Mapping[Place, Sequence[Head]],
    ) -> bool:
        """Those that are well let a slice go; returns whether any did."""
        seqs: list[int] = []
        for place in well:
            freed = [seq for seq, _, _ in heads.get(place, ())][:_SLICE]
            seqs += freed
            rows[place].turn_at = 0.0 if freed else None
            rows[place].asked = True
        set_lane(connection, READY, seqs)
        return bool(seqs)

    @staticmethod
    def _choose(
        asked: Iterable[Place],
        rows: Mapping[Place, _HeldDestination],
        heads: Mapping[Place, Sequence[Head]],
        wanted: Wanted,
        now: float,
    ) -> list[int]:
        room = {
            Standing.ANSWERS: max(1, wanted.room // 4),
            Standing.UNTRIED: (wanted.untried + 1) // 2,
            Standing.SILENT: wanted.silent,
        }
        lines: list[list[tuple[Place, int]]] = []
        for place in asked:
            row = rows[place]
            if row.held:
                row.asked = True
                waiting = [] if _is_stopped(rows, place) else heads.get(place, [])
                urls = different_first(waiting, [url for _, _, url in waiting])
                lines.append([(place, seq) for seq, _, _ in urls])
        free = _allowances(asked, rows, wanted, now)
        chosen: dict[Place, list[int]] = {}
        whole = Counter[str]()
        for place, seq in in_turn(lines):
            standing = _standing(rows, place)
            limit = free.get((place[0], ""), wanted.room)
            if len(chosen.get(place, ())) >= free[place] or whole[place[0]] >= limit or room[standing] <= 0:
                continue
            chosen.setdefault(place, []).append(seq)
            whole[place[0]] += 1
            room[standing] -= 1
        for line in lines:
            if line:
                _settle(rows, line[0][0], len(line), len(chosen.get(line[0][0], ())), now)
        return [seq for seqs in chosen.values() for seq in seqs]


def _allowances(
    asked: Iterable[Place], rows: Mapping[Place, _HeldDestination], wanted: Wanted, now: float
) -> dict[Place, int]:
    """What each allows, and its origin where that is held too."""
    several = dict.fromkeys([*asked, *((origin, "") for origin, _ in asked)])
    return {
        place: rows[place].health.allows(now, rows[place].in_flight, wanted.few if rows[place].tried else 1)
        for place in several
        if place in rows and rows[place].held
    }


def _settle(rows: Mapping[Place, _HeldDestination], place: Place, waiting: int, count: int, now: float) -> None:
    """After its turn: what went of what waits, and when it is asked again."""
    row, whole = rows[place], rows.get((place[0], ""))
    row.health = row.health.went(count, now) if count else row.health
    row.held = row.health.held
    row.turn_at = _next_turn(row, now, came_short=not count) if waiting > count or not row.held else None
    if place[1] and whole is not None and whole.held:
        whole.health = whole.health.went(count, now) if count else whole.health
        whole.asked = True
        whole.turn_at = now
        if row.turn_at is not None:
            row.turn_at = max(row.turn_at, _next_turn(whole, now, came_short=not count))


def _next_turn(row: _HeldDestination, now: float, *, came_short: bool) -> float:
    asks_at = row.health.asks_at(now)
    return now + _AGAIN_SECONDS if came_short and asks_at <= now else asks_at


def _is_stopped(rows: Mapping[Place, _HeldDestination], place: Place) -> bool:
    whole = rows.get((place[0], ""))
    return rows[place].stopped or (whole is not None and whole.stopped)


def _standing(rows: Mapping[Place, _HeldDestination], place: Place) -> Standing:
    return rows[_whose(rows, place)].standing


def _whose(rows: Mapping[Place, _HeldDestination], place: Place) -> Place:
    """Of an endpoint and its origin the one that decides how it stands: the origin, unless that answers."""
    whole = rows.get((place[0], ""))
    return place if whole is None or whole.standing is Standing.ANSWERS else (place[0], "")


def _rows(connection: Connection, places: Sequence[Place]) -> dict[Place, _HeldDestination]:
    """These destinations, and the origins that they belong to."""
    wanted = dict.fromkeys([*places, *((origin, "") for origin, _ in places)])
    found: dict[Place, _HeldDestination] = {}
    for origin, path, state, held, tried, owner, *health, in_flight in connection.execute(
        _HEALTHS, {"places": json.dumps(list(wanted))}
    ):
        found[origin, path] = _HeldDestination(state, bool(held), bool(tried), owner, health_of(health), in_flight)
    return found


def health_of(row: Sequence[Any]) -> Health:
    """From the columns of a destination, in their order."""
    silent, failures, is_open, starts, rate, every, slowed_at, allowed_at = row
    return Health(bool(silent), failures, bool(is_open), tuple(json.loads(starts)), rate, every, slowed_at, allowed_at)


def _leave(connection: Connection, rows: Mapping[Place, _HeldDestination]) -> None:
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


def _endpoints(connection: Connection, origins: Sequence[tuple[str, str]]) -> list[Place]:
    if not origins:
        return []
    found = gathered(connection, _HELD_ENDPOINTS, origins=json.dumps(origins), room=_ENDPOINTS)
    return [(origin, path) for origin, path in found]


def set_lane(connection: Connection, lane: int, seqs: Sequence[int]) -> None:
    """Have some that are pending stand in a lane from now on."""
    if seqs:
        connection.execute(_SET_LANE, {"lane": lane, "seqs": json.dumps(seqs)})


def arm(connection: Connection, places: Mapping[Place, str], now: float, *, tried: bool = True) -> None:
    """Have these destinations asked for what waits for them; each with the owner of some of it."""
    if places:
        rows = [(origin, path, owner, int(tried)) for (origin, path), owner in places.items()]
        connection.execute(_ARM, {"places": json.dumps(rows), "now": now})


def gathered(connection: Connection, sql: str, **values: object) -> Any:
    """The one value of a statement that gathers all it finds: cheaper than a row for each."""
    return json.loads(connection.execute(sql, values).fetchone()[0])
