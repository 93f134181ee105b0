"""Every query parameter of Deepgram's pre-recorded API, and the verdict on it."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from deepgram.listen.v1.media.types.media_transcribe_request_model import MediaTranscribeRequestModel
from deepgram.types.listen_v1model import ListenV1Model

from engine.audio.pcm import raw_format
from engine.dialects.catalogue import Catalogue
from engine.dialects.deepgram import GENERAL, SPECIAL, BadRequest, parse
from engine.dialects.warnings import Unsupported
from engine.record import request_from_json, request_to_json
from engine.request import Callback, RawFormat, Request, SpeakerBounds
from tests.cases import cases
from tests.engine.dialects.conftest import REQUEST_ID

Pairs = list[tuple[str, str]]


def read(catalogue: Catalogue, *pairs: tuple[str, str]) -> Request | BadRequest:
    return parse(pairs, request_id=REQUEST_ID, catalogue=catalogue, raw_format=raw_format)


def accepted(catalogue: Catalogue, *pairs: tuple[str, str]) -> Request:
    request = read(catalogue, *pairs)
    assert isinstance(request, Request), request
    return request


def refused(catalogue: Catalogue, *pairs: tuple[str, str]) -> BadRequest:
    reply = read(catalogue, *pairs)
    assert isinstance(reply, BadRequest), reply
    return reply


def test_a_bare_request_gets_the_default_model_and_no_callback(catalogue: Catalogue) -> None:
    request = accepted(catalogue)
    assert (request.id, request.dialect) == (REQUEST_ID, "deepgram")
    assert (request.model, request.recogniser) == ("nova-3", "default")
    assert (request.callback, request.raw, request.language, request.warnings) == (None, None, None, ())


def test_the_query_an_sdk_sends_is_read_whole(catalogue: Catalogue) -> None:
    url = "https://user:pass@example.com:8443/hook?x=1&y=a+b"
    request = accepted(
        catalogue,
        *(("callback", url), ("callback_method", "PUT"), ("extra", "k:v"), ("extra", "job:4:2"), ("tag", "a")),
        *(("tag", "b"), ("language", "en-US"), ("model", "nova-3"), ("utterances", "true"), ("utt_split", "0.5")),
        *(("search", "hello"), ("replace", "in:inside"), ("multichannel", "true"), ("mip_opt_out", "true")),
    )
    assert request.callback == Callback(url, "PUT")
    assert (request.language, request.multichannel) == ("en-US", True)
    assert request.options["extra"] == {"k": "v", "job": "4:2"}
    assert request.options["tags"] == ["a", "b"]
    assert request.options["search"] == ["hello"]
    assert request.options["replace"] == [["in", "inside"]]
    assert (request.options["utterances"], request.options["utt_split"]) == (True, 0.5)
    assert request.warnings == ()


def test_a_request_survives_its_job_row_without_showing_its_callback(catalogue: Catalogue) -> None:
    request = accepted(
        catalogue,
        *(("callback", "https://u:secret@example.com/?t=token"), ("extra", "k:v"), ("replace", "a:b"), ("zoom", "1")),
        *(("encoding", "linear16"), ("sample_rate", "8000"), ("channels", "2"), ("punctuate", "true")),
    )
    assert request_from_json(request_to_json(request)) == request
    assert "secret" not in repr(request)
    assert "token" not in repr(request)


@cases(("written", "method"), [("POST", "POST"), ("post", "POST"), ("PUT", "PUT"), ("put", "PUT"), ("Put", "PUT")])
def test_the_callback_method_is_read_in_any_case(catalogue: Catalogue, written: str, method: str) -> None:
    request = accepted(catalogue, ("callback", "http://example.com/"), ("callback_method", written))
    assert request.callback == Callback("http://example.com/", method)


@cases(
    ("encoding", "raw"),
    [
        ([("encoding", "linear16"), ("sample_rate", "16000")], RawFormat("pcm_s16le", 16000, 1)),
        ([("encoding", "linear16"), ("sample_rate", "44100"), ("channels", "2")], RawFormat("pcm_s16le", 44100, 2)),
        ([("encoding", "mulaw")], RawFormat("pcm_mulaw", 8000, 1)),
        ([("encoding", "flac")], None),
    ],
)
def test_raw_audio_is_described_by_encoding_rate_and_channels(
    catalogue: Catalogue, encoding: Pairs, raw: RawFormat | None
) -> None:
    assert accepted(catalogue, *encoding).raw == raw


REFUSED: list[tuple[Pairs, str, str]] = [
    ([("callback", "")], "INVALID_QUERY_PARAMETER", "Invalid callback url. callback:"),
    ([("callback_method", "DELETE")], "INVALID_QUERY_PARAMETER", "callback_method: unknown variant 'DELETE'"),
    ([("callback_method", "")], "INVALID_QUERY_PARAMETER", "expected `POST` or `PUT`"),
    ([("callback", "http://a.com/"), ("callback", "http://b.com/")], "INVALID_QUERY_PARAMETER", "duplicate field"),
    ([("model", "nova-9")], "Bad Request", "model: 'nova-9' is not known here, use one of default, large, nova-3"),
    ([("model", "")], "Bad Request", "No such model/language/tier combination found."),
    ([("version", "2021-01-01.0")], "Bad Request", "version: '2021-01-01.0' is not known here, use latest"),
    (
        [("language", "fr")],
        "Bad Request",
        "language: model nova-3 does not know 'fr', only en. No model here does; whoever runs",
    ),
    ([("language", "english")], "Bad Request", "No such model/language/tier combination found."),
    (
        [("language", "multi")],
        "Bad Request",
        "language: model nova-3 does not detect languages, it knows only en. Models here that do: large.",
    ),
    ([("detect_language", "es")], "Bad Request", "detect_language: model nova-3 does not know 'es'"),
    ([("language", "de-CH")], "Bad Request", "does not know 'de-CH', only en. Models here that do: large."),
    ([("detect_language", "true")], "Bad Request", "detect_language: model nova-3 does not detect languages"),
    ([("detect_language", "en")], "Bad Request", "Models here that do: large."),
    ([("extra", "novalue")], "INVALID_QUERY_PARAMETER", "extra: a value has no name before a colon"),
    ([("extra", ":v")], "INVALID_QUERY_PARAMETER", "send extra=key:value"),
    ([("extra", "k:" + "v" * 2047)], "INVALID_QUERY_PARAMETER", "extra: a value is longer than 2048 characters"),
    ([("tag", "t" * 2049)], "INVALID_QUERY_PARAMETER", "tag: a value is longer than 2048 characters"),
    ([("replace", "word")], "INVALID_QUERY_PARAMETER", "send replace=find:replacement"),
    ([("utt_split", "soon")], "INVALID_QUERY_PARAMETER", "utt_split: 'soon' is not a positive number of seconds"),
    ([("utt_split", "0")], "INVALID_QUERY_PARAMETER", "utt_split"),
    ([("utt_split", "nan")], "INVALID_QUERY_PARAMETER", "utt_split"),
    ([("utt_split", "inf")], "INVALID_QUERY_PARAMETER", "utt_split"),
    ([("encoding", "linear17")], "INVALID_QUERY_PARAMETER", "encoding: 'linear17' is not supported"),
    ([("encoding", "linear16")], "INVALID_QUERY_PARAMETER", "sample_rate: required with encoding=linear16"),
    ([("encoding", "linear16"), ("sample_rate", "fast")], "INVALID_QUERY_PARAMETER", "sample_rate: 'fast' is not"),
    ([("encoding", "linear16"), ("sample_rate", "-8")], "INVALID_QUERY_PARAMETER", "sample_rate: '-8' is not"),
    ([("encoding", "mulaw"), ("channels", "0")], "INVALID_QUERY_PARAMETER", "channels: 0 is out of range"),
    ([("keyterm", " ")], "INVALID_QUERY_PARAMETER", "keyterm, keywords: a value is empty"),
    ([("keywords", ":2")], "INVALID_QUERY_PARAMETER", "keyterm, keywords: a value is empty"),
    ([("tag", "x")] * 513, "INVALID_QUERY_PARAMETER", "513 parameters are too many"),
    *(
        ([(flag, value)], "INVALID_QUERY_PARAMETER", f"{flag}: provided string was not `true` or `false`")
        for flag in (
            *("punctuate", "smart_format", "numerals", "filler_words", "profanity_filter", "multichannel"),
            *("utterances", "paragraphs", "mip_opt_out"),
        )
        for value in ("", "1", "True", "yes")
    ),
    *(
        ([("redact", kind)], "INVALID_QUERY_PARAMETER", "redact: this server does not offer redaction, leave")
        for kind in ("pci", "true", "numbers")
    ),
]
HARMLESS = [
    *(
        ("sentiment", "true"),
        ("detect_entities", "true"),
        ("summarize", "v2"),
        ("topics", "true"),
        ("custom_topic", "rain"),
    ),
    *(("custom_topic_mode", "strict"), ("intents", "true"), ("custom_intent", "leave")),
    *(("custom_intent_mode", "extended"), ("measurements", "true"), ("dictation", "true"), ("language_hint", "es")),
]


@cases(("pairs", "code", "message"), REFUSED)
def test_a_bad_parameter_is_refused_with_its_name_and_the_remedy(
    catalogue: Catalogue, pairs: Pairs, code: str, message: str
) -> None:
    reply = refused(catalogue, *pairs)
    assert (reply.err_code, reply.status) == (code, 400)
    assert message in reply.line


@cases("pair", HARMLESS)
def test_what_cannot_be_done_and_does_no_harm_is_warned_of_or_refused(
    catalogue: Catalogue, pair: tuple[str, str]
) -> None:
    (warning,) = accepted(catalogue, pair, pair).warnings
    assert (warning["parameter"], warning["type"]) == (pair[0], "unsupported_parameter")
    assert warning["message"].startswith("This server does not offer ")
    reply = parse([pair], request_id=REQUEST_ID, catalogue=catalogue, raw_format=raw_format, unsupported="refuse")
    assert isinstance(reply, BadRequest)
    assert f"{pair[0]}: this server does not offer" in reply.line


@cases("pair", [("diarize", "true"), ("diarize_model", "latest"), ("diarize_model", "v2")])
def test_who_speaks_is_asked_for_in_two_ways_and_not_known_without_the_encoder(
    catalogue: Catalogue, pair: tuple[str, str]
) -> None:
    able = replace(catalogue, speakers=True)
    request = accepted(able, pair, ("diarize_version", "2021-07-14.0"))
    assert (request.speakers, request.warnings) == (SpeakerBounds(), ())
    assert request_from_json(request_to_json(request)) == request
    without = accepted(catalogue, pair)
    assert without.speakers is None
    (warning,) = without.warnings
    assert (warning["parameter"], warning["type"]) == (pair[0], "unsupported_parameter")
    assert "`engine models pull speakers`" in warning["message"]
    reply = parse([pair], request_id=REQUEST_ID, catalogue=catalogue, raw_format=raw_format, unsupported="refuse")
    assert isinstance(reply, BadRequest)
    assert f"{pair[0]}: this server does not offer telling speakers apart" in reply.line


def test_a_diarizer_that_nobody_knows_is_refused_and_its_version_alone_asks_for_nothing(catalogue: Catalogue) -> None:
    assert "diarize_model: 'v3' is not known here" in refused(catalogue, ("diarize_model", "v3")).line
    (warning,) = accepted(replace(catalogue, speakers=True), ("diarize_version", "2021-07-14.0")).warnings
    assert (warning["parameter"], warning["type"]) == ("diarize_version", "unused_parameter")


def test_what_protects_somebody_is_refused_always(catalogue: Catalogue) -> None:
    for unsupported in get_args(Unsupported):
        pairs = [("redact", "pii")]
        reply = parse(pairs, request_id=REQUEST_ID, catalogue=catalogue, raw_format=raw_format, unsupported=unsupported)
        assert isinstance(reply, BadRequest)


def test_numerals_of_other_languages_stay_words(catalogue: Catalogue) -> None:
    pairs = [("model", "large"), ("language", "de"), ("numerals", "true")]
    (warning,) = accepted(catalogue, *pairs).warnings
    assert (warning["parameter"], warning["type"]) == ("numerals", "unsupported_parameter")
    reply = parse(pairs, request_id=REQUEST_ID, catalogue=catalogue, raw_format=raw_format, unsupported="refuse")
    assert isinstance(reply, BadRequest)
    assert "numerals: this server does not offer numerals in 'de'" in reply.line


@cases("documented", [ListenV1Model, MediaTranscribeRequestModel])
def test_every_model_that_the_client_documents_is_answered_to(documented: object) -> None:
    """A new release of the client shows here what is missing."""
    named = get_args(next(part for part in get_args(documented) if get_args(part)))
    assert len(named) > 25
    assert set(named) <= {*GENERAL, *SPECIAL}


@cases("model", ["nova-meeting", "nova-2-phonecall", "nova-2-atc", "base-general", "whisper-large"])
def test_models_that_frameworks_spell_are_answered_to(model: str) -> None:
    assert model in {*GENERAL, *SPECIAL}


def test_a_model_for_one_kind_of_speech_says_what_was_used(catalogue: Catalogue) -> None:
    models = {"nova-3-medical": "default", "nova-3": "default", "nova-2-finance": "whisper"}
    theirs = replace(catalogue, models=models, own=frozenset({"nova-2-finance"}))
    (warning,) = accepted(theirs, ("model", "nova-3-medical")).warnings
    assert (warning["parameter"], warning["type"]) == ("model", "unsupported_parameter")
    assert warning["message"].startswith("There is no nova-3-medical here: the recogniser default was used instead")
    assert accepted(theirs, ("model", "nova-3")).warnings == ()
    assert accepted(theirs, ("model", "nova-2-finance")).warnings == ()


def test_the_tier_of_old_clients_is_not_ignored_in_silence(catalogue: Catalogue) -> None:
    assert "2-general" in GENERAL
    (warning,) = accepted(catalogue, ("tier", "nova")).warnings
    assert (warning["parameter"], warning["type"]) == ("tier", "unused_parameter")


@cases("name", ["diarize", "redact", "sentiment", "summarize", "topics", "dictation"])
def test_a_feature_that_is_switched_off_is_no_reason_to_refuse(catalogue: Catalogue, name: str) -> None:
    assert accepted(catalogue, (name, "false")).warnings == ()


@cases("name", ["smart_format", "numerals", "filler_words", "profanity_filter"])
@cases("model", ["nova-3", "large"])
def test_what_is_done_in_part_says_which_part(catalogue: Catalogue, name: str, model: str) -> None:
    (warning,) = accepted(catalogue, ("model", model), (name, "true")).warnings
    assert (warning["parameter"], warning["type"]) == (name, "partly_supported_parameter")
    assert accepted(catalogue, ("model", model), (name, "false")).warnings == ()


def test_what_the_recogniser_can_do_is_accepted_without_a_warning(catalogue: Catalogue) -> None:
    request = accepted(
        catalogue,
        *(("model", "large"), ("language", "multi"), ("punctuate", "true"), ("keyterm", "a"), ("keywords", "b")),
    )
    assert (request.recogniser, request.language, request.warnings) == ("whisper", None, ())


@cases(
    ("pairs", "language", "languages", "detects"),
    [
        ([("language", "de-AT")], "de-AT", (), False),
        ([("language", "multi")], None, (), True),
        ([("detect_language", "true")], None, (), True),
        ([("detect_language", "false"), ("language", "de")], "de", (), False),
        (
            [("detect_language", "en-GB"), ("detect_language", "de"), ("detect_language", "en")],
            None,
            ("en", "de"),
            True,
        ),
        ([("detect_language", "de"), ("language", "en")], None, ("de",), True),
    ],
)
def test_a_language_is_given_or_chosen_among_candidates_or_any(
    catalogue: Catalogue, pairs: Pairs, language: str | None, languages: tuple[str, ...], detects: bool
) -> None:
    request = accepted(catalogue, ("model", "large"), *pairs)
    assert (request.language, request.languages, request.options["detect_language"]) == (language, languages, detects)
    assert request.code_switching is (("language", "multi") in pairs)


def test_a_language_beside_detection_is_not_ignored_in_silence(catalogue: Catalogue) -> None:
    (warning,) = accepted(catalogue, ("model", "large"), ("detect_language", "true"), ("language", "en")).warnings
    assert warning["parameter"] == "language"


def test_terms_are_listened_for_once_each_and_their_boosts_are_not_read(catalogue: Catalogue) -> None:
    terms = [("keyterm", "two  words"), ("keyterm", "a:b"), ("keyterm", "two words")]
    keywords = [("keywords", "snuffle:2"), ("keywords", "x:-1.5"), ("keywords", "ratio 4:3:.5"), ("keywords", "plain")]
    request = accepted(catalogue, ("model", "large"), *terms, *keywords)
    assert request.hotwords == ("two words", "a:b", "snuffle", "x", "ratio 4:3", "plain")
    (warning,) = request.warnings
    assert warning["parameter"] == "keywords"
    assert "boost" in warning["message"]


def test_unknown_parameters_are_listed_once_each(catalogue: Catalogue) -> None:
    warnings = accepted(catalogue, ("zoom", "1"), ("zoom", "2"), ("n" * 80, "")).warnings
    assert [(warning["parameter"], warning["type"]) for warning in warnings] == [
        ("zoom", "unknown_parameter"),
        ("n" * 64, "unknown_parameter"),
    ]


def test_a_rate_without_an_encoding_is_not_ignored_in_silence(catalogue: Catalogue) -> None:
    (warning,) = accepted(catalogue, ("sample_rate", "8000")).warnings
    assert warning["parameter"] == "sample_rate"
    assert "encoding" in warning["message"]


@cases("name", ["smart_format", "paragraphs", "punctuate"])
def test_formatting_implies_punctuation(catalogue: Catalogue, name: str) -> None:
    assert accepted(catalogue, (name, "true")).options["punctuate"] is True
    assert accepted(catalogue, (name, "false")).options["punctuate"] is False
