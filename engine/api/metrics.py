"""What the HTTP surface counts. Every label value is known at start, so that no caller can add a series."""

from __future__ import annotations

import time
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, Counter, Histogram

_CLASSES = ("2xx", "3xx", "4xx", "5xx")
_OTHER = "other"
_SECONDS = (0.005, 0.025, 0.1, 0.25, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)
_BYTES = tuple(float(4**power) for power in range(6, 16))  # 4 KiB to 1 GiB


class HttpMetrics:
    """Requests by route and status class, their duration, and the sizes of uploads."""

    def __init__(self, registry: CollectorRegistry, routes: Iterable[str]) -> None:
        self._routes = frozenset(routes)
        self._requests = Counter(
            "engine_http_requests",
            "Requests answered, by route and status class.",
            ("route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "engine_http_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.upload_bytes = Histogram(
            "engine_http_upload_bytes", "Sizes of the audio received in bodies.", buckets=_BYTES, registry=registry
        )
        for route in (*self._routes, _OTHER):
            self._seconds.labels(route)
            for status in _CLASSES:
                self._requests.labels(route, status)

    @property
    def middleware(self) -> Middleware:
        """Counts every request, whatever becomes of it; but not WebSockets, which are counted as sessions."""

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            started = time.perf_counter()
            response = await handler(request)
            if isinstance(response, web.WebSocketResponse):
                return response
            route = self._route(request)
            self._requests.labels(route, f"{response.status // 100}xx").inc()
            self._seconds.labels(route).observe(time.perf_counter() - started)
            return response

        return count

    def _route(self, request: web.Request) -> str:
        resource = request.match_info.route.resource
        canonical = resource.canonical if resource else _OTHER
        return canonical if canonical in self._routes else _OTHER
