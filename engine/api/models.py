"""`GET /v1/models`: what may be asked for by name. Two vendors have this path, and are told apart by how their clients
send the key: Deepgram's as `Authorization: Token`, OpenAI's as `Bearer`."""

from __future__ import annotations

from aiohttp import web

from engine.api.auth import authenticate, authenticate_openai
from engine.api.context import ApiContext
from engine.api.errors import Rejected, speaks_openai
from engine.dialects import deepgram, openai

_MODELS = "/v1/models"
_MODEL = f"{_MODELS}/{{id}}"

_NO_MODEL = deepgram.BadRequest("NOT_FOUND", "There is no such model. GET /v1/models lists those there are.", 404)

PATHS = (_MODELS, _MODEL)
"""The paths that metrics tell apart."""


def routes(api: ApiContext) -> list[web.RouteDef]:
    """The endpoints, ready to be added to an application."""
    models = Models(api)
    return [web.get(_MODELS, models.index), web.get(f"{_MODELS}/{{id:.+}}", models.get)]


class Models:
    def __init__(self, api: ApiContext) -> None:
        self._api = api

    async def index(self, http: web.Request) -> web.Response:
        if speaks_openai(http):
            await authenticate_openai(http, self._api.keys)
            return web.json_response(openai.model_list(self._api.catalogue))
        await authenticate(http, self._api.keys)
        return web.json_response(deepgram.model_list(self._api.catalogue))

    async def get(self, http: web.Request) -> web.Response:
        """One of them, or another name that is answered to."""
        name = http.match_info["id"]
        if speaks_openai(http):
            await authenticate_openai(http, self._api.keys)
            if name not in self._api.catalogue.models:
                raise Rejected(openai.no_such_model(name))
            return web.json_response(openai.model_document(name))
        await authenticate(http, self._api.keys)
        return web.json_response(deepgram_model(self._api, name))


def deepgram_model(api: ApiContext, name: str) -> dict[str, object]:
    """One model by its name or its UUID, as Deepgram shows it. Raises Rejected."""
    found = deepgram.find_model(name, api.catalogue)
    if found is None:
        raise Rejected(_NO_MODEL)
    return found
