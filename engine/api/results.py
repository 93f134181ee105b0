"""Results that were too large for their receiver, fetched by the signed link that it got instead."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from engine.api.errors import Rejected
from engine.dialects.deepgram import BadRequest
from relay.outbox.links import PATH as LINKS
from relay.outbox.links import opens
from relay.outbox.results import Result

PATH = LINKS + "{id}"

_CLOSED = BadRequest("INSUFFICIENT_PERMISSIONS", "The link has expired, or was changed on its way.", 403)
_FORGOTTEN = BadRequest("NOT_FOUND", "The result is no longer kept.", 404)


class ResultReader(Protocol):
    """Where results are kept."""

    async def secret(self) -> bytes:
        """What signs the links."""

    async def fetch(self, delivery_id: str) -> Result | None:
        """The result, None when it is unknown or no longer kept."""


def routes(reader: ResultReader, clock: Callable[[], float] = time.time) -> list[web.RouteDef]:
    """`GET /v1/results/{id}`: the link is the credential, so no key is asked for."""

    async def fetch(request: web.Request) -> web.Response:
        delivery_id, query = request.match_info["id"], request.query
        expires, signed = query.get("expires", ""), query.get("signature", "")
        if not opens(await reader.secret(), delivery_id, expires, signed, clock()):
            raise Rejected(_CLOSED)
        result = await reader.fetch(delivery_id)
        if result is None:
            raise Rejected(_FORGOTTEN)
        return web.Response(body=result.body, headers={"Content-Type": result.content_type})

    return [web.get(PATH, fetch)]
