"""Which bytes of a live session's audio have come, and which of them come again after a broken connection.

A client keeps what was not acknowledged, and begins with it when it is back. What it cannot know is whether an
acknowledgement was lost on the way: then its first bytes are some that are here already. They are known by their
contents, since they begin where an earlier message did.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

REMEMBERED = 64
"""Messages that may be recognised again: seconds of them, where a lost acknowledgement takes a round trip."""


class Receipts:
    """Counts the bytes of one session, over all of its connections."""

    def __init__(self) -> None:
        self.count = 0
        # Of each message its length and its hash: to keep the bytes would take a megabyte where they are many.
        self._recent: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        self._is_first = False

    def reconnected(self) -> None:
        """The next message may begin with bytes that came before."""
        self._is_first = True

    def take(self, data: bytes) -> bytes:
        """What of a message is new."""
        new = data[self._repeated(data) :] if self._is_first else data
        self._is_first = False
        if new:
            self.count += len(new)
            self._recent.append((len(new), hash(new)))
        return new

    def _repeated(self, data: bytes) -> int:
        """How many bytes at its beginning were the last ones to come: as many as can be, from a message's start on."""
        recent = tuple(self._recent)
        candidates = (recent[start:] for start in range(len(recent)))
        return next((sum(length for length, _ in run) for run in candidates if _begins_with(data, run)), 0)


def _begins_with(data: bytes, messages: Iterable[tuple[int, int]]) -> bool:
    start = 0
    for length, known in messages:
        if start + length > len(data) or hash(data[start : start + length]) != known:
            return False
        start += length
    return True
