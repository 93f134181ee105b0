"""Deepgram's live API: every query parameter, every message in, and every message out as its client reads it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from deepgram.listen.v1.types.listen_v1configure_failure import ListenV1ConfigureFailure
from deepgram.listen.v1.types.listen_v1configure_success import ListenV1ConfigureSuccess
from deepgram.listen.v1.types.listen_v1error import ListenV1Error
from deepgram.listen.v1.types.listen_v1metadata import ListenV1Metadata
from deepgram.listen.v1.types.listen_v1results import ListenV1Results
from deepgram.listen.v1.types.listen_v1speech_started import ListenV1SpeechStarted
from deepgram.listen.v1.types.listen_v1utterance_end import ListenV1UtteranceEnd

from engine.audio.pcm import bytes_per_second, raw_format
from engine.dialects.catalogue import Catalogue
from engine.dialects.deepgram import BadRequest, DeepgramProtocol, parse_live
from engine.dialects.live import (
    Answered,
    AudioChunk,
    EndOfStream,
    EndReason,
    FinalizeRequest,
    KeepAlive,
    LiveRequest,
    Message,
)
from engine.events import Final, Finished, LiveEvent, LiveOptions, Partial, SpeechStarted, UtteranceEnded
from engine.request import Callback, RawFormat
from engine.transcript import Model, Word
from tests.cases import cases
from tests.engine.dialects.conftest import REQUEST_ID
from tests.schemas import hold

MODEL = Model("5f3c1a52-9d3b-5d4e-8f6a-0c2b7e1d9a10", "tiny.en", "1.2.1", "whisper")
WORDS = (Word("twenty", 1.0, 1.25, 0.5, "Twenty"), Word("three", 1.25, 1.5, 1.0, "three."))
CALLBACK = ("callback", "wss://user:pass@example.com/live")
TYPES: dict[str, Any] = {
    "Results": ListenV1Results,
    "Metadata": ListenV1Metadata,
    "SpeechStarted": ListenV1SpeechStarted,
    "UtteranceEnd": ListenV1UtteranceEnd,
    "Error": ListenV1Error,
    "ConfigureSuccess": ListenV1ConfigureSuccess,
    "ConfigureFailure": ListenV1ConfigureFailure,
}


def read(catalogue: Catalogue, *pairs: tuple[str, str]) -> LiveRequest | BadRequest:
    return parse_live(
        pairs, request_id=REQUEST_ID, catalogue=catalogue, raw_format=raw_format, byte_rate=bytes_per_second
    )


def asked(catalogue: Catalogue, *pairs: tuple[str, str]) -> LiveRequest:
    request = read(catalogue, *pairs)
    assert isinstance(request, LiveRequest), request
    return request


def protocol(catalogue: Catalogue, *pairs: tuple[str, str], mirror: bool = False) -> DeepgramProtocol:
    return DeepgramProtocol(asked(catalogue, *pairs), MODEL, 1763672314.1234, mirror=mirror)


def told(speaker: DeepgramProtocol, event: LiveEvent, channels: int = 1) -> Message:
    (message,) = speaker.tell(event, channels, 0.0)
    return message


def document(message: Message) -> dict[str, Any]:
    """What the caller gets, once the vendor's own types have accepted it."""
    found = json.loads(json.dumps(message.to_caller))
    TYPES[found["type"]].model_validate(found, strict=True)
    if not found["type"].startswith("Configure"):  # of which callbacks hear nothing
        hold("deepgram", json.dumps(found))
    return dict(found)


def answered(speaker: DeepgramProtocol, text: str) -> dict[str, Any]:
    said = speaker.understand(text, 0.0)
    assert isinstance(said, Answered)
    (message,) = said.answers
    assert message.to_callback is None
    return document(message)


def test_a_bare_session_hears_a_container_and_tells_finals_only(catalogue: Catalogue) -> None:
    request = asked(catalogue, ("model", "nova-3"))
    assert request.options == LiveOptions(endpointing=0.01)
    assert request.byte_rate is None


