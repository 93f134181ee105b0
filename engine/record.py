"""One accepted job as it stands now, for whoever asks for it later. Pure nouns; times are epoch seconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import TypeAdapter

from engine.request import Failed, Media, Request
from engine.transcript import Transcript


class State(StrEnum):
    """Where a job is on its way, as a closed set."""

    QUEUED = "queued"
    PROCESSING = "processing"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivered:
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
    state: State
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    duration: float | None = None
    result: Transcript | Failed | None = None
    delivery: Delivered | None = None


def timestamp(seconds: float) -> str:
    """Epoch seconds as answers and callbacks write a moment: RFC 3339, UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_REQUEST = TypeAdapter(Request)
_MEDIA = TypeAdapter(Media)
_FAILED = TypeAdapter(Failed)
_TRANSCRIPT = TypeAdapter(Transcript)


def request_to_json(request: Request) -> str:
    """A request as its job row keeps it. Holds the callback's credentials."""
    return _REQUEST.dump_json(request).decode()


def request_from_json(text: str) -> Request:
    """The request that `request_to_json` wrote; ValueError for anything else."""
    return _REQUEST.validate_json(text)


def media_to_json(media: Media) -> str:
    """What is known of the audio, as its job row keeps it."""
    return _MEDIA.dump_json(media).decode()


def media_from_json(text: str) -> Media:
    """The media that `media_to_json` wrote; ValueError for anything else."""
    return _MEDIA.validate_json(text)


def result_to_json(result: Transcript | Failed) -> str:
    """What came of a job, as it is kept."""
    if isinstance(result, Failed):
        return _FAILED.dump_json(result).decode()
    return _TRANSCRIPT.dump_json(result).decode()


def result_from_json(text: str, state: State) -> Transcript | Failed:
    """The result that `result_to_json` wrote of a job that is done or failed; ValueError for anything else."""
    return _FAILED.validate_json(text) if state is State.FAILED else _TRANSCRIPT.validate_json(text)
