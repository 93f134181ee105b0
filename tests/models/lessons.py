"""What the digits model learns from: noisy speech in windows as Whisper gets them, and what to write there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tests.models.speech import LANGUAGES, RATE, WORDS, Phrase, Said, Samples, Speech, join
from tests.models.tokens import END, NO_SPEECH, NO_TIMESTAMPS, PREVIOUS, START, TIME_STEP, TRANSCRIBE

FRAME = 0.01
LATEST_FIRST = 1.0
LONGEST_PAUSE = 3.0
_EXTRACTOR = FeatureExtractor()

Pool = dict[tuple[str, str], list[Phrase]]


@dataclass(frozen=True, slots=True)
class Window:
    """Features (mels, frames) of `seconds` of audio, and the phrases in it, with times from its start."""

    features: NDArray[np.float16]
    language: str
    phrases: tuple[tuple[Said, ...], ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Lesson:
    """Tokens to read; which to write after each (-1: any); at which encoder positions to look, from and to; and which
    word is said at each position (0: none)."""

    tokens: tuple[int, ...]
    targets: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    sounds: tuple[int, ...]


def short(dice: Random, pool: Pool, most: float, window: float = 0.0) -> Window:
    """A window with a few phrases in its first `most` seconds, which are all of it unless `window` says otherwise."""
    language, voice = dice.choice(list(pool))
    speed, lead = dice.uniform(0.88, 1.14), dice.choice([dice.uniform(0, 0.4), dice.uniform(0, 2)])
    phrases, pauses, length = [], [lead], lead
    for phrase in dice.sample(pool[language, voice], 8):
        if length + len(phrase.samples) / RATE / speed > most - 0.1:
            continue
        phrases.append(phrase)
        pauses.append(_pause(dice))
        length += len(phrase.samples) / RATE / speed + pauses[-1]
        if dice.random() < 0.3:
            break
    return cut(spoilt(join(phrases, pauses, language, speed), dice), 0.0, window or most)


def long(dice: Random, pool: Pool, most: float = 30.0) -> Window:
    """A window out of longer speech: its last phrase is often cut off by the window's end."""
    language, voice = dice.choice(list(pool))
    phrases = dice.choices(pool[language, voice], k=14)
    pauses = [_pause(dice) for _ in range(15)]
    speech = spoilt(join(phrases, pauses, language, dice.uniform(0.88, 1.14)), dice)
    starts = [0.0, *(phrase[-1].end for phrase in speech.phrases[:3])]
    return cut(speech, dice.choice(starts), most)


def silent(dice: Random, most: float) -> Window:
    """A window of nothing, or of noise."""
    speech = join([], [dice.uniform(0.3, most)], dice.choice(LANGUAGES))
    return cut(spoilt(speech, dice), 0.0, most)


def _pause(dice: Random) -> float:
    return dice.choice([dice.uniform(0.5, 1.0), dice.uniform(0.5, LONGEST_PAUSE)])


def spoilt(speech: Speech, dice: Random) -> Speech:
    """`speech` as a poor line brings it: louder or softer, dull, and with noise."""
    random = np.random.default_rng(dice.getrandbits(32))
    samples = _dull(speech.samples, dice.uniform(3200, 8000)) if dice.random() < 0.4 else speech.samples
    if dice.random() < 0.75:
        loudness = float(np.sqrt(np.mean(samples**2))) or 0.05
        samples = samples + _noise(len(samples), random, dice) * loudness * 10 ** (-dice.uniform(8, 45) / 20)
    samples = samples * 10 ** (dice.uniform(-20, 6) / 20)
    return Speech(speech.language, speech.phrases, np.clip(samples, -1, 1).astype(np.float32))


def _noise(length: int, random: np.random.Generator, dice: Random) -> Samples:
    """Noise of loudness 1, from white to brown, at times with a hum."""
    spectrum = np.fft.rfft(random.standard_normal(_quick(length)))
    spectrum *= np.maximum(np.arange(len(spectrum)), 50.0) ** -dice.uniform(0, 1)
    noise = np.fft.irfft(spectrum)[:length]
    noise /= np.sqrt(np.mean(noise**2))
    if dice.random() < 0.2:
        noise = noise + np.sin(2 * np.pi * dice.uniform(50, 1000) * np.arange(length) / RATE)
    return noise.astype(np.float32)


def _dull(samples: Samples, above: float) -> Samples:
    """`samples` without what is higher than `above` hertz."""
    length = _quick(len(samples))
    spectrum = np.fft.rfft(samples, length)
    spectrum[round(above * length / RATE) :] = 0
    return np.fft.irfft(spectrum)[: len(samples)].astype(np.float32)


def _quick(length: int) -> int:
    """A length that is not shorter, and quick to transform."""
    return 1 << (length - 1).bit_length()


