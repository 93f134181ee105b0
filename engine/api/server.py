"""All routes in one application, and the server's own limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from engine.api import deepgram, gladia, models, openai, requests, status
from engine.api.admission import close_unread
from engine.api.errors import identify
from engine.api.metrics import HttpMetrics

ROUTES = (
    *(*deepgram.PATHS, *gladia.PATHS, *openai.PATHS, *models.PATHS),
    *(requests.LIST, requests.ONE, requests.RESULT, status.STATUS, "/livez", "/readyz", "/metrics"),
)
"""The paths that metrics tell apart."""

MAX_LINE = 64 * 1024
"""Bytes of a request line: room for callback URLs that are too long, so that the guard can say so in the vendor's
shape."""

READ_AHEAD = 256 * 1024
"""Bytes of a body that may wait, twice over, while what came before is hashed and written."""


def build(
    metrics: HttpMetrics,
    *routes: Iterable[web.RouteDef],
    on_shutdown: Callable[[web.Application], Awaitable[None]] | None = None,
) -> web.Application:
    """The engine's application, of the routes of every API. `on_shutdown` is done before the server waits for its
    handlers."""
    app = web.Application(middlewares=[metrics.middleware, close_unread, identify])
    for each in routes:
        app.add_routes(each)
    if on_shutdown:
        app.on_shutdown.append(on_shutdown)
    return app


def runner(app: web.Application, shutdown_seconds: float = 30.0, head_seconds: float = 30.0) -> web.AppRunner:
    """A runner for the application, which waits so long for the head of a request: signals are the caller's, access is
    counted and not logged (URLs hold secrets)."""
    return web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        # It ends connections on which the next request's head is not whole in time, idle ones among them.
        keepalive_timeout=head_seconds,
        max_line_size=MAX_LINE,
        read_bufsize=READ_AHEAD,
        shutdown_timeout=shutdown_seconds,
    )
