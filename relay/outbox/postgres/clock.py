"""The server's time, without asking it each time."""

from __future__ import annotations

import math
import time

# A server that was asked, stood still and answered said what time it was at either end.
_SURE_SECONDS = 0.5


class ServerClock:
    """Measured against this host's monotonic clock, so that it does not matter what time this host takes it for."""

    def __init__(self) -> None:
        self._server = 0.0
        self._measured_at: float | None = None
        self._sure = False

    def set(self, server: float, asked_at: float, answered_at: float) -> None:
        """The server said that it was `server` some time between two moments of the monotonic clock. Where those are
        far apart it is not believed, or, for want of a better one, taken for the later moment: nothing is early."""
        self._sure = answered_at - asked_at < _SURE_SECONDS
        if self._sure or self._measured_at is None:
            middle = (asked_at + answered_at) / 2
            self._server, self._measured_at = server, middle if self._sure else answered_at

    @property
    def known(self) -> bool:
        """Whether it was ever measured, well or not."""
        return self._measured_at is not None

    def age(self) -> float:
        """Seconds since it was measured; for ever if it never was, or not well the last time."""
        return time.monotonic() - self._measured_at if self._sure and self._measured_at is not None else math.inf

    def now(self) -> float:
        """Epoch seconds."""
        assert self._measured_at is not None, "the first connection measures it"
        return self._server + time.monotonic() - self._measured_at
