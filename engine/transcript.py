"""What was said in a recording. Pure nouns; times are seconds from the start of the audio, confidences 0.0 to 1.0."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Word:
    """One word, lower case as spoken; `written` is the punctuated, cased form where the recogniser knows one, `spaced`
    whether a space stands before it in running text: not in Chinese. `language` is known of each word by itself where
    the languages of one channel were told apart, and empty elsewhere. `speaker` is who says it, counted from 0 on each
    channel, and None where that was not asked for; `speaker_confidence` is told of recordings alone."""

    text: str
    start: float
    end: float
    confidence: float
    written: str = ""
    spaced: bool = True
    language: str = ""
    speaker: int | None = None
    speaker_confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech between pauses, as the recogniser cut it."""

    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Channel:
    """What was said on one channel of the audio; no segments where it is silent.

    `language` is that of most words, and None where it was not asked for and nothing was said; `language_confidence`
    is None unless the recogniser found the language out.
    """

    segments: tuple[Segment, ...] = ()
    language: str | None = "en"
    language_confidence: float | None = None

    @property
    def words(self) -> tuple[Word, ...]:
        """All words in the order of time."""
        return tuple(word for segment in self.segments for word in segment.words)


class GapReason(StrEnum):
    """Why the words of a part of the audio are missing."""

    UNHEARD = "unheard_speech"  # somebody speaks, and no words came
    REPETITIVE = "repetitive_speech"  # words came that repeat themselves without end, and were left out


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of a channel, by its number, in which somebody seems to speak and that has no words."""

    channel: int
    start: float
    end: float
    reason: GapReason = GapReason.UNHEARD


@dataclass(frozen=True, slots=True)
class Model:
    """The recogniser that produced a transcript. `id` is a stable UUID."""

    id: str
    name: str
    version: str
    arch: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """The result of one job. `source_channels` counts the channels of the audio, `channels` what was transcribed:
    one item for a mixdown, or one per source channel for a multichannel request; `took` is in seconds, like
    `duration`. `flaw` is a sentence for the caller about audio that is missing; empty where none is. `gaps`
    are in order of channel and time."""

    model: Model
    duration: float
    source_channels: int
    channels: tuple[Channel, ...]
    took: float = 0.0
    flaw: str = ""
    gaps: tuple[Gap, ...] = ()
