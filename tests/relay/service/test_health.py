from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from relay.service.health import Check, routes
from relay.telemetry.metrics import Metrics
from tests.relay.deliveries import answer, attempted, claimed


def saying(fault: str | None) -> Check:
    async def check() -> str | None:
        return fault

    return check


@asynccontextmanager
async def exposed(metrics: Metrics, **checks: Check) -> AsyncIterator[Any]:
    """Asks a served path: status, content type, body."""
    application = web.Application()
    application.add_routes(routes(metrics.registry, checks))

    async with TestServer(application) as server, ClientSession() as session:

        async def ask(path: str, **headers: str) -> tuple[int, str, str]:
            async with session.get(server.make_url(path), headers=headers) as response:
                return response.status, response.headers["Content-Type"], await response.text()

        yield ask


async def test_the_metrics_are_text_that_prometheus_reads() -> None:
    metrics = Metrics(16)
    metrics([attempted(claimed(), answer(200))])
    async with exposed(metrics) as ask:
        status, content_type, text = await ask("/metrics")
    assert (status, content_type.split(";")[0]) == (200, "text/plain")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["relay_delivery_attempts"].type == "counter"
    assert families["relay_delivery_pickup_lag_seconds"].type == "histogram"
    assert {"relay_build_info", "process_cpu_seconds", "python_info"} <= set(families)


async def test_whoever_asks_for_openmetrics_gets_it() -> None:
    async with exposed(Metrics(16)) as ask:
        _, content_type, text = await ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    families = openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    assert "relay_delivery_attempts" in {family.name for family in families}


async def test_a_process_that_answers_is_live_however_unready() -> None:
    async with exposed(Metrics(16), store=saying("broken")) as ask:
        assert (await ask("/livez"))[0] == 200


async def test_it_is_ready_when_every_check_is_well() -> None:
    async with exposed(Metrics(16), store=saying(None), claims=saying(None)) as ask:
        status, _, text = await ask("/readyz")
    assert (status, text) == (200, '{"status": "ready", "checks": {"store": "ok", "claims": "ok"}}')


async def test_one_check_that_is_not_well_makes_it_unready_and_says_why() -> None:
    async with exposed(Metrics(16), store=saying(None), drain=saying("draining")) as ask:
        status, _, text = await ask("/readyz")
    assert (status, text) == (503, '{"status": "unready", "checks": {"store": "ok", "drain": "draining"}}')
