"""The voices on one channel: its speech comes in as it is heard, and at the end each word gets its speaker.

What is kept meanwhile, embeddings, tells people apart as a fingerprint does. It is in memory, for as long as the
channel is listened to, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.audio.pcm import SAMPLE_RATE
from engine.recognisers.speakers.clustering import Groups, voices
from engine.recognisers.speakers.encoder import WINDOW_FRAMES, WINDOW_SECONDS, Embeddings, VoiceEncoder, unit
from engine.recognisers.speakers.features import FRAMES_PER_SECOND, Mels, mels
from engine.recognisers.speakers.turns import Turn, VoiceWindow, named, turns
from engine.recognisers.speech.windows import Samples, Span
from engine.request import SpeakerBounds
from engine.transcript import Word

_STEP = 40
"""Frames from one window to the next, at most about: 0.4 s."""

_SHORTEST = 10
"""Frames of speech that tell something of a voice: 0.1 s."""

_PIECE = 3
"""Windows whose mean is clustered: one alone depends too much on what is said."""

_LESS = 3.0
"""The power of its length, in windows, by which speech between two pauses that is shorter than one tells less: half a
window is half as similar to its voice as a whole one, and depends on what is said."""

_LEVEL = 10 ** (-30 / 20)
"""Root mean square of the speech between two pauses, as the encoder is used to it: 30 dB below full scale."""


@dataclass(frozen=True, slots=True, eq=False)
class HeardVoices:
    """What an utterance tells of who says it: an embedding for each window, which counts from the start of the channel;
    and pieces of it, each of unit length, with how much they tell of somebody."""

    windows: Sequence[VoiceWindow]
    embeddings: Embeddings
    pieces: Groups


def heard(encoder: VoiceEncoder, start: float, sound: Samples, speech: Sequence[Span]) -> HeardVoices:
    """Of an utterance that begins at the second `start`; in it, what lies between pauses."""
    found = list(windows_of(sound, speech))
    windows = [one.later(start, 0) for one, _ in found]
    embeddings = encoder.embed([seen for _, seen in found])
    return HeardVoices(windows, embeddings, _pieces(windows, embeddings))


class ChannelVoices:
    """Of one channel of a recording."""

    def __init__(self, encoder: VoiceEncoder) -> None:
        self._encoder = encoder
        self._windows: list[VoiceWindow] = []
        self._embeddings: list[NDArray[np.float16]] = []  # half as large, and as good
        self._groups = Groups.none()
        self._speech = 0

    def hear(self, start: float, sound: Samples, speech: Sequence[Span]) -> None:
        """More of the channel, from the second `start` on; in it, what lies between pauses."""
        more = heard(self._encoder, start, sound, speech)
        self._windows += [one.later(0.0, self._speech) for one in more.windows]
        self._embeddings.append(more.embeddings.astype(np.float16))
        self._groups = self._groups.joined(more.pieces)
        self._speech += len(speech)

    def name(self, words: Iterable[Word], bounds: SpeakerBounds) -> list[Word]:
        """The words with their speakers, once all was heard."""
        return named(words, self.turns(bounds))

    def turns(self, bounds: SpeakerBounds) -> list[Turn]:
        """Who speaks when, by numbers of no meaning."""
        if not self._windows:
            return []
        found = voices(self._groups, bounds)
        similarities = [part.astype(np.float32) @ found.T for part in self._embeddings]
        return turns(self._windows, np.concatenate(similarities))


def windows_of(sound: Samples, speech: Sequence[Span]) -> Iterator[tuple[VoiceWindow, Mels]]:
    """Windows of each piece of speech, evenly spread, and what the encoder sees of them. A piece that is shorter than a
    window is heard again and again until one is full. Times are in seconds from the start of the sound."""
    for number, span in enumerate(speech):
        seen = mels(_levelled(sound[int(span.start * SAMPLE_RATE) : int(span.end * SAMPLE_RATE)]))
        if len(seen) < _SHORTEST:
            continue
        if len(seen) <= WINDOW_FRAMES:
            yield VoiceWindow(span.start, span.end, number), np.resize(seen, (WINDOW_FRAMES, seen.shape[1]))
            continue
        count = 1 + -(-(len(seen) - WINDOW_FRAMES) // _STEP)
        for first in np.linspace(0, len(seen) - WINDOW_FRAMES, count).round().astype(int).tolist():
            start = span.start + first / FRAMES_PER_SECOND
            yield VoiceWindow(start, start + WINDOW_SECONDS, number), seen[first : first + WINDOW_FRAMES]


def _levelled(sound: Samples) -> Samples:
    rms = float(np.sqrt(np.mean(np.square(sound)))) if len(sound) else 0.0
    return sound * np.float32(_LEVEL / max(rms, 1e-6))


def _pieces(windows: Sequence[VoiceWindow], embeddings: Embeddings) -> Groups:
    """The mean of a few windows each, of unit length, by how much it tells."""
    found, counts = [embeddings[:0]], list[float]()
    for first, last in _runs(windows):
        seconds = windows[last].end - windows[first].start
        parts = np.array_split(np.arange(first, last + 1), max(1, round((last + 1 - first) / _PIECE)))
        found += [embeddings[part].mean(axis=0, keepdims=True) for part in parts]
        counts += [min(1.0, seconds / WINDOW_SECONDS) ** _LESS] * len(parts)
    return Groups.of(unit(np.concatenate(found)), np.array(counts, np.float32))


def _runs(windows: Sequence[VoiceWindow]) -> list[tuple[int, int]]:
    """The first and last window of each piece of speech."""
    found: list[tuple[int, int]] = []
    for number, window in enumerate(windows):
        if found and windows[found[-1][0]].speech == window.speech:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found
