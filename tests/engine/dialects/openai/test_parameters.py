"""The fields of OpenAI's forms: what becomes of each, and what is said about one that is wrong."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

from openai.types.audio import transcription_create_params, translation_create_params
from openai.types.audio_model import AudioModel

from engine.dialects.catalogue import Abilities, Catalogue
from engine.dialects.openai import ErrorObject, model_list, parse
from engine.dialects.openai.models import MODELS
from engine.record import request_from_json, request_to_json
from engine.request import Callback, Request
from tests.cases import cases
from tests.engine.dialects.conftest import REQUEST_ID

CATALOGUE = Catalogue(
    models={**dict.fromkeys(MODELS, "default"), "nova-3": "default", "default": "default", "large": "whisper"},
    recognisers={
        "default": Abilities(frozenset({"en"})),
        "whisper": Abilities(frozenset({"en", "de"}), detects=True, translates=True),
    },
    default="nova-3",
    own=frozenset({"default", "large"}),
)


def answer(*pairs: tuple[str, str], translate: bool = False, **fields: str) -> Request | ErrorObject:
    given = [*pairs, *fields.items()]
    return parse(given, request_id=REQUEST_ID, catalogue=CATALOGUE, translate=translate, key_id="key-1")


def asked(*pairs: tuple[str, str], **fields: Any) -> Request:
    request = answer(*pairs, **fields)
    assert isinstance(request, Request), request
    return request


def refusal(*pairs: tuple[str, str], **fields: Any) -> ErrorObject:
    error = answer(*pairs, **fields)
    assert isinstance(error, ErrorObject), error
    return error


def warned(request: Request) -> list[tuple[str, str]]:
    return [(warning["parameter"], warning["type"]) for warning in request.warnings]


def test_a_form_without_fields_is_a_request() -> None:
    request = asked()
    assert (request.id, request.dialect, request.model, request.recogniser) == (
        REQUEST_ID,
        "openai",
        "nova-3",
        "default",
    )
    assert request.options == {"format": "json", "stream": False, "granularities": ["segment"]}
    assert (request.language, request.callback, request.key_id, request.warnings) == (None, None, "key-1", ())


def test_what_is_honoured() -> None:
    request = asked(
        ("keywords[]", "Outspoken"),
        ("keywords[]", "relay"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
        model="large",
        language="de",
        prompt="Dr. Meier, Hamburg.",
        temperature="0",
        response_format="verbose_json",
        chunking_strategy="auto",
        callback="https://u:p@hook.example/x",
        callback_method="put",
    )
    assert (request.model, request.recogniser, request.language) == ("large", "whisper", "de")
    assert (request.hotwords, request.prompt) == (("Outspoken", "relay"), "Dr. Meier, Hamburg.")
    assert request.options == {"format": "verbose_json", "stream": False, "granularities": ["word", "segment"]}
    assert request.callback == Callback("https://u:p@hook.example/x", "PUT")
    assert request.warnings == ()
    assert request_from_json(request_to_json(request)) == request


def test_languages_are_candidates() -> None:
    assert asked(("languages[]", "de-AT"), ("languages[]", "en"), model="large").languages == ("de", "en")


def test_a_language_that_nobody_named_is_found_out() -> None:
    assert asked(language="auto").language is None
    assert asked(language=" ").language is None


@cases(
    ("field", "value", "kind"),
    [
        ("temperature", "0.4", "unsupported_parameter"),
        ("include[]", "logprobs", "unsupported_parameter"),
        ("chunking_strategy[type]", "server_vad", "unsupported_parameter"),
        ("known_speaker_names[]", "agent", "unsupported_parameter"),
        ("known_speaker_references[]", "data:audio/wav;base64,AAA=", "unsupported_parameter"),
        ("model", "gpt-4o-transcribe-diarize", "partly_supported_parameter"),
        ("timestamp_granularities[]", "word", "unused_parameter"),
        ("vad_filter", "true", "unknown_parameter"),
    ],
)
def test_what_is_not_honoured_is_warned_of(field: str, value: str, kind: str) -> None:
    assert warned(asked((field, value))) == [(field.partition("[")[0], kind)]


@cases(
    ("fields", "param", "message"),
    [
        (
            {"language": "de"},
            "language",
            "must be one of those that nova-3 knows: en. Models here that do: large",
        ),
        ({"language": "multi", "model": "large"}, "language", "must be one of those that large knows: de, en."),
        ({"languages[]": "xx", "model": "large"}, "languages", "large knows: de, en. No model here does;"),
        ({"response_format": "xml"}, "response_format", "be one of json, text, srt, vtt, verbose_json."),
        ({"response_format": "diarized_json"}, "response_format", "`engine models pull speakers`"),
        ({"temperature": "hot"}, "temperature", "be a number from 0 to 1."),
        ({"temperature": "1.5"}, "temperature", "be a number from 0 to 1."),
        ({"temperature": "nan"}, "temperature", "be a number from 0 to 1."),
        ({"timestamp_granularities[]": "syllable"}, "timestamp_granularities", "hold only word, segment."),
        ({"include[]": "tokens"}, "include", "hold only logprobs."),
        ({"stream": "1"}, "stream", "be true or false."),
        ({"stream": "true", "response_format": "srt"}, "stream", "be left out with response_format=srt"),
        ({"stream": "true", "callback": "https://hook.example/"}, "stream", "be left out with callback"),
        ({"callback": "https://hook.example/", "callback_method": "GET"}, "callback_method", "be POST or PUT."),
        ({"prompt": "a" * 16385}, "prompt", "be no longer than 16384 characters."),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, str], param: str, message: str) -> None:
    error = refusal(*fields.items())
    assert (error.status, error.param) == (400, param)
    assert message in error.message


def test_a_field_is_sent_once() -> None:
    assert refusal(("model", "nova-3"), ("model", "large")).message == "model must be sent once."


def test_a_model_that_is_not_here_is_not_found() -> None:
    error = refusal(model="gpt-9")
    assert (error.status, error.param, error.code) == (404, "model", "model_not_found")
    assert "'gpt-9' does not exist here. Use one of default, large." in error.message


def test_only_a_model_that_translates_translates() -> None:
    assert asked(model="large", translate=True).translate
    error = refusal(model="whisper-1", translate=True)
    assert (error.status, error.param) == (400, "model")
    assert error.message == "model must be one that translates; whisper-1 does not. Models here that do: large."


def test_every_model_of_the_clients_own_type_is_answered_to() -> None:
    assert set(get_args(AudioModel)) <= set(MODELS)


@cases(
    "parameters",
    [
        transcription_create_params.TranscriptionCreateParamsStreaming,
        translation_create_params.TranslationCreateParams,
    ],
)
def test_no_field_that_the_client_documents_is_unknown(parameters: type) -> None:
    documented = set(get_type_hints(parameters)) - {"file"}
    assert {"model", "prompt", "temperature"} <= documented
    for name in documented:
        found = answer((name, "x"))
        kinds = [one["type"] for one in found.warnings] if isinstance(found, Request) else []
        assert "unknown_parameter" not in kinds, name


def test_the_list_of_models_holds_ours_and_the_vendors() -> None:
    listed = [model["id"] for model in model_list(CATALOGUE)["data"]]
    assert listed == sorted({"default", "large", *MODELS})
