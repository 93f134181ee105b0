"""What a machine asks of a daemon over HTTP, relay or engine: is it alive, is it ready, what does it count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import choose_encoder

from relay.outbox.store import in_step

Check = Callable[[], Awaitable[str | None]]
"""None while all is well, else a short reason without secrets. An exception is a reason too."""

CHECK_SECONDS = 2.0
_LAG_SAMPLE_SECONDS = 0.5

Expose = Callable[[str], Awaitable[tuple[bytes, str]]]
"""The metrics in the format that an Accept header asks for, and that format's content type."""

_log = structlog.get_logger()


Details = Callable[[], Mapping[str, object]]
"""What readiness tells besides, without secrets; none of it decides."""


def _nothing() -> Mapping[str, object]:
    return {}


def routes(registry: CollectorRegistry, checks: Mapping[str, Check], details: Details = _nothing) -> list[web.RouteDef]:
    """`/livez`, `/readyz` and `/metrics`. `checks` decide readiness; their names are shown to whoever asks."""

    async def expose(accept: str) -> tuple[bytes, str]:
        return exposed(registry, accept)

    return routes_for(expose, checks, details)


def exposed(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """What a registry has, as `Expose` gives it."""
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def routes_for(expose: Expose, checks: Mapping[str, Check], details: Details = _nothing) -> list[web.RouteDef]:
    """The same, for metrics that come from elsewhere."""

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def readyz(_: web.Request) -> web.Response:
        reasons = await asyncio.gather(*(_run(name, check) for name, check in checks.items()))
        verdicts = {name: reason or "ok" for name, reason in zip(checks, reasons, strict=True)}
        ready = not any(reasons)
        document = {"status": "ready" if ready else "unready", "checks": verdicts, **details()}
        return web.json_response(document, status=200 if ready else 503)

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = await expose(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    return [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)]


async def _run(name: str, check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"
    except Exception:  # noqa: BLE001 (a check that breaks is a check that fails)
        _log.exception("http.readiness.failed", check=name)
        return "the check itself failed, see the log"


async def measure_loop_lag(histogram: Histogram) -> None:
    """Observe, until cancelled, how late a timer fires: the time that something else held the event loop."""
    loop = asyncio.get_running_loop()
    while True:
        seconds = in_step(_LAG_SAMPLE_SECONDS)
        due = loop.time() + seconds
        await asyncio.sleep(seconds)
        histogram.observe(max(0.0, loop.time() - due))