def test_the_query_an_sdk_sends_is_read_whole(catalogue: Catalogue) -> None:
    request = asked(
        catalogue,
        *(CALLBACK, ("callback_method", "POST"), ("channels", "2"), ("encoding", "linear16"), ("endpointing", "300")),
        *(("extra", "k:v"), ("interim_results", "true"), ("model", "large"), ("sample_rate", "16000"), ("tag", "a")),
        *(("utterance_end_ms", "1000"), ("vad_events", "true"), ("multichannel", "true"), ("keyterm", "Outspoken")),
        ("language", "de"),
    )
    assert request.options == LiveOptions(
        language="de",
        hotwords=("Outspoken",),
        multichannel=True,
        raw=RawFormat("pcm_s16le", 16000, 2),
        interim=True,
        endpointing=0.3,
        utterance_end=1.0,
        vad_events=True,
    )
    assert request.byte_rate == 64000
    assert request.request.callback == Callback(CALLBACK[1])
    assert (request.request.options["tags"], request.request.options["extra"]) == (["a"], {"k": "v"})
    assert request.request.warnings == ()


@cases(("value", "endpointing"), [("false", None), ("true", 0.01), ("10", 0.01), ("0", 0.001), ("2500", 2.5)])
def test_endpointing_is_milliseconds_or_off(catalogue: Catalogue, value: str, endpointing: float | None) -> None:
    assert asked(catalogue, ("endpointing", value)).options.endpointing == endpointing


@cases(
    ("pairs", "named"),
    [
        ([("endpointing", "soon")], "endpointing"),
        ([("utterance_end_ms", "999"), ("interim_results", "true")], "utterance_end_ms"),
        ([("utterance_end_ms", "1000")], "interim_results=true"),
        ([("interim_results", "yes")], "interim_results"),
        ([("detect_language", "true")], "detect_language"),
        ([("callback_method", "BREW")], "callback_method"),
        ([("encoding", "linear16")], "sample_rate"),
        ([("redact", "pii")], "redact"),
        ([("model", "nova-9")], "nova-9"),
        ([("vad_events", "true"), ("vad_events", "true")], "vad_events"),
        ([("diarize_model", "v3")], "diarize_model"),
    ],
)
def test_what_cannot_be_is_refused_by_name(catalogue: Catalogue, pairs: list[tuple[str, str]], named: str) -> None:
    refused = read(catalogue, *pairs)
    assert isinstance(refused, BadRequest)
    assert refused.status == 400
    assert named in refused.line


def test_what_does_no_harm_when_it_is_missing_is_warned_of_once_it_is_over(catalogue: Catalogue) -> None:
    speaker = DeepgramProtocol(asked(catalogue, ("diarize", "true"), ("smart_format", "true")), MODEL, 0.0)
    (result,) = speaker.tell(Final(0, 0.0, 1.5, WORDS), 1, 0.0)
    assert result.to_caller
    assert "warnings" not in result.to_caller["metadata"]
    assert "paragraphs" not in result.to_caller["channel"]["alternatives"][0]
    (last,) = speaker.tell(Finished(1.5, 1, "ab" * 32), 1, 0.0)
    assert last.to_caller
    assert {warning["parameter"] for warning in last.to_caller["warnings"]} == {"smart_format", "diarize"}


def test_who_speaks_is_asked_for_as_of_recordings(catalogue: Catalogue) -> None:
    wanted = asked(replace(catalogue, speakers=True), ("diarize", "true"), ("interim_results", "true"))
    assert wanted.options == LiveOptions(interim=True, endpointing=0.01, speakers=True)
    assert wanted.request.warnings == ()
    (word,) = WORDS[:1]
    result = told(DeepgramProtocol(wanted, MODEL, 0.0), Final(0, 0.0, 1.5, (replace(word, speaker=1),)))
    found = document(result)
    assert found["channel"]["alternatives"][0]["words"][0]["speaker"] == 1
    assert "speaker_confidence" not in found["channel"]["alternatives"][0]["words"][0]
    assert found["metadata"]["diarize_info"]["arch"] == "ge2e"
    without = asked(catalogue, ("diarize", "true"))
    assert not without.options.speakers
    assert "`engine models pull speakers`" in without.request.warnings[0]["message"]


def test_what_is_for_recordings_only_is_accepted_with_a_warning(catalogue: Catalogue) -> None:
    request = asked(catalogue, ("paragraphs", "true"), ("utterances", "false"), ("callback_method", "put")).request
    assert [warning["parameter"] for warning in request.warnings] == ["paragraphs", "callback_method"]


