"""Every query parameter of Deepgram's pre-recorded API, and what this engine does with it.

A parameter is honoured, or accepted with a warning in `metadata.warnings`, or refused by name; none is ignored in
silence. Refused are those whose absence would mislead or leak: text that was to be redacted, speakers, summaries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from engine.dialects.catalogue import Abilities, Catalogue
from engine.dialects.deepgram.query import Query, Refused, invalid, shown
from engine.dialects.deepgram.reply import BadRequest, invalid_callback, no_such_model
from engine.errors import AudioError
from engine.request import Callback, RawFormat, Request

RawReader = Callable[[str, int | None, int | None], RawFormat | None]
"""Encoding, sample rate and channels to the format of headerless audio, None where the bytes describe themselves.
Raises AudioError, naming the field."""

UTT_SPLIT = 0.8
"""Seconds of silence that end an utterance, unless `utt_split` says otherwise."""

_DELIVERY = ("callback", "callback_method", "extra", "tag", "mip_opt_out")
_HEARING = ("model", "version", "language", "multichannel", "encoding", "sample_rate", "channels")
_SHAPE = ("paragraphs", "utterances", "utt_split", "search", "replace")
_SOFT_FLAGS = ("punctuate", "smart_format", "numerals", "filler_words", "profanity_filter")
_SOFT_TERMS = ("keyterm", "keywords")
_REFUSED = {
    "diarize": "telling speakers apart",
    "diarize_model": "telling speakers apart",
    "diarize_version": "telling speakers apart",
    "redact": "redaction",
    "detect_entities": "entity detection",
    "sentiment": "sentiment analysis",
    "summarize": "summarisation",
    "topics": "topic detection",
    "custom_topic": "topic detection",
    "custom_topic_mode": "topic detection",
    "intents": "intent detection",
    "custom_intent": "intent detection",
    "custom_intent_mode": "intent detection",
    "measurements": "formatting of measurements",
    "dictation": "dictation",
    "language_hint": "language hints",
}
_KNOWN = frozenset((*_DELIVERY, *_HEARING, *_SHAPE, *_SOFT_FLAGS, *_SOFT_TERMS, *_REFUSED, "detect_language"))


class Options(TypedDict, total=False):
    """What rendering needs to know, as the JSON object in `Request.options`; a key is there only when asked for."""

    tags: list[str]
    extra: dict[str, str]
    punctuate: bool
    paragraphs: bool
    utterances: bool
    utt_split: float
    search: list[str]
    replace: list[list[str]]
    detect_language: bool


def parse(
    pairs: Sequence[tuple[str, str]],
    *,
    request_id: str,
    catalogue: Catalogue,
    raw_format: RawReader,
    key_id: str | None = None,
    traceparent: str | None = None,
) -> Request | BadRequest:
    """The request that a decoded query string makes, or why there is none. The callback's URL is not judged here."""
    try:
        query = Query(pairs)
        _refuse(query)
        model, recogniser = _model(query, catalogue)
        abilities = catalogue.recognisers[recogniser]
        return Request(
            id=request_id,
            dialect="deepgram",
            model=model,
            recogniser=recogniser,
            language=_language(query, model, abilities),
            multichannel=query.flag("multichannel"),
            raw=_raw(query, raw_format),
            callback=_callback(query),
            key_id=key_id,
            traceparent=traceparent,
            options=dict(_options(query)),
            warnings=_warnings(query, recogniser, abilities),
        )
    except Refused as refused:
        return refused.reply


def _refuse(query: Query) -> None:
    for name in query.names:
        if name in _REFUSED and any(value != "false" for value in query.all(name)):
            raise invalid(f"{name}: this server does not offer {_REFUSED[name]}, leave `{name}` out")


def _model(query: Query, catalogue: Catalogue) -> tuple[str, str]:
    model = query.one("model")
    name = catalogue.default if model is None else model
    if name not in catalogue.models:
        known = ", ".join(sorted(catalogue.models))
        raise Refused(no_such_model(f"model: {shown(name)} is not known here, use one of {known}."))
    if (version := query.one("version")) not in {None, "latest"}:
        raise Refused(no_such_model(f"version: {shown(version or '')} is not known here, use latest or leave it out."))
    return name, catalogue.models[name]


