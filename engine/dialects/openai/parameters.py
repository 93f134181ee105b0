"""Every field of OpenAI's transcriptions and translations, and what this engine does with it.

A field is honoured, or accepted with a warning, or refused by name; none is ignored in silence. Warnings stand in the
`warnings` of a JSON answer, and in the header `x-warnings` of any. `callback` and `callback_method` are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from engine.dialects.catalogue import Catalogue
from engine.dialects.openai.errors import ErrorObject
from engine.dialects.openai.form import FieldRefused, FormFields, refuse
from engine.dialects.warnings import NO_SPEAKERS, warning
from engine.request import Callback, Request, SpeakerBounds

FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
DIARIZED = "diarized_json"
"""The format that tells who speaks; of transcriptions alone."""

_GRANULARITIES = ("word", "segment")
_STREAMED = ("json", "text", DIARIZED)
_KNOWN = (
    *("model", "language", "languages", "prompt", "keywords", "temperature", "response_format", "stream"),
    *("timestamp_granularities", "include", "chunking_strategy", "known_speaker_names", "known_speaker_references"),
    *("callback", "callback_method"),
)
_NO_SPEAKERS = f"This server does not offer {NO_SPEAKERS}."
_UNNAMED = f"Speakers are told apart with response_format={DIARIZED}, but by letters and not by name."
_UNASKED = f"Speakers are told apart with response_format={DIARIZED} alone."
_ALWAYS_CUT = "Audio is always cut where nobody speaks, by this server's own judgement."


class OpenAiOptions(TypedDict, total=False):
    """What rendering needs to know, as the JSON object in `Request.options`."""

    format: str
    granularities: list[str]
    stream: bool


def parse(
    fields: Sequence[tuple[str, str]],
    *,
    request_id: str,
    catalogue: Catalogue,
    translate: bool = False,
    key_id: str | None = None,
    traceparent: str | None = None,
) -> Request | ErrorObject:
    """The request that a form's fields make, its file aside, or why there is none. The callback's URL is not judged
    here."""
    try:
        form = FormFields(fields)
        model, recogniser = _model(form, catalogue, translate=translate)
        callback = _callback(form)
        return Request(
            id=request_id,
            dialect="openai",
            model=model,
            recogniser=recogniser,
            language=_language(form, model, catalogue),
            languages=_candidates(form, model, catalogue),
            hotwords=tuple(dict.fromkeys(form.all("keywords"))),
            prompt=form.text("prompt") or "",
            translate=translate,
            callback=callback,
            key_id=key_id,
            traceparent=traceparent,
            options=dict(_options(form, catalogue, calls_back=callback is not None, translate=translate)),
            speakers=SpeakerBounds() if form.text("response_format") == DIARIZED else None,
            warnings=_warnings(form, catalogue),
        )
    except FieldRefused as refused:
        return refused.error


def _model(form: FormFields, catalogue: Catalogue, *, translate: bool) -> tuple[str, str]:
    name = form.text("model") or catalogue.default
    if name not in catalogue.models:
        message = f"The model {name[:64]!r} does not exist here. Use one of {catalogue.choice()}."
        raise FieldRefused(ErrorObject(404, message, "model", "model_not_found"))
    if translate and not catalogue.recognisers[catalogue.models[name]].translates:
        raise refuse("model", f"be one that translates; {name} does not. {catalogue.instead_to_translate()}")
    return name, catalogue.models[name]


def _language(form: FormFields, model: str, catalogue: Catalogue) -> str | None:
    """The language to hear; None where the recogniser is to find out, or has no choice."""
    code = form.text("language")
    if code is None or code == "auto":
        return None
    _know(code, "language", model, catalogue)
    return code


def _candidates(form: FormFields, model: str, catalogue: Catalogue) -> tuple[str, ...]:
    for code in form.all("languages"):
        _know(code, "languages", model, catalogue)
    return tuple(dict.fromkeys(code.lower().partition("-")[0] for code in form.all("languages")))


def _know(code: str, field: str, model: str, catalogue: Catalogue) -> None:
    abilities = catalogue.recognisers[catalogue.models[model]]
    if code.lower() == "multi" or not abilities.knows(code):
        known = ", ".join(sorted(abilities.languages))
        raise refuse(field, f"be one of those that {model} knows: {known}. {catalogue.instead(code)}")


def _callback(form: FormFields) -> Callback | None:
    url = form.text("callback")
    method = (form.text("callback_method") or "POST").upper()
    if method not in {"POST", "PUT"}:
        raise refuse("callback_method", "be POST or PUT.")
    return None if url is None else Callback(url, method)


def _options(form: FormFields, catalogue: Catalogue, *, calls_back: bool, translate: bool) -> OpenAiOptions:
    formats = FORMATS if translate or not catalogue.speakers else (*FORMATS, DIARIZED)
    if form.text("response_format") == DIARIZED and not catalogue.speakers:
        raise refuse("response_format", f"be one of {', '.join(FORMATS)}. {_NO_SPEAKERS}")
    options = OpenAiOptions(format=form.choice("response_format", formats, "json"), stream=form.flag("stream"))
    options["granularities"] = form.choices("timestamp_granularities", _GRANULARITIES) or ["segment"]
    if options["stream"] and options["format"] not in _STREAMED:
        problem = f"be left out with response_format={options['format']}; it goes with {', '.join(_STREAMED)}."
        raise refuse("stream", problem)
    if options["stream"] and calls_back:
        raise refuse("stream", "be left out with callback, where the result goes.")
    form.number("temperature", 0, 1)
    form.choices("include", ("logprobs",))
    return options


def _warnings(form: FormFields, catalogue: Catalogue) -> tuple[Mapping[str, str], ...]:
    found = [
        warning(name, "unknown", "This server does not know this field.") for name in form.names if name not in _KNOWN
    ]
    if form.number("temperature", 0, 1):
        found.append(warning("temperature", "unsupported", "The recogniser chooses it by itself, beginning at 0."))
    if form.all("include"):
        found.append(warning("include", "unsupported", "No log probabilities of tokens are told."))
    if form.all("chunking_strategy") not in ([], ["auto"]):
        found.append(warning("chunking_strategy", "unsupported", _ALWAYS_CUT))
    for name in ("known_speaker_names", "known_speaker_references"):
        if form.all(name):
            found.append(warning(name, "unsupported", _UNNAMED if catalogue.speakers else _NO_SPEAKERS))
    if form.text("model") == "gpt-4o-transcribe-diarize" and form.text("response_format") != DIARIZED:
        found.append(warning("model", "partly_supported", _UNASKED if catalogue.speakers else _NO_SPEAKERS))
    if form.all("timestamp_granularities") and form.text("response_format") != "verbose_json":
        found.append(warning("timestamp_granularities", "unused", "Only read with response_format=verbose_json."))
    return tuple(found)
