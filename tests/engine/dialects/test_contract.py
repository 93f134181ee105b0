"""Every parameter that the vendors' own clients document, sent once: it changes the request, is warned of or is refused
by name. Never silence."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from deepgram.listen.v1.media.client import MediaClient
from gladiaio_sdk import PreRecordedV2InitTranscriptionRequest
from gladiaio_sdk.v2.live.generated_types import (
    LiveV2InitRequest,
    LiveV2LanguageConfig,
    LiveV2PostProcessingConfig,
    LiveV2PreProcessingConfig,
    LiveV2RealtimeProcessingConfig,
)
from openai.resources.audio.transcriptions import Transcriptions
from openai.resources.audio.translations import Translations

from engine.audio.pcm import bytes_per_second, integers, raw_format
from engine.dialects import deepgram, gladia, openai
from engine.dialects.catalogue import Abilities, Catalogue
from engine.dialects.live import LiveRequest
from engine.request import Request
from tests.cases import cases
from tests.engine.dialects.conftest import REQUEST_ID

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of names that the client imports
    from deepgram.listen.v1.client import V1Client

CATALOGUE = Catalogue(
    models={"general": "default", "other": "whisper"},
    recognisers={
        "default": Abilities(frozenset({"en", "de"}), detects=True, translates=True),
        "whisper": Abilities(frozenset({"en", "de"}), detects=True, translates=True),
    },
    default="general",
)
URL = "https://files.example/a.wav"
HOOK = "https://hooks.example/x"

ALWAYS = {
    "mip_opt_out": "nothing that is sent here trains a model",
    "no_delay": "results are never held back",
    "version": "there is one of each model",
}
"""What this server does, or is, whether it is asked or not."""


@dataclass(frozen=True)
class Api:
    """One vendor's way of asking. `told` says what parameters make: a request, or an error; `values` are what is sent
    where `true` says nothing."""

    documented: tuple[str, ...]
    told: Callable[[dict[str, Any]], Any]
    values: dict[str, Any]


def arguments(method: Callable[..., Any], *left_out: str) -> tuple[str, ...]:
    """The parameters of a client's method, without its own."""
    names = inspect.signature(method).parameters
    return tuple(name for name in names if name not in {"self", "request_options", *left_out})


def written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def recorded_by_deepgram(given: dict[str, Any]) -> Any:
    pairs = [(name, written(value)) for name, value in given.items()]
    return deepgram.parse(pairs, request_id=REQUEST_ID, catalogue=CATALOGUE, raw_format=raw_format)


def live_by_deepgram(given: dict[str, Any]) -> Any:
    pairs = [(name, written(value)) for name, value in {"encoding": "linear16", "sample_rate": 8000, **given}.items()]
    return deepgram.parse_live(
        pairs, request_id=REQUEST_ID, catalogue=CATALOGUE, raw_format=raw_format, byte_rate=bytes_per_second
    )


def recorded_by_gladia(given: dict[str, Any]) -> Any:
    return gladia.parse({"audio_url": URL, **given}, request_id=REQUEST_ID, catalogue=CATALOGUE)


def live_by_gladia(given: dict[str, Any]) -> Any:
    body: dict[str, Any] = {}
    query = tuple(name for name in given if name == "region")
    for name, value in given.items():
        if name in query:
            continue
        outer, _, inner = name.rpartition(".")
        (body.setdefault(outer, {}) if outer else body)[inner] = value
    return gladia.parse_live(
        body,
        request_id=REQUEST_ID,
        catalogue=CATALOGUE,
        raw_format=raw_format,
        integers=integers,
        byte_rate=bytes_per_second,
        query=query,
    )


def transcribed_by_openai(given: dict[str, Any]) -> Any:
    pairs = [(name, written(value)) for name, value in given.items()]
    return openai.parse(pairs, request_id=REQUEST_ID, catalogue=CATALOGUE)


def translated_by_openai(given: dict[str, Any]) -> Any:
    pairs = [(name, written(value)) for name, value in given.items()]
    return openai.parse(pairs, request_id=REQUEST_ID, catalogue=CATALOGUE, translate=True)


def of(kind: Any, outer: str = "", *left_out: str) -> tuple[str, ...]:
    """The fields of a typed client's request, by their paths."""
    names = {field.name for field in fields(kind)} - {"_unknown_fields", *left_out}
    return tuple(sorted(f"{outer}{name}" for name in names))


