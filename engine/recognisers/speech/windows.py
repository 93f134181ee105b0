"""Cuts one channel into long stretches at quiet moments, so that hours of audio are heard in constant memory. Pure.

And within a stretch, what belongs into one window of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Sound between -1.0 and 1.0."""

_LOOK_BACK = 1 / 4
"""How much of a piece that has to be cut is searched for a quiet moment, from its end."""

_MOMENT_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive samples; `start` is in seconds from the start of the channel."""

    start: float
    samples: Samples


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
        stretch = Stretch(self._first / self._rate, samples(self._pcm[: 2 * count]))
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
    softest = int(np.abs(tail).mean(axis=1).argmin())
    return len(sound) - (moments - softest) * moment + moment // 2


def windows(speech: Sequence[tuple[int, int]], longest: int) -> list[tuple[int, int]]:
    """Neighbouring pieces of speech, as sample ranges in order, joined while the whole is no longer than `longest`.

    The silence between them stays in: the model hears the pauses, and its word times need no mending.
    """
    joined: list[tuple[int, int]] = []
    for start, end in speech:
        if joined and end - joined[-1][0] <= longest:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
