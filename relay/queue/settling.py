"""The ends of attempts, written inside one transaction: the delivery, the attempt, and its destination's health."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from relay.outbox.queries import statement
from relay.outbox.store import Connection
from relay.policy.attempt import Attempted, Dead, Delivered, Lease, Outcome, Retry, Timing
from relay.policy.breaker import CLOSED, Breaker, after
from relay.policy.sealing import kept

_DELIVER = statement("deliver", __package__)
_SETTLE = statement("settle", __package__)
_RECORD_ATTEMPT = statement("record_attempt", __package__).strip()
_ANOTHER = ", " + _RECORD_ATTEMPT.partition("VALUES ")[2]
_MOST_AT_ONCE = 64
_STILL_LEASED = statement("still_leased", __package__)
_RECORD_SUCCESS = statement("record_success", __package__)
_EXPIRE = statement("expire", __package__)
_ADD_DESTINATION = statement("add_destination", "relay.outbox")
_LOCK_DESTINATION_HEALTH = statement("lock_destination_health", __package__)
_RECORD_DESTINATION_HEALTH = statement("record_destination_health", __package__)
_LOCK_STREAM = statement("lock_stream", __package__)
_ADVANCE_STREAM = statement("advance_stream", __package__)
_KILL_STREAM = statement("kill_stream", __package__)
_KILL_FOLLOWERS = statement("kill_followers", __package__)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a batch: the leases that were `stale`, for which nothing was changed, and how many deliveries were
    `killed` with their stream."""

    stale: frozenset[Lease]
    killed: int


def settle(connection: Connection, attempts: Sequence[Attempted]) -> Settled:
    """Write the ends of attempts, what they say of their destinations, and whose turn it is in their streams."""
    written = _deliver_all(connection, [a for a in attempts if isinstance(a.verdict, Delivered)])
    for attempt in attempts:
        if not isinstance(attempt.verdict, Delivered) and connection.execute(_SETTLE, _ending(attempt)).rowcount:
            written.add(attempt.delivery.lease.seq)
    standing = [attempt for attempt in attempts if attempt.delivery.lease.seq in written]
    note(connection, standing)
    killed = 0
    for attempt in sorted(standing, key=lambda one: one.delivery.stream_id or 0):
        if attempt.delivery.stream_id is not None and not isinstance(attempt.verdict, Retry):
            killed += step_stream(connection, attempt.delivery.stream_id, attempt.finished_at, dead=_is_dead(attempt))
    stale = (attempt.delivery.lease for attempt in attempts if attempt.delivery.lease.seq not in written)
    return Settled(frozenset(stale), killed)


def note(connection: Connection, attempts: Sequence[Attempted]) -> None:
    """Keep a record of attempts whose deliveries were written, and what they say of their destinations."""
    _record_all(connection, attempts)
    record_health(connection, attempts)


def _deliver_all(connection: Connection, attempts: Sequence[Attempted]) -> set[int]:
    """The common end, in one statement for all that one claim brought; returns the seqs whose lease still stood."""
    by_token: dict[str, list[int]] = defaultdict(list)
    for attempt in attempts:
        by_token[attempt.delivery.lease.token].append(attempt.delivery.lease.seq)
    written: set[int] = set()
    for token, seqs in by_token.items():
        values = {"token": token, "seqs": json.dumps(seqs), "finished_at": attempts[-1].finished_at}
        standing = connection.execute(_STILL_LEASED, values).fetchone()[0]
        connection.execute(_DELIVER, values | {"seqs": standing})
        written.update(json.loads(standing))
    return written


def _record_all(connection: Connection, attempts: Sequence[Attempted]) -> None:
    """In slices whose sizes are powers of two, so that a handful of statements is prepared once and for all."""
    start = 0
    while start < len(attempts):
        size = min(_MOST_AT_ONCE, 1 << (len(attempts) - start).bit_length() - 1)
        values = [value for attempt in attempts[start : start + size] for value in _record(attempt)]
        connection.execute(_RECORD_ATTEMPT + _ANOTHER * (size - 1), values)
        start += size


def record_health(connection: Connection, attempts: Sequence[Attempted]) -> None:
    """One statement for all destinations of which nothing but successes came; the others one by one."""
    well: dict[str, int] = {}
    # In one order, always: two relays that write of the same destinations must not wait for each other.
    for origin, of_one in sorted(_by_destination(attempts).items()):
        sizes = [a.delivery.body_bytes for a in of_one if a.outcome is Outcome.SUCCESS and not a.delivery.pointer]
        if len(sizes) == len(of_one):
            well[origin] = max(sizes)
        else:
            _record_failures(connection, origin, of_one)
    if well:
        connection.execute(_RECORD_SUCCESS, {"well": json.dumps(well)})


