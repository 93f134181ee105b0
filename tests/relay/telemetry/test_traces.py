"""Spans, as a collector on a real socket gets them."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from relay.service.traces import Spans
from relay.telemetry.traces import AttemptSpans
from tests.relay.deliveries import answer, attempted, claimed

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Collector:
    """Keeps what is exported to it."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Span] = []
        self.service = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        sent = ExportTraceServiceRequest.FromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        for resource in sent.resource_spans:
            self.service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    kept = Collector()
    application = web.Application()
    application.router.add_post("/v1/traces", kept.take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    kept.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    yield kept
    await runner.cleanup()


def said(span: Span) -> dict[str, object]:
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes}


async def test_an_attempt_is_a_span_in_the_trace_of_its_request(collector: Collector) -> None:
    spans = Spans(collector.url, "relay")
    delivered = attempted(claimed("d1", traceparent=f"00-{TRACE}-{PARENT}-01"))
    refused = attempted(claimed("d2"), answer(503))
    AttemptSpans(spans)([delivered, refused])
    await asyncio.to_thread(spans.close)
    first, second = collector.spans
    assert collector.service == "outspoken-relay"
    assert (first.trace_id.hex(), first.parent_span_id.hex(), first.name) == (TRACE, PARENT, "deliver POST")
    assert said(first)["outspoken.delivery.id"] == "d1"
    assert said(first)["http.response.status_code"] == delivered.answer.status
    assert first.end_time_unix_nano >= first.start_time_unix_nano == int(delivered.started_at * 1_000_000_000)
    assert second.status.code == second.status.STATUS_CODE_ERROR
    assert "503" in second.status.message
    assert not second.parent_span_id
