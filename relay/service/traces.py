"""Spans for OpenTelemetry, made afterwards from the record of what has ended, in the trace of the request itself.

Needs the extra `traces`. The exporter has a thread of its own and drops what its collector does not take in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from relay.outbox.errors import ConfigError

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
