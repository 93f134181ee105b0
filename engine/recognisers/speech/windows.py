"""Cuts one channel into stretches, and the speech of a stretch into windows for the model. Pure.

Hours of audio are transcribed in constant memory: a stretch is minutes long and cut at a quiet moment. A window holds
what the model is given at once, and is cut where people pause the longest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Sound between -1.0 and 1.0."""

_LOOK_BACK = 1 / 4
"""How much of a piece that has to be cut is searched for a quiet moment, from its end."""

_MOMENT_SECONDS = 0.3

_BREATH_FRAMES = 5
"""Frames without speech that part nothing: 160 ms, as before a hard consonant."""

_CLICK_FRAMES = 3
"""Fewer frames with speech than this are a click."""

PADDING = 0.4
"""Seconds of sound around the speech of a window: detectors notice a soft beginning late and a soft end not at all."""

_LONG_PAUSE = 1.5
"""Seconds of silence at which a window may end however short it is."""

_EARLY = 0.25
"""What a shorter pause counts in the first half of a window, where it would make a short one."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the sound, in seconds from the start of the stretch or of whatever else is named."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive s16le samples; `start` is in seconds from the start of the channel."""

    start: float
    pcm: bytes

    @property
    def samples(self) -> Samples:
        return samples(self.pcm)


class Stretches:
    """Push s16le PCM of any size, get stretches of at most `seconds`; flush gives the last one."""

    def __init__(self, seconds: float, sample_rate: int) -> None:
        self._longest = int(seconds * sample_rate)
        self._rate = sample_rate
        self._pcm = bytearray()
        self._first = 0  # number of the first sample held, counted from the start of the channel

    def push(self, pcm: bytes) -> Iterator[Stretch]:
        self._pcm += pcm
        while len(self._pcm) // 2 >= self._longest:
            window = samples(self._pcm[: 2 * self._longest])
            yield self._take(quiet_moment(window, self._rate))

    def flush(self) -> Iterator[Stretch]:
        if self._pcm:
            yield self._take(len(self._pcm) // 2)

    def _take(self, count: int) -> Stretch:
        stretch = Stretch(self._first / self._rate, bytes(self._pcm[: 2 * count]))
        del self._pcm[: 2 * count]
        self._first += count
        return stretch


def samples(pcm: bytes | bytearray) -> Samples:
    """s16le PCM as numbers."""
    return np.frombuffer(pcm, np.int16).astype(np.float32) / 32768.0


def quiet_moment(sound: Samples, rate: int) -> int:
    """Where a piece is best cut: the middle of the softest moment of its last quarter, as a sample number."""
    moment = int(_MOMENT_SECONDS * rate)
    moments = max(1, int(len(sound) * _LOOK_BACK) // moment)
    if moments * moment > len(sound):
        return len(sound)
    tail = sound[-moments * moment :].reshape(moments, moment)
    softest = int(np.argmin(np.abs(tail).mean(axis=1)))
    return len(sound) - (moments - softest) * moment + moment // 2


def spoken(frames: Sequence[bool], frame_seconds: float) -> list[Span]:
    """Where there is speech, from whether there is in each frame; a breath parts nothing, and a click is no speech."""
    runs: list[list[int]] = []
    for number in np.flatnonzero(np.asarray(frames, bool)).tolist():
        if runs and number - runs[-1][1] <= _BREATH_FRAMES:
            runs[-1][1] = number + 1
        else:
            runs.append([number, number + 1])
    return [Span(a * frame_seconds, b * frame_seconds) for a, b in runs if b - a >= _CLICK_FRAMES]


def windows(speech: Sequence[Span], longest: float, seconds: float, apart: float = inf) -> list[Span]:
    """What to decode at once: neighbouring pieces of speech, each of at most `longest` minus twice PADDING seconds.

    A window ends at the widest pause that it can, and at each that is `apart` seconds long; it is padded with what is
    around it (half of a short pause, nothing of beyond the `seconds` of the sound), and is no longer than `longest`.
    The pauses in it stay.
    """
    found: list[Span] = []
    first = 0
    while first < len(speech):
        last = _last(speech, first, longest - 2 * PADDING, apart)
        before = (speech[first - 1].end + speech[first].start) / 2 if first else 0.0
        after = (speech[last].end + speech[last + 1].start) / 2 if last + 1 < len(speech) else seconds
        start, end = max(before, speech[first].start - PADDING), min(after, speech[last].end + PADDING)
        found.append(Span(start, end))
        first = last + 1
    return found


def pieces(span: Span, sound: Samples, rate: int, longest: float) -> Iterator[Span]:
    """Speech without a pause, cut at its softest moments into pieces no longer than `longest` seconds."""
    while span.seconds > longest:
        start = int(span.start * rate)
        cut = (start + quiet_moment(sound[start : start + int(longest * rate)], rate)) / rate
        yield Span(span.start, cut)
        span = Span(cut, span.end)
    yield span


def _last(speech: Sequence[Span], first: int, longest: float, apart: float) -> int:
    """The piece with which a window that begins with the first one ends."""
    start = speech[first].start
    pauses: list[float] = []
    for before, after in pairwise(speech[first:]):
        pauses.append(after.start - before.end)
        if pauses[-1] >= apart:
            return first + len(pauses) - 1
        if after.end - start > longest:
            return first + max(
                range(len(pauses)), key=lambda n: (_worth(pauses[n], speech[first + n].end - start, longest), n)
            )
    return len(speech) - 1


def _worth(pause: float, length: float, longest: float) -> float:
    return pause if length >= longest / 2 or pause >= _LONG_PAUSE else pause * _EARLY
