"""One attempt, from a claimed delivery to the record of how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from msgspec.structs import replace

from relay.guard.rules import Refusal
from relay.guard.url import Target
from relay.outbox.checks import check_headers
from relay.outbox.errors import InvalidDelivery, StoreUnavailable
from relay.policy import request_headers
from relay.policy.attempt import (
    DELIVERED,
    NO_LIMITS_KNOWN,
    Answer,
    Attempted,
    BodyLimits,
    Delivery,
    Envelope,
    Failure,
    Outcome,
    Timing,
)
from relay.policy.outcome import RetryPolicy, classify, diagnose, judge
from relay.policy.pointer import Pointers
from relay.policy.signing import SigningKey

T = TypeVar("T")

_SUCCESS = Outcome.SUCCESS  # to ask an enumeration for a member takes half a microsecond
# The outcomes behind which a size limit may stand.
_ABOUT_SIZE = frozenset({Outcome.HTTP_413, Outcome.HTTP_5XX, Outcome.RESET})


class Transport(Protocol):
    """The only way out. A network failure is an answer, never an exception."""

    async def send(self, envelope: Envelope) -> Answer:
        """One exchange, within the transport's bounds."""


class PayloadSource(Protocol):
    """Where bodies and keys are kept until an attempt starts, and what is known of destinations' limits."""

    async def with_body(self, delivery: Delivery, use: Callable[[bytes], T]) -> T:
        """What `use` makes of the bytes, the same on every attempt. Of many it may make it in another thread."""

    async def keys(self, origin: str) -> tuple[SigningKey, ...]:
        """What signs for a destination now."""

    async def body_limits(self, origin: str, path: str) -> BodyLimits:
        """What is known of an endpoint's limit."""


@dataclass(frozen=True, slots=True)
class Courier:
    """Carries deliveries, one call each. Whatever happens on the way becomes the record that it returns.

    `read` is the guard's reading of a URL, `dice` a number from 0.0 to 1.0 on each call.
    """

    source: PayloadSource
    transport: Transport
    read: Callable[[str], Target | Refusal]
    policy: RetryPolicy
    pointers: Pointers | None
    user_agent: str
    dice: Callable[[], float]
    clock: Callable[[], float] = time.time

    async def deliver(self, delivery: Delivery) -> Attempted:
        """Seal, send, judge."""
        started_at = self.clock()
        if delivery.gone:
            return await self.judged(delivery, _gone(delivery), started_at, ())
        target = self.read(delivery.url)
        if isinstance(target, Refusal):
            return await self.judged(delivery, blocked(target), started_at, ())
        if words := unfit(delivery):
            answer = Answer(Timing(0.0), failure=Failure.UNSENDABLE, detail=f"The request was not sent: {words}.")
            return await self.judged(delivery, answer, started_at, ())
        envelope = await self.seal(delivery, target, started_at)
        answer = await self.transport.send(envelope)
        return await self.judged(delivery, answer, started_at, envelope.headers)

    async def seal(self, delivery: Delivery, target: Target, now: float) -> Envelope:
        """The request to send: the result, or a link to it for a receiver that called it too large."""
        keys = await self.source.keys(delivery.destination)
        if delivery.pointer and self.pointers:
            link = self.pointers.envelope(delivery, now)
            return self._sealed(replace(delivery, content_type="application/json"), target, keys, now, link)
        return await self.source.with_body(delivery, partial(self._sealed, delivery, target, keys, now))

    def _sealed(
        self, delivery: Delivery, target: Target, keys: Sequence[SigningKey], now: float, body: bytes
    ) -> Envelope:
        headers = request_headers.headers(delivery, target, self.user_agent, body, keys, now)
        return Envelope(delivery.method, target, headers, body)

    async def judged(
        self, delivery: Delivery, answer: Answer, started_at: float, headers: request_headers.Headers
    ) -> Attempted:
        """The record of the attempt: what came, what it means, what happens next."""
        now, kept = self.clock(), request_headers.redacted(headers)
        if (answer.status or 0) // 100 == 2 and not answer.detail:  # as nearly all are: there is nothing to judge
            return Attempted(delivery, answer, _SUCCESS, DELIVERED, "", started_at, now, NO_LIMITS_KNOWN, kept)
        outcome = classify(answer)
        verdict = judge(delivery, answer, self.policy, now=now, dice=self.dice())
        limits = await self._limits(delivery.endpoint) if outcome in _ABOUT_SIZE else NO_LIMITS_KNOWN
        diagnosis = diagnose(answer, delivery.body_bytes, limits)
        return Attempted(delivery, answer, outcome, verdict, diagnosis, started_at, now, limits, kept)

    async def _limits(self, endpoint: tuple[str, str]) -> BodyLimits:
        try:
            return await self.source.body_limits(*endpoint)
        except StoreUnavailable:  # what was sent was sent, whatever can be said about its size
            return NO_LIMITS_KNOWN


def unfit(delivery: Delivery) -> str | None:
    """Why no request can be made of what an earlier version let into the database: headers that would go out twice,
    break the message, or be no headers."""
    if not delivery.headers:
        return None
    try:
        check_headers(delivery.headers, "", traced=bool(delivery.traceparent))
    except InvalidDelivery as error:
        return str(error)
    return None


def blocked(refusal: Refusal) -> Answer:
    """The guard's no as an answer, so that there is one path and not two."""
    return Answer(Timing(0.0), failure=Failure.BLOCKED, detail=f"{refusal.rule}: {refusal.message}")


def _gone(delivery: Delivery) -> Answer:
    """What a URL that answered 410 would say once more, as nothing is sent to it."""
    again = f"`relay enable {delivery.destination}` has it called again"
    said = f"not sent: this URL answered 410, and is called no more; {again}"
    return Answer(Timing(0.0), status=410, detail=said, sent=False)
