"""Every query parameter of Deepgram's pre-recorded API, and what this engine does with it.

A parameter is honoured, or accepted with a warning in `metadata.warnings`, or refused by name; none is ignored in
silence. Refused is what protects somebody: text that was to be redacted. Warned about are those that cannot be done and
do no harm when they are missing, which an operator can have refused as well (`unsupported_parameter`), those that are
done in part (`partly_supported_parameter`), and those that nobody knows (`unknown_parameter`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypedDict

from engine.dialects.catalogue import Abilities, Catalogue, RawReader
from engine.dialects.deepgram.errors import BadRequest, invalid_callback, no_such_model
from engine.dialects.deepgram.models import SPECIAL
from engine.dialects.deepgram.query import ParameterRefused, Query, invalid, shown
from engine.dialects.warnings import NO_SPEAKERS, Unsupported, warning
from engine.errors import AudioError
from engine.request import Callback, RawFormat, Request, SpeakerBounds

UTT_SPLIT = 0.8
"""Seconds of silence that end an utterance, unless `utt_split` says otherwise."""

_DELIVERY = ("callback", "callback_method", "extra", "tag", "mip_opt_out")
_HEARING = ("model", "version", "language", "multichannel", "encoding", "sample_rate", "channels")
_SHAPE = ("paragraphs", "utterances", "utt_split", "search", "replace")
_TERMS = ("keyterm", "keywords")
_PARTLY = {
    "smart_format": "English cardinal numbers become digits, and text is punctuated where the recogniser knows how; "
    "dates, times, money and the like stay words.",
    "numerals": "English cardinal numbers become digits; ordinals, fractions and dates stay words.",
    "filler_words": "What the recogniser writes of uh and um is kept, but it may leave them out by itself.",
    "profanity_filter": "English words of a short list are masked.",
}
_BOOST = re.compile(r"(.*):\s*[+-]?\d*\.?\d+\s*", re.DOTALL)
_REFUSED = {"redact": "redaction"}
_UNSUPPORTED = {
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
_DIARIZE = ("diarize", "diarize_model")
_DIARIZE_MODELS = ("latest", "v1", "v2")
KNOWN = frozenset((*_DELIVERY, *_HEARING, *_SHAPE, *_TERMS, *_PARTLY, *_REFUSED, *_UNSUPPORTED))
KNOWN |= {"punctuate", "detect_language", "tier", "no_delay", *_DIARIZE, "diarize_version"}
"""Every parameter of the query. `no_delay` is what this server does anyway."""


class DeepgramOptions(TypedDict, total=False):
    """What rendering needs to know, as the JSON object in `Request.options`; a key is there only when asked for."""

    tags: list[str]
    extra: dict[str, str]
    punctuate: bool
    numerals: bool
    profanity_filter: bool
    filler_words: bool
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
    unsupported: Unsupported = "warn",
) -> Request | BadRequest:
    """The request that a decoded query string makes, or why there is none. The callback's URL is not judged here.

    `unsupported` is what becomes of parameters that cannot be honoured and do no harm when they are missing.
    """
    try:
        query = Query(pairs)
        model, recogniser = _model(query, catalogue)
        missing = _missing(query, catalogue)
        _refuse(query, missing if unsupported == "refuse" else {})
        return Request(
            id=request_id,
            dialect="deepgram",
            model=model,
            recogniser=recogniser,
            language=_language(query, model, catalogue),
            languages=_candidates(query),
            code_switching=query.one("language") == "multi" and not _detects(query),
            hotwords=_hotwords(query),
            multichannel=query.flag("multichannel"),
            raw=_raw(query, raw_format),
            speakers=SpeakerBounds() if catalogue.speakers and _diarizes(query) else None,
            callback=_callback(query),
            key_id=key_id,
            traceparent=traceparent,
            options=dict(_options(query)),
            warnings=(*_model_warnings(model, recogniser, catalogue), *_warnings(query, missing)),
        )
    except ParameterRefused as refused:
        return refused.reply


def _missing(query: Query, catalogue: Catalogue) -> dict[str, str]:
    """What was asked for, cannot be done, and does no harm when it is missing: by parameter, in words."""
    found = {name: _UNSUPPORTED[name] for name in query.names if name in _UNSUPPORTED and _is_on(query, name)}
    if _diarizes(query) and not catalogue.speakers:
        found |= {name: NO_SPEAKERS for name in _DIARIZE if _is_on(query, name)}
    language = (query.one("language") or "en").lower().partition("-")[0]
    if query.flag("numerals") and language not in {"en", "multi"}:
        found["numerals"] = f"numerals in {shown(language)}"
    return found


def _is_on(query: Query, name: str) -> bool:
    return any(value != "false" for value in query.all(name))


def _diarizes(query: Query) -> bool:
    """Whether who speaks is asked for: to name a model for it is to ask for it."""
    model = query.one("diarize_model")
    if model is not None and model not in _DIARIZE_MODELS:
        raise invalid(f"diarize_model: {shown(model)} is not known here, send one of {', '.join(_DIARIZE_MODELS)}")
    return query.flag("diarize") or model is not None


def _refuse(query: Query, missing: dict[str, str]) -> None:
    for name in query.names:
        if name in missing or (name in _REFUSED and _is_on(query, name)):
            raise invalid(f"{name}: this server does not offer {(_REFUSED | missing)[name]}, leave `{name}` out")


def _model(query: Query, catalogue: Catalogue) -> tuple[str, str]:
    model = query.one("model")
    name = catalogue.default if model is None else model
    if name not in catalogue.models:
        raise ParameterRefused(
            no_such_model(f"model: {shown(name)} is not known here, use one of {catalogue.choice()}.")
        )
    if (version := query.one("version")) not in {None, "latest"}:
        raise ParameterRefused(
            no_such_model(f"version: {shown(version or '')} is not known here, use latest or leave it out.")
        )
    return name, catalogue.models[name]


def _language(query: Query, model: str, catalogue: Catalogue) -> str | None:
    """The language to hear; None where the recogniser is to find out, or has no choice."""
    abilities = catalogue.recognisers[catalogue.models[model]]
    language = query.one("language")
    wanted = [("language", language)] if language else []
    if _detects(query):
        wanted += [("detect_language", code) for code in (*_codes(query), "multi")]
    for name, code in wanted:
        if not abilities.knows(code):
            raise ParameterRefused(
                no_such_model(f"{name}: model {model} {_cannot(code, abilities)}. {catalogue.instead(code)}")
            )
    return None if language == "multi" or _detects(query) else language


def _cannot(code: str, abilities: Abilities) -> str:
    known = f"only {', '.join(sorted(abilities.languages))}"
    return (
        f"does not detect languages, it knows {known}" if code == "multi" else f"does not know {shown(code)}, {known}"
    )


def _codes(query: Query) -> list[str]:
    """The codes that `detect_language` is restricted to; none where it is a plain boolean."""
    return [code for code in query.all("detect_language") if code not in {"true", "false"}]


def _candidates(query: Query) -> tuple[str, ...]:
    return tuple(dict.fromkeys(code.lower().partition("-")[0] for code in _codes(query)))


def _detects(query: Query) -> bool:
    return any(value != "false" for value in query.all("detect_language"))


def _hotwords(query: Query) -> tuple[str, ...]:
    phrases = (*query.all("keyterm"), *(_boosted(keyword)[0] for keyword in query.all("keywords")))
    if not all(phrase.strip() for phrase in phrases):
        raise invalid("keyterm, keywords: a value is empty, send a word or a phrase")
    return tuple(dict.fromkeys(" ".join(phrase.split()) for phrase in phrases))


def _boosted(keyword: str) -> tuple[str, bool]:
    """A keyword without the boost behind its last colon, and whether it had one."""
    found = _BOOST.fullmatch(keyword)
    return (found[1], True) if found else (keyword, False)


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
        raise ParameterRefused(invalid_callback("callback: the value is empty, send an http:// or https:// URL."))
    return None if url is None else Callback(url, method)


def _options(query: Query) -> DeepgramOptions:
    options = DeepgramOptions()
    if tags := query.all("tag"):
        options["tags"] = tags
    if extra := query.pairs("extra", "key:value"):
        options["extra"] = dict(extra)
    if search := query.all("search"):
        options["search"] = search
    if replace := query.pairs("replace", "find:replacement"):
        options["replace"] = [list(pair) for pair in replace]
    # Deepgram: paragraphs and smart formatting imply punctuation, smart formatting paragraphs and numerals too.
    options["paragraphs"] = query.flag("paragraphs") or query.flag("smart_format")
    options["punctuate"] = query.flag("punctuate") or options["paragraphs"]
    options["numerals"] = query.flag("numerals") or query.flag("smart_format")
    options["profanity_filter"] = query.flag("profanity_filter")
    options["filler_words"] = query.flag("filler_words")
    options["utterances"] = query.flag("utterances")
    options["utt_split"] = query.seconds("utt_split", UTT_SPLIT)
    options["detect_language"] = query.one("language") == "multi" or _detects(query)
    return options


def _model_warnings(model: str, recogniser: str, catalogue: Catalogue) -> list[Mapping[str, str]]:
    """A model for one kind of speech is none of ours, unless whoever runs this server has given it the name."""
    if model not in SPECIAL or model in catalogue.own:
        return []
    instead = f"There is no {model} here: the recogniser {recogniser} was used instead, which model_info tells of."
    return [warning("model", "unsupported", instead)]


def _warnings(query: Query, missing: Mapping[str, str]) -> tuple[Mapping[str, str], ...]:
    query.flag("mip_opt_out")
    strange = [name for name in query.names if name not in KNOWN]
    unknown = [warning(name, "unknown", "This server does not know this parameter.") for name in strange]
    without = [warning(name, "unsupported", f"This server does not offer {what}.") for name, what in missing.items()]
    half = [name for name in _PARTLY if name not in missing and query.flag(name)]
    partly = [warning(name, "partly_supported", _PARTLY[name]) for name in half]
    return (*partly, *without, *_unread(query), *unknown)


def _unread(query: Query) -> list[dict[str, str]]:
    """What was sent in a company in which it says nothing."""
    warnings = []
    if any(_boosted(keyword)[1] for keyword in query.all("keywords")):
        warnings.append(warning("keywords", "partly_supported", "The words are listened for, their boosts not read."))
    for name, company in (("callback_method", "callback"), ("utt_split", "utterances")):
        if name in query.names and query.one(company) in {None, "false"}:
            warnings.append(warning(name, "unused", f"Only read together with {company}."))
    if "tier" in query.names:
        warnings.append(warning("tier", "unused", "The model is chosen by `model` alone."))
    if "diarize_version" in query.names and not _diarizes(query):
        warnings.append(warning("diarize_version", "unused", "Only read together with diarize=true."))
    if _detects(query) and "language" in query.names:
        warnings.append(warning("language", "unsupported", "Not read together with detect_language."))
    for name in ("sample_rate", "channels"):
        if name in query.names and "encoding" not in query.names:
            message = "Only read together with encoding, for audio without a container."
            warnings.append(warning(name, "unsupported", message))
    return warnings
