"""How things stand: the queue, the destinations, what the attempts of late came to, and what is wrong, if anything."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from relay.admin.access import reading
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database
from relay.policy.attempt import Outcome
from relay.policy.breaker import Health
from relay.queue.holding import health_of

_STATUS = statement("status", __package__)
_DELIVERED_SINCE = statement("delivered_since", __package__)
_DESTINATIONS = statement("destinations", __package__)
_GONE_URLS = statement("gone_urls", __package__)
_UNDER_WAY = statement("under_way", __package__)
_QUEUES = statement("queues", "relay.queue")
_ATTEMPTS_SINCE = statement("attempts_since", __package__)

_HEALTH = ("silent", "failures", "open", "starts", "rate", "every", "slowed_at", "allowed_at")

RELAY_SILENT_SECONDS = 60.0
_LATE_SECONDS = 60.0
_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class KnownEndpoint:
    """One path of an origin, while it is in trouble, knows a limit of sizes, or was spoken of by an operator. `state`
    is what operators said, `open` while its breaker is, or `slowed` while it keeps a pace. `allowed_at`: no attempt
    goes there before. `gone` counts its URLs that answered 410 and are called no more."""

    path: str
    state: str
    failures: int
    allowed_at: float | None
    largest_accepted: int | None
    smallest_refused: int | None
    gone: int = 0


@dataclass(frozen=True, slots=True)
class Destination:
    """One origin. `state` is what operators said, or `open` while the breaker of the origin, or of an endpoint of it,
    is: then no attempt goes there before `open_until`. `itself` is the same without a look at the endpoints. Ages are
    seconds."""

    origin: str
    state: str
    itself: str
    failures: int
    open_until: float | None
    waiting: int
    ready: int
    in_flight: int
    oldest_due_age: float
    largest_accepted: int | None
    smallest_refused: int | None
    endpoints: tuple[KnownEndpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Overview:
    """The queue at one moment.

    Of what is pending, `ready` is due, `scheduled` will be, `in_line` waits for its stream. Today began at midnight
    UTC; `delivered_today` is None where it was not counted. `trouble` is one sentence about the worst that is wrong;
    None: nothing is.
    """

    taken_at: float
    ready: int
    scheduled: int
    in_line: int
    in_flight: int
    dead: int
    delivered_today: int | None
    dead_today: int
    oldest_due_age: float
    relays: int
    destinations: Mapping[str, int]
    trouble: str | None


class Group(StrEnum):
    """By what attempts can be counted."""

    DESTINATION = "destination"
    OUTCOME = "outcome"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Tally:
    """The attempts of one group: how many, how many of them delivered, and how long they took, in seconds."""

    group: Mapping[str, str]
    attempts: int
    delivered: int
    p50: float
    p95: float
    lag_p95: float


def overview(database: Database, now: float, *, history: bool = True) -> Overview:
    """How things stand now. Without `history` it costs the same however much was delivered."""
    midnight = now - now % _DAY
    values = {"now": now, "midnight": midnight, "seen_since": now - RELAY_SILENT_SECONDS}
    with reading(database) as connection:
        row = dict(connection.execute(_STATUS, values).fetchone())
        count = connection.execute(_DELIVERED_SINCE, {"since": midnight}).fetchone()[0] if history else None
        places = _destinations(connection, now)
    oldest, seen_at = row.pop("oldest_due_at"), row.pop("relay_seen_at")
    return Overview(
        taken_at=now,
        oldest_due_age=max(0.0, now - oldest) if oldest is not None else 0.0,
        destinations=dict(Counter(place.state for place in places)),
        trouble=_trouble(row, places, None if seen_at is None else now - seen_at),
        delivered_today=count,
        **row,
    )


def destinations(database: Database, now: float) -> tuple[Destination, ...]:
    """All destinations, those with most that is due first."""
    with reading(database) as connection:
        return _destinations(connection, now)


def stats(database: Database, since: float, by: Sequence[Group]) -> tuple[Tally, ...]:
    """The attempts that started since then, counted by group, the largest first."""
    groups: dict[tuple[str, ...], list[tuple[str, float, float]]] = defaultdict(list)
    with reading(database) as connection:
        for row in connection.execute(_ATTEMPTS_SINCE, {"since": since}):
            key = tuple("none" if row[name.value] is None else str(row[name.value]) for name in by)
            groups[key].append((row["outcome"], row["duration"], row["lag"]))
    tallies = (_tally(dict(zip(map(str, by), key, strict=True)), found) for key, found in groups.items())
    return tuple(sorted(tallies, key=lambda tally: -tally.attempts))


def _destinations(connection: Connection, now: float) -> tuple[Destination, ...]:
    """Every origin of which something is known, or for which something waits."""
    known: dict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(_DESTINATIONS):
        known[row["origin"]].append(row)
    gone: dict[str, dict[str, int]] = defaultdict(dict)
    for row in connection.execute(_GONE_URLS):
        gone[row["origin"]][row["path"]] = row["gone"]
    queues: dict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(_QUEUES, {"now": now}):
        queues[row["origin"]].append(row)
    under_way = {row["origin"]: row["in_flight"] for row in connection.execute(_UNDER_WAY)}
    origins = dict.fromkeys([*known, *gone, *queues, *under_way])
    places = [_destination(one, known[one], gone[one], queues[one], under_way.get(one, 0), now) for one in origins]
    return tuple(sorted(places, key=lambda place: (-place.ready, place.origin)))


def _destination(
    origin: str, known: Sequence[Any], gone: Mapping[str, int], queues: Sequence[Any], in_flight: int, now: float
) -> Destination:
    rows = {row["path"]: row for row in known}
    whole = rows.pop("", None)
    healths = [_health(row) for row in known]
    stops = [health.asks_at(now) for health in healths if health.open]
    state = whole["state"] if whole else "active"
    is_open = whole is not None and _health(whole).open
    oldest = min((row["oldest_due_at"] for row in queues if row["oldest_due_at"] is not None), default=None)
    accepted = [row["largest_accepted"] for row in known if row["largest_accepted"] is not None]
    refused = [row["smallest_refused"] for row in known if row["smallest_refused"] is not None]
    return Destination(
        origin=origin,
        state="open" if state == "active" and stops else state,
        itself="open" if state == "active" and is_open else state,
        failures=max((health.failures for health in healths), default=0),
        open_until=min(stops, default=None),
        waiting=sum(row["waiting"] for row in queues),
        ready=sum(row["ready"] for row in queues),
        in_flight=in_flight,
        oldest_due_age=0.0 if oldest is None else max(0.0, now - oldest),
        largest_accepted=max(accepted, default=None),
        smallest_refused=min(refused, default=None),
        endpoints=tuple(_endpoint(path, rows.get(path), gone.get(path, 0), now) for path in sorted({*rows, *gone})),
    )


def _endpoint(path: str, row: Any, gone: int, now: float) -> KnownEndpoint:
    """An endpoint all of whose trouble are answers of 410 has no row."""
    if row is None:
        return KnownEndpoint(path, "active", 0, None, None, None, gone)
    health = _health(row)
    shown = "open" if health.open else "slowed" if health.rate is not None else "active"
    return KnownEndpoint(
        path=path,
        state=shown if row["state"] == "active" else row["state"],
        failures=health.failures,
        allowed_at=health.asks_at(now) if health.held else None,
        largest_accepted=row["largest_accepted"],
        smallest_refused=row["smallest_refused"],
        gone=gone,
    )


def _health(row: Any) -> Health:
    return health_of([row[name] for name in _HEALTH])


def _trouble(counts: Mapping[str, int], places: Sequence[Destination], silent: float | None) -> str | None:
    if counts["ready"] and not counts["relays"]:
        heard = "no relay has ever worked on this database" if silent is None else f"no relay for {silent:.0f} s"
        return f"{counts['ready']} deliveries are due and {heard}: start `relay run`"
    for place in places:
        if place.ready and (sentence := _held(place)):
            return sentence
    late = [place for place in places if place.state == "active" and place.oldest_due_age > _LATE_SECONDS]
    if late:
        worst = max(late, key=lambda place: place.oldest_due_age)
        return f"{worst.origin} is {worst.oldest_due_age:.0f} s behind, with {worst.ready} deliveries due"
    if counts["dead_today"]:
        return f"{counts['dead_today']} deliveries were given up today: see `relay list --state dead`"
    return None


def _held(place: Destination) -> str | None:
    match place.state:
        case "paused":
            return f"{place.ready} deliveries wait for {place.origin}, which is paused: `relay resume {place.origin}`"
        case "disabled":
            return f"{place.ready} deliveries wait for {place.origin}, which is disabled: `relay enable {place.origin}`"
        case "open":
            return f"{place.origin} keeps failing, and {place.ready} deliveries wait until it answers again"
    return None


def _tally(group: Mapping[str, str], found: list[tuple[str, float, float]]) -> Tally:
    durations = sorted(duration for _, duration, _ in found)
    return Tally(
        group=group,
        attempts=len(found),
        delivered=sum(outcome == Outcome.SUCCESS for outcome, _, _ in found),
        p50=_quantile(durations, 0.5),
        p95=_quantile(durations, 0.95),
        lag_p95=_quantile(sorted(lag for _, _, lag in found), 0.95),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
