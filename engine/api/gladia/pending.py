"""Sessions that were asked for ahead of their sockets, each by a token of its own; and how long a token stays good.

A session that has ended is remembered for a while, so that a client that comes back to it can be told so.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from dataclasses import dataclass, field

from engine.dialects.gladia import GladiaProtocol
from engine.dialects.live import LiveRequest
from engine.errors import Busy
from engine.live.conversation import Conversation

TOKEN_SECONDS = 600.0
_MOST = 10_000


@dataclass(slots=True)
class PendingSession:
    """One session: before its socket, with it, and for a while after its end. `protocol` and `conversation` are there
    once it has begun, for which `turn` is held; `saved` is set once what became of it is written down."""

    asked: LiveRequest
    created_at: float
    protocol: GladiaProtocol | None = None
    conversation: Conversation | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    saved: asyncio.Event = field(default_factory=asyncio.Event)
    ended_at: float | None = None

    def begin(self, conversation: Conversation, protocol: GladiaProtocol) -> Conversation:
        """Its first socket is there."""
        self.conversation, self.protocol = conversation, protocol
        return conversation

    def end(self, ended_at: float) -> None:
        """It is over, and written down as far as it could be. Epoch seconds."""
        self.ended_at = ended_at
        self.saved.set()


class PendingSessions:
    """Who may come in, by token and by id. `now` is in epoch seconds."""

    def __init__(self) -> None:
        # By the hash of the token, so that looking one up tells nothing of those that are near it.
        self._by_token: dict[bytes, PendingSession] = {}

    def admit(self, asked: LiveRequest, now: float) -> str:
        """The token of a new session. Raises Busy where too many wait."""
        self._forget(now)
        if len(self._by_token) >= _MOST:
            raise Busy("too many sessions were begun and never connected", "limit")
        token = secrets.token_urlsafe(32)
        self._by_token[_hash(token)] = PendingSession(asked, now)
        return token

    def by_token(self, token: str) -> PendingSession | None:
        return self._by_token.get(_hash(token))

    def by_id(self, request_id: str, key_id: str | None) -> PendingSession | None:
        """A session of this key; None is whoever asks where no key is required."""
        for pending in self._by_token.values():
            request = pending.asked.request
            if request.id == request_id and key_id in {None, request.key_id}:
                return pending
        return None

    def _forget(self, now: float) -> None:
        self._by_token = {token: pending for token, pending in self._by_token.items() if not _is_stale(pending, now)}


def _is_stale(pending: PendingSession, now: float) -> bool:
    if pending.conversation is None:
        return now - pending.created_at > TOKEN_SECONDS
    return pending.ended_at is not None and now - pending.ended_at > TOKEN_SECONDS


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
