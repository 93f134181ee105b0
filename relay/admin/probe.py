"""A test request to a receiver: a delivery that is sealed, sent and judged as any first attempt is, and kept by nobody.

What sends it is the courier itself (`relay.app.admin`); here is what it is given, and what is told of the attempt.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from relay.admin import keys
from relay.admin.access import Refused, destination_of, is_missing, origin_of, reading
from relay.outbox.model import Kind, Method
from relay.outbox.queries import statement
from relay.outbox.store import Database
from relay.policy.attempt import (
    NO_LIMITS_KNOWN,
    Attempted,
    BodyLimits,
    Dead,
    Delivered,
    Delivery,
    Lease,
    Outcome,
    Postponed,
    Retry,
    Timing,
)
from relay.policy.signing import SigningKey

SMALLEST = 256
LARGEST = 64 * 2**20

_BODY_LIMITS = statement("body_limits", "relay.queue")
T = TypeVar("T")

_NOTE = "A test of this callback URL by those who operate the relay. It carries no result."


@dataclass(frozen=True, slots=True)
class Probe:
    """What to send: a body of `size` bytes, signed by `signing`. `limits` is what is known of the destination.

    A courier takes it for the outbox: bodies, keys and limits come from here.
    """

    url: str
    method: Method = Method.POST
    size: int = SMALLEST
    signing: tuple[SigningKey, ...] = ()
    limits: BodyLimits = NO_LIMITS_KNOWN
    id: str = field(default_factory=lambda: f"probe_{secrets.token_hex(8)}")

    def delivery(self) -> Delivery:
        """What a courier is to deliver, due now."""
        now = time.time()
        return Delivery(
            Lease(0, ""),
            self.id,
            origin_of(self.url),
            self.url,
            self.method,
            Kind.FINAL,
            "application/json",
            {},
            None,
            self.size,
            created_at=now,
            due_at=now,
            attempts=0,
            lapses=0,
        )

    async def with_body(self, _: Delivery, use: Callable[[bytes], T]) -> T:
        plain = {"event": "relay.probe", "id": self.id, "note": _NOTE, "padding": ""}
        plain["padding"] = "x" * max(0, self.size - len(json.dumps(plain)))
        return use(json.dumps(plain).encode())

    async def keys(self, _: str) -> tuple[SigningKey, ...]:
        return self.signing

    async def body_limits(self, _: str, __: str) -> BodyLimits:
        return self.limits


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of it. `address` is the one that was dialled; `timing` has the total and the steps that happened.

    `verdict` is a delivery's: `delivered`; `retried` after `retry_in` seconds (as a link instead of the body if
    `pointer`); `postponed` for as long as the receiver asks; or `dead`, for a `reason`. `why` is a sentence without
    secrets, `redirect` the destination to which the receiver pointed, if it named one.
    """

    id: str
    method: str
    bytes: int
    signed: bool
    address: str | None
    status: int | None
    outcome: str
    verdict: str
    reason: str | None
    retry_in: float | None
    pointer: bool
    why: str
    server: str | None
    redirected: bool
    redirect: str | None
    timing: Mapping[str, float]

    @property
    def delivered(self) -> bool:
        return self.verdict == "delivered"


def prepared(database: Database, url: str, method: Method, size: int) -> Probe:
    """A probe with the keys that sign for its destination now; unsigned without an outbox. Raises StoreUnavailable."""
    if is_missing(database):
        return Probe(url, method, size)
    origin, path = destination_of(url)
    with reading(database) as connection:
        limits = BodyLimits(*connection.execute(_BODY_LIMITS, {"origin": origin, "path": path}).fetchone())
    return Probe(url, method, size, keys.active(database, origin, database.now()), limits)


def probed(attempt: Attempted) -> Probed:
    """What is told of the attempt that a probe was."""
    answer, delivery = attempt.answer, attempt.delivery
    verdict, reason, retry_in = _ending(attempt)
    return Probed(
        id=delivery.id,
        method=delivery.method.value,
        bytes=delivery.body_bytes,
        signed=any(name == "webhook-signature" for name, _ in attempt.request_headers),
        address=answer.peer,
        status=answer.status,
        outcome=attempt.outcome.value,
        verdict=verdict,
        reason=reason,
        retry_in=retry_in,
        pointer=isinstance(attempt.verdict, Retry) and attempt.verdict.pointer,
        why=attempt.diagnosis,
        server=answer.header("server"),
        redirected=attempt.outcome is Outcome.HTTP_3XX,
        redirect=_named(answer.header("location")),
        timing=_steps(answer.timing),
    )


def _ending(attempt: Attempted) -> tuple[str, str | None, float | None]:
    match attempt.verdict:
        case Delivered():
            return "delivered", None, None
        case Postponed():
            return "postponed", None, None
        case Retry(due_at):
            return "retried", None, round(due_at - attempt.finished_at, 3)
        case Dead(reason):
            return "dead", reason.value, None


def _named(location: str | None) -> str | None:
    """Where a redirect leads, without path and query; None for one within the destination, or a malformed one."""
    try:
        return origin_of(location) if location else None
    except Refused:
        return None


def _steps(timing: Timing) -> dict[str, float]:
    steps = {name: getattr(timing, name) for name in ("dns", "connect", "tls", "first_byte", "total")}
    return {name: round(took, 6) for name, took in steps.items() if took is not None}
