"""What a recogniser is given, and what it is asked: plain values, for every worker process."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.request import SpeakerBounds
from engine.transcript import Word

_MODELS = uuid.UUID("5f0c3f0a-8a6e-5d53-9c55-6d1f4b6f3c8e")


class DecodedAudio(Protocol):
    """Decoded audio, one pass. Each block is a tuple with one channel's s16le PCM per item, all of the same length.

    `duration` is in seconds, and whole only after the last block.
    """

    @property
    def sample_rate(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def source_channels(self) -> int: ...
    @property
    def duration(self) -> float: ...
    def __iter__(self) -> Iterator[tuple[bytes, ...]]: ...


@dataclass(frozen=True, slots=True)
class RecognitionOptions:
    """What a caller may ask of any recogniser; one that cannot do a thing leaves it be, and says so in its Channel.

    `languages` are candidates where `language` is None (none: any), and with `code_switching` each window's language is
    found out by itself. With `translate` the words are English; `prompt` is text as if it had been heard before. With
    `as_it_comes` the words of one channel are wanted before its end, for which it is heard in shorter stretches.
    `speakers` is set where each word is to tell who says it.
    """

    language: str | None = None
    hotwords: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    code_switching: bool = False
    translate: bool = False
    prompt: str = ""
    as_it_comes: bool = False
    speakers: SpeakerBounds | None = None


Progress = Callable[[float, Sequence[Word]], None]
"""Who wants to know how far a recogniser has come, in seconds of audio; told now and then, never less than before. With
it come the words that stand since the last time, in their order, where they are wanted as they come."""


@dataclass(frozen=True, slots=True)
class Spec:
    """Which Whisper model to load and how, as plain values that can travel to another process.

    `memory` is what it is expected to take, in bytes; `model` is its directory, `name` what it is called; `device` is
    cpu, cuda or auto, `compute_type` one of CTranslate2's or auto; `threads` counts processor threads (0: the
    library's choice), `batch_size` windows of up to 20 s decoded at once. `voices` is the file of the voice encoder;
    empty where there is none.
    """

    memory: int = 0
    model: str = ""
    name: str = ""
    device: str = "auto"
    compute_type: str = "auto"
    threads: int = 0
    batch_size: int = 8
    beam_size: int = 5
    prompt: str = ""
    voices: str = ""


def model_id(name: str, version: str) -> str:
    """The id of a model: the same on every machine and after every restart."""
    return str(uuid.uuid5(_MODELS, f"{name}/{version}"))
