"""One attempt at a delivery, from its claim to its verdict, or one stream, from its holder to its end: the values that
travel between the daemon's rooms.

Times are UTC seconds since the epoch, durations seconds, sizes bytes.

What is made anew for every attempt is a `Struct`: that costs a twentieth of a frozen dataclass. `gc=False`, as none of
them can be part of a cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Struct

from relay.guard.url import Target
from relay.outbox.model import KillReason, Kind, Method


class Failure(StrEnum):
    """Why an exchange ended without a status."""

    BLOCKED = "blocked"  # the guard refused the URL or an address
    DNS = "dns"
    SHORTAGE = "shortage"  # nobody could be asked for the host's address, and nothing was sent: try again
    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    READ_TIMEOUT = "read_timeout"  # the whole-exchange deadline passed after the connection stood
    RESET = "reset"  # the connection ended before a whole answer head came
    PROTOCOL = "protocol"  # the answer is not HTTP, or breaks a bound
    UNSENDABLE = "unsendable"  # no request can be made of it: its headers are none, or ours
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
    SHORTAGE = "shortage"
    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    READ_TIMEOUT = "read_timeout"
    RESET = "reset"
    PROTOCOL = "protocol"
    UNSENDABLE = "unsendable"
    INTERNAL = "internal"


class Reason(StrEnum):
    """Why a delivery was given up."""

    EXHAUSTED = "exhausted"  # the schedule ran out
    FORBIDDEN = "forbidden_destination"  # the guard refused it
    GONE = "gone"  # 410
    TOO_LARGE = "too_large"  # 413 with on_too_large = "dead"
    EXPIRED = "expired"  # it waited too long for a destination that was left alone
    UNSENDABLE = "unsendable"  # no request can be made of it
    OPERATOR = "operator"
    STREAM_KILLED = "stream_killed"


class Lease(Struct, frozen=True, gc=False):
    """A claim on a delivery. A settlement whose token is stale changes nothing."""

    seq: int
    token: str


class Delivery(Struct, frozen=True, gc=False):
    """A claimed delivery, without its body (bodies are read late, when the attempt is about to start).

    `attempts` counts settled attempts, `lapses` leases that expired unsettled; their sum plus one numbers this attempt.
    `scheduled_from` is when it was replayed, if it was; else its schedule began with `created_at`. `path` is that of
    its endpoint, `allowed` says that it was claimed because its destination, which is in trouble, allowed it, and
    `gone` that its very URL answered 410 before.
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
    path: str = "/"
    owner: str = ""
    allowed: bool = False
    gone: bool = False

    @property
    def endpoint(self) -> tuple[str, str]:
        """Its origin, and the path of its endpoint there."""
        return self.destination, self.path

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
    `sent` is False where nothing was, because it was known what would come.
    """

    timing: Timing
    status: int | None = None
    failure: Failure | None = None
    detail: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    excerpt: bytes = b""
    peer: str | None = None
    reused: bool = False
    sent: bool = True

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


class Postponed(Struct, frozen=True, gc=False):
    """The receiver asked to be left alone for a while: that uses up no attempt. Its endpoint says when to go."""


class Dead(Struct, frozen=True, gc=False):
    """Given up, and kept."""

    reason: Reason


Verdict = Delivered | Retry | Postponed | Dead

DELIVERED = Delivered()
POSTPONED = Postponed()


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What is known of a destination about sizes: the largest body it accepted, the smallest it called too large."""

    largest_accepted: int | None = None
    smallest_refused: int | None = None


NO_LIMITS_KNOWN = BodyLimits()


class Attempted(Struct, frozen=True, gc=False):
    """The record of one attempt, the same for every observer: log, metrics, the attempts table.

    `limits` is what was known of the destination before this attempt; it is looked up only when size may be the cause.
    `request_headers` are as sent, credentials and signatures redacted. `alone` is False where its origin answered
    another attempt while this one was under way.
    """

    delivery: Delivery
    answer: Answer
    outcome: Outcome
    verdict: Verdict
    diagnosis: str
    started_at: float
    finished_at: float
    limits: BodyLimits = NO_LIMITS_KNOWN
    request_headers: tuple[tuple[str, str], ...] = ()
    alone: bool = True

    @property
    def lag(self) -> float:
        """Seconds between due and started: the lateness that is ours."""
        return max(0.0, self.started_at - self.delivery.due_at)


Message = tuple[Delivery, bytes]
"""A delivery of a stream, and its body: one text message of a WebSocket."""


@dataclass(frozen=True, slots=True)
class HeldStream:
    """A stream whose WebSocket this relay is to open, once."""

    id: int
    key: str
    origin: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    path: str = "/"


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a held stream: closed without a `reason`, killed with one.

    `failed_opening` is one for which there was no message to hold it against; it counts for the breaker alone.
    """

    stream_id: int
    reason: KillReason | None = None
    failed_opening: Attempted | None = None
