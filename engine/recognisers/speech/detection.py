"""Where somebody speaks: Silero's voice activity detector, out of faster-whisper's own package.

Recorded and live speech are judged by the same network in the same frames: of a whole stretch at once, or a few frames
at a time with what it remembers of those before. Both give the same probabilities.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

FRAME_SAMPLES = 512
FRAME_SECONDS = FRAME_SAMPLES / 16000
"""How much is judged at once: 32 ms."""

SPEECH, SILENCE = 0.5, 0.35
"""Probabilities from which speech begins, and below which it ends: Silero's own."""

_CONTEXT = 64
_STATE = (1, 1, 128)


class SpeechDetector:
    """Judges consecutive frames of one channel."""

    def __init__(self) -> None:
        self._network = _network()
        self._h, self._c = np.zeros(_STATE, np.float32), np.zeros(_STATE, np.float32)
        self._context = np.zeros(_CONTEXT, np.float32)
        self._speaking = False

    def __call__(self, pcm: bytes) -> list[bool]:
        """Whether there is speech in each of the frames: s16le, whole frames of FRAME_SAMPLES."""
        return [self._decide(probability) for probability in self._probabilities(pcm)]

    def _probabilities(self, pcm: bytes) -> list[float]:
        if not pcm:
            return []
        sound = np.concatenate((self._context, np.frombuffer(pcm, np.int16).astype(np.float32) / 32768.0))
        frames = np.lib.stride_tricks.sliding_window_view(sound, _CONTEXT + FRAME_SAMPLES)[::FRAME_SAMPLES]
        inputs = {"input": np.ascontiguousarray(frames), "h": self._h, "c": self._c}
        judged, self._h, self._c = self._network.run(None, inputs)
        self._context = sound[-_CONTEXT:]
        found: list[float] = judged.ravel().tolist()
        return found

    def _decide(self, probability: float) -> bool:
        self._speaking = probability >= (SILENCE if self._speaking else SPEECH)
        return self._speaking


@cache
def _network() -> Any:
    """The session of ONNX Runtime, on one thread, shared by all channels of the process: it keeps nothing of them."""
    from faster_whisper.vad import get_vad_model  # loads what this process needs anyway

    return get_vad_model().session
