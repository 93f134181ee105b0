"""One span for each attempt, in the trace of the request that the delivery answers."""

from __future__ import annotations

from collections.abc import Sequence

from relay.policy.attempt import Attempted, Delivered, Retry
from relay.service.traces import Spans


class AttemptSpans:
    """Hears of attempts. A span waits for its exporter, and is dropped where that falls behind."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def __call__(self, attempts: Sequence[Attempted]) -> None:
        from opentelemetry.trace import SpanKind

        for attempt in attempts:
            delivery = attempt.delivery
            error = None if isinstance(attempt.verdict, Delivered) else attempt.diagnosis
            times = (attempt.started_at, attempt.finished_at)
            name = f"deliver {delivery.method.value}"
            self._spans.add(name, SpanKind.CLIENT, delivery.traceparent, times, _attributes(attempt), error)


def _attributes(attempt: Attempted) -> dict[str, str | int | float | bool]:
    delivery, answer = attempt.delivery, attempt.answer
    attributes: dict[str, str | int | float | bool] = {
        "outspoken.delivery.id": delivery.id,
        "outspoken.attempt.number": delivery.number,
        "outspoken.outcome": attempt.outcome.value,
        "outspoken.destination": delivery.destination,
        "outspoken.queue_lag_s": attempt.lag,
        "http.request.method": delivery.method.value,
        "http.request.body.size": delivery.body_bytes,
    }
    if answer.status is not None:
        attributes["http.response.status_code"] = answer.status
    if answer.peer is not None:
        attributes["network.peer.address"] = answer.peer
    if isinstance(attempt.verdict, Retry):
        attributes["outspoken.retry_at"] = attempt.verdict.due_at
    return attributes
