"""Deepgram's live messages, in and out. Never a `type` that its clients do not know: they would hand on None."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from engine.dialects.deepgram.recorded_parameters import DeepgramOptions
from engine.dialects.deepgram.results import channel_document, diariser, echo, metadata, model_info
from engine.dialects.deepgram.wording import worded
from engine.dialects.live import (
    Answered,
    AudioChunk,
    ClientMessage,
    EndOfStream,
    EndReason,
    FinalizeRequest,
    Goodbye,
    KeepAlive,
    LiveRequest,
    Message,
)
from engine.events import Final, Finished, LiveEvent, Partial, SpeechStarted, UtteranceEnded
from engine.request import Media, Request
from engine.transcript import Channel, Model, Segment, Transcript

Document = dict[str, Any]

_GOODBYES = {
    EndReason.DONE: (1000, ""),
    EndReason.LEFT: (1000, ""),
    EndReason.IDLE: (1011, "NET-0001 Neither audio nor KeepAlive came within the time allowed."),
    EndReason.TOO_LONG: (1008, "The session has lasted as long as one may. Open another."),
    EndReason.TOO_LARGE: (1009, "The message is too large. Send smaller pieces."),
    EndReason.NONSENSE: (1008, "Too many messages that cannot be understood."),
    EndReason.UNDECODABLE: (1008, "DATA-0000 The payload cannot be decoded as audio. Check encoding and sample_rate."),
    EndReason.FAILED: (1011, "NET-0000 The server failed to transcribe."),
    EndReason.CALLBACK_LOST: (1011, "Callback lost: nothing would arrive there any more."),
    EndReason.TOO_LATE: (1011, "NET-0000 The server could not keep up with the speech. What it heard was sent."),
    EndReason.CALLBACK_BEHIND: (1011, "Callback too slow: too many results wait for it."),
    EndReason.STOPPING: (1001, "The server is stopping. Connect again."),
}
_FEATURES = {
    "punctuate": ("punctuate",),
    "smart_format": ("punctuate", "numerals"),
    "numerals": ("numerals",),
    "profanity_filter": ("profanity_filter",),
    "filler_words": ("filler_words",),
}
_SHOWN = 256
_BEHIND = "Recognition is {:.1f} s behind the speech: the server is overloaded. Interim results are left out."
_NO_KEYTERMS = "The stream's keyterms cannot be replaced on this server. Send them with the query instead."


class DeepgramProtocol:
    """One session's side of the conversation. With a callback, the caller gets the last message only, unless
    `mirror`, and answers to its own messages."""

    def __init__(self, asked: LiveRequest, model: Model, created: float, *, mirror: bool = False) -> None:
        """`created` is in epoch seconds."""
        self._request: Request = asked.request
        self._options = cast(DeepgramOptions, dict(asked.request.options))
        self._model = model
        self._created = created
        self._calls_back = asked.request.callback is not None
        self._mirror = mirror or not self._calls_back
        self._wants_interim = asked.options.interim
        self._told_until = 0.0

    def opening(self, now: float) -> Sequence[Message]:  # noqa: ARG002 (every vendor is asked)
        """Nothing: a client hears of its session by the handshake."""
        return ()

    def understand(self, data: bytes | str, now: float) -> ClientMessage:  # noqa: ARG002 (as above)
        """Bytes are audio, none of them the end; text is JSON with a type."""
        if isinstance(data, bytes):
            return AudioChunk(data) if data else EndOfStream()
        message = _decoded(data)
        match message.get("type"):
            case "KeepAlive":
                return KeepAlive()
            case "CloseStream":
                return EndOfStream()
            case "Finalize":
                return self._finalize(message.get("channel"), data)
            case "Configure":
                return self._configure(message, data)
            case _:
                return _misunderstood(data, "`type` is none of KeepAlive, Finalize, CloseStream, Configure.")

    def tell(self, event: LiveEvent, channels: int, now: float) -> Sequence[Message]:  # noqa: ARG002 (as above)
        """What was heard, for the callback or else for the caller."""
        match event:
            case Partial() | Final():
                if isinstance(event, Final):
                    self._told_until = event.start + event.duration
                return (self._message(self._results(event, channels), partial=isinstance(event, Partial)),)
            case SpeechStarted(channel=channel, at=at):
                return (self._message({"type": "SpeechStarted", "channel": [channel], "timestamp": round(at, 6)}),)
            case UtteranceEnded(channel=channel, last_word_end=end):
                last = {"channel": [channel, channels], "last_word_end": round(end, 6)}
                return (self._message({"type": "UtteranceEnd", **last}),)
            case Finished():
                last = self._metadata(event)
                return (Message(last, last if self._calls_back else None),)
            case _:
                return ()

    def parting(self, ending: EndReason, detail: str, now: float) -> Sequence[Message]:  # noqa: ARG002 (as above)
        """The error that ends it, for caller and callback."""
        if ending is EndReason.CALLBACK_LOST:
            return ()
        document = _error("AudioError" if ending is EndReason.UNDECODABLE else "InternalError", detail)
        return (Message(document, document if self._calls_back else None),)

    def late(self, lag: float, channels: int, now: float) -> Sequence[Message]:  # noqa: ARG002 (as above)
        """An empty result with a warning: of the types that clients know, it is the one that they survive. An Error has
        some of them connect again, and what comes after Metadata is not expected."""
        kind = Partial if self._wants_interim else Final
        document = self._results(kind(0, self._told_until, 0.0, ()), channels)
        document["metadata"]["warnings"] = [{"type": "behind", "message": _BEHIND.format(lag)}]
        return (self._message(document, partial=True),)

    def goodbye(self, ending: EndReason, detail: str) -> Goodbye:
        """By the vendor's codes. Only 1000 keeps its JavaScript client from opening the stream again."""
        code, reason = _GOODBYES[ending]
        return Goodbye(code, f"{reason} {detail}".strip() if ending is EndReason.CALLBACK_LOST else reason)

    def _message(self, document: Document, *, partial: bool = False) -> Message:
        return Message(document if self._mirror else None, document if self._calls_back else None, partial)

    def _results(self, heard: Partial | Final, channels: int) -> Document:
        is_final = isinstance(heard, Final)
        channel = Channel((Segment(heard.words),) if heard.words else (), heard.language)
        return {
            "type": "Results",
            "channel_index": [heard.channel, channels],
            "duration": round(heard.duration, 6),
            "start": round(heard.start, 6),
            "is_final": is_final,
            "speech_final": isinstance(heard, Final) and heard.speech_final,
            "from_finalize": isinstance(heard, Final) and heard.from_finalize,
            "channel": channel_document(channel, worded(channel, self._options), self._options),
            "metadata": {
                "request_id": self._request.id,
                "model_info": model_info(self._model),
                "model_uuid": self._model.id,
                **echo(self._request),
                **diariser(self._request),
            },
        }

    def _metadata(self, finished: Finished) -> Document:
        heard = Transcript(self._model, finished.duration, finished.channels, ())
        known = metadata(self._request, Media(finished.sha256, 0, self._created), heard)
        return {"type": "Metadata", **known}

    def _finalize(self, channel: object, data: str) -> ClientMessage:
        if channel is None:
            return FinalizeRequest()
        if isinstance(channel, list) and channel and all(type(part) is int for part in channel):
            channel = channel[0]  # as the channel's index is written in results
        if type(channel) is not int or not 0 <= channel < 64:
            return _misunderstood(data, "`channel` is not the number of a channel, counted from 0.")
        return FinalizeRequest(channel)

    def _configure(self, message: Document, data: str) -> ClientMessage:
        keyterms, features = message.get("keyterms"), message.get("features") or {}
        known = {"request_id": self._request.id}
        if not isinstance(features, dict) or not all(type(switch) is bool for switch in features.values()):
            return _misunderstood(data, "`features` is not an object of booleans.")
        if unknown := sorted(features.keys() - _FEATURES):
            return _misunderstood(data, f"`features` may hold {', '.join(_FEATURES)}, and not {unknown[0][:64]!r}.")
        if keyterms is not None:
            failure = {"type": "ConfigureFailure", **known, "code": "CONFIGURE_KEYTERMS_NOT_SUPPORTED"}
            return Answered((Message({**failure, "description": _NO_KEYTERMS}),))
        changed = {option: switch for name, switch in features.items() for option in _FEATURES[name]}
        self._options = cast(DeepgramOptions, {**self._options, **changed})
        return Answered((Message({"type": "ConfigureSuccess", **known}),))


def _decoded(data: str) -> Document:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _misunderstood(data: str, why: str) -> Answered:
    """The vendor's error shows the message that it is about, as far as that fits."""
    error = _error("SchemaError", f"Could not deserialize last text message: {why}")
    return Answered((Message({**error, "message": data[:_SHOWN]}),), flawed=True)


def _error(variant: str, description: str) -> Document:
    return {"type": "Error", "variant": variant, "description": description, "message": description}
