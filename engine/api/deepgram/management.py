"""What Deepgram's clients ask for besides: the project, its models, how the server is, tokens for a while, and Flux."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from engine.api.admission import Body
from engine.api.auth import authenticate
from engine.api.context import ApiContext
from engine.api.errors import Rejected
from engine.api.models import deepgram_model
from engine.dialects.deepgram import BadRequest, model_list, parse_grant, project, project_list

_PROJECTS = "/v1/projects"
_PROJECT = f"{_PROJECTS}/{{project}}"
_STATUS, _GRANT, _FLUX = "/v1/status", "/v1/auth/grant", "/v2/listen"

PATHS = (
    *(_PROJECTS, _PROJECT, f"{_PROJECT}/models", f"{_PROJECT}/models/{{id}}"),
    *(_STATUS, _GRANT, _FLUX),
)
"""The paths that metrics tell apart."""

_MAX_JSON = 16 * 1024
_NO_PROJECT = BadRequest("NOT_FOUND", "There is no such project. GET /v1/projects tells the one there is.", 404)
_NO_FLUX = BadRequest(
    "NOT_FOUND",
    "Flux is not spoken here. Connect to /v1/listen, with interim_results=true and utterance_end_ms=1000 for turns.",
    404,
)


class DeepgramManagement:
    """The endpoints, one method each. There is one project: this server."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(_PROJECTS, self.projects),
            web.get(_PROJECT, self.project),
            web.get(f"{_PROJECT}/models", self.models),
            web.get(f"{_PROJECT}/models/{{id}}", self.model),
            web.get(_STATUS, self.status),
            web.post(_GRANT, self.grant),
            web.route("*", _FLUX, self.flux),
        ]

    async def projects(self, http: web.Request) -> web.Response:
        await authenticate(http, self._api.keys)
        return web.json_response(project_list())

    async def project(self, http: web.Request) -> web.Response:
        return web.json_response(await self._known(http))

    async def models(self, http: web.Request) -> web.Response:
        """All of them: every project has the same."""
        await self._known(http)
        return web.json_response(model_list(self._api.catalogue))

    async def model(self, http: web.Request) -> web.Response:
        await self._known(http)
        return web.json_response(deepgram_model(self._api, http.match_info["id"]))

    async def status(self, _: web.Request) -> web.Response:
        """Healthy where the database answers; without it nothing can be accepted. Raises StoreUnavailable."""
        await self._api.keys.exist()
        return web.json_response({"system_health": "Healthy"})

    async def grant(self, http: web.Request) -> web.Response:
        """A token that `/v1/listen` takes for a while, for a program that is not to have the key."""
        key_id = await authenticate(http, self._api.keys)
        seconds = parse_grant(await self._json(http))
        if isinstance(seconds, BadRequest):
            raise Rejected(seconds)
        token = await self._api.keys.grant(key_id, seconds)
        return web.json_response({"access_token": token, "expires_in": seconds})

    async def flux(self, _: web.Request) -> web.Response:
        raise Rejected(_NO_FLUX)

    async def _known(self, http: web.Request) -> dict[str, Any]:
        await authenticate(http, self._api.keys)
        found = project(http.match_info["project"])
        if found is None:
            raise Rejected(_NO_PROJECT)
        return found

    async def _json(self, http: web.Request) -> object:
        body = await Body(http, _MAX_JSON, self._api.limits.stall).whole()
        try:
            return json.loads(body) if body.strip() else {}
        except (ValueError, RecursionError):
            return None
