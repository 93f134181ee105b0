"""Who is calling: the API key in the Authorization header."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from engine.api.errors import Rejected
from engine.dialects.deepgram import BadRequest

_SCHEMES = frozenset({"token", "bearer"})
_INVALID = BadRequest(
    "INVALID_AUTH", "Invalid credentials. Send the header Authorization: Token <key> with a key of this server.", 401
)


class Keys(Protocol):
    """The API keys of this server."""

    @property
    def required(self) -> bool:
        """Whether requests without a valid key are turned away."""

    async def key_id(self, secret: str) -> str | None:
        """The id of the key with this secret, compared in constant time; None where there is no such key."""


async def authenticate(request: web.Request, keys: Keys) -> str | None:
    """The id of the caller's key; None where no key is required and none that is valid was sent."""
    secret = _secret(request.headers.get("Authorization", ""))
    key_id = await keys.key_id(secret) if secret else None
    if key_id is None and keys.required:
        raise Rejected(_INVALID, {"WWW-Authenticate": "Token"})
    return key_id


def _secret(authorization: str) -> str:
    scheme, _, secret = authorization.strip().partition(" ")
    return secret.strip() if scheme.lower() in _SCHEMES else ""
