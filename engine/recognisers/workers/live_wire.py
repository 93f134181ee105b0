"""What the engine and a worker of live sessions say to each other, many sessions on one pipe. Pure.

A frame is its length, four bytes big endian, the number of its session, four more, a byte that says what it is, and
then that many bytes: audio as it came, or JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Any

import orjson

from engine import events
from engine.events import LiveEvent, LiveOptions
from engine.recognisers.base import Spec
from engine.recognisers.whisper.passes import Costs, PassRecord
from engine.recognisers.workers.wire import Unloadable
from engine.request import FailureCode, RawFormat
from engine.transcript import Model, Word

_HEAD = Struct("!IIc")
HEAD_BYTES = _HEAD.size
_AUDIO, _JSON = b"a", b"j"


@dataclass(frozen=True, slots=True)
class OpenMessage:
    """Begin the session: answered by Opened or Unloadable."""

    spec: Spec
    options: LiveOptions
    max_seconds: float


@dataclass(frozen=True, slots=True)
class AudioMessage:
    """More bytes of it."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FinalizeMessage:
    """What came so far is final, on one channel or all."""

    channel: int | None


@dataclass(frozen=True, slots=True)
class FinishMessage:
    """No more audio comes."""


@dataclass(frozen=True, slots=True)
class CloseMessage:
    """Forget the session; not answered."""


@dataclass(frozen=True, slots=True)
class MeasureMessage:
    """Find out what the recogniser costs here: answered by Measured or Unloadable."""

    spec: Spec


@dataclass(frozen=True, slots=True)
class Measured:
    """An answer: what it costs while nothing else is done."""

    costs: Costs


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer: the recogniser is loaded, and the session begins."""

    model: Model


@dataclass(frozen=True, slots=True)
class LiveProgress:
    """Some work was done: `taken` bytes of audio were taken in and leave room for more, and this is what was told.

    `duration` is seconds decoded so far, on `channels`. `made` is the pass that was made, if it was one. Audio that is
    over and was not transcribed yet has been there since `waiting_since`, a monotonic time; None where there is none.
    """

    taken: int
    duration: float
    channels: int
    events: tuple[LiveEvent, ...]
    made: PassRecord | None = None
    waiting_since: float | None = None


LiveMessage = OpenMessage | MeasureMessage | AudioMessage | FinalizeMessage | FinishMessage | CloseMessage
LiveAnswer = Opened | Measured | Unloadable | LiveProgress

_PLAIN = ("taken", "duration", "channels", "made", "waiting_since")
_EVENTS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        events.SpeechStarted,
        events.Partial,
        events.Final,
        events.UtteranceEnded,
        events.Finished,
        events.Broken,
    )
}


def head(data: bytes) -> tuple[int, int, bytes]:
    """The length of the body, the number of the session, and what the body is."""
    length, session, kind = _HEAD.unpack(data)
    return length, session, kind


def pack_message(session: int, message: LiveMessage) -> bytes:
    if isinstance(message, AudioMessage):
        return _HEAD.pack(len(message.data), session, _AUDIO) + message.data
    return _framed(session, message)


def unpack_message(kind: bytes, body: bytes) -> LiveMessage:
    if kind == _AUDIO:
        return AudioMessage(body)
    ((name, fields),) = orjson.loads(body).items()
    match name:
        case OpenMessage.__name__:
            return OpenMessage(Spec(**fields["spec"]), _options(fields["options"]), fields["max_seconds"])
        case MeasureMessage.__name__:
            return MeasureMessage(Spec(**fields["spec"]))
        case FinalizeMessage.__name__:
            return FinalizeMessage(**fields)
        case FinishMessage.__name__:
            return FinishMessage()
        case _:
            return CloseMessage()


def pack_answer(session: int, answer: LiveAnswer) -> bytes:
    if not isinstance(answer, LiveProgress):
        return _framed(session, answer)
    named = [{type(one).__name__: one} for one in answer.events]
    fields = {name: getattr(answer, name) for name in _PLAIN} | {"events": named}
    body = orjson.dumps({LiveProgress.__name__: fields})
    return _HEAD.pack(len(body), session, _JSON) + body


def unpack_answer(body: bytes) -> LiveAnswer:
    ((name, fields),) = orjson.loads(body).items()
    match name:
        case Opened.__name__:
            return Opened(Model(**fields["model"]))
        case Measured.__name__:
            return Measured(Costs(**fields["costs"]))
        case Unloadable.__name__:
            return Unloadable()
        case _:
            made = PassRecord(**fields["made"]) if fields["made"] else None
            return LiveProgress(**fields | {"events": tuple(map(_event, fields["events"])), "made": made})


def _framed(session: int, value: LiveMessage | LiveAnswer) -> bytes:
    body = orjson.dumps({type(value).__name__: value})
    return _HEAD.pack(len(body), session, _JSON) + body


def _options(fields: dict[str, Any]) -> LiveOptions:
    raw = RawFormat(**fields["raw"]) if fields["raw"] else None
    lists = {name: tuple(fields[name]) for name in ("languages", "hotwords")}
    return LiveOptions(**fields | lists | {"raw": raw})


def _event(named: dict[str, Any]) -> LiveEvent:
    ((name, fields),) = named.items()
    if "words" in fields:
        fields["words"] = tuple(Word(**word) for word in fields["words"])
    if "code" in fields:
        fields["code"] = FailureCode(fields["code"])
    found: LiveEvent = _EVENTS[name](**fields)
    return found