def test_messages_of_the_caller_are_understood(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue)
    assert speaker.understand(b"sound", 0.0) == AudioChunk(b"sound")
    assert speaker.understand(b"", 0.0) == EndOfStream()
    assert speaker.understand('{"type": "KeepAlive"}', 0.0) == KeepAlive()
    assert speaker.understand('{"type":"CloseStream"}', 0.0) == EndOfStream()
    assert speaker.understand('{"type":"Finalize"}', 0.0) == FinalizeRequest()
    assert speaker.understand('{"type":"Finalize","channel":1}', 0.0) == FinalizeRequest(1)
    assert speaker.understand('{"type":"Finalize","channel":[1,2]}', 0.0) == FinalizeRequest(1)


@cases(
    "text",
    [
        *("", "KeepAlive", "[]", "null", "3", "{}", '{"type": 3}', '{"type":["KeepAlive"]}', '{"type":"keepalive"}'),
        *('{"type":"Finalize","channel":-1}', '{"type":"Finalize","channel":true}', '{"type":"Finalize","channel":[]}'),
        *(
            '{"type":"Configure","features":{"numerals":1}}',
            '{"type":"Configure","features":{"magic":true}}',
            "[" * 9999,
        ),
    ],
)
def test_what_nobody_understands_is_answered_with_the_message_itself(catalogue: Catalogue, text: str) -> None:
    speaker = protocol(catalogue)
    error = answered(speaker, text)
    assert (error["type"], error["variant"], error["message"]) == ("Error", "SchemaError", text[:256])
    said = speaker.understand(text, 0.0)
    assert isinstance(said, Answered)
    assert said.flawed


def test_results_say_everything_that_clients_look_for(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue, ("punctuate", "true"), ("extra", "k:v"), ("search", "three"))
    result = document(told(speaker, Final(1, 1.0, 0.75, WORDS, speech_final=True, from_finalize=True), 2))
    assert result == {
        "type": "Results",
        "channel_index": [1, 2],
        "duration": 0.75,
        "start": 1.0,
        "is_final": True,
        "speech_final": True,
        "from_finalize": True,
        "channel": {
            "alternatives": [
                {
                    "transcript": "Twenty three.",
                    "confidence": 0.75,
                    "words": [
                        {"word": "twenty", "start": 1.0, "end": 1.25, "confidence": 0.5, "punctuated_word": "Twenty"},
                        {"word": "three", "start": 1.25, "end": 1.5, "confidence": 1.0, "punctuated_word": "three."},
                    ],
                }
            ],
            "search": [
                {"query": "three", "hits": [{"confidence": 1.0, "start": 1.25, "end": 1.5, "snippet": "three"}]}
            ],
        },
        "metadata": {
            "request_id": REQUEST_ID,
            "model_info": {"name": "tiny.en", "version": "1.2.1", "arch": "whisper"},
            "model_uuid": MODEL.id,
            "extra": {"k": "v"},
        },
    }


def test_silence_has_an_alternative_too(catalogue: Catalogue) -> None:
    result = document(told(protocol(catalogue), Final(0, 0.0, 1.0, (), from_finalize=True)))
    assert result["channel"]["alternatives"] == [{"transcript": "", "confidence": 0.0, "words": []}]


def test_a_partial_is_neither_final_nor_kept_apart(catalogue: Catalogue) -> None:
    message = told(protocol(catalogue), Partial(0, 1.0, 0.5, WORDS))
    assert message.partial
    result = document(message)
    assert (result["is_final"], result["speech_final"], result["from_finalize"]) == (False, False, False)


def test_events_are_told_as_the_vendor_does(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue)
    started = document(told(speaker, SpeechStarted(1, 9.54), 2))
    assert started == {"type": "SpeechStarted", "channel": [1], "timestamp": 9.54}
    ended = document(told(speaker, UtteranceEnded(0, 2.395), 2))
    assert ended == {"type": "UtteranceEnd", "channel": [0, 2], "last_word_end": 2.395}


def test_the_last_message_is_the_metadata_with_its_warnings(catalogue: Catalogue) -> None:
    last = document(told(protocol(catalogue, ("paragraphs", "true"), ("tag", "a")), Finished(27.3, 1, "ab" * 32)))
    assert last.pop("warnings")[0]["parameter"] == "paragraphs"
    assert last == {
        "type": "Metadata",
        "transaction_key": "deprecated",
        "request_id": REQUEST_ID,
        "sha256": "ab" * 32,
        "created": "2025-11-20T20:58:34.123Z",
        "duration": 27.3,
        "channels": 1,
        "models": [MODEL.id],
        "model_info": {MODEL.id: {"name": MODEL.name, "version": "1.2.1", "arch": "whisper"}},
        "tags": ["a"],
    }


