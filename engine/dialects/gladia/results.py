"""A Transcript, or a failure, to the documents that Gladia's SDKs and receivers read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID, uuid5

from engine.dialects.gladia.errors import debug_id, status_of
from engine.dialects.gladia.recorded_parameters import UNSUPPORTED, GladiaOptions, Subtitles
from engine.dialects.gladia.uploads import filename_of
from engine.dialects.subtitles import Layout, srt, vtt
from engine.dialects.warnings import warnings
from engine.dialects.words import confidence, paragraphs, prose, substitute, written
from engine.record import JobState, Record, timestamp
from engine.request import Failed, Media, Request
from engine.transcript import Channel, Transcript, Word

Document = dict[str, Any]

_STATES = {JobState.FAILED: "error"}
_EVENTS = {"short": "", "namespaced": "transcription."}
_WRITERS = {"srt": srt, "vtt": vtt}
_SAME_SECONDS = 0.25
_OFF = (
    *("custom_vocabulary", "callback", "subtitles", "diarization", "translation", "summarization"),
    *("named_entity_recognition", "custom_spelling", "sentiment_analysis", "audio_to_llm", "pii_redaction"),
    *("sentences", "punctuation_enhanced"),
)


@dataclass(frozen=True, slots=True)
class GladiaUtterance:
    """One segment of one channel."""

    channel: int
    language: str
    words: tuple[Word, ...]


def render(request: Request, media: Media, transcript: Transcript) -> Document:
    """The event of a success: the body of a callback. The same arguments always make the same document."""
    return _event(request, "success", {"payload": result(request, media, transcript)})


def render_failure(request: Request, failed: Failed) -> Document:
    """The event of a failure. Its code is a word where events have short names, else an HTTP status."""
    options = _options(request)
    code = failed.code.value if _short(options) else status_of(failed)
    return _event(request, "error", {"error": {"code": code, "message": failed.message}})


def callback_headers(request: Request) -> dict[str, str]:  # noqa: ARG001 (every dialect is asked)
    """Gladia sends no header of its own."""
    return {}


def result(request: Request, media: Media, transcript: Transcript) -> Document:  # noqa: ARG001 (as `render`)
    """The result: what `GET` shows of a job that is done, and the payload of its callback."""
    options = _options(request)
    channels = [substitute(channel, options.get("replace", [])) for channel in transcript.channels]
    spoken = [(number, channels[number]) for number in _distinct(channels)]
    transcription = _transcription(spoken, options)
    document: Document = {"metadata": _metadata(request, transcript, len(spoken)), "transcription": transcription}
    if "sentences" in transcription:
        document["sentences"] = transcription["sentences"][0]  # where it stood before, and where old clients look
    return document | {name: _impossible(name) for name in options.get("missing", [])}


def job(record: Record) -> Document:
    """A job as `GET` and the list show it."""
    request, outcome = record.request, record.result
    options = _options(request)
    return {
        "id": request.id,
        "request_id": debug_id(request.id),
        "version": 2,
        "status": _STATES.get(record.state, record.state.value),
        "created_at": timestamp(record.created_at),
        "completed_at": None if record.finished_at is None else timestamp(record.finished_at),
        "kind": "pre-recorded",
        "custom_metadata": options.get("custom_metadata"),
        "error_code": status_of(outcome) if isinstance(outcome, Failed) else None,
        "file": _file(record),
        "request_params": _params(request),
        "result": result(request, record.media, outcome) if isinstance(outcome, Transcript) else None,
        "post_session_metadata": {"error": outcome.message} if isinstance(outcome, Failed) else {},
    }


def started(request: Request, base: str) -> Document:
    """The answer to a request that was accepted. `base` is where callers reach this server."""
    return {"id": request.id, "result_url": f"{base}/v2/pre-recorded/{request.id}"}


def _event(request: Request, name: str, content: Document) -> Document:
    options = _options(request)
    event = {"id": request.id, "event": _EVENTS[options.get("event_names", "short")] + name, **content}
    if not _short(options) and "custom_metadata" in options:
        event["custom_metadata"] = options["custom_metadata"]
    return event


def _options(request: Request) -> GladiaOptions:
    return cast(GladiaOptions, request.options)


def _short(options: GladiaOptions) -> bool:
    return options.get("event_names", "short") == "short"


def _metadata(request: Request, transcript: Transcript, distinct: int) -> Document:
    duration = round(transcript.duration, 6)
    metadata: Document = {
        "audio_duration": duration,
        "number_of_distinct_channels": distinct,
        "billing_time": round(duration * distinct, 6),
        "transcription_time": transcript.took,
    }
    if found := warnings(request, transcript):
        metadata["warnings"] = found
    return metadata


def _distinct(channels: Sequence[Channel]) -> list[int]:
    """The channels that say something of their own. Of those that say the same at the same time the first counts."""
    found: list[int] = []
    for number, channel in enumerate(channels):
        if not any(_same(channels[earlier].words, channel.words) for earlier in found):
            found.append(number)
    return found


def _same(left: Sequence[Word], right: Sequence[Word]) -> bool:
    return len(left) == len(right) and all(
        one.text == other.text and abs(one.start - other.start) < _SAME_SECONDS
        for one, other in zip(left, right, strict=True)
    )


def _transcription(spoken: Sequence[tuple[int, Channel]], options: GladiaOptions) -> Document:
    utterances = _utterances(spoken)
    document: Document = {
        "full_transcript": prose([word for utterance in utterances for word in utterance.words], punctuate=True),
        "languages": _languages(utterances),
        "utterances": [utterance_document(utterance) for utterance in utterances],
    }
    if options.get("sentences"):
        document["sentences"] = [_addon(_sentences([channel for _, channel in spoken]))]
    if wanted := options.get("subtitles"):
        document["subtitles"] = _subtitles([channel for _, channel in spoken], wanted)
    return document


def _utterances(spoken: Sequence[tuple[int, Channel]]) -> list[GladiaUtterance]:
    """Every segment of every channel, in the order of time."""
    found = [
        GladiaUtterance(number, segment.words[0].language or channel.language or "en", segment.words)
        for number, channel in spoken
        for segment in channel.segments
    ]
    return sorted(found, key=lambda utterance: (utterance.words[0].start, utterance.channel))


def _languages(utterances: Sequence[GladiaUtterance]) -> list[str]:
    """The languages heard, from the most words to the fewest."""
    counted: Counter[str] = Counter()
    for utterance in utterances:
        counted[utterance.language] += len(utterance.words)
    return [language for language, _ in counted.most_common()]


def utterance_document(utterance: GladiaUtterance) -> Document:
    """One utterance with its words, of which there is at least one."""
    speaker = utterance.words[0].speaker
    return {
        **_span(utterance.words),
        "confidence": confidence(utterance.words),
        "channel": utterance.channel,
        **({} if speaker is None else {"speaker": speaker}),
        "text": prose(utterance.words, punctuate=True),
        "language": utterance.language,
        "words": [_word(word) for word in utterance.words],
    }


def _word(word: Word) -> Document:
    """With the space before it, as the vendor writes it: words joined are text."""
    return {
        "word": " " * word.spaced + written(word, punctuate=True),
        **_span((word,)),
        "confidence": round(word.confidence, 6),
    }


def _span(words: Sequence[Word]) -> Document:
    return {"start": round(words[0].start, 6), "end": round(words[-1].end, 6)}


def _addon(results: list[str]) -> Document:
    return {"success": True, "is_empty": not results, "exec_time": 0.0, "error": None, "results": results}


def _impossible(name: str) -> Document:
    """The place of an add-on that was asked for in vain."""
    message = f"This server does not {UNSUPPORTED[name]}."
    error = {"status_code": 501, "exception": "NotImplemented", "message": message}
    return {"success": False, "is_empty": True, "exec_time": 0.0, "error": error, "results": None}


def _sentences(channels: Sequence[Channel]) -> list[str]:
    """The sentences of all channels in the order of time."""
    found = [sentence for channel in channels for group in paragraphs(channel.segments) for sentence in group]
    found.sort(key=lambda sentence: sentence.words[0].start)
    return [prose(sentence.words, punctuate=True) for sentence in found]


def _subtitles(channels: Sequence[Channel], wanted: Subtitles) -> list[Document]:
    layout = Layout(wanted["characters"], wanted["rows"], wanted["shortest"], wanted["longest"])
    return [{"format": name, "subtitles": _WRITERS[name](channels, layout)} for name in wanted["formats"]]


def _file(record: Record) -> Document:
    """The audio. `source` is the URL that it was fetched from, and null where it was uploaded."""
    request, outcome = record.request, record.result
    if file := _options(request).get("file"):
        return {**file, "source": None}
    return {
        "id": str(uuid5(UUID(request.id), "file")),
        "filename": filename_of(request.audio_url or ""),
        "source": request.audio_url,
        "audio_duration": record.duration,
        "number_of_channels": outcome.source_channels if isinstance(outcome, Transcript) else None,
    }


def _params(request: Request) -> Document:
    """What was asked for, the vendor's defaults included."""
    options = _options(request)
    params: Document = {"audio_url": options.get("audio_url", request.audio_url), "model": request.model}
    params |= dict.fromkeys(_OFF, False) | options.get("params", {})
    if request.callback:
        params["callback"] = True
        params["callback_config"] = {"url": request.callback.url, "method": request.callback.method}
    return params
