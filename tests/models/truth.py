"""What is said in the clips of `clips/`, and when."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.models import CLIPS
from tests.models.speech import Said


@dataclass(frozen=True, slots=True)
class Truth:
    """One channel of a clip."""

    language: str
    phrases: tuple[tuple[Said, ...], ...]

    @property
    def words(self) -> tuple[Said, ...]:
        return tuple(word for phrase in self.phrases for word in phrase)

    @property
    def text(self) -> str:
        """As the model writes it: a phrase is a sentence."""
        return " ".join(" ".join(word.text for word in phrase).capitalize() + "." for phrase in self.phrases)


def clip(name: str) -> Path:
    return CLIPS / f"{name}.flac"


def truth(name: str) -> list[Truth]:
    """What is said on each channel of the clip of this name."""
    channels = json.loads((CLIPS / "truth.json").read_text())[name]
    return [
        Truth(channel["language"], tuple(tuple(Said(*word) for word in phrase) for phrase in channel["phrases"]))
        for channel in channels
    ]