def test_with_a_callback_the_caller_gets_the_last_message_only(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue, CALLBACK)
    for heard in (Partial(0, 0.0, 1.0, WORDS), SpeechStarted(0, 1.0), Final(0, 0.0, 1.0, WORDS)):
        message = told(speaker, heard)
        assert message.to_caller is None
        assert message.to_callback
    last = told(speaker, Finished(1.0, 1, ""))
    assert last.to_caller == last.to_callback
    assert last.to_caller


def test_a_mirror_shows_the_caller_everything(catalogue: Catalogue) -> None:
    message = told(protocol(catalogue, CALLBACK, mirror=True), Final(0, 0.0, 1.0, WORDS))
    assert message.to_caller == message.to_callback
    assert message.to_caller


def test_formatting_is_configured_on_the_way(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue)
    assert (
        document(told(speaker, Final(0, 0.0, 1.0, WORDS)))["channel"]["alternatives"][0]["transcript"] == "twenty three"
    )
    reply = answered(speaker, '{"type":"Configure","keyterms":null,"features":{"smart_format":true}}')
    assert reply == {"type": "ConfigureSuccess", "request_id": REQUEST_ID}
    assert document(told(speaker, Final(0, 0.0, 1.0, WORDS)))["channel"]["alternatives"][0]["transcript"] == "23."


def test_keyterms_cannot_be_replaced_and_nothing_else_is_then(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue)
    reply = answered(speaker, '{"type":"Configure","keyterms":["x"],"features":{"numerals":true}}')
    assert (reply["type"], reply["code"]) == ("ConfigureFailure", "CONFIGURE_KEYTERMS_NOT_SUPPORTED")
    assert (
        document(told(speaker, Final(0, 0.0, 1.0, WORDS)))["channel"]["alternatives"][0]["transcript"] == "twenty three"
    )


@cases(
    ("ending", "code", "begins"),
    [
        (EndReason.DONE, 1000, ""),
        (EndReason.IDLE, 1011, "NET-0001"),
        (EndReason.UNDECODABLE, 1008, "DATA-0000"),
        (EndReason.FAILED, 1011, "NET-0000"),
        (EndReason.CALLBACK_LOST, 1011, "Callback lost"),
        (EndReason.CALLBACK_BEHIND, 1011, "Callback too slow"),
        (EndReason.STOPPING, 1001, "The server is stopping"),
    ],
)
def test_sockets_are_closed_with_the_vendors_codes(
    catalogue: Catalogue, ending: EndReason, code: int, begins: str
) -> None:
    goodbye = protocol(catalogue).goodbye(ending, "(connection_lost)")
    assert goodbye.code == code
    assert goodbye.reason.startswith(begins)


def test_every_goodbye_fits_into_a_close_frame(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue)
    assert all(len(speaker.goodbye(ending, "(destination_left_alone)").reason.encode()) <= 123 for ending in EndReason)


def test_who_is_behind_gets_an_empty_result_that_says_so(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue, ("interim_results", "true"))
    told(speaker, Final(0, 1.0, 2.0, WORDS))
    (late,) = speaker.late(6.25, 1, 0.0)
    results = document(late)
    assert (results["type"], results["is_final"], results["speech_final"]) == ("Results", False, False)
    assert (results["start"], results["duration"]) == (3.0, 0.0)
    assert (
        results["channel"]["alternatives"][0] | {"transcript": "", "words": []} == results["channel"]["alternatives"][0]
    )
    (warning,) = results["metadata"]["warnings"]
    assert warning["type"] == "behind"
    assert "6.2 s" in warning["message"]


def test_who_wants_no_interim_results_is_not_warned_by_one(catalogue: Catalogue) -> None:
    (late,) = protocol(catalogue).late(6.25, 1, 0.0)
    assert document(late)["is_final"]


def test_an_error_goes_to_caller_and_callback_but_not_to_one_that_is_lost(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue, CALLBACK)
    (error,) = speaker.parting(EndReason.UNDECODABLE, "not audio", 0.0)
    assert document(error)["variant"] == "AudioError"
    assert error.to_callback == error.to_caller
    assert speaker.parting(EndReason.CALLBACK_LOST, "", 0.0) == ()
