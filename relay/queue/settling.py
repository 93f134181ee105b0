"""The ends of attempts, written inside one transaction: the delivery, the attempt, and its destination's health."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

import orjson

from relay.outbox.queries import statement
from relay.outbox.store import Connection
from relay.policy.attempt import Attempted, Dead, Delivered, Lease, Outcome, Postponed, Retry, Timing
from relay.policy.breaker import AttemptResult, of_endpoint, of_origin
from relay.policy.outcome import pause_of
from relay.policy.request_headers import kept
from relay.queue.claiming import fingerprint
from relay.queue.claims import DestinationKey
from relay.queue.holding import gathered, health_of

_DELIVER = statement("deliver", __package__)
_DELIVERED = statement("delivered", __package__)
DELIVER_PLAIN = statement("deliver_plain", __package__)
"""Answers with what `plain_end` asks for, in one row: what is noteworthy, or else the seqs whose lease still stood."""
_SETTLE = statement("settle", __package__)
_SETTLE_ALL = statement("settle_all", __package__)
_RECORD_ATTEMPT = statement("record_attempt", __package__)
_ANOTHER = ", " + _RECORD_ATTEMPT.partition("VALUES ")[2]
_MOST_AT_ONCE = 64
_KILLED_AT_ONCE = 5000
_COLUMNS = (
    "seq", "number", "started_at", "lag", "duration", "outcome", "status", "peer", "detail", "timing",
    "request_headers", "answer_headers", "excerpt",
)  # fmt: skip
_LINES = frozenset({"token", "outcome", "peer", "timing", "request_headers", "answer_headers"})
_ENDS = ("token", "state", "due_at", "charged", "pointer", "finished_at", "reason")
_NOTEWORTHY = statement("noteworthy", __package__)
_RECORD_SUCCESS = statement("record_success", __package__)
_LOCK_HEALTH = statement("lock_health", __package__)
_RECORD_HEALTH = statement("record_health", __package__)
_RECORD_GONE = statement("record_gone", __package__)
_FORGET = statement("forget_destination", __package__)
_EXPIRE = statement("expire", __package__)
_LOCK_STREAM = statement("lock_stream", __package__)
_ADVANCE_STREAM = statement("advance_stream", __package__)
_KILL_STREAM = statement("kill_stream", __package__)
_KILL_FOLLOWERS = statement("kill_followers", __package__)

_SUCCESS = Outcome.SUCCESS  # to ask an enumeration for a member takes half a microsecond
_NOTHING_KNOWN = (0, 0, 0, "[]", None, None, 0.0, 0.0, None, None)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a batch: the leases that were `stale`, for which nothing was changed, and how many deliveries were
    `killed` with their stream."""

    stale: frozenset[Lease]
    killed: int


def settle(connection: Connection, attempts: Sequence[Attempted]) -> Settled:
    """Write the ends of attempts, what they say of their destinations, and whose turn it is in their streams."""
    written = _end_all(connection, attempts)
    standing = [attempt for attempt in attempts if attempt.delivery.lease.seq in written]
    record_health(connection, standing)
    killed = 0
    for attempt in sorted(standing, key=lambda one: one.delivery.stream_id or 0):
        if attempt.delivery.stream_id is not None and not isinstance(attempt.verdict, Retry | Postponed):
            killed += step_stream(connection, attempt.delivery.stream_id, attempt.finished_at, dead=_is_dead(attempt))
    stale = (attempt.delivery.lease for attempt in attempts if attempt.delivery.lease.seq not in written)
    return Settled(frozenset(stale), killed)


def is_plain(attempts: Iterable[Attempted]) -> bool:
    """Whether all of them went well, and no stream has to be moved on."""
    return all(
        attempt.outcome is _SUCCESS and isinstance(attempt.verdict, Delivered) and attempt.delivery.stream_id is None
        for attempt in attempts
    )


def plain_end(attempts: Sequence[Attempted]) -> dict[str, Any]:
    """What one statement needs that settles such attempts, unless there is more to say of their destinations."""
    return _by_column(_COLUMNS, [_row(attempt) for attempt in attempts]) | {
        "token": "\n".join(attempt.delivery.lease.token for attempt in attempts),
        "finished_at": attempts[-1].finished_at,
        "keys": _keys(_largest(_by_destination(attempts))),
    }


def note(connection: Connection, attempts: Sequence[Attempted]) -> None:
    """Keep a record of attempts whose deliveries were written, and what they say of their destinations."""
    _record_all(connection, attempts)
    record_health(connection, attempts)


