"""A Transcript, or a failure, to what OpenAI's SDKs read, and to the document that a callback gets."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from math import fsum
from typing import Any, cast

import orjson

from engine.dialects.openai.errors import failure_error, render_error
from engine.dialects.openai.languages import language_name
from engine.dialects.openai.parameters import DIARIZED, OpenAiOptions
from engine.dialects.subtitles import srt, vtt
from engine.dialects.warnings import warnings
from engine.dialects.words import prose, written
from engine.request import Failed, Media, Request
from engine.transcript import Channel, Segment, Transcript, Word

Document = dict[str, Any]

_SUBTITLES: Mapping[str, Callable[[Sequence[Channel]], str]] = {"srt": srt, "vtt": vtt}
_PUNCTUATION = '.,;:!?"()[]…。，！？、'  # noqa: RUF001 (as it is written)


def render(request: Request, media: Media, transcript: Transcript) -> Document:  # noqa: ARG001 (every dialect is asked)
    """The body of a callback: what the answer would have been, under the request's id. Subtitles stand beside the text,
    under the name of their format."""
    known = {**_identity(request), "status": "completed"}
    return known | answer(request, transcript) | _subtitles(request, transcript)


def render_failure(request: Request, failed: Failed) -> Document:
    """The body of a failure's callback."""
    return {**_identity(request), "status": "failed", **render_error(failure_error(failed))}


def acknowledge(request: Request) -> Document:
    """The immediate answer to a request with a callback."""
    return {**_identity(request), "status": "queued"}


def callback_headers(request: Request) -> dict[str, str]:  # noqa: ARG001 (as `render`)
    """None: OpenAI signs its webhooks with the headers that every callback has."""
    return {}


def answer(request: Request, transcript: Transcript) -> Document:
    """The JSON answer, `json`, `verbose_json` or `diarized_json`."""
    document: Document = {"text": _text(transcript)}
    match _options(request).get("format"):
        case "verbose_json":
            document |= _verbose(request, transcript)
        case "diarized_json":
            document |= {"task": "transcribe", "duration": round(transcript.duration, 6)}
            document["segments"] = _diarized_segments(transcript)
    document["usage"] = {"type": "duration", "seconds": math.ceil(transcript.duration)}
    if found := warnings(request, transcript):
        document["warnings"] = found
    return document


def plain_answer(request: Request, transcript: Transcript) -> str | None:
    """The answer where it is text, subtitles included; None where it is JSON."""
    form = _options(request).get("format", "json")
    if form == "text":
        return _text(transcript) + "\n"
    return _SUBTITLES[form](transcript.channels) if form in _SUBTITLES else None


def delta(words: Sequence[Word], *, first: bool) -> bytes:
    """The event of words that were just heard, of which there is one at least."""
    return event({"type": "transcript.text.delta", "delta": _joining(words, first=first)})


def events(request: Request, transcript: Transcript, told: int = 0) -> bytes:
    """The answer as server-sent events: one for each segment beyond the first `told` words, then, where that was asked,
    who says each segment, which is known once all was heard; then the whole."""
    spoken = [segment.words for channel in transcript.channels for segment in channel.segments]
    ends = list(accumulate(map(len, spoken)))
    left = [words[max(0, len(words) - (end - told)) :] for words, end in zip(spoken, ends, strict=True) if end > told]
    parts = [delta(words, first=told == 0 and number == 0) for number, words in enumerate(left)]
    if _options(request).get("format") == DIARIZED:
        parts += map(event, _diarized_segments(transcript))
    done: Document = {"type": "transcript.text.done", "text": _text(transcript)}
    if found := warnings(request, transcript):
        done["warnings"] = found
    return b"".join([*parts, event(done)])


def event(document: Document | bytes) -> bytes:
    """One document, perhaps encoded already, as a server-sent event."""
    return b"data: " + (document if isinstance(document, bytes) else orjson.dumps(document)) + b"\n\n"


def _options(request: Request) -> OpenAiOptions:
    return cast(OpenAiOptions, request.options)


def _identity(request: Request) -> Document:
    return {"id": request.id, "object": "audio.translation" if request.translate else "audio.transcription"}


def _subtitles(request: Request, transcript: Transcript) -> Document:
    form = _options(request).get("format", "json")
    return {form: _SUBTITLES[form](transcript.channels)} if form in _SUBTITLES else {}


def _verbose(request: Request, transcript: Transcript) -> Document:
    channel = transcript.channels[0]
    granularities = _options(request).get("granularities", ["segment"])
    document: Document = {
        "task": "translate" if request.translate else "transcribe",
        "language": "english" if request.translate else language_name(channel.language or request.language),
        "duration": round(transcript.duration, 6),
    }
    if "segment" in granularities:
        document["segments"] = [_segment(number, segment) for number, segment in enumerate(channel.segments)]
    if "word" in granularities:
        document["words"] = [_word(word) for word in channel.words]
    return document


def _diarized_segments(transcript: Transcript) -> list[Document]:
    """What each speaker says between two pauses; each is an event of its own in a stream."""
    return [
        {
            "type": "transcript.text.segment",
            "id": f"seg_{number}",
            "start": round(segment.words[0].start, 6),
            "end": round(segment.words[-1].end, 6),
            "speaker": chr(ord("A") + (segment.words[0].speaker or 0)),  # there are no more than twenty
            "text": prose(segment.words, punctuate=True),
        }
        for number, segment in enumerate(transcript.channels[0].segments)
    ]


def _segment(number: int, segment: Segment) -> Document:
    """What Whisper tells of a segment, as far as it is known here: no tokens, and its probability by its words."""
    text = f" {prose(segment.words, punctuate=True)}"
    logs = [math.log(max(word.confidence, 1e-6)) for word in segment.words]
    return {
        "id": number,
        "seek": 0,
        "start": round(segment.words[0].start, 6),
        "end": round(segment.words[-1].end, 6),
        "text": text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(fsum(logs) / len(logs), 6),
        "compression_ratio": round(len(text.encode()) / len(zlib.compress(text.encode())), 6),
        "no_speech_prob": 0.0,
    }


def _word(word: Word) -> Document:
    """Without the punctuation around it, which the text has."""
    bare = written(word, punctuate=True).strip(_PUNCTUATION)
    return {"word": bare or word.text, "start": round(word.start, 6), "end": round(word.end, 6)}


def _text(transcript: Transcript) -> str:
    return " ".join(filter(None, (prose(channel.words, punctuate=True) for channel in transcript.channels)))


def _joining(words: Sequence[Word], *, first: bool) -> str:
    """Words as the text goes on with them."""
    space = " " if words[0].spaced and not first else ""
    return space + prose(words, punctuate=True)
