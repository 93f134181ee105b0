"""What is said on the socket of a live session, whichever vendor's client is at the other end. Pure nouns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from engine.events import LiveOptions
from engine.request import Request


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """A session as it was asked for: the request, and how to listen. `byte_rate` is how many bytes are a second of
    its audio, None where the bytes do not tell."""

    request: Request
    options: LiveOptions
    byte_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One JSON document for the caller, for the callback, or for both; None for whom it does not concern. `partial`
    where it may be revised by a later one."""

    to_caller: Mapping[str, Any] | None = None
    to_callback: Mapping[str, Any] | None = None
    partial: bool = False


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """Bytes for the recogniser, and what is to be answered once they were taken in."""

    data: bytes
    answers: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """The caller is there, and has nothing to say."""


@dataclass(frozen=True, slots=True)
class FinalizeRequest:
    """Make final what was heard so far, on one channel or on all."""

    channel: int | None = None


@dataclass(frozen=True, slots=True)
class EndOfStream:
    answers: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """Nothing for the recogniser. `flawed` where nobody could have understood it."""

    answers: tuple[Message, ...] = ()
    flawed: bool = False


ClientMessage = AudioChunk | KeepAlive | FinalizeRequest | EndOfStream | Answered


class EndReason(StrEnum):
    """Why a session ended, as a closed set."""

    DONE = "done"  # the caller said that it was all
    LEFT = "left"  # the caller's connection ended before that
    IDLE = "idle"  # neither audio nor a sign of life
    TOO_LONG = "too_long"
    TOO_LARGE = "too_large"  # a message beyond the bound
    NONSENSE = "nonsense"  # too many messages that nobody understands
    UNDECODABLE = "undecodable"  # not audio, or of an unknown format
    FAILED = "failed"  # our own fault
    CALLBACK_LOST = "callback_lost"  # its stream was killed: nothing would arrive any more
    TOO_LATE = "too_late"  # the recogniser fell too far behind
    CALLBACK_BEHIND = "callback_behind"  # more waits for the receiver than may
    STOPPING = "stopping"  # this server stops


@dataclass(frozen=True, slots=True)
class Goodbye:
    """How the caller's socket is closed. The reason holds no secret, and no more than 123 bytes."""

    code: int
    reason: str
