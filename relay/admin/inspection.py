"""What operators look at: deliveries, their attempts, and attempts as they happen."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from relay.admin import json_values
from relay.admin.access import NotFound, reading
from relay.admin.times import clock
from relay.outbox.model import DeliveryState
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database
from relay.policy.attempt import Outcome
from relay.policy.breaker import DestinationState, state_of
from relay.queue.holding import HELD, health_of

_LIST = statement("list", __package__)
_REACH = statement("reach", __package__)
_SHOW = statement("show", __package__)
_PLACES = statement("places", __package__)
_BEGIN_SO = statement("begin_so", __package__)
_HISTORY = statement("history", __package__)
_RECENT = statement("recent_attempts", __package__)
_TAIL = statement("tail", __package__)
_TAIL_MARK = statement("tail_mark", __package__)
_HIGH_WATER = "SELECT coalesce(max(seq), 0) FROM outspoken_deliveries"
_LAST = chr(0x10FFFF)  # is behind whatever an id may have there
_TAGS = "SELECT tag FROM outspoken_tags WHERE seq = ? ORDER BY tag"
_BODY = "SELECT body FROM outspoken_bodies JOIN outspoken_deliveries USING (seq) WHERE id = ?"

_AT = "SELECT seq, created_at FROM outspoken_deliveries WHERE seq >= ? ORDER BY seq LIMIT 1"

HEALTH = ("silent", "failures", "open", "starts", "rate", "every", "slowed_at", "allowed_at")

NEWEST = 2**63 - 1
# Transactions that overlap are not numbered exactly in the order of their clocks.
_CLOCK_SLACK = 3600.0
EFFORT = 10_000  # deliveries that one page looks at: some 50 ms
_MOST_WATCHED = 50_000

# The values that are worth seeing and are never secret; every other header is shown by its name.
_OPEN_HEADERS = frozenset(
    {"content-type", "content-length", "user-agent", "date", "server", "retry-after", "location", "traceparent"}
    | {"webhook-id", "webhook-timestamp", "webhook-attempt", "webhook-stream", "webhook-sequence"}
)
HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries. What is None lets everything through.

    `outcome` is that of the last attempt, `destination` an origin, `tag` one of its tags, `owner` whose it is; `since`
    and `until` are epoch seconds and about when a delivery was added.
    """

    state: DeliveryState | None = None
    outcome: Outcome | None = None
    destination: str | None = None
    id_prefix: str | None = None
    since: float | None = None
    until: float | None = None
    tag: str | None = None
    owner: str | None = None

    def given(self) -> dict[str, Any]:
        """What was asked for, by name; empty: nothing narrows the search."""
        return {name: value for name, value in asdict(self).items() if value is not None}


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """What is told of a delivery wherever it is told of. `attempts` counts since it was last replayed."""

    seq: int
    id: str
    state: DeliveryState
    destination: str
    kind: str
    created_at: float
    due_at: float | None
    finished_at: float | None
    reason: str | None
    body_bytes: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Summary(DeliveryRecord):
    """One delivery in a list. `seq` is the cursor for the older ones.

    `held` is a pending one that waits for its destination: `delivery` tells in words for what, and until when.
    """

    last_number: int | None
    last_outcome: str | None
    last_status: int | None
    held: bool


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Some deliveries, the newest first. `older` is the cursor of the next page, None when there is none.

    A page ends when it is full, or when enough was looked at: then there may be more although it is not full, and
    `looked_back_to` is the time of the last delivery that was looked at.
    """

    found: tuple[Summary, ...]
    older: int | None
    looked_back_to: float | None = None


@dataclass(frozen=True, slots=True)
class Details(DeliveryRecord):
    """One delivery with all that is known of it but its body and its attempts.

    `url` is the origin alone, unless it was revealed; credentials never are. `waits_for` is a sentence: what keeps a
    pending delivery. `stream_reason` says why its stream was killed.
    """

    lapses: int
    url: str
    method: str
    content_type: str
    headers: Mapping[str, str]
    traceparent: str | None
    schedule: str | None
    pointer: bool
    stream: str | None
    stream_reason: str | None
    position: int | None
    idempotency_key: str | None
    tags: tuple[str, ...]
    tracked: bool
    owner: str
    priority: int
    body_kept: bool
    waits_for: str | None


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt of a delivery. Durations are seconds; `excerpt` is the start of the answer's body."""

    number: int
    started_at: float
    lag: float
    duration: float
    outcome: str
    status: int | None
    peer: str | None
    detail: str
    timing: Mapping[str, float]
    request_headers: tuple[tuple[str, str], ...]
    answer_headers: tuple[tuple[str, str], ...]
    excerpt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One attempt as it is told in passing, and where its delivery stands now."""

    id: str
    destination: str
    state: DeliveryState
    reason: str | None
    number: int
    started_at: float
    lag: float
    duration: float
    outcome: str
    status: int | None
    detail: str


def deliveries(database: Database, wanted: Filter, *, limit: int = 50, older: int | None = None) -> tuple[Summary, ...]:
    """The newest first; `older` is the seq of the last one of the page before."""
    found: tuple[Summary, ...] = ()
    while len(found) < limit:
        page = search(database, wanted, limit=limit - len(found), older=older)
        found, older = found + page.found, page.older
        if older is None:
            break
    return found


def search(
    database: Database, wanted: Filter, *, limit: int = 50, older: int | None = None, effort: int = EFFORT
) -> DeliveryPage:
    """One page, which costs the same however many deliveries there are: it looks at `effort` of them at most."""
    with reading(database) as connection:
        floor, end = bounds(connection, wanted)
        values = {**asdict(wanted), "limit": limit, "older": end if older is None else min(older, end)}
        reach = {**values, "floor": floor, "effort": effort}
        stop = connection.execute(_REACH, reach).fetchone()
        rows = connection.execute(_LIST, {**values, "floor": stop["seq"] if stop else floor}).fetchall()
        found = tuple(
            Summary(**{**dict(row), "state": DeliveryState(row["state"]), "held": bool(row["held"])}) for row in rows
        )
        if len(found) == limit:
            return DeliveryPage(found, found[-1].seq)
        if stop is None:
            return DeliveryPage(found, None)
        return DeliveryPage(found, stop["seq"], _created_at(connection, stop["seq"]))


def bounds(connection: Connection, wanted: Filter) -> tuple[int, int]:
    """From which seq, and before which, deliveries of the wanted time stand. A guess on the safe side."""
    floor = 0 if wanted.since is None else seq_at(connection, wanted.since - _CLOCK_SLACK)
    return floor, NEWEST if wanted.until is None else seq_at(connection, wanted.until + _CLOCK_SLACK)


def seq_at(connection: Connection, at: float) -> int:
    """The seq from which on deliveries were added at or after a time; NEWEST when there is none. Halves its way."""
    low, high = 0, connection.execute(_HIGH_WATER).fetchone()[0] + 1
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(_AT, (middle,)).fetchone()
        if row is None or row[1] >= at:
            high = middle
        else:
            low = row[0] + 1
    return low if connection.execute(_AT, (low,)).fetchone() else NEWEST


def delivery(database: Database, id_: str, now: float, *, reveal: bool = False, owner: str | None = None) -> Details:
    """All of one delivery; `reveal` shows the path and query of its URL and its headers. Raises NotFound, for one of
    another than the `owner` too."""
    with reading(database) as connection:
        row = dict(_one(connection, id_, owner))
        tags = tuple(tag for (tag,) in connection.execute(_TAGS, (row["seq"],)).fetchall())
        places = connection.execute(_PLACES, {"origin": row["destination"], "path": row["path"]}).fetchall()
    waits_for = _waits_for(row, places, now)
    for name in ("path", "lane", "transport"):
        del row[name]
    headers = json_values.texts(row["headers"])
    return Details(
        **row
        | {
            "state": DeliveryState(row["state"]),
            "url": shown_url(row["url"], row["destination"], reveal=reveal),
            "tags": tags,
            "tracked": bool(row["tracked"]),
            "headers": headers if reveal else redacted(headers),
            "pointer": bool(row["pointer"]),
            "body_kept": bool(row["body_kept"]),
            "waits_for": waits_for,
        }
    )


def whole_id(database: Database, begin: str) -> str:
    """The id of a delivery that was named by it, or by its beginning. Raises NotFound where none begins so, or
    several."""
    with reading(database) as connection:
        if connection.execute(_SHOW, {"id": begin}).fetchone():
            return begin
        found = [row[0] for row in connection.execute(_BEGIN_SO, {"begin": begin, "end": begin + _LAST}).fetchall()]
    if len(found) == 1:
        return str(found[0])
    raise NotFound(f"no delivery {begin!r}" if not found else f"more than one delivery's id begins with {begin!r}")


def history(database: Database, id_: str, *, owner: str | None = None) -> tuple[AttemptRecord, ...]:
    """The attempts of one delivery, as far as they are kept, from the first. Raises NotFound, for one of another than
    the `owner` too."""
    with reading(database) as connection:
        seq = _one(connection, id_, owner)["seq"]
        return tuple(_attempt(row) for row in connection.execute(_HISTORY, {"seq": seq}))


def body(database: Database, id_: str) -> bytes:
    """The bytes of one delivery. Raises NotFound, also when they were pruned."""
    with reading(database) as connection:
        _one(connection, id_)
        row = connection.execute(_BODY, (id_,)).fetchone()
    if row is None:
        raise NotFound(f"delivery {id_}: its body is no longer kept")
    found: bytes = row[0]
    return found


class Tail:
    """Attempts as they happen: `recent` first, then `news` again and again.

    Attempts are not indexed by their time, which every one of them would pay for. What is looked at again is what was
    seen waiting or was added since. That misses nothing, but for two cases in which `gap` says so: more than `most`
    deliveries wait, or one was replayed and attempted between two calls.
    """

    def __init__(
        self,
        database: Database,
        outcome: Outcome | None = None,
        destination: str | None = None,
        *,
        most: int = _MOST_WATCHED,
    ) -> None:
        self._database = database
        self._wanted = {"outcome": outcome, "destination": destination}
        self._most = most
        self._mark: dict[str, Any] = {"mark": "[]", "crowded": 0, "replay": 0, "high_water": 0}
        self.gap: str | None = None

    def recent(self, limit: int) -> tuple[DeliveryAttempt, ...]:
        """The last attempts until now, oldest first."""
        with reading(self._database) as connection:
            rows = connection.execute(_RECENT, {**self._wanted, "limit": limit}).fetchall()
            self._move(connection)
        return tuple(_happened(row) for row in rows)

    def news(self) -> tuple[DeliveryAttempt, ...]:
        """Those since the call before. Afterwards `gap` is a sentence if some may be missing."""
        before = self._mark
        with reading(self._database) as connection:
            rows = connection.execute(_TAIL, {**self._wanted, **before}).fetchall()
            self._move(connection)
        self.gap = self._missing(before)
        return tuple(_happened(row) for row in rows)

    def _move(self, connection: Connection) -> None:
        """In the same snapshot as the question, so that nothing falls between two of them."""
        self._mark = dict(connection.execute(_TAIL_MARK, {"limit": self._most}).fetchone())

    def _missing(self, before: Mapping[str, Any]) -> str | None:
        if before["crowded"]:
            return f"{self._most} deliveries or more wait: attempts of those that are due last are not shown"
        if self._mark["replay"] > before["replay"]:
            return "a replay has begun: what it led to at once may not be shown"
        return None


def shown_url(url: str, origin: str, *, reveal: bool) -> str:
    """A URL without its credentials; without path and query too, which may be tokens, unless it is to be revealed."""
    if not reveal:
        return f"{origin}/{HIDDEN}"
    return re.sub(r"^([^:]*://)[^/?#]*@", rf"\1{HIDDEN}@", url)


def redacted(headers: Mapping[str, str]) -> dict[str, str]:
    """Names with the values that are known to hold no secret."""
    return {name: value if name.lower() in _OPEN_HEADERS else HIDDEN for name, value in headers.items()}


def as_curl(one: Details) -> str:
    """A command that sends the same, with placeholders for what must not be shown and what only a key can make."""
    headers = {
        "content-type": one.content_type,
        "webhook-id": one.id,
        "webhook-timestamp": "<seconds>",
        "webhook-signature": "<relay sign>",
        **one.headers,
    }
    parts = ["curl", "-X", one.method, one.url]
    for name, value in headers.items():
        parts += ["-H", f"{name}: {value}"]
    return shlex.join([*parts, "--data-binary", "@body"])


def _created_at(connection: Connection, seq: int) -> float:
    at: float = connection.execute(_AT, (seq,)).fetchone()[1]
    return at


def _one(connection: Connection, id_: str, owner: str | None = None) -> Any:
    row = connection.execute(_SHOW, {"id": id_}).fetchone()
    if row is None or owner not in (None, row["owner"]):
        raise NotFound(f"no delivery {id_!r}")
    return row


def _waits_for(row: Mapping[str, Any], places: Sequence[Any], now: float) -> str | None:
    """A sentence that goes on after `it waits for`: what holds it, and until when, as far as that is known."""
    if row["state"] != DeliveryState.PENDING:
        return None
    for place in places:
        if held := _holds(place, now):
            return held
    if row["due_at"] is None:
        return "its WebSocket" if row["transport"] == "ws" else "the one before it in its stream"
    if row["due_at"] > now:
        return "its time"
    return "its destination, which is asked in turn what it takes" if row["lane"] == HELD else "a relay"


def _holds(place: Any, now: float) -> str | None:
    """What a destination says, an origin or an endpoint, that holds its deliveries."""
    health = health_of([place[name] for name in HEALTH])
    which = "path" if place["path"] else "destination"
    at = health.asks_at(now)
    when = "may go there now" if at <= now else f"may go there at {clock(at)}"
    match state_of(place["state"], health, whole=not place["path"]):
        case DestinationState.PAUSED:
            return f"its {which}, which an operator paused, until somebody resumes it"
        case DestinationState.DISABLED:
            return f"its {which}, which is disabled, until somebody enables it"
        case DestinationState.UNREACHABLE:
            return f"its {which}, which could not be reached {health.failures} times in a row; the next attempt {when}"
        case DestinationState.TRICKLING:
            return f"its {which}, which failed {health.failures} times in a row; the next attempt {when}"
        case DestinationState.SLOWED:
            return f"its {which}, which is called slowly; the next attempt {when}"
    return None


def _attempt(row: Any) -> AttemptRecord:
    return AttemptRecord(
        **dict(row)
        | {
            "timing": json_values.numbers(row["timing"]),
            "request_headers": json_values.pairs(row["request_headers"]),
            "answer_headers": json_values.pairs(row["answer_headers"]),
        }
    )


def _happened(row: Any) -> DeliveryAttempt:
    return DeliveryAttempt(**{**dict(row), "state": DeliveryState(row["state"])})
