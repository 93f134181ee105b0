"""What a caller asked for, in the engine's own words, whichever vendor's API it came through. Pure nouns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Callback:
    """Where the result goes. The URL may hold credentials: it is never logged."""

    url: str = field(repr=False)
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class RawFormat:
    """How headerless audio is to be read: FFmpeg decoder name, hertz, channel count."""

    codec: str
    sample_rate: int
    channels: int


MOST_SPEAKERS = 20
"""So many people are told apart on one channel, unless a caller says how many there are."""


@dataclass(frozen=True, slots=True)
class SpeakerBounds:
    """Who speaks is asked for: there are so many people on each channel, at least and at most."""

    least: int = 1
    most: int = MOST_SPEAKERS


@dataclass(frozen=True, slots=True)
class Request:
    """One transcription request.

    `model` is the name the caller used, `recogniser` the one it maps to; `options` holds what only the dialect that
    parsed it needs to render its answer (a JSON object); `warnings` what was accepted but not honoured. `audio_url` is
    set where the audio is still to be fetched; like the callback it may hold credentials. `languages` are candidates
    where the language is to be detected (none: any), with `code_switching` for each window by itself, `hotwords`
    phrases to listen for, `upload_id` audio that the same key sent before, and `keeps_audio` whether the audio stays
    after the job's end, until retention removes it. With `translate` the words are
    English, whatever is spoken; `prompt` is text as if it had been heard before; `speakers` is None where nobody asks
    who speaks.
    """

    id: str
    dialect: str
    model: str
    recogniser: str
    language: str | None = None
    multichannel: bool = False
    raw: RawFormat | None = None
    callback: Callback | None = None
    key_id: str | None = None
    traceparent: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[Mapping[str, str], ...] = ()
    audio_url: str | None = field(default=None, repr=False)
    languages: tuple[str, ...] = ()
    hotwords: tuple[str, ...] = ()
    upload_id: str | None = None
    keeps_audio: bool = False
    code_switching: bool = False
    translate: bool = False
    prompt: str = ""
    speakers: SpeakerBounds | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """The audio of a request as it was received: sha256 in hex, size in bytes, `created` in epoch seconds.

    Of audio that is still to be fetched only `created` is known: the sum is empty and the size 0.
    """

    sha256: str
    size: int
    created: float


class FailureCode(StrEnum):
    """Why a job has no transcript, as a closed set."""

    AUDIO = "audio"  # cannot be decoded: broken, empty, or of an unknown format
    REMOTE_CONTENT = "remote_content"  # the audio's URL could not be fetched
    TOO_LARGE = "too_large"  # more bytes or more seconds than this engine takes
    TIMEOUT = "timeout"  # recognition took longer than it may
    INTERNAL = "internal"  # our own fault


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a job has no transcript: the vendor-neutral code and a message for the caller, without secrets."""

    code: FailureCode
    message: str
