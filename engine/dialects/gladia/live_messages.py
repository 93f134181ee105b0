"""Gladia's live messages, in and out, and what is known of a session once it is over."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, cast

from engine.dialects.gladia.live_parameters import GladiaLiveOptions
from engine.dialects.gladia.receipts import Receipts
from engine.dialects.gladia.results import GladiaUtterance, job, result, utterance_document
from engine.dialects.live import (
    Answered,
    AudioChunk,
    ClientMessage,
    EndOfStream,
    EndReason,
    Goodbye,
    LiveRequest,
    Message,
)
from engine.dialects.words import substitute
from engine.events import Final, Finished, LiveEvent, Partial, SpeechStarted
from engine.record import JobState, Record, timestamp
from engine.request import Media, Request
from engine.transcript import Channel, Model, Segment, Transcript

Document = dict[str, Any]

# 4400 to 4499 are final for the vendor's clients; after most other codes they connect again and go on.
_GOODBYES = {
    EndReason.DONE: (1000, ""),
    EndReason.LEFT: (1000, ""),
    EndReason.IDLE: (4408, "No audio came within the time allowed."),
    EndReason.TOO_LONG: (4408, "The session has lasted as long as one may. Start another."),
    EndReason.TOO_LARGE: (1009, "The message is too large. Send smaller pieces."),
    EndReason.NONSENSE: (4400, "Too many messages that cannot be understood."),
    EndReason.UNDECODABLE: (4400, "The audio cannot be decoded. Check encoding, bit_depth and sample_rate."),
    EndReason.FAILED: (4499, "The server failed to transcribe."),
    EndReason.CALLBACK_LOST: (4424, "Callback lost: nothing would arrive there any more."),
    EndReason.TOO_LATE: (4429, "The server could not keep up with the speech. What it heard was sent."),
    EndReason.CALLBACK_BEHIND: (4424, "Callback too slow: too many results wait for it."),
    EndReason.STOPPING: (1001, "The server is stopping. Start another session."),
}
_BEHIND = "Recognition is {:.1f} s behind the speech: the server is overloaded. Partial transcripts are left out."
_LIFECYCLE = "receive_lifecycle_events"
_POST = "receive_post_processing_events"
_SPEECH = "receive_speech_events"


class GladiaProtocol:
    """One session's side of the conversation. Caller and callback each get the messages that they asked for."""

    def __init__(self, asked: LiveRequest, model: Model, created: float) -> None:
        """`created` is in epoch seconds."""
        self._request = asked.request
        self._options = cast(GladiaLiveOptions, asked.request.options)
        self._byte_rate = asked.byte_rate or 1.0
        self._model = model
        self._created = created
        self._receipts = Receipts()
        self._recording = False
        self._heard_up_to = 0.0
        self._numbers: dict[int, int] = {}
        self._segments: dict[int, list[Segment]] = {}
        self._languages: dict[int, str] = {}
        self._finished: Finished | None = None

    def reconnected(self) -> None:
        """The caller is back, and sends again what was not acknowledged."""
        self._receipts.reconnected()

    def transcript(self) -> Transcript:
        """All that has become final."""
        ended = self._finished or Finished(self._received, max(self._numbers, default=0) + 1, "")
        channels = tuple(
            Channel(tuple(self._segments.get(number, ())), self._languages.get(number, "en"))
            for number in range(ended.channels)
        )
        return Transcript(self._model, ended.duration, ended.channels, channels)

    @property
    def media(self) -> Media:
        return Media(self._finished.sha256 if self._finished else "", self._receipts.count, self._created)

    def opening(self, now: float) -> Sequence[Message]:
        """The session, for a callback that asked for its lifecycle: its client has made its own by then."""
        return self._called_back({"type": "start_session"}, now)

    def understand(self, data: bytes | str, now: float) -> ClientMessage:
        """Bytes are audio; text is JSON with a type, and may hold audio too."""
        if isinstance(data, bytes):
            return self._audio(data, now)
        message = _decoded(data)
        match message.get("type"):
            case "stop_recording":
                return EndOfStream(self._stopped(now))
            case "audio_chunk":
                chunk = _chunk(message)
                return Answered((), flawed=True) if chunk is None else self._audio(chunk, now)
            case _:
                return Answered((), flawed=True)

    def tell(self, event: LiveEvent, channels: int, now: float) -> Sequence[Message]:  # noqa: ARG002 (every vendor is told)
        """What was heard, for whoever asked for it."""
        match event:
            case SpeechStarted(channel=channel, at=at):
                return self._speech("speech_start", at, channel, now)
            case Partial():
                return self._transcript(event, now)
            case Final():
                return self._final(event, now)
            case Finished():
                self._finished = event
                return self._closing(now)
            case _:
                return ()

    def parting(self, ending: EndReason, detail: str, now: float) -> Sequence[Message]:  # noqa: ARG002 (as above)
        """The end, for the callback; the caller's socket is closed with the reason."""
        return () if ending is EndReason.CALLBACK_LOST else self._called_back({"type": "end_session"}, now)

    def late(self, lag: float, channels: int, now: float) -> Sequence[Message]:  # noqa: ARG002 (as above)
        """A warning, for a caller who wants to hear of errors: clients hand on what they do not know, but on a socket
        only, and not what is called back."""
        if not self._wants("messages", "receive_errors"):
            return ()
        data = {"code": "behind", "message": _BEHIND.format(lag)}
        return (Message(self._dated({"type": "warning", "data": data}, now)),)

    def goodbye(self, ending: EndReason, detail: str) -> Goodbye:
        """A code by which the vendor's clients know whether to come back."""
        code, reason = _GOODBYES[ending]
        return Goodbye(code, f"{reason} {detail}".strip() if ending is EndReason.CALLBACK_LOST else reason)

    @property
    def _received(self) -> float:
        return self._receipts.count / self._byte_rate

    def _audio(self, data: bytes, now: float) -> AudioChunk:
        """A client drops what is acknowledged, so that bytes which come again are acknowledged again."""
        new = self._receipts.take(data)
        start, end = self._receipts.count - len(data), self._receipts.count
        seconds = [round(start / self._byte_rate, 6), round(end / self._byte_rate, 6)]
        opening = self._messages({"type": "start_recording"}, _LIFECYCLE, now) if not self._recording else ()
        self._recording = True
        range_ = {"byte_range": [start, end], "time_range": seconds}
        return AudioChunk(new, (*opening, *self._acknowledged("audio_chunk", range_, now)))

    def _stopped(self, now: float) -> tuple[Message, ...]:
        left = max(0.0, self._received - self._heard_up_to)
        data = {"recording_duration": round(self._received, 6), "recording_left_to_process": round(left, 6)}
        return self._acknowledged("stop_recording", data, now)

    def _acknowledged(self, type_: str, data: Document, now: float) -> tuple[Message, ...]:
        message = {"type": type_, "acknowledged": True, "error": None, "data": data}
        return self._messages(message, "receive_acknowledgments", now)

    def _speech(self, type_: str, at: float, channel: int, now: float) -> tuple[Message, ...]:
        return self._messages({"type": type_, "data": {"time": round(at, 6), "channel": channel}}, _SPEECH, now)

    def _final(self, heard: Final, now: float) -> tuple[Message, ...]:
        self._heard_up_to = max(self._heard_up_to, heard.start + heard.duration)
        told: tuple[Message, ...] = ()
        if heard.words:
            told = self._transcript(heard, now)
            self._segments.setdefault(heard.channel, []).append(Segment(heard.words))
            self._languages.setdefault(heard.channel, heard.language)
            self._numbers[heard.channel] = self._numbers.get(heard.channel, 0) + 1
        if heard.speech_final:
            told = (*told, *self._speech("speech_end", heard.start + heard.duration, heard.channel, now))
        return told

    def _transcript(self, heard: Partial | Final, now: float) -> tuple[Message, ...]:
        channel = substitute(Channel((Segment(heard.words),), heard.language), self._options.get("replace", []))
        if not channel.words:
            return ()
        is_final = isinstance(heard, Final)
        data = {
            "id": f"{heard.channel:02d}-{self._numbers.get(heard.channel, 0):08d}",
            "is_final": is_final,
            "utterance": utterance_document(GladiaUtterance(heard.channel, heard.language, channel.words)),
        }
        wish = "receive_final_transcripts" if is_final else "receive_partial_transcripts"
        return self._messages({"type": "transcript", "data": data}, wish, now, partial=not is_final)

    def _closing(self, now: float) -> tuple[Message, ...]:
        transcript = self.transcript()
        found = result(self._request, self.media, transcript)
        duration = {"recording_duration": round(transcript.duration, 6)}
        return (
            *self._messages({"type": "end_recording", "data": duration}, _LIFECYCLE, now),
            *self._messages({"type": "post_transcript", "data": found["transcription"]}, _POST, now),
            *self._messages({"type": "post_final_transcript", "data": found}, _POST, now),
            *self._messages({"type": "end_session"}, _LIFECYCLE, now),
        )

    def _messages(self, message: Document, wish: str, now: float, *, partial: bool = False) -> tuple[Message, ...]:
        """The message for whoever wants it."""
        document = self._dated(message, now)
        to_caller = document if self._wants("messages", wish) else None
        to_callback = self._wrapped(document) if self._wants("callback_messages", wish) else None
        return (Message(to_caller, to_callback, partial),) if to_caller or to_callback else ()

    def _called_back(self, message: Document, now: float) -> tuple[Message, ...]:
        """A step of the session's life, for the callback alone."""
        if not self._wants("callback_messages", _LIFECYCLE):
            return ()
        return (Message(to_callback=self._wrapped(self._dated(message, now))),)

    def _wants(self, who: str, wish: str) -> bool:
        return bool(cast(Document, self._options).get(who, {}).get(wish, False))

    def _dated(self, message: Document, now: float) -> Document:
        return {"session_id": self._request.id, "created_at": timestamp(now), **message}

    def _wrapped(self, document: Document) -> Document:
        return {"id": self._request.id, "event": f"live.{document['type']}", "payload": document}


