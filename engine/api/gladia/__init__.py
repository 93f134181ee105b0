"""Gladia's API: audio sent ahead; jobs and live sessions made, looked at, listed and deleted by their own key."""

from __future__ import annotations

from aiohttp import web

from engine.api.admission import defer_continue
from engine.api.context import ApiContext
from engine.api.gladia.live import GladiaLive
from engine.api.gladia.recorded import GladiaRecorded
from engine.api.gladia.uploads import GladiaUploads
from engine.dialects.warnings import Unsupported

__all__ = ["PATHS", "GladiaLive", "live_routes", "routes"]

_UPLOAD = "/v2/upload"
_RECORDED = ("/v2/pre-recorded", "/v2/transcription")  # the second is what the first was called before
_LIVE = "/v2/live"

PATHS = (_UPLOAD, *(f"{path}{tail}" for path in (*_RECORDED, _LIVE) for tail in ("", "/{id}", "/{id}/file")))
"""The paths that metrics tell apart."""


def routes(api: ApiContext, event_names: str = "short", unsupported: Unsupported = "warn") -> list[web.RouteDef]:
    """The endpoints for recordings and uploads, ready to be added to an application. `event_names` is how callback
    events are named, `short` or `namespaced`; `unsupported` is what becomes of fields that cannot be honoured and do no
    harm when they are missing."""
    jobs = GladiaRecorded(api, event_names, unsupported)
    found = [web.post(_UPLOAD, GladiaUploads(api).answer, expect_handler=defer_continue)]
    for path in _RECORDED:
        found += [web.post(path, jobs.create, expect_handler=defer_continue), web.get(path, jobs.index)]
        found += [web.get(f"{path}/{{id}}", jobs.get), web.delete(f"{path}/{{id}}", jobs.delete)]
        found.append(web.get(f"{path}/{{id}}/file", jobs.file))
    return found


def live_routes(live: GladiaLive) -> list[web.RouteDef]:
    """The endpoints of live sessions. Whoever made `live` closes it."""
    return [
        web.post(_LIVE, live.create, expect_handler=defer_continue),
        web.get(_LIVE, live.connect, allow_head=False),
        web.get(f"{_LIVE}/{{id}}", live.get),
        web.delete(f"{_LIVE}/{{id}}", live.delete),
        web.get(f"{_LIVE}/{{id}}/file", live.file),
    ]
