"""One small request to a receiver, sealed, sent and judged as a delivery's first attempt is, and kept by nobody.

It goes through the courier itself, so what it comes to is what a delivery would come to.
"""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from relay.admin import keys
from relay.admin.access import Refused, is_missing, origin_of, reading
from relay.delivery.courier import Courier, Transport
from relay.guard.rules import Rules
from relay.guard.url import read
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
    Retry,
    Timing,
)
from relay.policy.outcome import RetryPolicy
from relay.policy.signing import SigningKey

SMALLEST = 256
LARGEST = 64 * 2**20

_DESTINATION_HEALTH = statement("destination_health", "relay.queue")
_NOTE = "A test of this callback URL by those who operate the relay. It carries no result."


@dataclass(frozen=True, slots=True)
class Probe:
    """What to send: a body of `size` bytes, signed by `signing`. `limits` is what is known of the destination."""

    url: str
    method: Method = Method.POST
    size: int = SMALLEST
    signing: tuple[SigningKey, ...] = ()
    limits: BodyLimits = NO_LIMITS_KNOWN


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of it. `address` is the one that was dialled; `timing` has the total and the steps that happened.

    `verdict` is a delivery's: `delivered`; `retried` after `retry_in` seconds (as a link instead of the body if
    `pointer`); or `dead`, for a `reason`. `why` is a sentence without secrets, `redirect` the destination to which the
    receiver pointed, if it named one.
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
        """Whether a delivery would have arrived."""
        return self.verdict == "delivered"


def prepared(database: Database, url: str, method: Method, size: int) -> Probe:
    """A probe with the keys that sign for its destination now; unsigned without an outbox. Raises StoreUnavailable."""
    if is_missing(database):
        return Probe(url, method, size)
    origin = origin_of(url)
    with reading(database) as connection:
        row = connection.execute(_DESTINATION_HEALTH, {"origin": origin}).fetchone()
    limits = BodyLimits(row["largest_accepted"], row["smallest_refused"]) if row else NO_LIMITS_KNOWN
    return Probe(url, method, size, keys.active(database, origin, database.now()), limits)


async def send(probe: Probe, transport: Transport, rules: Rules, policy: RetryPolicy, user_agent: str) -> Probed:
    """Send it, once. The guard judges the URL again, and the address as it is dialled."""
    id_ = f"probe_{secrets.token_hex(8)}"
    courier = Courier(
        source=_ProbePayload(probe, _body(id_, probe.size)),
        transport=transport,
        read=partial(read, rules=rules),
        policy=policy,
        pointers=None,
        user_agent=user_agent,
        dice=random.random,
    )
    return _probed(await courier.deliver(_delivery(probe, id_, time.time())))


@dataclass(frozen=True, slots=True)
class _ProbePayload:
    probe: Probe
    content: bytes

    async def body(self, _: Delivery) -> bytes:
        return self.content

    async def keys(self, _: str) -> tuple[SigningKey, ...]:
        return self.probe.signing

    async def body_limits(self, _: str) -> BodyLimits:
        return self.probe.limits


def _body(id_: str, size: int) -> bytes:
    plain = {"event": "relay.probe", "id": id_, "note": _NOTE, "padding": ""}
    plain["padding"] = "x" * max(0, size - len(json.dumps(plain)))
    return json.dumps(plain).encode()


def _delivery(probe: Probe, id_: str, now: float) -> Delivery:
    return Delivery(
        Lease(0, ""),
        id_,
        origin_of(probe.url),
        probe.url,
        probe.method,
        Kind.FINAL,
        "application/json",
        {},
        None,
        probe.size,
        created_at=now,
        due_at=now,
        attempts=0,
        lapses=0,
    )


def _probed(attempt: Attempted) -> Probed:
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
