"""All routes in one application, and the server's own limits."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry

from engine.api import deepgram, door, requests, results
from engine.api.errors import identify
from relay.telemetry import exposition
from relay.telemetry.exposition import Check

ROUTES = (deepgram.PATH, requests.LIST, requests.PATH, results.PATH, "/livez", "/readyz", "/metrics")
"""The paths that metrics tell apart."""

MAX_LINE = 64 * 1024
"""Bytes of a request line: room for callback URLs that are too long, so that the guard can say so in the vendor's
shape."""


def build(
    parts: deepgram.Parts,
    asked: requests.Parts,
    shelf: results.Shelf,
    registry: CollectorRegistry,
    checks: Mapping[str, Check],
) -> web.Application:
    """The engine's application. Whoever built the parts opens and closes them."""
    app = web.Application(middlewares=[parts.metrics.middleware, door.mind, identify])
    app.add_routes(deepgram.routes(parts))
    app.add_routes(requests.routes(asked))
    app.add_routes(results.routes(shelf))
    app.add_routes(exposition.routes(registry, checks))
    return app


def runner(app: web.Application, shutdown_seconds: float = 30.0) -> web.AppRunner:
    """A runner for the application: signals are the caller's, access is counted and not logged (URLs hold secrets)."""
    return web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        max_line_size=MAX_LINE,
        shutdown_timeout=shutdown_seconds,
    )
