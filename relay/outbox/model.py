"""What a producer hands to the outbox, and what it may ask of it. Pure: no clock, no disk, no network.

Times are UTC seconds since the epoch, durations seconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta


class Method(StrEnum):
    POST = "POST"
    PUT = "PUT"


class Kind(StrEnum):
    """What a delivery carries; a label of the intake metric."""

    FINAL = "final"
    PARTIAL = "partial"
    ERROR = "error"


class DeliveryState(StrEnum):
    """Where a delivery stands. There is no sixth state."""

    PENDING = "pending"
    LEASED = "leased"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"


class OnDead(StrEnum):
    """What a dead delivery does to those behind it in its stream."""

    SKIP = "skip"  # the next one goes
    KILL = "kill"  # they die too


@dataclass(frozen=True, slots=True)
class Stream:
    """Deliveries that go strictly one after another, in the order in which they were added.

    To http and https each is a request of its own. To ws and wss they are the messages of one WebSocket that is opened
    once: if it drops, the stream is killed, whatever `on_dead` says.

    `live_until` makes it a live stream, which must be ended: the producer promises to end it, or to push that time out,
    before it has passed. Otherwise it is taken for dead, and the stream ends with what is there. So it is, at once,
    where the process behind `producer`, the name of its `outbox.Liveness`, is gone.
    """

    key: str
    on_dead: OnDead = OnDead.SKIP
    live_until: float | None = None
    producer: str | None = None


class StreamState(StrEnum):
    OPEN = "open"
    ENDED = "ended"  # its last message is in, or its producer was taken for dead
    CLOSED = "closed"  # ended, and nothing of it waits; its socket was closed in order
    KILLED = "killed"  # what waited is dead


class KillReason(StrEnum):
    DELIVERY = "delivery_dead"  # one of its deliveries was given up, and its `on_dead` says that this kills it
    FORBIDDEN = "forbidden_destination"  # the guard refused it
    LEFT_ALONE = "destination_left_alone"  # paused, disabled, or its breaker is open
    REFUSED = "not_opened"  # no connection, no TLS, or another answer than the WebSocket
    DROPPED = "connection_lost"  # the receiver closed it, or it broke
    SILENT = "not_answering"  # the receiver answered no ping
    MISBEHAVED = "protocol"  # the receiver broke the protocol, or a bound
    RELAY = "relay_gone"  # the relay that held the socket stopped or died
    INTERNAL = "internal"  # our own fault


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """What a producer may want to know of its stream: `reason` of a killed one, and how many deliveries wait."""

    state: StreamState
    reason: KillReason | None
    undelivered: int


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """One result for one callback URL, as a producer hands it to the outbox.

    `schedule` is "fixed", "exponential" or None for the relay's own; within a `stream` deliveries go one by one.

    `due_at` is when it is tried first, in epoch seconds, as a datetime with a time zone, or from now as a timedelta;
    None, and what has passed: at once. Under one `idempotency_key` there is one delivery, as long as that is kept.
    `tags` are words to find it by. The end of one that is `tracked` is told by `outbox.take_ended`.

    Owners have their turns, whatever one of them adds: `owner` says whose it is, in at most 128 characters. Of what
    waits for one endpoint the higher `priority`, from -100 to 100, goes first.
    """

    id: str
    url: str = field(repr=False)
    body: bytes = field(repr=False)
    method: Method = Method.POST
    kind: Kind = Kind.FINAL
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    traceparent: str | None = None
    schedule: str | None = None
    stream: Stream | None = None
    due_at: float | datetime | timedelta | None = None
    idempotency_key: str | None = None
    tags: Set[str] = frozenset()
    tracked: bool = False
    owner: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """Where a delivery stands. `due_at` is when it is tried next, while it is pending; `reason` why it was given up;
    `last_status`, `last_outcome` and `diagnosis`, a sentence, are those of its last attempt, as far as it is kept."""

    id: str
    state: DeliveryState
    attempts: int
    due_at: float | None
    finished_at: float | None
    reason: str | None
    last_status: int | None
    last_outcome: str | None
    diagnosis: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it, unless an operator replays it."""
        return self.state not in (DeliveryState.PENDING, DeliveryState.LEASED)
