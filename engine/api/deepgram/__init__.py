"""Deepgram's API: `/v1/listen`, for recordings and for live audio."""

from __future__ import annotations

from aiohttp import web

from engine.api.admission import defer_continue
from engine.api.context import ApiContext
from engine.api.deepgram.live import DeepgramLive
from engine.api.deepgram.recorded import DeepgramRecorded
from engine.dialects.deepgram import Unsupported

__all__ = ["PATH", "DeepgramLive", "live_routes", "routes"]

PATH = "/v1/listen"


def routes(api: ApiContext, unsupported: Unsupported = "warn") -> list[web.RouteDef]:
    """The endpoint for recordings, ready to be added to an application. `unsupported` is what becomes of parameters
    that cannot be honoured and do no harm when they are missing."""
    return [web.post(PATH, DeepgramRecorded(api, unsupported).answer, expect_handler=defer_continue)]


def live_routes(live: DeepgramLive) -> list[web.RouteDef]:
    """The endpoint for live sessions."""
    return [web.get(PATH, live.answer, allow_head=False)]
