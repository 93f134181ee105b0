"""Where deliveries go: every origin that is known, each with such paths of it as there is something to say of."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.admin.access import NotFound, reading
from relay.admin.condition import LATE_SECONDS, OFTEN, Attention, cause_of
from relay.admin.inspection import HEALTH
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database
from relay.policy.breaker import SAID, WELL, Cause, DestinationState, Health, destination_id, state_of
from relay.queue.holding import HELD, health_of

_ALL_ORIGINS = statement("all_origins", __package__)
_COUNT_ORIGINS = statement("count_origins", __package__)
_ALL_ENDPOINTS = statement("all_endpoints", __package__)
_ORIGINS_IN_QUESTION = statement("origins_in_question", __package__)
_DESTINATIONS = statement("destinations", __package__)
_GONE_URLS = statement("gone_urls", __package__)
_UNDER_WAY = statement("under_way", __package__)
_HELD_BACK = statement("held_back", __package__)
_RETRIED = statement("retried", __package__)
_GIVEN_UP = statement("given_up", __package__)
_WAITING_LINES = statement("waiting_lines", __package__)

_EFFORT = 2000  # retries and dead letters that are looked at
_WELL_STANDS = frozenset({str(DestinationState.DELIVERING)})
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class KnownEndpoint:
    """One path of an origin, while it is in trouble, knows a limit of sizes, or was spoken of by an operator.

    No attempt goes there before `allowed_at`. `waiting` counts what is held back for it, `retried` what was tried
    before and is to be again, `dead` what was given up in 24 hours; `gone` counts its URLs that answered 410 and are
    called no more. `cause` says why it needs attention, if it does.
    """

    path: str
    id: str
    state: DestinationState
    cause: Cause | None
    failures: int
    allowed_at: float | None
    largest_accepted: int | None
    smallest_refused: int | None
    waiting: int
    oldest_due_age: float
    retried: int
    dead: int
    gone: int = 0

    @property
    def shown(self) -> str:
        """The word for it: what is the matter, or else how it is called."""
        return _word(self.state, self.cause)


@dataclass(frozen=True, slots=True)
class Destination:
    """One origin. `state` is the worst of its own, `itself`, and of its endpoints'; the next attempt may go at
    `allowed_at` where it is held back. `cause` says why it needs attention as a whole, if it does. Of what is `ready`,
    `unheld` waits for nothing but a relay. `dead` counts what was given up in 24 hours. Ages are seconds."""

    origin: str
    id: str
    state: DestinationState
    itself: DestinationState
    cause: Cause | None
    failures: int
    allowed_at: float | None
    waiting: int
    ready: int
    in_flight: int
    oldest_due_age: float
    largest_accepted: int | None
    smallest_refused: int | None
    dead: int = 0
    unheld: int = 0
    unheld_age: float = 0.0
    endpoints: tuple[KnownEndpoint, ...] = ()

    @property
    def shown(self) -> str:
        """The word for it: what is the matter with it or one of its endpoints, or else how it is called."""
        causes = [one.cause for one in self.attention]
        return _word(self.state, min(causes, key=list(Cause).index, default=None))

    @property
    def stands(self) -> frozenset[str]:
        """The words by which it is found: of its own, and of its endpoints."""
        words = [self.state, self.itself, self.shown, *(one.shown for one in self.endpoints)]
        return frozenset(map(str, (*words, *(one.cause for one in self.attention))))

    @property
    def attention(self) -> tuple[Attention, ...]:
        """What of it needs attention: the whole, or else each endpoint that does."""
        found = [self._whole(self.cause)] if self.cause else []
        covered = self.cause in (Cause.UNREACHABLE, Cause.FAILING)
        for one in self.endpoints:
            apart = one.state is not DestinationState.DELIVERING or one.cause is Cause.GONE
            if one.cause and (apart or not covered):
                found.append(self._part(one, one.cause))
        return tuple(found)

    def _whole(self, cause: Cause) -> Attention:
        return Attention(
            id=self.id,
            origin=self.origin,
            path="",
            state=self.itself,
            cause=cause,
            waiting=self.waiting,
            oldest_due_age=self.oldest_due_age,
            dead=self.dead,
            gone=0,
            failures=self.failures,
            next_at=self.allowed_at,
            largest_accepted=self.largest_accepted,
        )

    def _part(self, one: KnownEndpoint, cause: Cause) -> Attention:
        return Attention(
            id=one.id,
            origin=self.origin,
            path=one.path,
            state=one.state,
            cause=cause,
            waiting=max(one.waiting, one.retried),
            oldest_due_age=one.oldest_due_age,
            dead=one.dead,
            gone=one.gone,
            failures=one.failures,
            next_at=one.allowed_at,
            largest_accepted=one.largest_accepted,
        )


@dataclass(frozen=True, slots=True)
class _Counts:
    """What was counted of one endpoint."""

    waiting: int = 0
    oldest_due_at: float | None = None
    retried: int = 0
    dead: int = 0
    gone: int = 0


@dataclass(frozen=True, slots=True)
class _Line:
    """What is pending for one origin, and what of it waits for nothing but a relay."""

    waiting: int
    ready: int
    oldest_due_age: float
    unheld: int
    unheld_age: float


def destinations(database: Database, now: float) -> tuple[Destination, ...]:
    """All destinations, those with most that is due first."""
    with reading(database) as connection:
        return gathered(connection, _all_origins(connection, now), now)


def destination(database: Database, origin: str, now: float) -> Destination | None:
    """One of them, if it is known."""
    with reading(database) as connection:
        return next(iter(gathered(connection, json.dumps([origin]), now)), None)


def found(
    database: Database, text: str, state: str, start: int, most: int, now: float
) -> tuple[tuple[Destination, ...], int]:
    """Up to so many at `most`, from the one numbered `start` on, of those that fit, and how many do: whose origin has a
    `text` in it, or an id that begins so, and which stand like that, or have an endpoint that does. Those with most
    that is due come first."""
    with reading(database) as connection:
        fit = json.loads(_all_origins(connection, now))
        if text:
            by_id = {origin for _, (origin, _) in _ids(connection, fit, text, now)}
            fit = [origin for origin in fit if text in origin or origin in by_id]
        if state:
            judged = {place.origin: place.stands for place in in_question(connection, now).places}
            fit = [origin for origin in fit if state in judged.get(origin, _WELL_STANDS)]
        return gathered(connection, json.dumps(fit[start : start + most]), now), len(fit)


@dataclass(frozen=True, slots=True)
class InQuestion:
    """Those that may need attention, or are not called at will; every other destination is well. `late` deliveries are
    held up by nobody but a relay, the oldest for so many seconds."""

    places: tuple[Destination, ...]
    late: int
    late_seconds: float


def in_question(connection: Connection, now: float) -> InQuestion:
    """What it costs does not depend on how many others there are, but for what the database counts by itself."""
    values = _bounds(now) | {"often": OFTEN, "late_before": now - LATE_SECONDS}
    row = connection.execute(_ORIGINS_IN_QUESTION, values).fetchone()
    since = now if row["late_since"] is None else row["late_since"]
    return InQuestion(gathered(connection, row["origins"], now), row["late"], now - since)


def named(database: Database, id_: str, now: float) -> tuple[str, str]:
    """Origin and path of a destination by its id, or by the beginning of one, if no other has it. Raises NotFound."""
    with reading(database) as connection:
        places = dict(_ids(connection, json.loads(_all_origins(connection, now)), id_, now))
    if len(places) == 1:
        return next(iter(places.values()))
    raise NotFound(f"{len(places) or 'no'} destinations have an id that begins with {id_}")


def gathered(connection: Connection, origins: str, now: float) -> tuple[Destination, ...]:
    """How each of some origins, a JSON array, stands, those with most that is due first. Each costs some 50 us, in
    which nothing else has the interpreter."""
    if not (asked := json.loads(origins)):
        return ()
    wanted = {"origins": origins, "now": now}
    known: dict[str, dict[str, Any]] = defaultdict(dict)
    for row in connection.execute(_DESTINATIONS, wanted):
        known[row["origin"]][row["path"]] = row
    counts: dict[str, dict[str, _Counts]] = defaultdict(dict)
    for origin, path, counted in _counts(connection, origins, now):
        counts[origin][path] = counted
    queues: dict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(_WAITING_LINES, wanted):
        queues[row["origin"]].append(row)
    under_way = {row["origin"]: row["in_flight"] for row in connection.execute(_UNDER_WAY, wanted)}
    there = known.keys() | counts.keys() | queues.keys() | under_way.keys()
    places = [
        _destination(one, known[one], counts[one], queues[one], under_way.get(one, 0), now)
        for one in asked
        if one in there
    ]
    return tuple(sorted(places, key=lambda place: (-place.ready, place.origin)))


def count(connection: Connection, now: float) -> int:
    """How many origins there are."""
    places: int = connection.execute(_COUNT_ORIGINS, _bounds(now)).fetchone()[0]
    return places


def _all_origins(connection: Connection, now: float) -> str:
    """A JSON array."""
    text: str = connection.execute(_ALL_ORIGINS, _bounds(now)).fetchone()[0]
    return text


def _ids(
    connection: Connection, origins: Sequence[str], begin: str, now: float
) -> Iterator[tuple[str, tuple[str, str]]]:
    """The ids that begin so, with what has them: some origins, and any endpoint."""
    endpoints = connection.execute(_ALL_ENDPOINTS, _bounds(now)).fetchall()
    for origin, path in (*((origin, "") for origin in origins), *((row["origin"], row["path"]) for row in endpoints)):
        if (id_ := destination_id(origin, path)).startswith(begin):
            yield id_, (origin, path)


def _bounds(now: float) -> dict[str, float]:
    return {"now": now, "since": now - DAY, "effort": _EFFORT}


def _counts(connection: Connection, origins: str, now: float) -> Iterator[tuple[str, str, _Counts]]:
    values: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    bounds = _bounds(now) | {"origins": origins}
    for sql in (_HELD_BACK, _RETRIED, _GIVEN_UP, _GONE_URLS):
        for row in connection.execute(sql, bounds):
            told = dict(row)
            values[told.pop("origin"), told.pop("path")] |= told
    for (origin, path), told in values.items():
        yield origin, path, _Counts(**told)


def _destination(
    origin: str,
    rows: Mapping[str, Any],
    counts: Mapping[str, _Counts],
    queues: Sequence[Any],
    in_flight: int,
    now: float,
) -> Destination:
    endpoints = tuple(
        _endpoint(origin, path, rows.get(path), counts.get(path, _Counts()), now)
        for path in sorted({*rows, *counts} - {""})
        if path in rows or _worth_telling(counts[path])
    )
    whole = rows.get("")
    health = _health(whole) if whole else WELL
    itself = state_of(whole["state"] if whole else "active", health, whole=True)
    line, dead = _line(queues, itself, now), sum(one.dead for one in counts.values())
    alone = itself is not DestinationState.DELIVERING  # what was given up at one path is that path's matter
    covers = itself in SAID or itself is DestinationState.UNREACHABLE
    return Destination(
        origin=origin,
        id=destination_id(origin),
        state=itself if covers else max([itself, *(one.state for one in endpoints)], key=list(DestinationState).index),
        itself=itself,
        cause=cause_of(
            itself,
            failures=health.failures,
            retried=0,
            waiting=line.waiting,
            oldest_due_age=line.unheld_age if in_flight else 0.0,
            dead=dead if alone else 0,
            gone=0,
        ),
        failures=max([health.failures, *(one.failures for one in endpoints)]),
        allowed_at=_allowed_at(health, endpoints, now),
        waiting=line.waiting,
        ready=line.ready,
        in_flight=in_flight,
        oldest_due_age=line.oldest_due_age,
        largest_accepted=max(_known(rows, "largest_accepted"), default=None),
        smallest_refused=min(_known(rows, "smallest_refused"), default=None),
        dead=dead,
        unheld=line.unheld,
        unheld_age=line.unheld_age,
        endpoints=endpoints,
    )


def _line(queues: Sequence[Any], itself: DestinationState, now: float) -> _Line:
    oldest = min((row["oldest_due_at"] for row in queues if row["oldest_due_at"] is not None), default=now)
    free = [] if itself in SAID else [row for row in queues if row["lane"] != HELD and row["ready"]]
    return _Line(
        waiting=sum(row["waiting"] for row in queues),
        ready=sum(row["ready"] for row in queues),
        oldest_due_age=max(0.0, now - oldest),
        unheld=sum(row["ready"] for row in free),
        unheld_age=max((now - row["oldest_due_at"] for row in free), default=0.0),
    )


def _allowed_at(health: Health, endpoints: Sequence[KnownEndpoint], now: float) -> float | None:
    """When the next attempt may go, where the origin or one of its endpoints is held back."""
    trickling = [one.allowed_at for one in endpoints if one.state is DestinationState.TRICKLING]
    whole = [health.asks_at(now)] if health.open else []
    return min((at for at in [*trickling, *whole] if at is not None), default=None)


def _known(rows: Mapping[str, Any], size: str) -> Iterator[int]:
    return (row[size] for row in rows.values() if row[size] is not None)


def _worth_telling(counts: _Counts) -> bool:
    """Of a path without a row. That something waits for it is its origin's doing."""
    return bool(counts.dead or counts.gone or counts.retried)


