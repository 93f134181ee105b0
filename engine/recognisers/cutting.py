"""Cuts one channel into pieces at its pauses, so that long audio is heard in constant memory. Pure.

A piece keeps a little of the silence around it: recognisers measure the noise there. Long silence is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

FRAME_SECONDS = 0.03
PAUSE = 20
"""Frames of quiet that end a piece: 0.6 s."""

LONGEST = 800
"""Frames after which a piece ends at its quietest moment, pause or not: 24 s."""

SHORTEST = 3
"""Frames with speech that make a piece worth hearing; less is a click."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of s16le PCM with speech in it. `start` is in seconds from the start of the channel."""

    start: float
    pcm: bytes


class Cutter:
    """Push PCM blocks of any size, get the pieces that are complete; flush gives the last one."""

    def __init__(self, is_speech: Callable[[bytes], bool], sample_rate: int) -> None:
        self._is_speech = is_speech
        self._frame_bytes = 2 * int(sample_rate * FRAME_SECONDS)
        self._rest = b""
        self._frames: list[bytes] = []
        self._first = 0  # number of the first frame kept, counted from the start of the channel
        self._speech: list[bool] = []  # one for each frame kept
        self._quiet = 0

    def push(self, pcm: bytes) -> Iterator[Piece]:
        data = self._rest + pcm
        whole = len(data) - len(data) % self._frame_bytes
        self._rest = data[whole:]
        for offset in range(0, whole, self._frame_bytes):
            yield from self._hear(data[offset : offset + self._frame_bytes])

    def flush(self) -> Iterator[Piece]:
        self._frames.append(self._rest)  # too short to be judged, but a last consonant may be in it
        self._speech.append(False)
        self._rest = b""
        yield from self._cut(len(self._frames))

    def _hear(self, frame: bytes) -> Iterator[Piece]:
        speech = self._is_speech(frame)
        self._frames.append(frame)
        self._speech.append(speech)
        self._quiet = 0 if speech else self._quiet + 1
        if self._quiet >= PAUSE:
            yield from self._cut(len(self._frames) - PAUSE // 2)
        elif len(self._frames) >= LONGEST:
            yield from self._cut(self._quietest())

    def _cut(self, end: int) -> Iterator[Piece]:
        """End the piece before frame `end`; what follows opens the next one."""
        if sum(self._speech[:end]) >= SHORTEST:
            yield Piece(self._first * FRAME_SECONDS, b"".join(self._frames[:end]))
        del self._frames[:end], self._speech[:end]
        self._first += end
        self._quiet = 0

    def _quietest(self) -> int:
        """Where an endless piece is best cut: the softest frame of its last third."""
        return min(range(LONGEST * 2 // 3, len(self._frames)), key=lambda index: _loudness(self._frames[index]))


def _loudness(frame: bytes) -> int:
    return sum(map(abs, memoryview(frame).cast("h")))
