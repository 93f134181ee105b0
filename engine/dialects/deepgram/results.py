"""A Transcript, or a failure, to the document that Deepgram's SDKs and receivers read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID, uuid5

from engine.dialects.deepgram.errors import failure_reply, render_refusal
from engine.dialects.deepgram.recorded_parameters import UTT_SPLIT, DeepgramOptions
from engine.dialects.deepgram.wording import worded
from engine.dialects.warnings import warnings
from engine.dialects.words import (
    Utterance,
    confidence,
    languages,
    matches,
    name,
    paragraphs,
    prose,
    utterances,
    written,
)
from engine.record import timestamp
from engine.request import Failed, Media, Request
from engine.transcript import Channel, Model, Segment, Transcript, Word

Document = dict[str, Any]

_DIARISER = {"model_uuid": "0f3b7c0e-6a0d-5f3e-9a53-3f0f6b0a7d52", "arch": "ge2e"}
"""What tells speakers apart, as the vendor names it."""


def render(request: Request, media: Media, transcript: Transcript) -> Document:
    """The result document: the answer to a synchronous request, and the body of a success callback.

    The same arguments always make the same document, so that a job that is finished twice says the same thing.
    """
    options = _options(request)
    channels = [worded(channel, options) for channel in transcript.channels]
    shown = zip(transcript.channels, channels, strict=True)
    results: Document = {"channels": [channel_document(heard, channel, options) for heard, channel in shown]}
    if options.get("utterances"):
        found = utterances(channels, options.get("utt_split", UTT_SPLIT))
        results["utterances"] = [_utterance(item, index, request, options) for index, item in enumerate(found)]
    return {"metadata": metadata(request, media, transcript), "results": results}


def render_failure(request: Request, failed: Failed) -> Document:
    """The body of a failure callback, which has no `results`: a superset that old and new consumers can tell apart."""
    told = render_refusal(failure_reply(failed), request.id)
    return told | {"metadata": {"request_id": request.id, **echo(request)}}


def acknowledge(request: Request) -> Document:
    """The immediate answer to a request with a callback. Nothing else: SDKs tell it from a result by that."""
    return {"request_id": request.id}


def callback_headers(request: Request) -> dict[str, str]:
    """Headers that Deepgram's receivers look for: the id of the key that made the request, which is no secret."""
    return {"dg-token": request.key_id} if request.key_id else {}


def _options(request: Request) -> DeepgramOptions:
    return cast(DeepgramOptions, request.options)


def metadata(request: Request, media: Media, transcript: Transcript) -> Document:
    model = transcript.model
    document: Document = {
        "transaction_key": "deprecated",
        "request_id": request.id,
        "sha256": media.sha256,
        "created": timestamp(media.created),
        "duration": round(transcript.duration, 6),
        "channels": transcript.source_channels,
        "models": [model.id],
        "model_info": {model.id: model_info(model)},
        **echo(request),
        **diariser(request),
    }
    if found := warnings(request, transcript):
        document["warnings"] = found
    return document


def diariser(request: Request) -> Document:
    """What tells speakers apart; only where that was asked for."""
    return {"diarize_info": _DIARISER} if request.speakers else {}


def echo(request: Request) -> Document:
    """Tags and extra, which callers use to recognise their request; only when they were sent."""
    options = _options(request)
    return {name: value for name in ("tags", "extra") if (value := options.get(name))}


def model_info(model: Model) -> Document:
    return {"name": model.name, "version": model.version, "arch": model.arch}


def channel_document(heard: Channel, channel: Channel, options: DeepgramOptions) -> Document:
    """What was said on one channel: as it was heard, which is searched, and as it is worded, which is shown."""
    document: Document = {"alternatives": [_alternative(channel, options)]}
    if options.get("detect_language") and channel.language:
        document["detected_language"] = channel.language
        if channel.language_confidence is not None:
            document["language_confidence"] = round(channel.language_confidence, 6)
    if terms := options.get("search"):
        document["search"] = [{"query": term, "hits": _hits(heard.words, term)} for term in terms]
    return document


def _alternative(channel: Channel, options: DeepgramOptions) -> Document:
    punctuate = options.get("punctuate", False)
    alternative: Document = {
        "transcript": prose(channel.words, punctuate),
        "confidence": confidence(channel.words),
        "words": [_word(word, punctuate) for word in channel.words],
    }
    if found := languages(channel.words):
        alternative["languages"] = found
    if options.get("paragraphs"):
        alternative["paragraphs"] = _paragraphs(paragraphs(channel.segments), punctuate)
    return alternative


def _word(word: Word, punctuate: bool) -> Document:
    document: Document = {"word": word.text, **_span((word,)), "confidence": round(word.confidence, 6)}
    if punctuate:
        document["punctuated_word"] = written(word, punctuate)
    if word.language:
        document["language"] = word.language
    if word.speaker is not None:
        document["speaker"] = word.speaker
    if word.speaker_confidence is not None:
        document["speaker_confidence"] = round(word.speaker_confidence, 6)
    return document


def _speaker(words: Sequence[Word]) -> Document:
    """Who says the words; only where that is known."""
    return {} if words[0].speaker is None else {"speaker": words[0].speaker}


def _span(words: Sequence[Word]) -> Document:
    return {"start": round(words[0].start, 6), "end": round(words[-1].end, 6)}


def _paragraphs(groups: Sequence[Sequence[Segment]], punctuate: bool) -> Document:
    texts = [name(_words(group)) + prose(_words(group), punctuate) for group in groups]
    return {
        "transcript": "\n" + "\n\n".join(texts) if texts else "",
        "paragraphs": [_paragraph(group, punctuate) for group in groups],
    }


def _paragraph(group: Sequence[Segment], punctuate: bool) -> Document:
    words = _words(group)
    sentences = [{"text": prose(segment.words, punctuate), **_span(segment.words)} for segment in group]
    return {"sentences": sentences, **_speaker(words), "num_words": len(words), **_span(words)}


def _words(group: Sequence[Segment]) -> list[Word]:
    return [word for segment in group for word in segment.words]


def _hits(words: Sequence[Word], term: str) -> list[Document]:
    found = [words[start:end] for start, end in matches(words, term)]
    return [{"confidence": confidence(hit), **_span(hit), "snippet": prose(hit, punctuate=False)} for hit in found]


def _utterance(utterance: Utterance, index: int, request: Request, options: DeepgramOptions) -> Document:
    punctuate = options.get("punctuate", False)
    return {
        **_span(utterance.words),
        "confidence": confidence(utterance.words),
        "channel": utterance.channel,
        "transcript": prose(utterance.words, punctuate),
        "words": [_word(word, punctuate) for word in utterance.words],
        **_speaker(utterance.words),
        "id": str(uuid5(UUID(request.id), str(index))),
    }
