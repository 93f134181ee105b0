"""One accepted job as it stands now, for whoever asks for it later. Pure nouns; times are epoch seconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from engine.request import Failed, Media, Request
from engine.transcript import Transcript

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


class JobState(StrEnum):
    """Where a job is on its way, as a closed set."""

    QUEUED = "queued"
    PROCESSING = "processing"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CallbackStatus:
    """What became of the callback so far: the outbox's word for its state, attempts made, when the next is due, and
    the last answer's status or the kind of its failure."""

    state: str
    attempts: int
    next_attempt_at: float | None
    last_status: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """A job. `duration` is in seconds, once known; `result` and `delivery` are there once the job has ended, and
    `delivery` only where the request has a callback."""

    request: Request
    media: Media
    state: JobState
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    duration: float | None = None
    result: Transcript | Failed | None = None
    delivery: CallbackStatus | None = None


def timestamp(seconds: float) -> str:
    """Epoch seconds as answers and callbacks write a moment: RFC 3339, UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    from pydantic import TypeAdapter  # who only turns a transcript into a document need not wait for it

    return TypeAdapter(kind)


def request_to_json(request: Request) -> str:
    """A request as its job row keeps it. Holds the callback's credentials."""
    return _adapter(Request).dump_json(request).decode()


def request_from_json(text: str) -> Request:
    """The request that `request_to_json` wrote; ValueError for anything else."""
    request: Request = _adapter(Request).validate_json(text)
    return request


def media_to_json(media: Media) -> str:
    """What is known of the audio, as its job row keeps it."""
    return _adapter(Media).dump_json(media).decode()


def media_from_json(text: str) -> Media:
    """The media that `media_to_json` wrote; ValueError for anything else."""
    media: Media = _adapter(Media).validate_json(text)
    return media


def result_to_json(result: Transcript | Failed) -> str:
    if isinstance(result, Failed):
        return _adapter(Failed).dump_json(result).decode()
    return _adapter(Transcript).dump_json(result).decode()


def result_from_json(text: str, state: JobState) -> Transcript | Failed:
    """The result that `result_to_json` wrote of a job that is done or failed; ValueError for anything else."""
    result: Transcript | Failed = _adapter(Failed if state is JobState.FAILED else Transcript).validate_json(text)
    return result