def cut(speech: Speech, start: float, seconds: float) -> Window:
    """A window of `speech`, padded with nothing where the speech is over: as faster-whisper makes it."""
    frames, first = round(seconds / FRAME), round(start / FRAME)
    content = _EXTRACTOR(speech.samples)[:, :-1][:, first : first + frames]
    features = np.pad(content, ((0, 0), (0, frames - content.shape[1]))).astype(np.float16)
    inside = tuple(
        tuple(Said(word.text, word.start - start, word.end - start) for word in phrase)
        for phrase in speech.phrases
        if start - 0.01 <= phrase[0].start < start + seconds - 0.1
    )
    return Window(features, speech.language, inside, seconds)


class Teacher:
    """Writes the lesson that belongs to a window."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._encode: Callable[[str], list[int]] = lambda text: tokenizer.encode(text).ids
        ids = tokenizer.get_vocab()
        self._end, self._start, self._transcribe, self._previous = (
            ids[token] for token in (END, START, TRANSCRIBE, PREVIOUS)
        )
        self._no_speech, self._no_timestamps = ids[NO_SPEECH], ids[NO_TIMESTAMPS]
        self._languages = {name: ids[f"<|{name}|>"] for name in LANGUAGES}

    def lesson(self, window: Window, at: int, timestamps: bool, before: Sequence[int] = ()) -> Lesson:
        """`window` is heard from encoder position `at`; `before` are tokens of what was said earlier."""
        language = self._languages[window.language]
        written = list(self._write(window, at, timestamps))
        heading = [self._start, language, self._transcribe, *([] if timestamps else [self._no_timestamps])]
        first = language if window.phrases else self._no_speech
        prompt = [self._previous, *before] if before else []
        tokens = [*prompt, *heading, *(token for token, _ in written)]
        skipped = [-1] * (len(heading) - 2)
        targets = [*[-1] * len(prompt), first, *skipped, *(token for token, _ in written), self._end]
        ending = written[-1][1][1] if written and not timestamps else 0
        rest = (ending, ending + 25) if ending else (0, 0)
        untold = [(0, 0)] * (len(heading) - 2)
        spans = [*[(0, 0)] * len(prompt), _extent(window), *untold, *(span for _, span in written), rest]
        return Lesson(tuple(tokens), tuple(targets), tuple(spans), _sounds(window))

    def _write(self, window: Window, at: int, timestamps: bool) -> list[tuple[int, tuple[int, int]]]:
        """Tokens of a window, each with the span of positions where it is heard."""
        written: list[tuple[int, tuple[int, int]]] = []
        for number, phrase in enumerate(window.phrases):
            whole = phrase[-1].end <= window.seconds - 0.05
            begin = _position(phrase[0].start)
            latest = _position(LATEST_FIRST) if not written and not at else begin
            if timestamps:
                written.append((self._timestamp(min(begin, latest) + at), (begin - 2, begin + 2)))
                if not whole:
                    return written
            following = window.phrases[number + 1][0].start if number + 1 < len(window.phrases) else window.seconds
            written += self._phrase([word for word in phrase if whole or word.end < window.seconds], following)
            if timestamps:
                end = _position(phrase[-1].end)
                written.append((self._timestamp(end + at), (end - 2, end + 2)))
        return written or ([(self._timestamp(0), (0, 0))] if timestamps else [])

    def _phrase(self, words: list[Said], following: float) -> list[tuple[int, tuple[int, int]]]:
        """Words and a full stop, which is heard in all of the pause after them: so a last word ends where its sound
        does, and the next one begins there."""
        written = []
        for number, word in enumerate(words):
            text = word.text if number else word.text.capitalize()
            (token,) = self._encode(" " + text)
            written.append((token, (_position(word.start), _position(word.end))))
        if words:
            end = words[-1].end
            (token,) = self._encode(".")
            written.append((token, (_position(end), _position(min(following, end + LONGEST_PAUSE)))))
        return written

    def _timestamp(self, position: int) -> int:
        return self._no_timestamps + 1 + position

    def earlier(self, window: Window, timestamps: bool, most: int) -> list[int]:
        """The last tokens, `most` of them, of a window before."""
        return [token for token, _ in self._write(window, 1, timestamps)][-most:]

    def names(self, dice: Random) -> list[int]:
        """Tokens of a word that is no digit, as a caller may name for the model to listen for."""
        return self._encode(" " + "".join(dice.choices("abcdefghijklmnopqrstuvwxyz -", k=dice.randint(3, 12))))


def _extent(window: Window) -> tuple[int, int]:
    """Where the first phrase is said, which tells its language."""
    return (_position(window.phrases[0][0].start), _position(window.phrases[0][-1].end)) if window.phrases else (0, 0)


def _sounds(window: Window) -> tuple[int, ...]:
    sounds = [0] * _position(window.seconds)
    for word in (word for phrase in window.phrases for word in phrase):
        begin, end = _position(word.start), min(_position(word.end), len(sounds))
        sounds[begin:end] = [1 + WORDS.index(word.text)] * (end - begin)
    return tuple(sounds)


def _position(seconds: float) -> int:
    return round(seconds / TIME_STEP)
