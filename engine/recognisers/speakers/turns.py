"""From voices to who says which word. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.transcript import Word

Floats = NDArray[np.float32]

_CHANGE, _CHANGE_AT_PAUSE = 0.45, 0.05
"""What a change of speakers must gain in similarity, added up over windows: in the middle of speech, and at a pause. So
nobody says a syllable in another's sentence."""

_SHARPNESS = 20.0
"""By how much two similarities must differ, inverted, for one speaker to be e times as likely as another."""

_ALIKE = 0.75
"""How similar a window of a voice is to it mostly; below, the confidence falls."""


@dataclass(frozen=True, slots=True)
class VoiceWindow:
    """What one embedding was made of: from the seconds `start` to `end` of the channel, within the piece of speech of
    that number, between two pauses."""

    start: float
    end: float
    speech: int

    def later(self, seconds: float, speech: int) -> VoiceWindow:
        """The window in a longer sound, in which so much comes before."""
        return VoiceWindow(self.start + seconds, self.end + seconds, self.speech + speech)

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


@dataclass(frozen=True, slots=True)
class Turn:
    """A speaker, by number, is heard from `start` to `end`."""

    start: float
    end: float
    speaker: int
    confidence: float


def turns(windows: Sequence[VoiceWindow], similarities: Floats, before: int | None = None) -> list[Turn]:
    """Who speaks in each window, and how sure that is: by how similar it is to each voice (of shape (windows, voices)),
    and by who speaks before and after; `before` spoke before the first. Neighbours share what lies between their
    middles."""
    if not windows:
        return []
    path = _path(windows, similarities, before)
    confidences = _confidences(similarities)
    edges = [windows[0].start, *(_edge(*pair) for pair in pairwise(windows)), windows[-1].end]
    return [
        Turn(max(edges[n], window.start), min(edges[n + 1], window.end), path[n], float(confidences[n, path[n]]))
        for n, window in enumerate(windows)
    ]


def named(words: Iterable[Word], turns: Sequence[Turn]) -> list[Word]:
    """The words of a channel, each with who says it; numbers are given in the order in which people speak. Where nobody
    was heard it is the first."""
    numbers: dict[int, int] = {}
    found = []
    for word, speaker, confidence in spoken(words, turns):
        number = numbers.setdefault(speaker, len(numbers))
        found.append(replace(word, speaker=number, speaker_confidence=round(confidence, 4)))
    return found


def spoken(words: Iterable[Word], turns: Sequence[Turn]) -> Iterator[tuple[Word, int, float]]:
    """Each word with who says it, by the number in the turns, and how sure that is."""
    ends = [turn.end for turn in turns]
    for word in words:
        yield word, *_speaker(word, turns, bisect_left(ends, word.start))


def _speaker(word: Word, turns: Sequence[Turn], first: int) -> tuple[int, float]:
    """Who says most of a word, and how sure that is; of one that lies between turns who is nearer. `first` is the first
    turn that may reach into it."""
    shares: dict[int, list[float]] = {}
    for number in range(first, len(turns)):  # no slice: a copy of the rest for each word
        turn = turns[number]
        if turn.start >= word.end:
            break
        seconds = min(turn.end, word.end) - max(turn.start, word.start)
        share = shares.setdefault(turn.speaker, [0.0, 0.0])
        share[0] += seconds
        share[1] += seconds * turn.confidence
    if shares:
        speaker, (seconds, sure) = max(shares.items(), key=lambda one: one[1][0])
        return speaker, sure / seconds if seconds > 0 else 0.0
    around = turns[max(0, first - 1) : first + 1]
    if not around:
        return 0, 0.0
    nearest = min(around, key=lambda turn: max(turn.start - word.end, word.start - turn.end))
    return nearest.speaker, nearest.confidence


def _path(windows: Sequence[VoiceWindow], similarities: Floats, before: int | None) -> list[int]:
    """The likeliest speaker of each window, changes having their price (Viterbi)."""
    best = similarities[0].astype(np.float64)
    voices = np.arange(len(best))
    if before is not None:
        best[voices != before] -= _CHANGE_AT_PAUSE
    came_from = np.empty(similarities.shape, np.int32)
    for number, (last, window) in enumerate(pairwise(windows), 1):
        price = _CHANGE if window.speech == last.speech else _CHANGE_AT_PAUSE
        other = int(best.argmax())
        changed = best[other] - price > best
        came_from[number] = np.where(changed, other, voices)
        best = np.where(changed, best[other] - price, best) + similarities[number]
    path = [int(best.argmax())]
    for number in range(len(windows) - 1, 0, -1):
        path.append(int(came_from[number, path[-1]]))
    return path[::-1]


def _confidences(similarities: Floats) -> Floats:
    """For each window and voice: how likely among the voices, times how well it fits at all."""
    powers = np.exp(_SHARPNESS * (similarities - similarities.max(axis=1, keepdims=True)))
    likely = powers / powers.sum(axis=1, keepdims=True)
    found: Floats = likely * np.clip(similarities / _ALIKE, 0.0, 1.0)
    return found


def _edge(before: VoiceWindow, window: VoiceWindow) -> float:
    """Where one window hands over to the next: between their middles, or in the pause."""
    if before.speech != window.speech:
        return (before.end + window.start) / 2
    return (before.middle + window.middle) / 2