def step_stream(connection: Connection, stream_id: int, now: float, *, dead: bool) -> int:
    """What the end of one delivery means for those behind it: the next is due, or all of them die; returns how many
    did."""
    stream = {"stream_id": stream_id, "now": now}
    connection.execute(_LOCK_STREAM, stream)
    if dead and connection.execute(_KILL_STREAM, stream).rowcount:
        return connection.execute(_KILL_FOLLOWERS, stream).rowcount
    connection.execute(_ADVANCE_STREAM, stream)
    return 0


def expire(connection: Connection, values: Mapping[str, Any]) -> tuple[int, int]:
    """Give up a slice of what was due `before`; returns how many expired, and how many died with their stream."""
    streams = connection.execute(_EXPIRE, values).fetchall()
    dead = [stream_id for (stream_id,) in streams if stream_id is not None]
    return len(streams), sum(step_stream(connection, stream_id, values["now"], dead=True) for stream_id in dead)


def _is_dead(attempt: Attempted) -> bool:
    return isinstance(attempt.verdict, Dead)


def _ending(attempt: Attempted) -> dict[str, Any]:
    lease = attempt.delivery.lease
    ending: dict[str, Any] = {"seq": lease.seq, "token": lease.token, "due_at": None, "reason": None}
    ending |= {"finished_at": attempt.finished_at, "pointer": attempt.delivery.pointer}
    match attempt.verdict:
        case Delivered():
            return ending | {"state": "delivered"}
        case Retry(due_at, pointer):
            return ending | {"state": "pending", "due_at": due_at, "finished_at": None, "pointer": pointer}
        case Dead(reason):
            return ending | {"state": "dead", "reason": reason.value}


def _record(attempt: Attempted) -> tuple[Any, ...]:
    answer = attempt.answer
    return (
        attempt.delivery.lease.seq,
        attempt.delivery.number,
        attempt.started_at,
        attempt.lag,
        answer.timing.total,
        attempt.outcome.value,
        answer.status,
        answer.peer,
        attempt.diagnosis,
        _json(_steps(answer.timing), "{}"),
        _json(attempt.request_headers),
        _json(kept(answer.headers)),
        answer.excerpt,
    )


def _steps(timing: Timing) -> dict[str, float]:
    steps = (("dns", timing.dns), ("connect", timing.connect), ("tls", timing.tls), ("first_byte", timing.first_byte))
    return {step: round(took, 6) for step, took in steps if took is not None}


def _json(value: object, empty: str = "[]") -> str:
    if not value:
        return empty
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # half a surrogate pair in a receiver's header
        return json.dumps(value)


def _by_destination(attempts: Iterable[Attempted]) -> dict[str, list[Attempted]]:
    groups: dict[str, list[Attempted]] = defaultdict(list)
    for attempt in attempts:
        groups[attempt.delivery.destination].append(attempt)
    return groups


def _record_failures(connection: Connection, origin: str, attempts: Sequence[Attempted]) -> None:
    """Breaker and body limit, read once and written at most once for a whole batch of one destination."""
    failures, open_until, pause, accepted, refused = _lock_health(connection, origin)
    breaker = before = Breaker(failures, open_until, pause) if failures else CLOSED
    for attempt in attempts:
        breaker = after(breaker, attempt.outcome, started_at=attempt.started_at, now=attempt.finished_at)
    taken = max(_sizes(attempts, Outcome.SUCCESS, accepted), default=None)
    too_large = min(_sizes(attempts, Outcome.HTTP_413, refused), default=None)
    gone = any(attempt.outcome is Outcome.HTTP_410 for attempt in attempts)
    if gone or (breaker, taken, too_large) != (before, accepted, refused):
        values = {"origin": origin, "gone": gone, "largest_accepted": taken, "smallest_refused": too_large}
        connection.execute(_RECORD_DESTINATION_HEALTH, values | asdict(breaker))


def _lock_health(connection: Connection, origin: str) -> Sequence[Any]:
    known = connection.execute(_LOCK_DESTINATION_HEALTH, {"origin": origin}).fetchone()
    if known is None:  # a WebSocket's message may end before its delivery was routed
        connection.execute(_ADD_DESTINATION, {"origin": origin})
        known = connection.execute(_LOCK_DESTINATION_HEALTH, {"origin": origin}).fetchone()
    found: Sequence[Any] = known
    return found


def _sizes(attempts: Iterable[Attempted], outcome: Outcome, known: int | None) -> list[int]:
    # A pointer's body is not the delivery's: it says nothing about size.
    sizes = [a.delivery.body_bytes for a in attempts if a.outcome is outcome and not a.delivery.pointer]
    return sizes if known is None else [*sizes, known]
