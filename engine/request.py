"""What a caller asked for, in the engine's own words, whichever vendor's API it came through. Pure nouns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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


@dataclass(frozen=True, slots=True)
class Request:
    """One transcription request.

    `model` is the name the caller used, `recogniser` the one it maps to; `options` holds what only the dialect that
    parsed it needs to render its answer (a JSON object); `warnings` what was accepted but not honoured.
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


@dataclass(frozen=True, slots=True)
class Media:
    """The audio of a request as it was received: sha256 in hex, size in bytes, `created` in epoch seconds."""

    sha256: str
    size: int
    created: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a job has no transcript: the vendor-neutral code and a message for the caller, without secrets."""

    code: str
    message: str
