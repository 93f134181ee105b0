"""Every query parameter of Deepgram's live API. What it shares with the pre-recorded one is read there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from engine.dialects.catalogue import ByteRate, Catalogue, RawReader
from engine.dialects.deepgram.errors import BadRequest
from engine.dialects.deepgram.query import ParameterRefused, Query, invalid, shown
from engine.dialects.deepgram.recorded_parameters import parse
from engine.dialects.live import LiveRequest
from engine.dialects.warnings import Unsupported, warning
from engine.events import LiveOptions
from engine.request import Request

ENDPOINTING = 0.01
"""Seconds of silence that end an utterance, unless `endpointing` says otherwise."""

SHORTEST_UTTERANCE_END = 1000

_OWN = ("interim_results", "endpointing", "utterance_end_ms", "vad_events", "callback_method")
_METHODS = ("POST", "GET", "PUT", "DELETE")
_RECORDED_ONLY = ("paragraphs", "utterances", "utt_split")
_ONLY_RECORDED = "Accepted, but only done for recorded audio."
_ALWAYS_POST = "Live results are always sent by POST, or over a WebSocket."


def parse_live(
    pairs: Sequence[tuple[str, str]],
    *,
    request_id: str,
    catalogue: Catalogue,
    raw_format: RawReader,
    byte_rate: ByteRate,
    key_id: str | None = None,
    traceparent: str | None = None,
    unsupported: Unsupported = "warn",
) -> LiveRequest | BadRequest:
    """The session that a decoded query string asks for, or why there is none. The callback's URL is not judged here."""
    shared = [(name, value) for name, value in pairs if name not in _OWN and name not in _RECORDED_ONLY]
    request = parse(
        shared,
        request_id=request_id,
        catalogue=catalogue,
        raw_format=raw_format,
        key_id=key_id,
        traceparent=traceparent,
        unsupported=unsupported,
    )
    if isinstance(request, BadRequest):
        return request
    try:
        query = Query(pairs)
        options = {**request.options, "paragraphs": False}  # smart formatting makes them of recordings alone
        warned = replace(request, options=options, warnings=(*request.warnings, *_warnings(query)))
        return LiveRequest(warned, _options(query, request), byte_rate(request.raw))
    except ParameterRefused as refused:
        return refused.reply


def _options(query: Query, request: Request) -> LiveOptions:
    if any(value != "false" for value in query.all("detect_language")):
        raise invalid("detect_language: not offered for live audio, send language=multi or leave it out")
    interim = query.flag("interim_results")
    return LiveOptions(
        language=request.language,
        hotwords=request.hotwords,
        multichannel=request.multichannel,
        raw=request.raw,
        interim=interim,
        endpointing=_endpointing(query),
        utterance_end=_utterance_end(query, interim),
        vad_events=query.flag("vad_events"),
        speakers=request.speakers is not None,
    )


def _endpointing(query: Query) -> float | None:
    value = query.one("endpointing")
    if value in {None, "true"}:
        return ENDPOINTING
    if value == "false":
        return None
    milliseconds = query.whole("endpointing")
    return ENDPOINTING if milliseconds is None else max(milliseconds, 1) / 1000


def _utterance_end(query: Query, interim: bool) -> float | None:
    milliseconds = query.whole("utterance_end_ms")
    if milliseconds is None:
        return None
    if milliseconds < SHORTEST_UTTERANCE_END:
        raise invalid(f"utterance_end_ms: {milliseconds} is too short, send {SHORTEST_UTTERANCE_END} or more")
    if not interim:
        raise invalid("utterance_end_ms: only works with interim results, send interim_results=true")
    return milliseconds / 1000


def _warnings(query: Query) -> list[Mapping[str, str]]:
    method = (query.one("callback_method") or "POST").upper()
    if method not in _METHODS:
        raise invalid(f"callback_method: unknown variant {shown(method)}, expected `POST`")
    vain = [name for name in _RECORDED_ONLY if query.one(name) not in {None, "false"}]
    found = [warning(name, "unsupported", _ONLY_RECORDED) for name in vain]
    return [*found, *([warning("callback_method", "unsupported", _ALWAYS_POST)] if method != "POST" else [])]
