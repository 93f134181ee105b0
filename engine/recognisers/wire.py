"""What the pool and its workers say to each other: one JSON frame per task, one per answer. Pure.

A frame on the wire is its length, four bytes big endian, then that many bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter

from engine.audio.decode import MAX_SECONDS, AudioInfo
from engine.recognisers.base import Options, Spec
from engine.request import RawFormat
from engine.transcript import Transcript

HEAD_BYTES = 4


@dataclass(frozen=True, slots=True)
class Hear:
    """A task: transcribe the file at `path`, `split` into its channels, with the recogniser of `spec`."""

    path: str
    raw: RawFormat | None
    split: bool
    spec: Spec
    options: Options = field(default_factory=Options)
    max_seconds: float = MAX_SECONDS
    task: Literal["hear"] = "hear"


@dataclass(frozen=True, slots=True)
class Look:
    """A task: say what the file at `path` is."""

    path: str
    raw: RawFormat | None
    task: Literal["look"] = "look"


@dataclass(frozen=True, slots=True)
class Unusable:
    """An answer: the audio cannot be used, for a reason that the caller may read."""

    message: str


Task = Hear | Look
Answer = Transcript | AudioInfo | Unusable

_tasks: TypeAdapter[Task] = TypeAdapter(Task)
_answers: TypeAdapter[Answer] = TypeAdapter(Answer)


def pack_task(task: Task) -> bytes:
    return framed(_tasks.dump_json(task))


def unpack_task(body: bytes) -> Task:
    return _tasks.validate_json(body)


def pack_answer(answer: Answer) -> bytes:
    return framed(_answers.dump_json(answer))


def unpack_answer(body: bytes) -> Answer:
    return _answers.validate_json(body)


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(HEAD_BYTES, "big") + body


def body_bytes(head: bytes) -> int:
    return int.from_bytes(head, "big")
