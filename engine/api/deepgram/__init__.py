"""Deepgram's API: `/v1/listen`, for recordings and for live audio."""

from engine.api.deepgram.live import ListenLive, LiveParts, live_routes
from engine.api.deepgram.recorded import PATH, Listen, Parts, routes

__all__ = ["PATH", "Listen", "ListenLive", "LiveParts", "Parts", "live_routes", "routes"]
