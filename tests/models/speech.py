"""Says digits in English and Spanish through flite, and knows when each word was said.

Needs flite (`apt-get install flite`). Its voices are American and Scottish; Spanish is read from a lexicon of ours, and
has their accent. That is enough to tell two languages apart.
"""

from __future__ import annotations

import subprocess
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

RATE = 16000
VOICES = ("awb", "kal16", "rms", "slt")
PHONES = {
    "en": {
        "zero": "z ih1 r ow0",
        "one": "w ah1 n",
        "two": "t uw1",
        "three": "th r iy1",
        "four": "f ao1 r",
        "five": "f ay1 v",
        "six": "s ih1 k s",
        "seven": "s eh1 v ax0 n",
        "eight": "ey1 t",
        "nine": "n ay1 n",
    },
    "es": {
        "cero": "s eh1 r ow0",
        "uno": "uw1 n ow0",
        "dos": "d ow1 s",
        "tres": "t r ey1 s",
        "cuatro": "k w aa1 t r ow0",
        "cinco": "s iy1 n k ow0",
        "seis": "s ey1 s",
        "siete": "s y eh1 t ey0",
        "ocho": "ow1 ch ow0",
        "nueve": "n w eh1 v ey0",
    },
}
LANGUAGES = tuple(PHONES)
WORDS = tuple(word for words in PHONES.values() for word in words)
_EDGE = 0.03

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Said:
    """A word and when it was said, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words said in one breath, with next to no silence around them. Samples are -1.0 to 1.0 at 16 kHz."""

    words: tuple[Said, ...]
    samples: Samples


@dataclass(frozen=True, slots=True)
class Speech:
    """Phrases with pauses between them, in one language and one voice; no phrases: silence or noise."""

    language: str
    phrases: tuple[tuple[Said, ...], ...]
    samples: Samples


def say(words: Sequence[str], language: str, voice: str, stretch: float = 1.0) -> Phrase:
    """`words` read as one phrase, `stretch` times as slowly as the voice would."""
    with tempfile.TemporaryDirectory() as folder:
        lexicon, sound = Path(folder, "lexicon"), Path(folder, "sound.wav")
        lexicon.write_text("".join(f"{word} n : {phones}\n" for word, phones in PHONES[language].items()))
        pace = ("--setf", f"duration_stretch={stretch:.3f}")
        command = ("flite", "-voice", voice, "-add_lex", lexicon, *pace, "-psdur", "-t", " ".join(words), "-o", sound)
        spoken = subprocess.run(command, check=True, capture_output=True, text=True)
        return _trimmed(tuple(_times(words, language, spoken.stdout)), _samples(sound))


def _times(words: Sequence[str], language: str, durations: str) -> Iterator[Said]:
    """Words from flite's `phone:end` pairs, where `pau` is silence."""
    sounds, before = [], 0.0
    for phone, _, end in (pair.partition(":") for pair in durations.split()):
        if phone != "pau":
            sounds.append((before, float(end)))
        before = float(end)
    for word in words:
        count = len(PHONES[language][word].split())
        (own, sounds) = (sounds[:count], sounds[count:])
        yield Said(word, own[0][0], own[-1][1])
    assert not sounds, f"flite says {words} in other phones: {durations}"


def _samples(path: Path) -> Samples:
    with wave.open(str(path), "rb") as sound:
        pcm = np.frombuffer(sound.readframes(sound.getnframes()), dtype="<i2")
        return at_speed((pcm / 32768).astype(np.float32), sound.getframerate() / RATE)


def at_speed(samples: Samples, speed: float) -> Samples:
    """`samples` played `speed` times as fast, and so higher."""
    if speed == 1.0:
        return samples
    places = np.arange(0, len(samples) - 1, speed)
    return np.asarray(np.interp(places, np.arange(len(samples)), samples), np.float32)


def _trimmed(words: tuple[Said, ...], samples: Samples) -> Phrase:
    first, last = max(words[0].start - _EDGE, 0.0), words[-1].end + _EDGE
    return Phrase(_shifted(words, -first), samples[round(first * RATE) : round(last * RATE)])


def _shifted(words: tuple[Said, ...], seconds: float, speed: float = 1.0) -> tuple[Said, ...]:
    return tuple(Said(word.text, word.start / speed + seconds, word.end / speed + seconds) for word in words)


def join(phrases: Sequence[Phrase], pauses: Sequence[float], language: str, speed: float = 1.0) -> Speech:
    """Phrases after one another; `pauses`, in seconds, go before, between and after them: one more than phrases."""
    parts, placed, at = [], [], 0
    for pause, phrase in zip(pauses, phrases, strict=False):
        silence = round(pause * RATE)
        sound = at_speed(phrase.samples, speed)
        placed.append(_shifted(phrase.words, (at + silence) / RATE, speed))
        parts += [np.zeros(silence, np.float32), sound]
        at += silence + len(sound)
    parts.append(np.zeros(round(pauses[-1] * RATE), np.float32))
    return Speech(language, tuple(placed), np.concatenate(parts))


def any_words(language: str, dice: Random, most: int = 7, after: str = "") -> list[str]:
    """Up to `most` words, none twice in a row, nor `after` first: a model this small cannot count them."""
    words = [after]
    for _ in range(dice.randint(1, most)):
        words.append(dice.choice([word for word in PHONES[language] if word != words[-1]]))
    return words[1:]
