"""Speech for the acceptance tests, cut from the committed clip, and silence."""

from __future__ import annotations

import io
import wave

import av

from tests.acceptance.stage import ROOT

CLIP = ROOT / "tests" / "clips" / "demo.flac"
RATE = 16000


def first_seconds(seconds: float) -> bytes:
    """The beginning of the demo clip as a WAV file: 16 kHz, mono, 16 bit."""
    with av.open(str(CLIP)) as container:
        pcm = b"".join(bytes(frame.planes[0])[: frame.samples * 2] for frame in container.decode(audio=0))
    return _wav(pcm[: int(seconds * RATE) * 2])


def silence(seconds: float) -> bytes:
    """Nothing, in the same format: heard in a few milliseconds, which speech is not."""
    return _wav(bytes(int(seconds * RATE) * 2))


def _wav(pcm: bytes) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm)
    return out.getvalue()