def live_job(record: Record) -> Document:
    """A session that is over as `GET` and the list show it. There is a file where its audio was kept."""
    known = job(record)
    file = {**known["file"], "filename": live_filename(record.request)} if record.request.keeps_audio else None
    return known | {"kind": "live", "file": file, "request_params": _params(record.request)}


def live_filename(request: Request) -> str:
    """What the audio of a session is called."""
    return f"{request.id}.wav"


def running_job(request: Request, created_at: float, *, has_begun: bool) -> Document:
    """A session that is not over as `GET` shows it."""
    status = "processing" if has_begun else "queued"
    empty = {"completed_at": None, "error_code": None, "result": None}
    known = live_job(Record(request, Media("", 0, created_at), JobState.QUEUED, created_at))
    return known | empty | {"status": status, "file": None}


def live_started(request: Request, created_at: float, url: str) -> Document:
    """The answer to a session that may begin: where to send its audio."""
    return {"id": request.id, "created_at": timestamp(created_at), "url": url}


def _params(request: Request) -> Document:
    """What was asked for, the vendor's defaults included."""
    options = cast(GladiaLiveOptions, request.options)
    params = dict(options.get("params", {}))
    if request.callback:
        params["callback_config"] = {"url": request.callback.url, **options.get("callback_messages", {})}
    return params


def _decoded(data: str) -> Document:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _chunk(message: Document) -> bytes | None:
    data = message.get("data")
    try:
        return base64.b64decode(data["chunk"], validate=True) if isinstance(data, dict) else None
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None
