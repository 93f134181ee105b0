"""Who is calling: the API key in the header that the vendor's clients send it in."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

from aiohttp import web

from engine.api.errors import Rejected
from engine.dialects.deepgram import BadRequest
from engine.dialects.gladia import Problem

_SCHEMES = frozenset({"token", "bearer"})
_INVALID = BadRequest(
    "INVALID_AUTH", "Invalid credentials. Send the header Authorization: Token <key> with a key of this server.", 401
)
_NOT_FOUND = Problem(401, "gladia key not found. Send the header x-gladia-key: <key> with a key of this server.")


class Keys(Protocol):
    """The API keys of this server."""

    async def required(self) -> bool:
        """Whether requests without a valid key are turned away."""

    async def key_id(self, secret: str) -> str | None:
        """The id of the key with this secret, compared in constant time; None where there is no such key."""


async def authenticate(request: web.Request, keys: Keys) -> str | None:
    """The id of the caller's key, sent as Deepgram's clients do; None where no key is required and none that is valid
    was sent."""
    secret = _secret(request.headers.get("Authorization", ""))
    return await _known(secret, keys, Rejected(_INVALID, {"WWW-Authenticate": "Token"}))


async def authenticate_socket(request: web.Request, keys: Keys) -> str | None:
    """The same for a WebSocket: a browser cannot send the header, and names scheme and key as subprotocols."""
    if "Authorization" in request.headers:
        return await authenticate(request, keys)
    secret = _secret(" ".join(_subprotocols(request)[:2]))
    return await _known(secret, keys, Rejected(_INVALID, {"WWW-Authenticate": "Token"}))


def session_id(request: web.Request) -> str:
    """What Deepgram's clients call themselves; empty where they do not."""
    protocols = dict(pairwise(_subprotocols(request)))
    return (request.headers.get("x-deepgram-session-id") or protocols.get("x-deepgram-session-id", ""))[:128]


async def authenticate_gladia(request: web.Request, keys: Keys) -> str | None:
    """The same for a key that is sent as Gladia's clients do."""
    return await _known(request.headers.get("x-gladia-key", "").strip(), keys, Rejected(_NOT_FOUND))


async def _known(secret: str, keys: Keys, otherwise: Rejected) -> str | None:
    key_id = await keys.key_id(secret) if secret else None
    if key_id is None and await keys.required():
        raise otherwise
    return key_id


def _subprotocols(request: web.Request) -> list[str]:
    return [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]


def _secret(authorization: str) -> str:
    scheme, _, secret = authorization.strip().partition(" ")
    return secret.strip() if scheme.lower() in _SCHEMES else ""
