"""Passes of the model over live speech: what one is, which of those that wait is next, and what they cost. Pure.

Times called `since` and `due_at` are of the machine's monotonic clock, in seconds: every process reads the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.audio.pcm import SAMPLE_BYTES, SAMPLE_RATE
from engine.transcript import Word

if TYPE_CHECKING:  # workers alone have arrays of numbers
    from engine.recognisers.speakers.voices import HeardVoices

PROMISED_SECONDS = 1.0
"""An interim result so often is promised to everybody who speaks."""

_MEMORY = 0.98
"""How much of what was known of the costs stays when another pass is known: the last fifty count."""

_TYPICAL_SECONDS = 4.0
"""Of a stretch between two pauses."""


@dataclass(frozen=True, slots=True)
class Pass:
    """A stretch of one channel to transcribe: s16le PCM at 16 kHz, `start` in seconds from the start of the channel.

    `final` where the stretch is over, and is worth more care. `language` is Whisper's code; None where it is not known.
    """

    start: float
    pcm: bytes
    final: bool
    language: str | None = None

    @property
    def seconds(self) -> float:
        return len(self.pcm) / SAMPLE_BYTES / SAMPLE_RATE

    @property
    def end(self) -> float:
        return self.start + self.seconds


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What the model makes of a stretch. Times are seconds from the start of the channel, `language` Whisper's code;
    `voices` is None where who speaks is not asked for."""

    words: tuple[Word, ...]
    language: str
    voices: HeardVoices | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A channel that a pass is wanted for: its last one, due since the audio that completed it came; or an interim one,
    by when this channel had its last."""

    session: int
    channel: int
    final: bool
    since: float


def next_pass(waiting: Iterable[Waiting]) -> Waiting | None:
    """Which is next: what is final before what is not, and of each kind what waits the longest.

    So whoever is late gets no interim results before nobody waits for a final one, and who speaks without a pause has
    a turn like everybody else.
    """
    return min(waiting, key=lambda one: (not one.final, one.since), default=None)


@dataclass(frozen=True, slots=True)
class PassRecord:
    """A pass that was made, the same for all who count: `audio` seconds were transcribed in `took` seconds, and the
    last of them had come at `due_at`. `missed` interim passes were promised since the one before it, and not made;
    with `speakers` it was also found out who speaks."""

    final: bool
    audio: float
    took: float
    due_at: float
    missed: int = 0
    speakers: bool = False


@dataclass(frozen=True, slots=True)
class Costs:
    """What steady speech costs, in seconds of one pass at a time: of final passes per second of speech, and of one
    interim pass; `speakers` is what a final pass takes besides, per second of speech, to tell who speaks."""

    final: float
    interim: float
    speakers: float = 0.0

    def of(self, channels: int, *, interim: bool, speakers: bool = False) -> float:
        """What one session takes of a second while all its channels speak."""
        promised = self.interim / PROMISED_SECONDS if interim else 0.0
        return channels * (self.final + promised + (self.speakers if speakers else 0.0))

    def learn(self, record: PassRecord) -> Costs:
        """With another pass known: the average moves, by the audio that the pass was about."""
        if not record.final:
            return replace(self, interim=_MEMORY * self.interim + (1 - _MEMORY) * record.took)
        weight = min(1.0, (1 - _MEMORY) * record.audio / _TYPICAL_SECONDS)
        took = record.took / record.audio - (self.speakers if record.speakers else 0.0)
        return replace(self, final=(1 - weight) * self.final + weight * max(0.0, took))
