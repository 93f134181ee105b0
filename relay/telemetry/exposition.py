"""What a machine asks of a daemon over HTTP: /metrics, /livez and /readyz."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import choose_encoder

Check = Callable[[], Awaitable[str | None]]
"""None when well, else one sentence on what is wrong, without secrets."""

_LAG_SAMPLE_SECONDS = 0.5


def routes(registry: CollectorRegistry, checks: Mapping[str, Check]) -> list[web.RouteDef]:
    """Handlers for an aiohttp application. `checks` decide readiness; their names are shown to whoever asks."""

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def ready(_: web.Request) -> web.Response:
        faults = {name: await check() for name, check in checks.items()}
        well = not any(faults.values())
        states = {name: fault or "ok" for name, fault in faults.items()}
        return web.json_response(
            {"status": "ready" if well else "unready", "checks": states}, status=200 if well else 503
        )

    return [web.get("/metrics", metrics), web.get("/livez", live), web.get("/readyz", ready)]


async def measure_loop_lag(histogram: Histogram) -> None:
    """Observe, until cancelled, how late a timer fires: the time that something else held the event loop."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LAG_SAMPLE_SECONDS
        await asyncio.sleep(_LAG_SAMPLE_SECONDS)
        histogram.observe(max(0.0, loop.time() - due))
