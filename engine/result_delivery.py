"""A finished job to the delivery that carries its result: the body is rendered once, and every attempt sends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from engine.dialects import deepgram, gladia, openai
from engine.request import Failed, Media, Request
from engine.transcript import Transcript
from relay.outbox.model import Kind, Method, NewDelivery


class Dialect(Protocol):
    """What a vendor's wire format must be able to say."""

    def render(self, request: Request, media: Media, transcript: Transcript) -> dict[str, Any]: ...

    def render_failure(self, request: Request, failed: Failed) -> dict[str, Any]: ...

    def callback_headers(self, request: Request) -> dict[str, str]: ...


_DIALECTS: Mapping[str, Dialect] = {"deepgram": deepgram, "gladia": gladia, gladia.LIVE: gladia, "openai": openai}


def delivery_of(request: Request, media: Media, result: Transcript | Failed) -> NewDelivery:
    """The delivery of a result to the request's callback, in the caller's dialect and under the request's own id.

    ValueError for a request without a callback: its caller got the result on the connection that it came by.
    """
    if request.callback is None:
        raise ValueError(f"request {request.id} has no callback")
    return NewDelivery(
        id=request.id,
        url=request.callback.url,
        body=orjson.dumps(document(request, media, result)),
        method=Method(request.callback.method),
        kind=Kind.ERROR if isinstance(result, Failed) else Kind.FINAL,
        headers=_DIALECTS[request.dialect].callback_headers(request),
        traceparent=request.traceparent,
        owner=request.key_id or "",
    )


def document(request: Request, media: Media, result: Transcript | Failed) -> dict[str, Any]:
    """What a callback's body says, in the caller's dialect; the same whenever it is asked for."""
    dialect = _DIALECTS[request.dialect]
    if isinstance(result, Failed):
        return dialect.render_failure(request, result)
    return dialect.render(request, media, result)