DEEPGRAM = {
    "callback": HOOK,
    "callback_method": "PUT",
    "extra": "k:v",
    "tag": "t",
    "model": "other",
    "version": "latest",
    "language": "de",
    "encoding": "mulaw",
    "sample_rate": 16000,
    "channels": 2,
    "keyterm": "word",
    "keywords": "word:2",
    "replace": "a:b",
    "search": "word",
    "utt_split": 2,
    "endpointing": 500,
    "utterance_end_ms": 1000,
    "redact": "pii",
}
GLADIA = {
    "callback_url": HOOK,
    "callback_config": {"url": HOOK},
    "custom_vocabulary": ["word"],
    "custom_spelling": True,
    "custom_metadata": {"a": 1},
    "language": "de",
    "language_config": {"languages": ["de"]},
    "model": "other",
    **{f"{name}_config": {} for name in ("custom_vocabulary", "subtitles", "diarization", "translation")},
    **{f"{name}_config": {} for name in ("summarization", "custom_spelling", "audio_to_llm", "pii_redaction")},
}
GLADIA_LIVE = {
    "encoding": "wav/alaw",
    "bit_depth": 24,
    "sample_rate": 8000,
    "channels": 2,
    "model": "other",
    "custom_metadata": {"a": 1},
    "endpointing": 1,
    "maximum_duration_without_endpointing": 9,
    "callback_config": {"url": HOOK},
    "messages_config": {"receive_errors": False},
    "language_config.languages": ["de"],
    "pre_processing.speech_threshold": 0.5,
    "realtime_processing.custom_vocabulary_config": {"vocabulary": ["word"]},
    "realtime_processing.custom_spelling_config": {"spelling_dictionary": {"A": ["b"]}},
    "realtime_processing.translation_config": {"target_languages": ["fr"]},
    "post_processing.summarization_config": {"type": "general"},
}
OPENAI = {
    "model": "other",
    "language": "de",
    "languages": "de",
    "prompt": "before",
    "temperature": 0.5,
    "response_format": "text",
    "timestamp_granularities": "word",
    "include": "logprobs",
    "chunking_strategy": "server_vad",
    "keywords": "word",
    "known_speaker_names": "J",
    "known_speaker_references": "data:audio/wav;base64,",
}
_HTTP = ("extra_headers", "extra_query", "extra_body", "timeout", "file")
APIS = {
    "deepgram": Api(arguments(MediaClient.transcribe_url, "url"), recorded_by_deepgram, DEEPGRAM),
    "deepgram-live": Api(
        arguments(V1Client.connect, "authorization"), live_by_deepgram, DEEPGRAM | {"callback_method": "GET"}
    ),
    "gladia": Api(of(PreRecordedV2InitTranscriptionRequest, "", "audio_url"), recorded_by_gladia, GLADIA),
    "gladia-live": Api(
        (
            *of(LiveV2InitRequest, "", "language_config", "pre_processing", "realtime_processing", "post_processing"),
            *of(LiveV2LanguageConfig, "language_config."),
            *of(LiveV2PreProcessingConfig, "pre_processing."),
            *of(LiveV2RealtimeProcessingConfig, "realtime_processing."),
            *of(LiveV2PostProcessingConfig, "post_processing."),
            "region",
        ),
        live_by_gladia,
        GLADIA_LIVE,
    ),
    "openai": Api(arguments(Transcriptions.create, *_HTTP), transcribed_by_openai, OPENAI),
    "openai-translations": Api(arguments(Translations.create, *_HTTP), translated_by_openai, OPENAI),
}


def each() -> Iterator[tuple[str, Api, str]]:
    for name, api in APIS.items():
        for parameter in api.documented:
            yield name, api, parameter


@cases(("vendor", "api", "parameter"), each())
def test_no_documented_parameter_meets_silence(vendor: str, api: Api, parameter: str) -> None:
    name = parameter.rpartition(".")[2]
    found, without = api.told({parameter: api.values.get(parameter, True)}), api.told({})
    if not isinstance(found, Request | LiveRequest):
        assert name in str(found), "a refusal names it"
        return
    request, before = (one.request if isinstance(one, LiveRequest) else one for one in (found, without))
    warned = [one for one in request.warnings if one["parameter"] == name]
    assert not [one for one in warned if one["type"] == "unknown_parameter"]
    changed = replace(request, warnings=()) != replace(before, warnings=())
    if isinstance(found, LiveRequest):
        changed |= found.options != without.options
    assert changed or warned or name in ALWAYS


def test_the_clients_document_as_much_as_they_did() -> None:
    """A new release that names its parameters otherwise would leave nothing to ask."""
    counted = {name: len(api.documented) for name, api in APIS.items()}
    least = {"deepgram": 35, "deepgram-live": 25, "gladia": 25, "gladia-live": 25, "openai": 10}
    assert all(counted[name] >= number for name, number in least.items()), counted
