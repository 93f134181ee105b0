"""Is it alive, is it ready, what does it count: for supervisors and Prometheus, off the vendors' paths."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

Check = Callable[[], Awaitable[str | None]]
"""None while all is well, else a short reason without secrets. An exception is a reason too."""

CHECK_SECONDS = 2.0

_log = structlog.get_logger()


def routes(registry: CollectorRegistry, checks: Mapping[str, Check]) -> list[web.RouteDef]:
    """`/livez`, `/readyz` and `/metrics`."""

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_: web.Request) -> web.Response:
        reasons = await asyncio.gather(*(_run(name, check) for name, check in checks.items()))
        verdicts = {name: reason or "ok" for name, reason in zip(checks, reasons, strict=True)}
        ready = not any(reasons)
        document = {"status": "ready" if ready else "unready", "checks": verdicts}
        return web.json_response(document, status=200 if ready else 503)

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

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
