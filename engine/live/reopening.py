"""Clients that open again what was killed: Deepgram's JavaScript client does, thirty times, with the same callback."""

from __future__ import annotations

import math

_SECONDS = 30.0
_MOST = 10_000


class Reopening:
    """Remembers for half a minute whose callback was lost. `now` is in seconds."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}

    def lost(self, client: str, url: str, now: float) -> None:
        """The callback at `url` was lost to a session of this client's."""
        self._until = {key: until for key, until in self._until.items() if until > now}
        if len(self._until) < _MOST:
            self._until[client, url] = now + _SECONDS

    def wait(self, client: str, url: str, now: float) -> int:
        """After how many seconds the same may be tried again; 0 for at once."""
        return max(0, math.ceil(self._until.get((client, url), now) - now))
