"""When a channel is due an interim pass, and which of those that were promised were not made. Pure.

`now` is monotonic, in seconds, as in `passes`.
"""

from __future__ import annotations

from engine.recognisers.whisper.passes import PROMISED_SECONDS

_EVERY = 0.5
"""Seconds of new audio that are worth an interim pass."""

_SHARE = 0.5
"""How much of the time one channel may spend on interim passes: with a slow model they are fewer."""


class InterimPace:
    """Of one channel. `turn_at` is when it had its last interim pass, or began to speak; `took` how many seconds that
    pass did."""

    def __init__(self) -> None:
        self.turn_at = 0.0
        self.took = 0.0
        self._promised_at = 0.0  # as `turn_at`, or when a pass was missed since
        self._missed = 0

    def speech_began(self, now: float) -> None:
        self.turn_at = self._promised_at = now

    def wait(self, now: float) -> None:
        """There is speech that no pass has had yet; where it has waited for longer than promised, a pass was missed."""
        if now - self._promised_at > PROMISED_SECONDS + _EVERY:
            self._missed += 1
            self._promised_at += PROMISED_SECONDS

    def is_due(self, new: float) -> bool:
        """Whether so many seconds of new audio are worth a pass."""
        return new >= max(_EVERY, self.took / _SHARE)

    def passed(self, took: float, now: float) -> None:
        """An interim pass was made, in so many seconds."""
        self.took, self.turn_at, self._promised_at = took, now, now

    def take_missed(self) -> int:
        """How many were missed since this was asked last."""
        missed, self._missed = self._missed, 0
        return missed
