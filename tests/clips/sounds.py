"""Sounds that are made and not recorded, and clips put together to long recordings of which every word is known.

All sound is 16 kHz mono s16le. What involves chance takes a seed, so that a test hears the same every time.
"""

from __future__ import annotations

import io
import random
import wave
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from tests.clips import RATE, Clip, Line

Samples = NDArray[np.float64]

BETWEEN_CLIPS = (0.5, 4.0)
"""Seconds of silence between two clips: from, to."""

_FULL_SCALE = 32767


@dataclass(frozen=True, slots=True)
class Recording:
    """Sound, and the lines that are said in it, in order of their times."""

    pcm: bytes
    lines: tuple[Line, ...]

    @property
    def seconds(self) -> float:
        return len(self.pcm) / (2 * RATE)

    @property
    def text(self) -> str:
        return " ".join(line.text for line in self.lines)

    def wav(self) -> bytes:
        """As a file."""
        return wav(self.pcm)

    def until(self, seconds: float) -> Recording:
        """Its beginning, at most so long, without the line that would not be said to its end."""
        said = tuple(line for line in self.lines if line.end <= seconds)
        end = min(seconds, *(line.start for line in self.lines[len(said) :]), self.seconds)
        return Recording(self.pcm[: 2 * int(end * RATE)], said)

    def noisy(self, decibels: float, seed: int = 0) -> Recording:
        """With pink noise, so many decibels below the mean power of the speech."""
        sound = samples(self.pcm)
        said = np.concatenate([sound[int(line.start * RATE) : int(line.end * RATE)] for line in self.lines])
        return Recording(pcm(with_noise(sound, said, decibels, seed)), self.lines)


def joined(
    clips: Iterable[Clip], seconds: float | None = None, pauses: tuple[float, float] = BETWEEN_CLIPS, seed: int = 0
) -> Recording:
    """The clips one after another with silences of different lengths between them.

    With `seconds` they begin again when all were said, and end as `until` does.
    """
    dice = random.Random(seed)
    sound, lines = bytearray(silence(dice.uniform(*pauses))), list[Line]()
    for clip in cycle(clips) if seconds else clips:
        lines += _later(clip.lines, len(sound) / (2 * RATE))
        sound += clip.pcm() + silence(dice.uniform(*pauses))
        if seconds and len(sound) > 2 * RATE * seconds:
            break
    whole = Recording(bytes(sound), tuple(lines))
    return whole.until(seconds) if seconds else whole


def pieces(clip: Clip, longest: float) -> Iterator[Recording]:
    """The clip cut between its lines, each piece with as many of them as fit into so many seconds, but at least one."""
    lines = list(clip.lines)
    while lines:
        count = max(1, sum(line.end - lines[0].start <= longest for line in lines))
        yield _cut(clip, lines[:count])
        del lines[:count]


def _cut(clip: Clip, lines: Sequence[Line]) -> Recording:
    start = max(0, int((lines[0].start - 0.1) * RATE))
    part = clip.pcm()[2 * start : 2 * int((lines[-1].end + 0.1) * RATE)]
    return Recording(part, tuple(_later(lines, -start / RATE)))


def _later(lines: Iterable[Line], seconds: float) -> Iterator[Line]:
    return (Line(line.start + seconds, line.end + seconds, line.text) for line in lines)


def silence(seconds: float) -> bytes:
    """Nothing at all."""
    return bytes(2 * int(seconds * RATE))


def tone(seconds: float, hertz: float = 440.0) -> bytes:
    """A sine, 12 dB below full scale."""
    return pcm(0.25 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE))


def noise(seconds: float, decibels: float = -26.0, seed: int = 0) -> bytes:
    """Pink noise, as of wind and traffic, so far below full scale."""
    return pcm(10 ** (decibels / 20) * pink(int(seconds * RATE), seed))


def music(seconds: float, seed: int = 0) -> bytes:
    """Chords and a tune over them, plucked, four notes in a second."""
    dice = random.Random(seed)
    notes = [_plucked(dice.choice((0, 2, 4, 5, 7, 9, 11, 12))) for _ in range(int(seconds * 4) + 1)]
    chords = [_plucked(root - 12) + _plucked(root - 8) + _plucked(root - 5) for root in (0, 5, 7, 0)]
    sound = np.concatenate([note + chords[index // 4 % 4] for index, note in enumerate(notes)])
    return pcm(0.12 * sound[: int(seconds * RATE)])


def _plucked(semitones: int) -> Samples:
    """A quarter of a second: a fundamental above middle C and its overtones, which die away."""
    time = np.arange(RATE // 4) / RATE
    pitch = 261.63 * 2 ** (semitones / 12)
    overtones = np.sin(2 * np.pi * pitch * np.outer(range(1, 6), time)) / np.arange(1, 6)[:, np.newaxis]
    return np.asarray(np.exp(-6 * time) * overtones.sum(axis=0))


def pink(count: int, seed: int = 0) -> Samples:
    """So many samples of noise whose power falls by 3 dB an octave, with a root mean square of one; the same again
    after a minute."""
    length = min(count, 60 * RATE)
    white = np.fft.rfft(np.random.default_rng(seed).standard_normal(length))
    shaped = np.fft.irfft(white / np.sqrt(np.maximum(np.arange(len(white)), 20.0)), length)
    return np.resize(shaped / np.std(shaped), count)


def with_noise(sound: Samples, said: Samples, decibels: float, seed: int = 0) -> Samples:
    """The sound with pink noise, so many decibels below the mean power of what is `said` in it."""
    level = float(np.sqrt(np.mean(said**2))) / 10 ** (decibels / 20)
    return sound + level * pink(len(sound), seed)


def samples(sound: bytes) -> Samples:
    """Numbers from -1 to 1."""
    return np.frombuffer(sound, "<i2") / _FULL_SCALE


def pcm(sound: Samples) -> bytes:
    """The other way; what is too loud is clipped."""
    return (np.clip(sound, -1, 1) * _FULL_SCALE).round().astype("<i2").tobytes()


def wav(sound: bytes) -> bytes:
    """A file with that sound."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(sound)
    return out.getvalue()
