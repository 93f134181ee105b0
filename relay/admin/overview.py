"""How things stand: the queue, what the attempts of late came to, and what is wrong, if anything."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from relay.admin.access import reading
from relay.admin.condition import Condition, Process, judge, told
from relay.admin.destinations import DAY, Destination, InQuestion, count, in_question
from relay.admin.diagnosis import Trouble, explained
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database
from relay.policy.attempt import Outcome
from relay.policy.breaker import DestinationState

_STATUS = statement("status", __package__)
_DELIVERED_SINCE = statement("delivered_since", __package__)
_ATTEMPTS_SINCE = statement("attempts_since", __package__)

RELAY_SILENT_SECONDS = 20.0  # it checks in every five


@dataclass(frozen=True, slots=True)
class Overview:
    """The queue at one moment.

    Of what is pending, `ready` is due, `scheduled` will be, `in_line` waits for its stream. Today began at midnight
    UTC; `delivered_today` is None where it was not counted, and `dead_of_late` is what was given up in 24 hours.
    `destinations` counts origins by state. `condition` is the judgement of all that, and `troubles` says what is the
    matter with the first of its endpoints.
    """

    taken_at: float
    ready: int
    scheduled: int
    in_line: int
    in_flight: int
    dead: int
    delivered_today: int | None
    dead_today: int
    dead_of_late: int
    oldest_due_age: float
    relays: int
    destinations: Mapping[str, int]
    condition: Condition
    troubles: tuple[Trouble, ...]


class Group(StrEnum):
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


def overview(database: Database, now: float, *, history: bool = True, most: int = 20) -> Overview:
    """How things stand now, with a sentence about so many endpoints at `most`. Without `history` it costs the same
    however much was delivered."""
    midnight = now - now % DAY
    with reading(database) as connection:
        count = connection.execute(_DELIVERED_SINCE, {"since": midnight}).fetchone()[0] if history else None
        row, places, condition = _judged(database, connection, now)
        states = _states(connection, places, now)
        troubles = explained(connection, condition.attention[:most], now)
    for name in ("relay_seen_at", "relay_stopped_at"):
        del row[name]
    oldest = row.pop("oldest_due_at")
    return Overview(
        taken_at=now,
        oldest_due_age=max(0.0, now - oldest) if oldest is not None else 0.0,
        destinations=states,
        condition=told(condition, troubles[0].sentence if troubles else ""),
        troubles=troubles,
        delivered_today=count,
        **row,
    )


def condition(database: Database, now: float) -> Condition:
    with reading(database) as connection:
        return _judged(database, connection, now)[2]


def _judged(
    database: Database, connection: Connection, now: float
) -> tuple[dict[str, Any], tuple[Destination, ...], Condition]:
    values = {"now": now, "midnight": now - now % DAY, "since": now - DAY, "seen_since": now - RELAY_SILENT_SECONDS}
    row = dict(connection.execute(_STATUS, values).fetchone())
    found = in_question(connection, now)
    process = _process(row, found, database.files(connection).free)
    return row, found.places, judge(process, [one for place in found.places for one in place.attention])


def _states(connection: Connection, places: Sequence[Destination], now: float) -> Mapping[str, int]:
    """How many origins stand how. Those that are not in question are called at will."""
    counts = Counter({str(DestinationState.DELIVERING): count(connection, now) - len(places)})
    counts.update(str(place.state) for place in places)
    return dict(+counts)


def _process(row: Mapping[str, Any], found: InQuestion, disk_free: int | None) -> Process:
    """Nobody but the relay holds up what may go and whose origin has no attempt under way."""
    return Process(
        relays=row["relays"],
        seen_at=row["relay_seen_at"],
        stopped_at=row["relay_stopped_at"],
        ready=row["ready"],
        late=found.late,
        late_seconds=found.late_seconds,
        disk_free=disk_free,
    )


def stats(database: Database, since: float, by: Sequence[Group]) -> tuple[Tally, ...]:
    """The attempts that started since then, counted by group, the largest first."""
    groups: dict[tuple[str, ...], list[tuple[str, float, float]]] = defaultdict(list)
    with reading(database) as connection:
        for row in connection.execute(_ATTEMPTS_SINCE, {"since": since}):
            key = tuple("none" if row[name.value] is None else str(row[name.value]) for name in by)
            groups[key].append((row["outcome"], row["duration"], row["lag"]))
    tallies = (_tally(dict(zip(map(str, by), key, strict=True)), found) for key, found in groups.items())
    return tuple(sorted(tallies, key=lambda tally: -tally.attempts))


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
