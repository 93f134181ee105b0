"""One attempt, from a claimed delivery to a settled one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from relay.model import Answer, Attempted, BodyLimits, Delivery, Envelope, Failure, Outcome, Refusal, Timing
from relay.policy import destination, sealing
from relay.policy.outcome import Schedule, classify, diagnose, judge

Observer = Callable[[Attempted], None]


class Transport(Protocol):
    """The only way out. A network failure is an answer, never an exception."""

    async def send(self, envelope: Envelope) -> Answer:
        """One exchange, within the transport's bounds."""


class Shelf(Protocol):
    """Where bodies are kept until their attempt starts, and what destinations taught about their size."""

    def body(self, delivery: Delivery) -> bytes:
        """The bytes, the same on every attempt."""

    def body_limits(self, origin: str) -> BodyLimits:
        """What is known of a destination's limit."""


class Settlements(Protocol):
    """Where the end of an attempt is written."""

    async def settle(self, attempt: Attempted) -> bool:
        """Returns once it is durable: False when the lease was stale, so that nothing was changed."""


@dataclass(frozen=True, slots=True)
class Courier:
    """Carries deliveries, one call each. `tell` hears of every settled attempt, after it is durable."""

    shelf: Shelf
    transport: Transport
    settlements: Settlements
    rules: destination.Rules
    schedule: Schedule
    user_agent: str
    tell: Observer
    clock: Callable[[], float] = time.time

    async def deliver(self, delivery: Delivery) -> None:
        """Seal, send, judge, settle, tell."""
        started_at = self.clock()
        envelope = self.seal(delivery)
        answer = blocked(envelope) if isinstance(envelope, Refusal) else await self.transport.send(envelope)
        attempt = self.judged(delivery, answer, started_at)
        if await self.settlements.settle(attempt):
            self.tell(attempt)

    def seal(self, delivery: Delivery) -> Envelope | Refusal:
        """The request to send, or the guard's no."""
        target = destination.read(delivery.url, self.rules, destination.PRE_RECORDED)
        if isinstance(target, Refusal):
            return target
        headers = sealing.headers(delivery, target, self.user_agent)
        return Envelope(delivery.method, target, headers, self.shelf.body(delivery))

    def judged(self, delivery: Delivery, answer: Answer, started_at: float) -> Attempted:
        """The record of the attempt: what came, what it means, what happens next."""
        now, outcome = self.clock(), classify(answer)
        verdict = judge(delivery, answer, self.schedule, now=now)
        limits = self.shelf.body_limits(delivery.destination) if outcome is Outcome.HTTP_413 else BodyLimits()
        return Attempted(delivery, answer, outcome, verdict, diagnose(answer), started_at, now, limits)


def blocked(refusal: Refusal) -> Answer:
    """The guard's no as an answer, so that there is one path and not two."""
    return Answer(Timing(0.0), failure=Failure.BLOCKED, detail=f"{refusal.rule}: {refusal.message}")
