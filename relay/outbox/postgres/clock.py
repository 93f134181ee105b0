"""The server's time, without asking it each time."""

from __future__ import annotations

import math
import time


class ServerClock:
    """Measured against this host's monotonic clock, so that it does not matter what time this host takes it for."""

    def __init__(self) -> None:
        self._server = 0.0
        self._measured_at: float | None = None

    def set(self, server: float, asked_at: float, answered_at: float) -> None:
        """The server said that it was `server` some time between two moments of the monotonic clock."""
        self._server, self._measured_at = server, (asked_at + answered_at) / 2

    def age(self) -> float:
        """Seconds since it was measured; for ever if it never was."""
        return math.inf if self._measured_at is None else time.monotonic() - self._measured_at

    def now(self) -> float:
        """Epoch seconds."""
        assert self._measured_at is not None, "the first connection measures it"
        return self._server + time.monotonic() - self._measured_at
