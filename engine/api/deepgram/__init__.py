"""Deepgram's API: `/v1/listen`, for recordings and for live audio, and what its clients ask for besides."""

from __future__ import annotations

from aiohttp import web

from engine.api.admission import defer_continue
from engine.api.context import ApiContext
from engine.api.deepgram.live import DeepgramLive
from engine.api.deepgram.management import PATHS as MANAGEMENT
from engine.api.deepgram.management import DeepgramManagement
from engine.api.deepgram.recorded import DeepgramRecorded
from engine.dialects.warnings import Unsupported

__all__ = ["PATHS", "DeepgramLive", "live_routes", "routes"]

_LISTEN = "/v1/listen"

PATHS = (_LISTEN, *MANAGEMENT)
"""The paths that metrics tell apart."""


def routes(api: ApiContext, unsupported: Unsupported = "warn") -> list[web.RouteDef]:
    """The endpoints but those of live sessions, ready to be added to an application. `unsupported` is what becomes of
    parameters that cannot be honoured and do no harm when they are missing."""
    recorded = DeepgramRecorded(api, unsupported)
    return [
        web.post(_LISTEN, recorded.answer, expect_handler=defer_continue),
        *DeepgramManagement(api).routes(),
    ]


def live_routes(live: DeepgramLive) -> list[web.RouteDef]:
    return [web.get(_LISTEN, live.answer, allow_head=False)]
