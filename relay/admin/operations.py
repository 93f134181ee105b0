"""What operators do to deliveries and destinations. Every act is a short transaction and leaves a line in the audit."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from relay.admin import audit
from relay.admin.access import NotFound, NothingMatched, Refused, acting, reading
from relay.admin.audit import Actor
from relay.admin.inspection import EVERYTHING, Filter, bounds
from relay.outbox.model import DeliveryState
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database
from relay.queue.retention import DeliveryRetention, Pruned, prune, survey

_MATCHING = statement("matching", __package__)
_NAMED = statement("named", __package__)
_REPLAY = statement("replay", __package__)
_CANCEL = statement("cancel", __package__)
_LOCK_STREAMS = statement("lock_streams", __package__)
_RELEASE_STREAM = statement("release_stream", __package__)
_DESTINATION = statement("destination", __package__)
_SET_STATE = statement("set_state", __package__)
_WAKE_ENDPOINTS = statement("wake_endpoints", __package__)
_MAKE_WELL = statement("make_well", __package__)
_FORGET_GONE_URLS = statement("forget_gone_urls", __package__)

_SLICE = 200  # deliveries in one transaction: a few milliseconds
_IDS_IN_AUDIT = 100
REPLAYABLE = frozenset({DeliveryState.DEAD, DeliveryState.DELIVERED, DeliveryState.CANCELLED})

WhyNot = Callable[[Any], str | None]
One = Callable[[Connection, int, int], bool]


@dataclass(frozen=True, slots=True)
class BulkSelection:
    """What a bulk act is about: deliveries named by id, or all that fit a filter, the oldest `limit` of them."""

    ids: tuple[str, ...] = ()
    wanted: Filter = EVERYTHING
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What an act would do, before it is done.

    `destinations` counts deliveries by origin, `bytes` sums their bodies; `refused` counts what was selected and
    cannot be acted on, by reason; `held` names destinations that are paused or disabled, where deliveries will wait.
    """

    seqs: tuple[int, ...]
    destinations: Mapping[str, int]
    bytes: int
    refused: Mapping[str, int]
    held: Mapping[str, str]

    @property
    def count(self) -> int:
        return len(self.seqs)

    def said(self) -> dict[str, Any]:
        """The plan in numbers, without naming each delivery."""
        return {name: value for name, value in asdict(self).items() if name != "seqs"} | {"count": self.count}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a bulk act is: `done` of `planned`; what was changed by others meanwhile is not done. `run` is its name
    in the audit."""

    run: str
    done: int
    planned: int


def select(
    ids: Sequence[str] = (), wanted: Filter = EVERYTHING, limit: int | None = None, *, everything: bool = False
) -> BulkSelection:
    """What a bulk act is about, said on purpose. Raises ValueError for what contradicts itself, and Refused when
    nothing narrows it and it was not said that all are meant."""
    narrowed = bool(wanted.given())
    if ids and (narrowed or everything or limit):
        raise ValueError("name deliveries by id, or filter them: not both")
    if everything and narrowed:
        raise ValueError("all says that there is no filter, and there is one")
    if not (ids or narrowed or everything):
        raise Refused("this would be about every delivery: name some, filter them, or say all")
    return BulkSelection(tuple(ids), wanted, limit)


def plan_replay(database: Database, selection: BulkSelection) -> Plan:
    """What `replay` would send again: dead deliveries, unless others are named by id or by state.

    Raises NotFound for an id that there is none of, NothingMatched, and Refused when none of them can be replayed.
    """
    return _plan(database, selection, DeliveryState.DEAD, _why_not_replay)


def plan_cancel(database: Database, selection: BulkSelection) -> Plan:
    """What `cancel` would give up: pending deliveries. Raises as `plan_replay` does."""
    return _plan(database, selection, DeliveryState.PENDING, _why_not_cancel)


def replay(
    database: Database, selection: BulkSelection, plan: Plan, actor: Actor, *, rate: float | None = None
) -> Iterator[Progress]:
    """Send again what was planned: same id and body, fresh schedule and signature, due now or `rate` a second.

    Goes slice by slice, each with its progress; what was done stays done if it is cut short.
    """
    started = database.now()

    def act(connection: Connection, seq: int, index: int) -> bool:
        due_at = started + index / rate if rate else started
        return _apply(connection, _REPLAY, {"seq": seq, "due_at": due_at})

    return _in_slices(database, "delivery.replay", selection, plan, actor, act)


def cancel(database: Database, selection: BulkSelection, plan: Plan, actor: Actor) -> Iterator[Progress]:
    """Give up what was planned and is still pending. In a stream, the next one may go."""

    def act(connection: Connection, seq: int, _: int) -> bool:
        now = database.now()
        return _apply(connection, _CANCEL, {"seq": seq, "now": now, "due_at": now})

    return _in_slices(database, "delivery.cancel", selection, plan, actor, act)


def pause(database: Database, place: str, actor: Actor) -> bool:
    """Call a destination, an origin or a path of it, no more until it is resumed, also before anything goes there;
    False when it was paused already."""
    return _set_state(database, place, "paused", actor, "destination.pause", refuse="disabled")


def resume(database: Database, place: str, actor: Actor) -> bool:
    """Call a paused destination again; False when it was active already. Raises Refused for a disabled one."""
    return _set_state(database, place, "active", actor, "destination.resume", refuse="disabled")


def disable(database: Database, place: str, actor: Actor) -> bool:
    """Call a destination no more until it is enabled; False when it was disabled already."""
    return _set_state(database, place, "disabled", actor, "destination.disable")


def enable(database: Database, place: str, actor: Actor) -> bool:
    """Call a destination again whatever stood in the way: what operators said, its breaker, its pace, or an answer of
    410; of an origin, all of its endpoints too. False when nothing did."""
    with acting(database) as connection:
        origin, path, state = _destination(connection, place)
        now = database.now()
        values = {"origin": origin, "path": path, "now": now}
        closed = connection.execute(_MAKE_WELL, values).rowcount
        forgotten = connection.execute(_FORGET_GONE_URLS, values).rowcount
        if changed := bool(closed or forgotten):
            said = {"destination": place, "was": state, "breaker_closed": closed > (state != "active")}
            audit.note(connection, actor, "destination.enable", now, **said, gone_urls=forgotten)
        return changed


def _plan(database: Database, selection: BulkSelection, default: DeliveryState, why_not: WhyNot) -> Plan:
    with reading(database) as connection:
        rows = _selected(connection, selection, default)
    if not rows:
        raise NothingMatched("nothing matches")
    refused = Counter(reason for row in rows if (reason := why_not(row)))
    rows = [row for row in rows if not why_not(row)]
    if not rows:
        reasons = "; ".join(f"{count}: {reason}" if count > 1 else reason for reason, count in refused.items())
        raise Refused(f"nothing to do: {reasons}")
    return Plan(
        seqs=tuple(row["seq"] for row in rows),
        destinations=dict(Counter(row["destination"] for row in rows).most_common()),
        bytes=sum(row["body_bytes"] for row in rows),
        refused=dict(refused),
        held={row["destination"]: row["destination_state"] for row in rows if row["destination_state"] != "active"},
    )


def _selected(connection: Connection, selection: BulkSelection, default: DeliveryState) -> list[Any]:
    if selection.ids:
        rows = connection.execute(_NAMED, {"ids": json.dumps(selection.ids)}).fetchall()
        missing = set(selection.ids) - {row["id"] for row in rows}
        if missing:
            raise NotFound(f"no delivery {', '.join(repr(id_) for id_ in sorted(missing)[:3])}")
        return rows
    limit = -1 if selection.limit is None else selection.limit
    floor, end = bounds(connection, selection.wanted)
    narrowed = {"state": selection.wanted.state or default, "limit": limit, "floor": floor, "older": end}
    values = {**asdict(selection.wanted), **narrowed}
    return connection.execute(_MATCHING, values).fetchall()


def _why_not_replay(row: Any) -> str | None:
    if row["state"] not in REPLAYABLE:
        return f"it is {row['state']}: only what is dead, delivered or cancelled can be replayed"
    if not row["body"]:
        return "its body is no longer kept"
    if row["stream_transport"] == "ws":
        return "it is a message of a WebSocket, which is opened once"
    return "its stream was killed" if row["stream_state"] == "killed" else None


def _why_not_cancel(row: Any) -> str | None:
    if row["state"] == DeliveryState.LEASED:
        return "it is being attempted right now: pause its destination, then cancel it"
    return (
        None
        if row["state"] == DeliveryState.PENDING
        else f"it is {row['state']}: only what is pending can be cancelled"
    )


def _in_slices(
    database: Database, act: str, selection: BulkSelection, plan: Plan, actor: Actor, one: One
) -> Iterator[Progress]:
    run, line, done = secrets.token_hex(6), 0, 0
    said = {"run": run, "planned": plan.count, **_said(selection)}
    for start in range(0, plan.count, _SLICE):
        with acting(database) as connection:
            slice_ = plan.seqs[start : start + _SLICE]
            connection.execute(_LOCK_STREAMS, {"seqs": json.dumps(slice_)})
            done += sum(one(connection, seq, index) for index, seq in enumerate(slice_, start))
            # One line, true after every slice.
            line = line or audit.note(connection, actor, act, database.now())
            audit.amend(connection, line, **said, done=done)
        yield Progress(run, done, plan.count)


def _said(selection: BulkSelection) -> dict[str, object]:
    if selection.ids:
        return {"ids": selection.ids[:_IDS_IN_AUDIT], "named": len(selection.ids)}
    return {"filter": selection.wanted.given(), "limit": selection.limit}


def _apply(connection: Connection, sql: str, values: Mapping[str, object]) -> bool:
    rows = connection.execute(sql, values).fetchall()
    for row in rows:
        if row["stream_id"] is not None:
            connection.execute(_RELEASE_STREAM, {"stream_id": row["stream_id"], "due_at": values["due_at"]})
    return bool(rows)


def _set_state(database: Database, place: str, state: str, actor: Actor, act: str, refuse: str | None = None) -> bool:
    with acting(database) as connection:
        origin, path, was = _destination(connection, place, must_be_known=state == "active")
        if was == refuse:
            raise Refused(f"{place} is {was}: `relay enable {place}` has it called again")
        if was == state:
            return False
        now = database.now()
        values = {"origin": origin, "path": path, "state": state, "now": now}
        connection.execute(_SET_STATE, values)
        if not path:
            connection.execute(_WAKE_ENDPOINTS, values)
        audit.note(connection, actor, act, now, destination=place, was=was)
        return True


def _destination(connection: Connection, place: str, *, must_be_known: bool = True) -> tuple[str, str, str]:
    """Origin, path and state of a destination. Raises NotFound for one of which nothing is known."""
    origin, path = apart(place)
    row = connection.execute(_DESTINATION, {"origin": origin, "path": path}).fetchone()
    if row is None and must_be_known:
        raise NotFound(f"no destination {place}: none of the deliveries kept goes there")
    return origin, path, row["state"] if row else "active"


def apart(place: str) -> tuple[str, str]:
    """The origin of a destination, and its path; '' where it is the whole origin."""
    found = re.fullmatch(r"([^/]*//[^/]*)(/.*)?", place, re.DOTALL)
    return (found[1], found[2] or "") if found else (place, "")


def forget(database: Database, kept: DeliveryRetention, actor: Actor, now: float, *, dry_run: bool = False) -> Pruned:
    """Forget what was kept long enough, now and not by and by; returns what was forgotten, or with `dry_run` would be.

    What is pending or in flight is never touched. Turns an event loop of its own: call it where none runs. Raises
    StoreUnavailable or SchemaError.
    """
    with reading(database):
        pass  # says what is wrong with the database before anything is written
    if dry_run:
        return survey(database, kept, now)
    pruned = asyncio.run(prune(database, kept, now))
    with acting(database) as connection:
        audit.note(connection, actor, "retention", now, **asdict(pruned))
    return pruned