def _end_all(connection: Connection, attempts: Sequence[Attempted]) -> set[int]:
    """Write the ends of deliveries, with a record of their attempts, on a server in one statement; returns the seqs
    whose lease still stood."""
    if not isinstance(connection, sqlite3.Connection):
        endings = [_ending(attempt) for attempt in attempts]
        ends = _by_column(_ENDS, [[ending[name] for name in _ENDS] for ending in endings])
        values = _by_column(_COLUMNS, [_row(attempt) for attempt in attempts]) | ends
        return {seq for (seq,) in connection.execute(_SETTLE_ALL, values)}
    written = _deliver_all(connection, [a for a in attempts if isinstance(a.verdict, Delivered)])
    for attempt in attempts:
        if not isinstance(attempt.verdict, Delivered) and connection.execute(_SETTLE, _ending(attempt)).rowcount:
            written.add(attempt.delivery.lease.seq)
    _record_all(connection, [attempt for attempt in attempts if attempt.delivery.lease.seq in written])
    return written


def _deliver_all(connection: Connection, attempts: Sequence[Attempted]) -> set[int]:
    """The common end, in one statement for all that one claim brought; returns the seqs whose lease still stood."""
    by_token: dict[str, list[int]] = defaultdict(list)
    for attempt in attempts:
        by_token[attempt.delivery.lease.token].append(attempt.delivery.lease.seq)
    written: set[int] = set()
    for token, seqs in by_token.items():
        values = {"token": token, "seqs": json.dumps(seqs), "finished_at": attempts[-1].finished_at}
        if connection.execute(_DELIVER, values).rowcount == len(seqs):  # as nearly always
            written.update(seqs)
        else:
            written.update(seq for (seq,) in connection.execute(_DELIVERED, values))
    return written


def _record_all(connection: Connection, attempts: Sequence[Attempted]) -> None:
    """In one statement on a server, which takes a column at a time. SQLite takes rows, in slices whose sizes are powers
    of two, so that a handful of statements is prepared once and for all."""
    rows = [_row(attempt) for attempt in attempts]
    if not isinstance(connection, sqlite3.Connection):
        if rows:
            connection.execute(_RECORD_ATTEMPT, _by_column(_COLUMNS, rows))
        return
    start = 0
    while start < len(rows):
        size = min(_MOST_AT_ONCE, 1 << (len(rows) - start).bit_length() - 1)
        connection.execute(_RECORD_ATTEMPT + _ANOTHER * (size - 1), [*chain(*rows[start : start + size])])
        start += size


def record_health(connection: Connection, attempts: Sequence[Attempted]) -> None:
    """One statement tells where there is anything to write, which is nowhere while all goes well. Origins of which
    nothing but successes came are then written in another; of all else is read in one what is known, and written in
    one what has changed."""
    groups = _by_destination(attempts)
    accepted = _largest(groups)
    found = gathered(connection, _NOTEWORTHY, keys=_keys(accepted))
    troubled = {(origin, path): bool(in_trouble) for origin, path, in_trouble in found}
    # In one order, always: two relays that write of the same destinations must not wait for each other.
    failed = {
        key: of_one
        for key, of_one in sorted(groups.items())
        if troubled.get(key) or not all(attempt.outcome is _SUCCESS for attempt in of_one)
    }
    if failed:
        _record(connection, failed)
    if well := {key[0]: accepted[key] for key in troubled if key not in failed}:
        connection.execute(_RECORD_SUCCESS, {"well": json.dumps(well)})


def _largest(groups: Mapping[DestinationKey, Sequence[Attempted]]) -> dict[DestinationKey, int | None]:
    return {key: max(_sizes(of_one, _SUCCESS), default=None) for key, of_one in groups.items()}


def _keys(accepted: Mapping[DestinationKey, int | None]) -> str:
    return json.dumps([(origin, path, size or 0) for (origin, path), size in accepted.items()])


def step_stream(connection: Connection, stream_id: int, now: float, *, dead: bool) -> int:
    """What the end of one delivery means for those behind it: the next is due, or all of them die; returns how many
    did."""
    stream = {"stream_id": stream_id, "now": now}
    connection.execute(_LOCK_STREAM, stream)
    if dead and connection.execute(_KILL_STREAM, stream).rowcount:
        return kill_followers(connection, stream)
    connection.execute(_ADVANCE_STREAM, stream)
    return 0


def kill_followers(connection: Connection, stream: Mapping[str, Any]) -> int:
    """End what waits in a stream that was killed, in slices: what the pages that a statement changes were like is in
    memory until it has ended. Returns how many there were."""
    killed = 0
    while slice_ := connection.execute(_KILL_FOLLOWERS, {**stream, "slice": _KILLED_AT_ONCE}).rowcount:
        killed += slice_
    return killed


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
    ending |= {"finished_at": attempt.finished_at, "pointer": attempt.delivery.pointer, "charged": 1}
    match attempt.verdict:
        case Delivered():
            return ending | {"state": "delivered"}
        case Retry(due_at, pointer):
            return ending | {"state": "pending", "due_at": due_at, "finished_at": None, "pointer": pointer}
        case Postponed():
            return ending | {"state": "pending", "finished_at": None, "charged": 0}
        case Dead(reason):
            return ending | {"state": "dead", "reason": reason.value}


