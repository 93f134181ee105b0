"""Makes the clips of this folder: synthetic speech, so that nobody's voice or copyright is in the repository.

Needs flite (`apt-get install flite`); run `python -m tests.clips.make`. The clips are committed: tests need no flite.
"""

from __future__ import annotations

import subprocess
import tempfile
import wave
from itertools import zip_longest
from pathlib import Path

import av

HERE = Path(__file__).parent
RATE = 16000
PAUSE = b"\0" * int(0.7 * RATE) * 2

DEMO = (
    "Good morning, and thank you for calling.",
    "Nothing is lost when the power goes out.",
    "If nobody answers the door, we will try again later.",
)
LEFT = "He asked her to call him back in the morning."
RIGHT = "I would like to send this letter to my brother in the city."


def say(sentence: str, voice: str) -> bytes:
    """A sentence as 16 kHz mono s16le."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["flite", "-voice", voice, "-t", sentence, "-o", file.name], check=True)
        with wave.open(file.name, "rb") as speech:
            assert speech.getframerate() == RATE
            return bytes(speech.readframes(speech.getnframes()))


def interleave(left: bytes, right: bytes) -> bytes:
    pairs = zip_longest(memoryview(left).cast("h"), memoryview(right).cast("h"), fillvalue=0)
    return b"".join(a.to_bytes(2, "little", signed=True) + b.to_bytes(2, "little", signed=True) for a, b in pairs)


def write(name: str, text: str, pcm: bytes, layout: str = "mono", rate: int = RATE) -> None:
    """`pcm` at 16 kHz as FLAC at `rate`, with what is said beside it."""
    frame = av.AudioFrame(format="s16", layout=layout, samples=len(pcm) // (2 * frame_channels(layout)))
    frame.sample_rate = RATE
    frame.planes[0].update(pcm)
    resampler = av.AudioResampler(format="s16", layout=layout, rate=rate, frame_size=4096)
    with av.open(str(HERE / f"{name}.flac"), "w") as container:
        stream = container.add_stream("flac", rate=rate, layout=layout)
        for source in (frame, None):
            for block in resampler.resample(source):
                container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    (HERE / f"{name}.txt").write_text(text + "\n")


def frame_channels(layout: str) -> int:
    return av.AudioLayout(layout).nb_channels


def main() -> None:
    write("demo", "\n".join(DEMO), PAUSE.join(say(sentence, "rms") for sentence in DEMO))
    stereo = interleave(say(LEFT, "rms"), say(RIGHT, "slt"))
    write("stereo", f"{LEFT}\n{RIGHT}", stereo, layout="stereo", rate=44100)


if __name__ == "__main__":
    main()
