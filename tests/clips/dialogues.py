"""Conversations put together out of clips, of which it is known who speaks when."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tests.clips import RATE, Clip, clip, clips
from tests.clips.sounds import Samples, pcm, samples, wav, with_noise

TURN = (2.0, 5.0)
"""Seconds that somebody speaks."""

PAUSE = (0.2, 0.9)
"""Seconds from one turn to the next."""

LOUDNESS, SPREAD = 0.07, 4.0
"""Root mean square of a voice, and by how many decibels voices differ from that."""


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """Somebody, by number, speaks from `start` to `end`, in seconds."""

    start: float
    end: float
    speaker: int


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Sound, 16 kHz mono s16le, and who speaks in it."""

    pcm: bytes
    turns: tuple[SpokenTurn, ...]

    @property
    def seconds(self) -> float:
        return len(self.pcm) / (2 * RATE)

    def wav(self) -> bytes:
        """As a file."""
        return wav(self.pcm)


def conversation(voices: Sequence[str], turns: int, seed: int, decibels: float | None = 20.0) -> Dialogue:
    """Those who speak in these clips take turns, in an order by chance in which everybody comes; over pink noise, so
    many decibels below the speech."""
    dice = random.Random(seed)
    order = dice.sample(range(len(voices)), len(voices))
    while len(order) < turns:
        order.append(dice.choice([one for one in range(len(voices)) if one != order[-1]] or [0]))
    said = [_loud(_turns(voice, dice), LOUDNESS * 10 ** (dice.uniform(-SPREAD, SPREAD) / 20)) for voice in voices]
    counts = [0] * len(voices)
    spoken = []
    for one in order[:turns]:
        spoken.append((one, said[one][counts[one] % len(said[one])]))
        counts[one] += 1
    return _joined(spoken, dice, decibels, seed)


def dialogue(*turns: tuple[str, int]) -> Dialogue:
    """Those turns of clips, by the number of each; who speaks is counted by the clip."""
    names = list(dict.fromkeys(name for name, _ in turns))
    spoken = [(names.index(name), _loud(_turns(name, random.Random(name)), LOUDNESS)[number]) for name, number in turns]
    return _joined(spoken, random.Random(0), None, 0)


def _joined(spoken: Sequence[tuple[int, Samples]], dice: random.Random, decibels: float | None, seed: int) -> Dialogue:
    parts, turns, at = [np.zeros(RATE // 2)], [], RATE // 2
    for speaker, sound in spoken:
        pause = int(dice.uniform(*PAUSE) * RATE)
        turns.append(SpokenTurn(at / RATE, (at + len(sound)) / RATE, speaker))
        parts += [sound, np.zeros(pause)]
        at += len(sound) + pause
    whole = np.concatenate(parts)
    if decibels is not None:
        whole = with_noise(whole, np.concatenate([sound for _, sound in spoken]), decibels, seed)
    return Dialogue(pcm(whole), tuple(turns))


def _turns(voice: str, dice: random.Random) -> list[Samples]:
    """What a voice says, cut at quiet moments into turns. `real/austen` is all of the clips whose names begin so."""
    found = [one for one in clips("real") if one.name.startswith(voice)] if voice.startswith("real/") else [clip(voice)]
    return [turn for one in found for turn in _cut(one, dice)]


def _cut(clip: Clip, dice: random.Random) -> Iterator[Samples]:
    shortest, longest = (int(seconds * RATE) for seconds in TURN)
    sound = samples(clip.pcm())
    for line in clip.lines:
        rest = sound[int(line.start * RATE) : int(line.end * RATE)]
        while len(rest) > longest:
            end = _quiet(rest, dice.randint(shortest, longest - RATE // 2))
            yield rest[:end]
            rest = rest[end:]
        if len(rest) >= shortest:
            yield rest


def _quiet(sound: Samples, near: int) -> int:
    """Where to cut: the softest twentieth of a second within a quarter of one after a sample."""
    moment = RATE // 20
    starts = range(near, near + RATE // 4, moment // 2)
    return min(starts, key=lambda start: float(np.mean(sound[start : start + moment] ** 2))) + moment // 2


def _loud(turns: Sequence[Samples], loudness: float) -> list[Samples]:
    return [turn * loudness / float(np.sqrt(np.mean(turn**2))) for turn in turns]