def _endpoint(origin: str, path: str, row: Any, counts: _Counts, now: float) -> KnownEndpoint:
    """An endpoint all of whose trouble are answers of 410 has no row."""
    health = _health(row) if row else WELL
    state = state_of(row["state"] if row else "active", health, whole=False)
    age = 0.0 if counts.oldest_due_at is None else max(0.0, now - counts.oldest_due_at)
    return KnownEndpoint(
        path=path,
        id=destination_id(origin, path),
        state=state,
        cause=cause_of(
            state,
            failures=health.failures,
            retried=counts.retried,
            waiting=counts.waiting,
            oldest_due_age=age,
            dead=counts.dead,
            gone=counts.gone,
        ),
        failures=health.failures,
        allowed_at=health.asks_at(now) if health.held else None,
        largest_accepted=row["largest_accepted"] if row else None,
        smallest_refused=row["smallest_refused"] if row else None,
        waiting=counts.waiting,
        oldest_due_age=age,
        retried=counts.retried,
        dead=counts.dead,
        gone=counts.gone,
    )


def _health(row: Any) -> Health:
    return health_of([row[name] for name in HEALTH])


def _word(state: DestinationState, cause: Cause | None) -> str:
    """A state that holds it back says more than the cause does."""
    return str(cause) if cause and state in (DestinationState.DELIVERING, DestinationState.SLOWED) else str(state)
