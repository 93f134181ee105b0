"""Cuts one channel into pieces at its pauses, so that long audio is transcribed in constant memory. Pure.

A piece keeps a little of the silence around it: recognisers measure the noise there. Long silence is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.audio.pcm import SAMPLE_BYTES, SAMPLE_RATE
from engine.recognisers.speech.detection import FRAME_SAMPLES, FRAME_SECONDS

PAUSE = 19
"""Frames of quiet that end a piece: 0.6 s."""

LONGEST = 750
"""Frames after which a piece ends at its quietest moment, pause or not: 24 s."""

SHORTEST = 3
"""Frames with speech that make a piece worth transcribing; less is a click."""


@dataclass(frozen=True, slots=True)
class SpeechPiece:
    """A stretch of s16le PCM with speech in it. `start` is in seconds from the start of the channel; `paused` where
    silence ended it."""

    start: float
    pcm: bytes
    paused: bool = False

    @property
    def seconds(self) -> float:
        return len(self.pcm) / SAMPLE_BYTES / SAMPLE_RATE


class Cutter:
    """Push PCM blocks of any size, get the pieces that are complete; flush gives the last one.

    `pause` and `longest` count frames. What is held meanwhile, the piece to come, can be looked at.
    """

    def __init__(self, is_speech: Callable[[bytes], list[bool]], pause: int = PAUSE, longest: int = LONGEST) -> None:
        self._is_speech = is_speech
        self._pause = pause
        self._longest = longest
        self._frame_bytes = 2 * FRAME_SAMPLES
        self._rest = b""
        self._frames: list[bytes] = []
        self._first = 0  # number of the first frame kept, counted from the start of the channel
        self._speech: list[bool] = []  # one for each frame kept
        self._quiet = 0
        self._goes_on = False  # what is held is the rest of a piece
        self._spoken = -pause  # number of the frame after the last speech of the pieces so far: none before the first

    @property
    def start(self) -> float:
        """Where the piece to come starts."""
        return self._first * FRAME_SECONDS

    @property
    def end(self) -> float:
        """How far the channel was judged."""
        return (self._first + len(self._frames)) * FRAME_SECONDS

    @property
    def speech_start(self) -> float | None:
        """When the speech of the piece to come began; None where there is too little for a piece."""
        if self._goes_on:
            return self.start
        if sum(self._speech) < SHORTEST:
            return None
        return (self._first + self._speech.index(True)) * FRAME_SECONDS

    @property
    def speech_end(self) -> float | None:
        """When the last speech of the piece to come ended, so far; None as above."""
        if self.speech_start is None:
            return None
        silent = next((n for n, speech in enumerate(reversed(self._speech)) if speech), len(self._speech))
        return self.end - silent * FRAME_SECONDS

    @property
    def silent_until(self) -> float:
        """Up to where nobody spoke since the last piece, be it only a click."""
        return self._silent_frames * FRAME_SECONDS

    @property
    def is_paused(self) -> bool:
        """Whether that is a pause, also where a piece was cut in the midst of it and says nothing of it."""
        return self._silent_frames - self._spoken >= self._pause

    @property
    def silence_left(self) -> float | None:
        """Seconds of silence after which the piece to come is over; None while somebody speaks."""
        return (self._pause - self._quiet) * FRAME_SECONDS if self._quiet else None

    def held(self, since: float) -> bytes:
        """The piece to come, from a moment on."""
        return b"".join(self._frames[max(0, round(since / FRAME_SECONDS) - self._first) :])

    def push(self, pcm: bytes) -> Iterator[SpeechPiece]:
        data = self._rest + pcm
        whole = len(data) - len(data) % self._frame_bytes
        self._rest = data[whole:]
        for number, speech in enumerate(self._is_speech(data[:whole])):
            yield from self._take(data[number * self._frame_bytes : (number + 1) * self._frame_bytes], speech)

    def cut(self) -> Iterator[SpeechPiece]:
        """End the piece here and now; more may follow."""
        return self._cut(len(self._frames))

    def forget(self, until: float) -> None:
        """Drop what is held from before a moment. The rest is a piece, however little it is: it belongs to more."""
        self._take_out(min(len(self._frames), max(0, int(until / FRAME_SECONDS) - self._first)))
        self._goes_on = True

    def flush(self) -> Iterator[SpeechPiece]:
        self._frames.append(self._rest)  # too short to be judged, but a last consonant may be in it
        self._speech.append(False)
        self._rest = b""
        yield from self._cut(len(self._frames))

    def _take(self, frame: bytes, speech: bool) -> Iterator[SpeechPiece]:
        self._frames.append(frame)
        self._speech.append(speech)
        self._quiet = 0 if speech else self._quiet + 1
        if self._quiet >= self._pause:
            yield from self._cut(max(0, len(self._frames) - self._pause // 2), paused=True)  # some may be forgotten
        elif len(self._frames) >= self._longest:
            yield from self._cut(self._quietest())

    def _cut(self, end: int, *, paused: bool = False) -> Iterator[SpeechPiece]:
        """End the piece before frame `end`; what follows opens the next one."""
        speech, start, pcm = sum(self._speech[:end]), self.start, b"".join(self._frames[:end])
        worth = self._goes_on or speech >= SHORTEST
        (self._take_out if worth else self._drop)(end)
        self._quiet, self._goes_on = 0, False
        if worth:
            yield SpeechPiece(start, pcm, paused)

    def _take_out(self, count: int) -> None:
        """Drop what is part of a piece."""
        self._spoken = max((self._first + n + 1 for n in range(count) if self._speech[n]), default=self._spoken)
        self._drop(count)

    def _drop(self, count: int) -> None:
        del self._frames[:count], self._speech[:count]
        self._first += count

    @property
    def _silent_frames(self) -> int:
        first = next((n for n, speech in enumerate(self._speech) if speech), len(self._frames))
        return self._first + first

    def _quietest(self) -> int:
        """Where an endless piece is best cut: the softest frame of its last third."""
        return min(range(self._longest * 2 // 3, len(self._frames)), key=lambda index: _loudness(self._frames[index]))


def _loudness(frame: bytes) -> int:
    return sum(map(abs, memoryview(frame).cast("h")))
