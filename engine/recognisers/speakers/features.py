"""What the voice encoder sees of sound: power in forty mel bands, a hundred times a second. Pure.

As librosa makes them by default, with Slaney's filters and without a logarithm: the encoder was trained on these.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from engine.audio.pcm import SAMPLE_RATE
from engine.recognisers.speech.windows import Samples

Mels = NDArray[np.float32]
"""Of shape (frames, BANDS)."""

BANDS = 40
FRAME, STEP = 400, 160
"""Samples of a frame, 25 ms, and from one frame to the next, 10 ms."""

FRAMES_PER_SECOND = SAMPLE_RATE // STEP

_LINEAR, _LOG_FROM, _LOG_STEP = 200 / 3, 1000.0, np.log(6.4) / 27
"""Slaney's mel scale: linear up to 1 kHz, logarithmic above."""


def mels(sound: Samples) -> Mels:
    """Frames centred on each 10 ms of the sound, its first sample and its last included."""
    padded = np.pad(sound, FRAME // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::STEP]
    spectrum = np.fft.rfft(frames * _hann(), axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    found: Mels = power @ _filters()
    return found


@cache
def _hann() -> NDArray[np.float32]:
    """The periodic window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)).astype(np.float32)


@cache
def _filters() -> NDArray[np.float32]:
    """Triangles of equal area between neighbouring mels, of shape (bins, BANDS)."""
    bins = np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE)
    edges = _hertz(np.linspace(0.0, _mel(SAMPLE_RATE / 2), BANDS + 2))
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins[:, None] - low) / (middle - low), (high - bins[:, None]) / (high - middle)
    triangles = np.maximum(0.0, np.minimum(rising, falling)) * 2 / (high - low)
    return triangles.astype(np.float32)


def _mel(hertz: float) -> float:
    if hertz < _LOG_FROM:
        return hertz / _LINEAR
    return float(_LOG_FROM / _LINEAR + np.log(hertz / _LOG_FROM) / _LOG_STEP)


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    turn = _LOG_FROM / _LINEAR
    found: NDArray[np.float64] = np.where(mel < turn, mel * _LINEAR, _LOG_FROM * np.exp(_LOG_STEP * (mel - turn)))
    return found
