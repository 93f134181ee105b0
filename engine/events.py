"""What is asked of a recogniser of live speech, and what it says meanwhile. Pure nouns.

Times are seconds of audio since the session's first sample. Channels count from 0, and each has a story of its own:
`Partial`s that may change, then a `Final` that stands, and so on; the Finals of a channel do not overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.request import FailureCode, RawFormat
from engine.transcript import Word


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How to transcribe. What a recogniser cannot do it leaves be.

    `raw` is None for audio in a container. Without `multichannel` the channels are mixed to one; without `interim`
    there are no Partials. `endpointing` is the silence that ends an utterance (None: a Final never says speech_final),
    `utterance_end` the silence after the last word that is worth UtteranceEnded (None: never), both in seconds.
    `vad_events` asks for SpeechStarted. `languages` are candidates where `language` is None (none: any). With
    `speakers` each word of a Final tells who says it, which those of a Partial never do.
    """

    language: str | None = None
    languages: tuple[str, ...] = ()
    hotwords: tuple[str, ...] = ()
    multichannel: bool = False
    raw: RawFormat | None = None
    interim: bool = False
    endpointing: float | None = None
    utterance_end: float | None = None
    vad_events: bool = False
    speakers: bool = False


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    channel: int
    at: float


@dataclass(frozen=True, slots=True)
class Partial:
    """What seems to be said since the channel's last Final."""

    channel: int
    start: float
    duration: float
    words: tuple[Word, ...]
    language: str = "en"


@dataclass(frozen=True, slots=True)
class Final:
    """What was said: it will not change. `speech_final` where a silence ended it; `from_finalize` where the caller did,
    and then it comes even without words."""

    channel: int
    start: float
    duration: float
    words: tuple[Word, ...]
    speech_final: bool = False
    from_finalize: bool = False
    language: str = "en"


@dataclass(frozen=True, slots=True)
class UtteranceEnded:
    """No word for a while since the last one, which is in a Final."""

    channel: int
    last_word_end: float


@dataclass(frozen=True, slots=True)
class Finished:
    """All of the audio was transcribed: the last thing that is said. `duration` in seconds, `sha256` of the bytes that
    came, in hex."""

    duration: float
    channels: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Broken:
    """It ends here, for a reason that the caller may read: the last thing that is said."""

    code: FailureCode
    message: str


LiveEvent = SpeechStarted | Partial | Final | UtteranceEnded | Finished | Broken
