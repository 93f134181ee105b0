"""Spans for OpenTelemetry: one for each attempt, made afterwards from its record, in the trace of the request itself.

Needs the extra `traces`. The exporter has a thread of its own and drops what its collector does not take in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from relay.errors import ConfigError
from relay.model import Attempted, Delivered, Retry

if TYPE_CHECKING:
    from opentelemetry.trace import SpanKind

_NANO = 1_000_000_000


class Spans:
    """Sends spans to an OTLP endpoint over HTTP. Raises ConfigError where the extra is not installed."""

    def __init__(self, endpoint: str, service: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise ConfigError("traces.endpoint: spans need the extra: pip install 'outspoken[traces]'") from None
        self._provider = TracerProvider(resource=Resource.create({"service.name": f"outspoken-{service}"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("outspoken")

    def add(
        self,
        name: str,
        kind: SpanKind,
        traceparent: str | None,
        times: tuple[float, float],
        attributes: Mapping[str, str | int | float | bool],
        error: str | None,
    ) -> None:
        """A span that has ended. `times` are epoch seconds; `error` is why it failed, without secrets."""
        from opentelemetry.trace import Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = TraceContextTextMapPropagator().extract({"traceparent": traceparent} if traceparent else {})
        started, ended = (int(moment * _NANO) for moment in times)
        span = self._tracer.start_span(name, context, kind, attributes=attributes, start_time=started)
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(ended)

    def close(self) -> None:
        """Send what is waiting, within the exporter's own time."""
        self._provider.shutdown()


class AttemptSpans:
    """An observer of attempts."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def __call__(self, attempts: Sequence[Attempted]) -> None:
        """Hear of a batch of settled attempts."""
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
