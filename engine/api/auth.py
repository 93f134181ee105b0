"""What a request's headers say of its caller: the API key, where the vendor's clients send it, and the trace."""

from __future__ import annotations

import re
from itertools import pairwise

from aiohttp import web

from engine.api.errors import Rejected
from engine.dialects.deepgram import BadRequest
from engine.dialects.gladia import GladiaProblem
from engine.dialects.openai import ErrorObject
from engine.keys import ApiKeys

_SCHEMES = frozenset({"token", "bearer"})
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_INVALID = BadRequest(
    "INVALID_AUTH",
    "Invalid credentials.",
    401,
    "Send the header Authorization: Token <key> with a key of this server.",
)
_NOT_FOUND = GladiaProblem(401, "gladia key not found. Send the header x-gladia-key: <key> with a key of this server.")

_NO_KEY = ErrorObject(401, "Incorrect API key. Send the header Authorization: Bearer <key> with a key of this server.")


async def authenticate(request: web.Request, keys: ApiKeys, *, granted: bool = False) -> str | None:
    """The id of the caller's key, sent as Deepgram's clients do; None where no key is required and none that is valid
    was sent. `granted`: whether a token that was granted for a while will do. Raises Rejected, and StoreUnavailable."""
    secret = _secret(request.headers.get("Authorization", ""))
    return await _known(secret, keys, Rejected(_INVALID, {"WWW-Authenticate": "Token"}), granted=granted)


async def authenticate_socket(request: web.Request, keys: ApiKeys) -> str | None:
    """The same for a WebSocket, which takes granted tokens: a browser cannot send the header, and names scheme and key
    as subprotocols."""
    if "Authorization" in request.headers:
        return await authenticate(request, keys, granted=True)
    secret = _secret(" ".join(_subprotocols(request)[:2]))
    return await _known(secret, keys, Rejected(_INVALID, {"WWW-Authenticate": "Token"}), granted=True)


def session_id(request: web.Request) -> str:
    """What Deepgram's clients call themselves; empty where they do not."""
    protocols = dict(pairwise(_subprotocols(request)))
    return (request.headers.get("x-deepgram-session-id") or protocols.get("x-deepgram-session-id", ""))[:128]


async def authenticate_gladia(request: web.Request, keys: ApiKeys) -> str | None:
    """The same for a key that is sent as Gladia's clients do."""
    return await _known(request.headers.get("x-gladia-key", "").strip(), keys, Rejected(_NOT_FOUND))


async def authenticate_openai(request: web.Request, keys: ApiKeys) -> str | None:
    """The same for a key that is sent as OpenAI's clients do."""
    secret = _secret(request.headers.get("Authorization", ""))
    return await _known(secret, keys, Rejected(_NO_KEY, {"WWW-Authenticate": "Bearer"}))


def traceparent(request: web.Request) -> str | None:
    """The W3C `traceparent` header, version 00; None where it is absent or malformed, as the standard asks."""
    value = request.headers.get("traceparent", "").strip()
    return value if _TRACEPARENT.fullmatch(value) else None


async def _known(secret: str, keys: ApiKeys, otherwise: Rejected, *, granted: bool = False) -> str | None:
    key_id = await keys.key_id(secret) if secret else None
    if key_id is None and granted:
        key_id = await keys.granted(secret)
    if key_id is None and await keys.required():
        raise otherwise
    return key_id


def _subprotocols(request: web.Request) -> list[str]:
    return [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]


def _secret(authorization: str) -> str:
    scheme, _, secret = authorization.strip().partition(" ")
    return secret.strip() if scheme.lower() in _SCHEMES else ""