def _language(query: Query, model: str, abilities: Abilities) -> str | None:
    language = query.one("language")
    for name, code in [("language", language), *(("detect_language", code) for code in _candidates(query))]:
        if code is not None and not _speaks(code, abilities):
            known = ", ".join(sorted(abilities.languages))
            raise Refused(no_such_model(f"{name}: model {model} does not know {shown(code)}, use one of {known}."))
    return language


def _speaks(code: str, abilities: Abilities) -> bool:
    if code == "multi":
        return "detect_language" in abilities.honours
    return code.lower().partition("-")[0] in abilities.languages


def _candidates(query: Query) -> list[str]:
    """The codes that `detect_language` is restricted to; none where it is a plain boolean."""
    return [code for code in query.all("detect_language") if code not in {"true", "false"}]


def _detects(query: Query) -> bool:
    return any(value != "false" for value in query.all("detect_language"))


def _raw(query: Query, raw_format: RawReader) -> RawFormat | None:
    encoding, sample_rate, channels = query.one("encoding"), query.whole("sample_rate"), query.whole("channels")
    if encoding is None:
        return None
    try:
        return raw_format(encoding, sample_rate, channels)
    except AudioError as error:
        raise invalid(str(error)) from None


def _callback(query: Query) -> Callback | None:
    url = query.one("callback")
    written = query.one("callback_method")
    method = "POST" if written is None else written.upper()
    if method not in {"POST", "PUT"}:
        raise invalid(f"callback_method: unknown variant {shown(written or '')}, expected `POST` or `PUT`")
    if url == "":
        raise Refused(invalid_callback("callback: the value is empty, send an http:// or https:// URL."))
    return None if url is None else Callback(url, method)


def _options(query: Query) -> Options:
    options = Options()
    if tags := query.all("tag"):
        options["tags"] = tags
    if extra := query.pairs("extra", "key:value"):
        options["extra"] = dict(extra)
    if search := query.all("search"):
        options["search"] = search
    if replace := query.pairs("replace", "find:replacement"):
        options["replace"] = [list(pair) for pair in replace]
    options["paragraphs"] = query.flag("paragraphs")
    # Deepgram: paragraphs and smart formatting imply punctuation.
    options["punctuate"] = query.flag("punctuate") or query.flag("smart_format") or options["paragraphs"]
    options["utterances"] = query.flag("utterances")
    options["utt_split"] = query.seconds("utt_split", UTT_SPLIT)
    options["detect_language"] = query.one("language") == "multi" or _detects(query)
    return options


def _warnings(query: Query, recogniser: str, abilities: Abilities) -> tuple[Mapping[str, str], ...]:
    query.flag("mip_opt_out")
    asked = [name for name in _SOFT_FLAGS if query.flag(name)]
    asked += [name for name in _SOFT_TERMS if query.all(name)]
    asked += ["detect_language"] if _detects(query) else []
    soft = [_unsupported(name, recogniser) for name in asked if name not in abilities.honours]
    headerless = () if "encoding" in query.names else ("sample_rate", "channels")
    unread = [_unread(name) for name in headerless if name in query.names]
    unknown = [_unknown(name) for name in query.names if name not in _KNOWN]
    return (*soft, *unread, *unknown)


def _unsupported(name: str, recogniser: str) -> dict[str, str]:
    message = f"Accepted, but recogniser {recogniser} cannot do it."
    return {"parameter": name, "type": "unsupported_parameter", "message": message}


def _unread(name: str) -> dict[str, str]:
    message = "Only read together with encoding, for audio without a container."
    return {"parameter": name, "type": "unsupported_parameter", "message": message}


def _unknown(name: str) -> dict[str, str]:
    return {"parameter": name[:64], "type": "unknown_parameter", "message": "This server does not know this parameter."}
