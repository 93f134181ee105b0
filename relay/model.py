"""The nouns of the relay: what travels between its rooms. Pure: no clock, no disk, no network.

Times are UTC seconds since the epoch, durations seconds, sizes bytes.

What is made anew for every attempt is a `Struct`: that costs a twentieth of a frozen dataclass. `gc=False`, as none of
them can be part of a cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Struct


class Method(StrEnum):
    """How a result is handed over."""

    POST = "POST"
    PUT = "PUT"


class Kind(StrEnum):
    """What a delivery carries; a label of the intake metric."""

    FINAL = "final"
    PARTIAL = "partial"
    ERROR = "error"


class State(StrEnum):
    """Where a delivery stands. There is no sixth state."""

    PENDING = "pending"
    LEASED = "leased"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Failure(StrEnum):
    """Why an exchange ended without a status."""

    BLOCKED = "blocked"  # the guard refused the URL or an address
    DNS = "dns"
    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    READ_TIMEOUT = "read_timeout"  # the whole-exchange deadline passed after the connection stood
    RESET = "reset"  # the connection ended before a whole answer head came
    PROTOCOL = "protocol"  # the answer is not HTTP, or breaks a bound
    INTERNAL = "internal"  # our own fault


class Outcome(StrEnum):
    """What an answer means, as a closed set: the label of metrics and logs."""

    SUCCESS = "success"
    HTTP_3XX = "http_3xx"
    HTTP_4XX = "http_4xx"
    HTTP_410 = "http_410"
    HTTP_413 = "http_413"
    HTTP_429 = "http_429"
    HTTP_5XX = "http_5xx"
    BLOCKED = "blocked"
    DNS = "dns"
    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    READ_TIMEOUT = "read_timeout"
    RESET = "reset"
    PROTOCOL = "protocol"
    INTERNAL = "internal"


class Reason(StrEnum):
    """Why a delivery was given up."""

    EXHAUSTED = "exhausted"  # the schedule ran out
    FORBIDDEN = "forbidden_destination"  # the guard refused it
    GONE = "gone"  # 410
    TOO_LARGE = "too_large"  # 413 with on_too_large = "dead"
    EXPIRED = "expired"  # it waited too long for a destination that was left alone
    OPERATOR = "operator"
    STREAM_KILLED = "stream_killed"


@dataclass(frozen=True, slots=True)
class Target:
    """A callback URL that passed the guard, split into what a request needs.

    `host` is lower case and without brackets; `path` is the request target (path and query, never userinfo);
    `authorization` is the Basic credential made from the URL's userinfo.
    """

    scheme: str
    host: str
    port: int
    path: str
    authorization: str | None = field(default=None, repr=False)

    @property
    def origin(self) -> str:
        """Scheme, host and effective port: the key of a destination. Holds no secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def authority(self) -> str:
        """The Host header: the port is left out when it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"http": 80, "ws": 80, "https": 443, "wss": 443}[self.scheme]
        return host if self.port == default else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The guard's no: `rule` is a stable name, `message` a sentence with the remedy and without secrets."""

    rule: str
    message: str


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
    where the process behind `producer`, the name of its `outbox.LifeSign`, is gone.
    """

    key: str
    on_dead: OnDead = OnDead.SKIP
    live_until: float | None = None
    producer: str | None = None


class StreamState(StrEnum):
    """Where a stream stands."""

    OPEN = "open"
    ENDED = "ended"  # its last message is in, or its producer was taken for dead
    CLOSED = "closed"  # ended, and nothing of it waits; its socket was closed in order
    KILLED = "killed"  # what waited is dead


class KillReason(StrEnum):
    """Why a stream was killed."""

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


class Lease(Struct, frozen=True, gc=False):
    """A claim on a delivery. A settlement whose token is stale changes nothing."""

    seq: int
    token: str


class Delivery(Struct, frozen=True, gc=False):
    """A claimed delivery, without its body (bodies are read late, when the attempt is about to start).

    `attempts` counts settled attempts, `lapses` leases that expired unsettled; their sum plus one numbers this attempt.
    `scheduled_from` is when it was replayed, if it was; else its schedule began with `created_at`.
    """

    lease: Lease
    id: str
    destination: str
    url: str
    method: Method
    kind: Kind
    content_type: str
    headers: Mapping[str, str]
    traceparent: str | None
    body_bytes: int
    created_at: float
    due_at: float
    attempts: int
    lapses: int
    schedule: str | None = None
    stream_id: int | None = None
    position: int | None = None
    pointer: bool = False
    scheduled_from: float | None = None

    @property
    def number(self) -> int:
        """The number of the attempt that this claim allows, from 1, fresh on every request sent."""
        return self.attempts + self.lapses + 1

    def __repr__(self) -> str:
        return f"Delivery({self.id!r}, {self.destination!r}, {self.lease!r})"  # the URL is a secret


class Envelope(Struct, frozen=True, gc=False):
    """One request, sealed: all that a transport needs to send it."""

    method: Method
    target: Target
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __repr__(self) -> str:
        return f"Envelope({self.method.value} {self.target.origin}, {len(self.body)} bytes)"


class Timing(Struct, frozen=True, gc=False):
    """Where an exchange spent its time, in seconds; None for a step that did not happen."""

    total: float
    dns: float | None = None
    connect: float | None = None
    tls: float | None = None
    first_byte: float | None = None


class Answer(Struct, frozen=True, gc=False):
    """What came back. Exactly one of `status` and `failure` is set: a network failure is an answer too.

    `detail` is one sentence without secrets; `excerpt` at most 4 KiB of the decoded body; `peer` the address dialled.
    """

    timing: Timing
    status: int | None = None
    failure: Failure | None = None
    detail: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    excerpt: bytes = b""
    peer: str | None = None
    reused: bool = False

    def __repr__(self) -> str:
        return f"Answer({self.status or self.failure!r}, {self.detail!r}, {self.timing!r})"

    def header(self, name: str) -> str | None:
        """The first value of a header, by its lower-case name."""
        return next((value for key, value in self.headers if key.lower() == name), None)


class Delivered(Struct, frozen=True, gc=False):
    """The receiver has it."""


class Retry(Struct, frozen=True, gc=False):
    """Try again at `due_at`; with `pointer`, send a link instead of the body."""

    due_at: float
    pointer: bool = False


class Dead(Struct, frozen=True, gc=False):
    """Given up, and kept."""

    reason: Reason


Verdict = Delivered | Retry | Dead

DELIVERED = Delivered()


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a destination has taught about sizes: the largest body it accepted, the smallest it called too large."""

    largest_accepted: int | None = None
    smallest_refused: int | None = None


NOTHING_LEARNT = BodyLimits()


class Attempted(Struct, frozen=True, gc=False):
    """The record of one attempt, the same for every observer: log, metrics, the attempts table.

    `limits` is what was known of the destination before this attempt; it is looked up only when size may be the cause.
    `request_headers` are as sent, credentials and signatures redacted.
    """

    delivery: Delivery
    answer: Answer
    outcome: Outcome
    verdict: Verdict
    diagnosis: str
    started_at: float
    finished_at: float
    limits: BodyLimits = NOTHING_LEARNT
    request_headers: tuple[tuple[str, str], ...] = ()

    @property
    def lag(self) -> float:
        """Seconds between due and started: the lateness that is ours."""
        return max(0.0, self.started_at - self.delivery.due_at)
