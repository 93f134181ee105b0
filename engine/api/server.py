"""All routes in one application, and the server's own limits."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from engine.api import admission, deepgram, gladia, requests, results
from engine.api.errors import identify
from engine.api.metrics import HttpMetrics

ROUTES = (deepgram.PATH, *gladia.PATHS, requests.LIST, requests.PATH, results.PATH, "/livez", "/readyz", "/metrics")
"""The paths that metrics tell apart."""

MAX_LINE = 64 * 1024
"""Bytes of a request line: room for callback URLs that are too long, so that the guard can say so in the vendor's
shape."""

READ_AHEAD = 256 * 1024
"""Bytes of a body that may wait, twice over, while what came before is hashed and written."""


def build(metrics: HttpMetrics, *rooms: Iterable[web.RouteDef]) -> web.Application:
    """The engine's application, of the routes of every room. Whoever built their parts opens and closes them."""
    app = web.Application(middlewares=[metrics.middleware, admission.mind, identify])
    for routes in rooms:
        app.add_routes(routes)
    return app


def runner(app: web.Application, shutdown_seconds: float = 30.0) -> web.AppRunner:
    """A runner for the application: signals are the caller's, access is counted and not logged (URLs hold secrets)."""
    return web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        max_line_size=MAX_LINE,
        read_bufsize=READ_AHEAD,
        shutdown_timeout=shutdown_seconds,
    )