def _row(attempt: Attempted) -> tuple[Any, ...]:
    answer = attempt.answer
    return (
        attempt.delivery.lease.seq,
        attempt.delivery.number,
        attempt.started_at,
        attempt.lag,
        answer.timing.total,
        attempt.outcome._value_,  # `value` is a descriptor, written in Python
        answer.status,
        answer.peer,
        attempt.diagnosis,
        _json(_steps(answer.timing), "{}"),
        _json(attempt.request_headers),
        _json(kept(answer.headers)) if answer.headers else "[]",
        answer.excerpt,
    )


def _by_column(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """A sequence for each, or so many lines, of which one that is empty stands for None."""
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return {name: "\n".join(one or "" for one in each) if name in _LINES else each for name, each in columns}


def _steps(timing: Timing) -> dict[str, float]:
    if timing.dns is timing.connect is timing.tls is None:
        return {} if timing.first_byte is None else {"first_byte": round(timing.first_byte, 6)}
    steps = (("dns", timing.dns), ("connect", timing.connect), ("tls", timing.tls), ("first_byte", timing.first_byte))
    return {step: round(took, 6) for step, took in steps if took is not None}


def _json(value: object, empty: str = "[]") -> str:
    if not value:
        return empty
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # half a surrogate pair in a receiver's header
        return json.dumps(value)


def _by_destination(attempts: Iterable[Attempted]) -> dict[DestinationKey, list[Attempted]]:
    """Those at each endpoint and at each origin, in the order of their answers."""
    groups: dict[DestinationKey, list[Attempted]] = defaultdict(list)
    for attempt in sorted(attempts, key=lambda one: one.finished_at):
        if attempt.answer.sent:
            groups[attempt.delivery.endpoint].append(attempt)
            groups[attempt.delivery.destination, ""].append(attempt)
    return groups


def _record(connection: Connection, groups: Mapping[DestinationKey, Sequence[Attempted]]) -> None:
    """Health and body limits: read once, and written at most once, for a whole batch of each destination."""
    found = connection.execute(_LOCK_HEALTH, {"keys": json.dumps(list(groups))})
    known = {(origin, path): row for origin, path, *row in found}
    news = _News()
    for key, attempts in groups.items():
        news.learn(key, attempts, known.get(key))
    for sql, rows in ((_RECORD_GONE, news.gone), (_RECORD_HEALTH, news.changed), (_FORGET, news.forgotten)):
        if rows:
            connection.executemany(sql, rows)


@dataclass(frozen=True, slots=True)
class _News:
    """What is to be written of destinations after some attempts: values of a statement each."""

    gone: list[dict[str, Any]] = field(default_factory=list)
    changed: list[dict[str, Any]] = field(default_factory=list)
    forgotten: list[dict[str, Any]] = field(default_factory=list)

    def learn(self, key: DestinationKey, attempts: Sequence[Attempted], known: Sequence[Any] | None) -> None:
        """What attempts say of a destination of which so much was known."""
        origin, path = key
        state, held, turn_at, *columns, accepted, refused = known or ("active", 0, None, *_NOTHING_KNOWN)
        health = before = health_of(columns)
        for attempt in attempts:
            health = (of_endpoint if path else of_origin)(health, _came(attempt))
            if path and attempt.outcome is Outcome.HTTP_410:
                gone = {"sha256": fingerprint(attempt.delivery.url), "since": attempt.finished_at}
                self.gone.append(gone | {"origin": origin, "path": path})
        taken = max([*_sizes(attempts, _SUCCESS), *([] if accepted is None else [accepted])], default=None)
        too_large = min([*_sizes(attempts, Outcome.HTTP_413), *([] if refused is None else [refused])], default=None)
        if path and known is None and health == before and too_large is None:
            return
        freed = bool(held) and not health.held and state == "active"
        values = asdict(health) | {
            "origin": origin,
            "path": path,
            "held": int(health.held),
            "silent": int(health.silent),
            "open": int(health.open),
            "starts": json.dumps(health.starts),
            "owner": attempts[-1].delivery.owner,
            "turn_at": max(health.allowed_at, attempts[-1].finished_at) if health.held or freed else None,
            "largest_accepted": taken,
            "smallest_refused": too_large if path else None,
        }
        if known is None or health.held or (health, taken, too_large) != (before, accepted, refused):
            self.changed.append(values)
        if path and not health.held and not health.failures and turn_at is None:
            self.forgotten.append(values)


def _came(attempt: Attempted) -> AttemptResult:
    pause = pause_of(attempt.answer, attempt.finished_at)
    return AttemptResult(
        attempt.outcome, attempt.started_at, attempt.finished_at, pause, attempt.alone, attempt.delivery.allowed
    )


def _sizes(attempts: Iterable[Attempted], outcome: Outcome) -> list[int]:
    # A pointer's body is not the delivery's: it says nothing about size.
    return [a.delivery.body_bytes for a in attempts if a.outcome is outcome and not a.delivery.pointer]
