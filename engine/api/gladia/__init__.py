"""Gladia's API: audio sent ahead; jobs and live sessions made, looked at, listed and deleted by their own key."""

from __future__ import annotations

from aiohttp import web

from engine.api.admission import uninvited
from engine.api.gladia.documents import Parts
from engine.api.gladia.live import Live, LiveParts
from engine.api.gladia.recorded import Jobs
from engine.api.gladia.uploads import Uploads

__all__ = ["PATHS", "Live", "LiveParts", "Parts", "live_routes", "routes"]

_UPLOAD = "/v2/upload"
_JOBS = ("/v2/pre-recorded", "/v2/transcription")  # the second is what the first was called before

_LIVE = "/v2/live"

PATHS = (_UPLOAD, *(f"{jobs}{tail}" for jobs in (*_JOBS, _LIVE) for tail in ("", "/{id}", "/{id}/file")))
"""The paths that metrics tell apart."""


def routes(parts: Parts) -> list[web.RouteDef]:
    """The endpoints, ready to be added to an application."""
    jobs = Jobs(parts)
    found = [web.post(_UPLOAD, Uploads(parts).answer, expect_handler=uninvited)]
    for path in _JOBS:
        found += [web.post(path, jobs.create, expect_handler=uninvited), web.get(path, jobs.index)]
        found += [web.get(f"{path}/{{id}}", jobs.get), web.delete(f"{path}/{{id}}", jobs.delete)]
        found.append(web.get(f"{path}/{{id}}/file", jobs.file))
    return found


def live_routes(live: Live) -> list[web.RouteDef]:
    """The endpoints of live sessions. Whoever made `live` closes it."""
    return [
        web.post(_LIVE, live.create, expect_handler=uninvited),
        web.get(_LIVE, live.connect, allow_head=False),
        web.get(f"{_LIVE}/{{id}}", live.get),
        web.delete(f"{_LIVE}/{{id}}", live.delete),
        web.get(f"{_LIVE}/{{id}}/file", live.file),
    ]
