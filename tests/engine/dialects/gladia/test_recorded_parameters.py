"""The body that asks for a transcription: what becomes of every field, and what is said about one that is wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import orjson
from gladiaio_sdk import (
    PreRecordedV2CallbackConfig,
    PreRecordedV2CustomVocabularyConfig,
    PreRecordedV2CustomVocabularyEntry,
    PreRecordedV2InitTranscriptionRequest,
)
from hypothesis import given
from hypothesis import strategies as st

from engine.dialects.catalogue import Abilities, Catalogue
from engine.dialects.gladia import GladiaProblem, parse
from engine.dialects.warnings import Unsupported
from engine.record import request_from_json, request_to_json
from engine.request import Callback, Request, SpeakerBounds
from tests.cases import cases
from tests.engine.dialects.conftest import REQUEST_ID

URL = "https://files.example/a.wav"
CATALOGUE = Catalogue(
    models={"solaria-1": "default", "large": "whisper"},
    recognisers={
        "default": Abilities(frozenset({"en"})),
        "whisper": Abilities(frozenset({"en", "de", "ja", "my"}), detects=True),
    },
    default="solaria-1",
)
ABLE = replace(CATALOGUE, speakers=True)


def answer(
    body: object, unsupported: Unsupported = "warn", catalogue: Catalogue = CATALOGUE
) -> Request | GladiaProblem:
    return parse(
        body,
        request_id=REQUEST_ID,
        catalogue=catalogue,
        key_id="key-1",
        traceparent="00-a-b-00",
        unsupported=unsupported,
    )


def asked(catalogue: Catalogue = CATALOGUE, /, **fields: Any) -> Request:
    request = answer({"audio_url": URL, **fields}, catalogue=catalogue)
    assert isinstance(request, Request), request
    return request


def flaws(catalogue: Catalogue = CATALOGUE, /, **fields: Any) -> list[str]:
    problem = answer({"audio_url": URL, **fields}, catalogue=catalogue)
    assert isinstance(problem, GladiaProblem), problem
    assert problem.status == 422
    return list(problem.validation_errors)


def warned(request: Request) -> list[str]:
    return [warning["parameter"] for warning in request.warnings]


def test_a_url_is_all_that_a_job_needs() -> None:
    request = asked()
    assert (request.id, request.dialect, request.audio_url) == (REQUEST_ID, "gladia", URL)
    assert (request.model, request.recogniser) == ("solaria-1", "default")
    assert (request.key_id, request.traceparent, request.callback) == ("key-1", "00-a-b-00", None)
    assert request.multichannel
    assert request.keeps_audio
    assert request.warnings == ()


@cases("body", [None, [], "x", 1, True, [{}]])
def test_a_body_that_is_no_object_is_a_bad_request(body: object) -> None:
    problem = answer(body)
    assert isinstance(problem, GladiaProblem)
    assert (problem.status, problem.validation_errors) == (400, ())


@cases("url", [None, "", "  ", 1, {}, ["https://a"], True])
def test_without_a_url_there_is_no_job(url: object) -> None:
    assert flaws(audio_url=url)[0].startswith("audio_url must be a")


def test_every_flaw_is_named_at_once() -> None:
    found = flaws(sentences="yes", model="none", zoom=1, language_config={"languages": "en"})
    assert sorted(flaw.split(" must ")[0] for flaw in found) == [
        "language_config.languages",
        "model",
        "sentences",
        "zoom",
    ]


@cases("name", ["translation", "summarization", "audio_to_llm", "chapterization", "display_mode"])
def test_what_cannot_be_done_and_does_no_harm_is_a_warning_or_refused(name: str) -> None:
    request = asked(**{name: True})
    assert warned(request) == [name]
    assert request.options["missing"] == [name]
    assert request.options["params"][name] is True  # type: ignore[index]
    refused = answer({"audio_url": URL, name: True}, "refuse")
    assert isinstance(refused, GladiaProblem)
    assert refused.validation_errors[0].startswith(f"{name} must be left out: this server does not ")
    assert asked(**{name: False}).warnings == ()


@cases("name", ["diarization", "pii_redaction", "moderation"])
def test_what_protects_is_refused_by_name_and_harmless_when_switched_off(name: str) -> None:
    (flaw,) = flaws(**{name: True})
    assert flaw.startswith(f"{name} must be left out: this server does not ")
    assert asked(**{name: False, f"{name}_config": {"anything": 1}}).warnings == ()
    assert asked(**{name: None}).warnings == ()


@cases(
    "config, bounds",
    [
        ({}, SpeakerBounds()),
        ({"number_of_speakers": 3, "min_speakers": 1, "max_speakers": 5}, SpeakerBounds(3, 3)),
        ({"min_speakers": 2}, SpeakerBounds(2)),
        ({"max_speakers": 4, "min_speakers": None}, SpeakerBounds(1, 4)),
    ],
)
def test_who_speaks_is_bounded_by_what_the_caller_knows(config: dict[str, int], bounds: SpeakerBounds) -> None:
    request = asked(ABLE, diarization=True, diarization_config=config)
    assert request.speakers == bounds
    assert request.options["params"]["diarization"] is True  # type: ignore[index]
    assert asked(ABLE, diarization=False, diarization_config=config).speakers is None


@cases(
    ("config", "field"),
    [
        ({"number_of_speakers": 0}, "number_of_speakers"),
        ({"max_speakers": 21}, "max_speakers"),
        ({"min_speakers": 3, "max_speakers": 2}, "min_speakers"),
        ({"enhanced": True}, "enhanced"),
    ],
)
def test_bounds_that_cannot_be_kept_are_refused_by_name(config: dict[str, int], field: str) -> None:
    (flaw,) = flaws(ABLE, diarization=True, diarization_config=config)
    assert flaw.startswith(f"diarization_config.{field} must ")


def test_without_the_encoder_the_refusal_says_what_brings_it() -> None:
    (flaw,) = flaws(diarization=True)
    assert "`engine models pull speakers`" in flaw


@cases("value", [True, 1, "true", [1], {"entity_types": "SSN"}])
def test_redaction_is_always_refused(value: object) -> None:
    assert flaws(pii_redaction=value)


def test_a_config_without_its_switch_is_warned_about() -> None:
    assert warned(asked(subtitles_config={"formats": ["srt"]})) == ["subtitles_config"]


def test_fields_that_nobody_knows_are_refused_unless_switched_off() -> None:
    assert flaws(zoom=1) == ["zoom must be left out: this server does not know the field"]
    assert flaws(**{"a\n" * 99: 1}) == [
        f"{('a' + chr(10)) * 32!r} must be left out: this server does not know the field"
    ]
    assert asked(zoom=False, other=None).warnings == ()


def test_of_very_many_flaws_the_first_are_named() -> None:
    assert len(flaws(**{f"f{number}": 1 for number in range(999)})) == 50


@cases(
    ("fields", "language", "languages"),
    [
        ({}, None, ()),
        ({"language_config": {"languages": []}}, None, ()),
        ({"language_config": {"languages": ["en"], "code_switching": False}}, "en", ()),
        ({"language_config": {"languages": ["DE", "en", "de"]}}, None, ("de", "en")),
        ({"language_config": {"languages": ["jp"]}}, "ja", ()),
        ({"language": "de", "detect_language": False}, "de", ()),
        ({"enable_code_switching": True, "code_switching_config": {"languages": ["mymr", "en"]}}, None, ("my", "en")),
    ],
)
def test_one_language_is_fixed_and_several_are_candidates(
    fields: dict[str, Any], language: str | None, languages: tuple[str, ...]
) -> None:
    request = asked(model="large", **fields)
    assert (request.language, request.languages) == (language, languages)
    assert warned(request) == []


@cases(
    ("config", "switching"),
    [
        ({"languages": [], "code_switching": True}, True),
        ({"languages": ["de", "en"], "code_switching": True}, True),
        ({"languages": ["de"], "code_switching": True}, False),
        ({"languages": ["de", "en"]}, False),
    ],
)
def test_languages_change_where_that_is_asked_for_and_more_than_one_is_possible(
    config: dict[str, Any], switching: bool
) -> None:
    assert asked(model="large", language_config=config).code_switching is switching


def test_a_language_that_the_model_does_not_know_is_refused() -> None:
    (flaw,) = flaws(language_config={"languages": ["en", "fr"]})
    assert flaw == (
        "language_config.languages must be of those that the model knows: en. "
        "No model here does; whoever runs this server can add a multilingual one."
    )
    (flaw,) = flaws(language_config={"languages": ["de"]})
    assert flaw.endswith("Models here that do: large.")


@cases(
    "fields",
    [
        {"detect_language": True},
        {"language_config": {"languages": ["en"], "code_switching": True}},
        {"language_config": {"languages": [], "code_switching": True}},
    ],
)
def test_a_model_that_detects_no_language_is_not_asked_to(fields: dict[str, Any]) -> None:
    (flaw,) = flaws(**fields)
    assert flaw.endswith("Models here that do: large.")
    assert asked(model="large", **fields).recogniser == "whisper"


def test_who_says_nothing_of_languages_is_heard_by_a_model_of_one() -> None:
    assert asked(language_config={"languages": []}).language is None


def test_a_model_that_is_not_here_is_refused_with_those_that_are() -> None:
    assert flaws(model="solaria-9") == ["model must be one of large, solaria-1"]


@cases(
    ("fields", "callback"),
    [
        ({"callback": True, "callback_config": {"url": URL}}, Callback(URL, "POST")),
        ({"callback": True, "callback_config": {"url": URL, "method": "put"}}, Callback(URL, "PUT")),
        ({"callback": True, "callback_config": {"url": URL, "method": None}}, Callback(URL, "POST")),
        ({"callback_url": URL}, Callback(URL, "POST")),
        ({"callback": True, "callback_url": URL}, Callback(URL, "POST")),
        ({"callback": False, "callback_config": {"url": URL}}, None),
    ],
)
def test_callbacks(fields: dict[str, Any], callback: Callback | None) -> None:
    assert asked(**fields).callback == callback


@cases(
    ("fields", "field"),
    [
        ({"callback": True}, "callback_config.url"),
        ({"callback": True, "callback_config": {"url": ""}}, "callback_config.url"),
        ({"callback": True, "callback_config": {"url": 7}}, "callback_config.url"),
        ({"callback": True, "callback_config": {"url": URL, "method": "GET"}}, "callback_config.method"),
        ({"callback": True, "callback_config": {"url": URL, "headers": {}}}, "callback_config.headers"),
        ({"callback": True, "callback_config": [URL]}, "callback_config"),
        ({"callback": True, "callback_config": {"url": URL}, "callback_url": URL + "2"}, "callback_url"),
        ({"callback": "yes"}, "callback"),
        ({"callback_url": 1}, "callback_url"),
    ],
)
def test_a_callback_that_cannot_be_made_is_refused(fields: dict[str, Any], field: str) -> None:
    assert flaws(**fields)[0].startswith(f"{field} must ")


def test_vocabulary_is_listened_for_and_pronunciations_are_written_as_meant() -> None:
    entry = {"value": "Night's Watch", "pronunciations": ["Nightz Watch"], "intensity": 0.4, "language": "en"}
    request = asked(
        model="large",
        custom_vocabulary=True,
        custom_vocabulary_config={"vocabulary": ["Westeros", {"value": "Stark"}, entry], "default_intensity": 0.5},
    )
    assert request.hotwords == ("Westeros", "Stark", "Night's Watch")
    assert request.options["replace"] == [["Nightz Watch", "Night's Watch"]]
    assert warned(request) == ["intensity"]


def test_vocabulary_may_stand_where_its_switch_is() -> None:
    assert asked(model="large", custom_vocabulary=["Westeros", "Westeros"]).hotwords == ("Westeros",)
    assert asked(custom_vocabulary=[]).hotwords == ()


@cases(
    ("fields", "field"),
    [
        ({"custom_vocabulary": True}, "custom_vocabulary_config.vocabulary"),
        ({"custom_vocabulary": True, "custom_vocabulary_config": {"vocabulary": "x"}}, "custom_vocabulary_config"),
        ({"custom_vocabulary": [1]}, "custom_vocabulary must"),
        ({"custom_vocabulary": [{}]}, "custom_vocabulary.value must"),
        ({"custom_vocabulary": [{"value": "a", "intensity": 2}]}, "custom_vocabulary.intensity must"),
        ({"custom_vocabulary": [{"value": "a", "boost": 2}]}, "custom_vocabulary.boost must"),
        ({"custom_vocabulary": ["a"] * 1001}, "custom_vocabulary must"),
    ],
)
def test_vocabulary_that_is_none_is_refused(fields: dict[str, Any], field: str) -> None:
    assert flaws(**fields)[0].startswith(field)


@cases("dictionary", [None, [], {}, {"SQL": "x"}, {"SQL": [1]}, {" ": ["x"]}])
def test_spellings_that_are_none_are_refused(dictionary: object) -> None:
    found = flaws(custom_spelling=True, custom_spelling_config={"spelling_dictionary": dictionary})
    assert found[0].startswith("custom_spelling_config.spelling_dictionary")


def test_spellings_replace_what_was_heard() -> None:
    request = asked(
        custom_spelling=True, custom_spelling_config={"spelling_dictionary": {"SQL": ["Sequel", "seagull"]}}
    )
    assert request.options["replace"] == [["Sequel", "SQL"], ["seagull", "SQL"]]


def test_subtitles_are_cut_as_asked_for() -> None:
    config = {
        "formats": ["srt", "vtt"],
        "minimum_duration": 1,
        "maximum_duration": 15.5,
        "maximum_characters_per_row": 20,
        "maximum_rows_per_caption": 3,
        "style": "compliance",
    }
    request = asked(subtitles=True, subtitles_config=config)
    expected = {"formats": ["srt", "vtt"], "characters": 20, "rows": 3, "shortest": 1.0, "longest": 15.5}
    assert request.options["subtitles"] == expected
    plain = asked(subtitles=True).options["subtitles"]
    assert plain == {"formats": ["srt"], "characters": 42, "rows": 2, "shortest": 0.0, "longest": 7.0}


@cases(
    ("config", "field"),
    [
        ({"formats": ["ass"]}, "formats"),
        ({"formats": "srt"}, "formats"),
        ({"formats": [None]}, "formats"),
        ({"minimum_duration": -1}, "minimum_duration"),
        ({"minimum_duration": 9, "maximum_duration": 8}, "minimum_duration"),
        ({"maximum_duration": 31}, "maximum_duration"),
        ({"maximum_duration": True}, "maximum_duration"),
        ({"maximum_characters_per_row": 0}, "maximum_characters_per_row"),
        ({"maximum_characters_per_row": 1.5}, "maximum_characters_per_row"),
        ({"maximum_rows_per_caption": 6}, "maximum_rows_per_caption"),
        ({"style": "fancy"}, "style"),
        ({"style": {}}, "style"),
        ({"font": "Arial"}, "font"),
    ],
)
def test_subtitles_that_cannot_be_cut_are_refused(config: dict[str, Any], field: str) -> None:
    assert flaws(subtitles=True, subtitles_config=config)[0].startswith(f"subtitles_config.{field} must ")


def test_metadata_of_2000_characters_is_kept_and_of_one_more_refused() -> None:
    fits = {"k": "é" * (2000 - len('{"k":""}'))}
    assert asked(custom_metadata=fits).options["custom_metadata"] == fits
    assert flaws(custom_metadata={"k": fits["k"] + "é"}) == [
        "custom_metadata must be no longer than 2000 characters as JSON"
    ]


@cases("metadata", [[], "x", 1, True])
def test_metadata_is_an_object(metadata: object) -> None:
    assert flaws(custom_metadata=metadata) == ["custom_metadata must be an object"]


def test_metadata_that_is_too_deep_for_whoever_reads_it_is_refused() -> None:
    deep: Any = {}
    for _ in range(400):
        deep = {"a": [deep]}
    assert flaws(custom_metadata=deep) == ["custom_metadata must be no more than 32 objects deep"]


def test_what_the_typed_client_sends_is_read_as_meant() -> None:
    typed = PreRecordedV2InitTranscriptionRequest(
        audio_url=URL,
        callback=True,
        callback_config=PreRecordedV2CallbackConfig(url=URL),
        custom_vocabulary=True,
        custom_vocabulary_config=PreRecordedV2CustomVocabularyConfig(
            vocabulary=[PreRecordedV2CustomVocabularyEntry(value="Stark"), "Westeros"]
        ),
        punctuation_enhanced=True,
    )
    sent = typed.to_dict()
    assert sent["custom_vocabulary_config"]["vocabulary"][0]["pronunciations"] is None
    request = asked(model="large", **{name: value for name, value in sent.items() if name != "audio_url"})
    assert (request.hotwords, request.callback) == (("Stark", "Westeros"), Callback(URL))
    assert warned(request) == ["punctuation_enhanced"]


_NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_NAMES = (
    *("audio_url", "callback", "callback_url", "callback_config", "custom_metadata", "custom_vocabulary", "model"),
    *("custom_vocabulary_config", "custom_spelling", "custom_spelling_config", "subtitles", "subtitles_config"),
    *("sentences", "diarization", "language_config", "language", "pii_redaction", "punctuation_enhanced"),
    *("code_switching_config", "enable_code_switching", "detect_language", "zoom"),
)
_CONFIG = st.dictionaries(
    st.sampled_from(
        ["url", "method", "vocabulary", "default_intensity", "spelling_dictionary", "formats", "languages"]
    ),
    _JSON,
)


@given(st.dictionaries(st.sampled_from(_NAMES), _JSON | _CONFIG | st.just(True)))
def test_whatever_comes_is_a_job_that_can_be_kept_or_an_error_that_names_fields(body: dict[str, Any]) -> None:
    outcome = answer({"audio_url": URL} | body)
    if isinstance(outcome, Request):
        # Numbers beyond 53 bits aside, what goes into the job's row comes out of it.
        assert request_from_json(request_to_json(outcome)) == outcome
        orjson.dumps(outcome.options)
    else:
        assert outcome.validation_errors
        assert all(re.match(r"[a-z_]+(\..+)* must |'", flaw) for flaw in outcome.validation_errors)
