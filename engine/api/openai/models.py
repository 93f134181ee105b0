"""`/v1/models`: what may be asked for by name."""

from __future__ import annotations

from aiohttp import web

from engine.api.auth import authenticate_openai
from engine.api.context import ApiContext
from engine.api.errors import Rejected
from engine.dialects.openai import ErrorObject, model_document, model_list


class OpenAiModels:
    """The endpoints, one method each."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    async def index(self, http: web.Request) -> web.Response:
        """All that are worth choosing from."""
        await authenticate_openai(http, self._api.keys)
        return web.json_response(model_list(self._api.catalogue))

    async def get(self, http: web.Request) -> web.Response:
        """One of them, or another name that is answered to."""
        await authenticate_openai(http, self._api.keys)
        name = http.match_info["id"]
        if name not in self._api.catalogue.models:
            message = f"The model {name[:64]!r} does not exist here. GET /v1/models lists those that do."
            raise Rejected(ErrorObject(404, message, "model", "model_not_found"))
        return web.json_response(model_document(name))
