"""What the pool and its workers say to each other: one JSON frame per task, one per answer. Pure.

A frame on the wire is its length, four bytes big endian, then that many bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from engine.audio.decode import MAX_SECONDS, AudioInfo
from engine.recognisers.base import RecognitionOptions, Spec
from engine.request import RawFormat, SpeakerBounds
from engine.transcript import Channel, Gap, GapReason, Model, Segment, Transcript, Word

HEAD_BYTES = 4


@dataclass(frozen=True, slots=True)
class TranscribeTask:
    """A task: transcribe the file at `path`, `split` into its channels, with the recogniser of `spec`.

    With `progress`, the answer is preceded by ProgressReport.
    """

    path: str
    raw: RawFormat | None
    split: bool
    spec: Spec
    options: RecognitionOptions = field(default_factory=RecognitionOptions)
    max_seconds: float = MAX_SECONDS
    progress: bool = False


@dataclass(frozen=True, slots=True)
class LoadTask:
    """A task: have the recogniser of `spec` ready."""

    spec: Spec


@dataclass(frozen=True, slots=True)
class ProbeTask:
    """A task: say what the file at `path` is."""

    path: str
    raw: RawFormat | None
    max_seconds: float = MAX_SECONDS


@dataclass(frozen=True, slots=True)
class Unusable:
    """An answer: the audio cannot be used, for a reason that the caller may read."""

    message: str


@dataclass(frozen=True, slots=True)
class Unloadable:
    """An answer: the recogniser could not be loaded."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An answer: the recogniser is ready."""


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """On the way to an answer: how many seconds of the audio are done, and the words that came since the last one."""

    seconds: float
    words: Sequence[Word] = ()


Task = TranscribeTask | LoadTask | ProbeTask
Answer = Transcript | AudioInfo | Loaded | Unusable | Unloadable


def pack_task(task: Task) -> bytes:
    return _framed(task)


def unpack_task(body: bytes) -> Task:
    kind, fields = _named(body)
    if kind == LoadTask.__name__:
        return LoadTask(Spec(**fields["spec"]))
    fields["raw"] = RawFormat(**fields["raw"]) if fields["raw"] else None
    if kind == ProbeTask.__name__:
        return ProbeTask(**fields)
    return TranscribeTask(**fields | {"spec": Spec(**fields["spec"]), "options": _options(**fields["options"])})


def pack_answer(answer: Answer | ProgressReport) -> bytes:
    return _framed(answer)


def unpack_answer(body: bytes) -> Answer | ProgressReport:
    kind, fields = _named(body)
    match kind:
        case ProgressReport.__name__:
            return ProgressReport(fields["seconds"], tuple(Word(**word) for word in fields["words"]))
        case Loaded.__name__:
            return Loaded()
        case Unloadable.__name__:
            return Unloadable()
        case Unusable.__name__:
            return Unusable(**fields)
        case AudioInfo.__name__:
            return AudioInfo(**fields)
        case _:
            return _transcript(**fields)


def body_bytes(head: bytes) -> int:
    return int.from_bytes(head, "big")


def _framed(value: Task | Answer | ProgressReport) -> bytes:
    """The value under the name of its class."""
    body = orjson.dumps({type(value).__name__: value})
    return len(body).to_bytes(HEAD_BYTES, "big") + body


def _named(body: bytes) -> tuple[str, dict[str, Any]]:
    ((kind, fields),) = orjson.loads(body).items()
    return kind, fields


def _options(
    language: str | None, hotwords: list[str], languages: list[str], speakers: dict[str, int] | None, **others: Any
) -> RecognitionOptions:
    bounds = SpeakerBounds(**speakers) if speakers else None
    return RecognitionOptions(language, tuple(hotwords), tuple(languages), speakers=bounds, **others)


def _transcript(model: dict[str, str], channels: list[Any], gaps: list[Any], **fields: Any) -> Transcript:
    """By hand and not by a validator: hours of words are read in small steps, between which the event loop can run."""
    said = tuple(_channel(**channel) for channel in channels)
    missed = tuple(Gap(**gap | {"reason": GapReason(gap["reason"])}) for gap in gaps)
    return Transcript(Model(**model), channels=said, gaps=missed, **fields)


def _channel(segments: list[Any], language: str | None, language_confidence: float | None) -> Channel:
    found = (Segment(tuple(Word(**word) for word in segment["words"])) for segment in segments)
    return Channel(tuple(found), language, language_confidence)
