"""Gladia's live API: every field of the body, every message in, and every message out as its client reads it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from gladiaio_sdk.v2.live.generated_types import (
    LiveV2InitResponse,
    LiveV2Response,
    LiveV2UnknownWebSocketMessage,
    create_live_v2_callback_message_from_dict,
    create_live_v2_web_socket_message_from_dict,
)
from hypothesis import given
from hypothesis import strategies as st

from engine.audio.pcm import bytes_per_second, integers, raw_format
from engine.dialects.catalogue import Catalogue
from engine.dialects.gladia import GladiaProblem, GladiaProtocol, live_job, live_started, parse_live, running_job
from engine.dialects.gladia.receipts import REMEMBERED, Receipts
from engine.dialects.gladia.results import result
from engine.dialects.live import Answered, AudioChunk, EndOfStream, EndReason, LiveRequest, Message
from engine.dialects.warnings import Unsupported
from engine.events import Final, Finished, LiveEvent, LiveOptions, Partial, SpeechStarted
from engine.record import JobState, Record
from engine.request import Callback, Failed, FailureCode, Media, RawFormat
from engine.transcript import Model, Transcript, Word
from tests.cases import cases
from tests.engine.dialects.conftest import REQUEST_ID
from tests.schemas import hold

MODEL = Model("5f3c1a52-9d3b-5d4e-8f6a-0c2b7e1d9a10", "tiny.en", "1.2.1", "whisper")
WORDS = (Word("hello", 1.0, 1.5, 0.5, "Hello,"), Word("doctor", 1.5, 2.0, 1.0, "doctor."))
NOW = 1763672314.1234
CALLBACK = {"callback": True, "callback_config": {"url": "https://user:pass@example.com/hook"}}


def read(catalogue: Catalogue, body: object, unsupported: Unsupported = "refuse") -> LiveRequest | GladiaProblem:
    return parse_live(
        body,
        request_id=REQUEST_ID,
        catalogue=catalogue,
        raw_format=raw_format,
        integers=integers,
        byte_rate=bytes_per_second,
        key_id="key-1",
        unsupported=unsupported,
    )


def asked(catalogue: Catalogue, body: object) -> LiveRequest:
    request = read(catalogue, body)
    assert isinstance(request, LiveRequest), request
    return request


def protocol(catalogue: Catalogue, **body: Any) -> GladiaProtocol:
    return GladiaProtocol(asked(catalogue, body), MODEL, NOW)


def wanting(**wishes: bool) -> dict[str, Any]:
    return {"messages_config": {f"receive_{name}": wish for name, wish in wishes.items()}}


def shown(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """What the caller gets, once the vendor's own types have accepted it."""
    found = [json.loads(json.dumps(message.to_caller)) for message in messages if message.to_caller]
    for document in found:
        assert not isinstance(create_live_v2_web_socket_message_from_dict(document), LiveV2UnknownWebSocketMessage)
    return found


def called_back(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """What the callback gets, likewise."""
    found = [hold("gladia", json.dumps(message.to_callback)) for message in messages if message.to_callback]
    for document in found:
        create_live_v2_callback_message_from_dict(document)
    return found


def types(messages: Sequence[Message]) -> list[str]:
    return [document["type"] for document in shown(messages)]


def sent(speaker: GladiaProtocol, data: bytes | str) -> AudioChunk:
    said = speaker.understand(data, NOW)
    assert isinstance(said, AudioChunk)
    return said


def told(speaker: GladiaProtocol, event: LiveEvent) -> Sequence[Message]:
    return speaker.tell(event, 1, NOW)


def test_an_empty_body_is_16_khz_mono_and_tells_finals(catalogue: Catalogue) -> None:
    request = asked(catalogue, {})
    assert request.options == LiveOptions(
        multichannel=True, raw=RawFormat("pcm_s16le", 16000, 1), endpointing=0.05, vad_events=True
    )
    assert request.byte_rate == 32000
    assert request.request.callback is None


def test_the_body_an_sdk_sends_is_read_whole(catalogue: Catalogue) -> None:
    request = asked(
        catalogue,
        {
            "encoding": "wav/pcm",
            "bit_depth": 24,
            "sample_rate": 48000,
            "channels": 2,
            "model": "large",
            "custom_metadata": {"user": "J"},
            "endpointing": 0.3,
            "language_config": {"languages": ["de"]},
            "pre_processing": {"audio_enhancer": False, "speech_threshold": None},
            "realtime_processing": {
                "custom_vocabulary": True,
                "custom_vocabulary_config": {"vocabulary": ["Outspoken"]},
                "custom_spelling": True,
                "custom_spelling_config": {"spelling_dictionary": {"Jon": ["john"]}},
                "translation": False,
                "named_entity_recognition": None,
            },
            "post_processing": {"summarization": False, "chapterization": False},
            "messages_config": {"receive_partial_transcripts": True, "receive_acknowledgments": True},
            **CALLBACK,
        },
    )
    assert request.options == LiveOptions(
        language="de",
        hotwords=("Outspoken",),
        multichannel=True,
        raw=RawFormat("pcm_s24le", 48000, 2),
        interim=True,
        endpointing=0.3,
        vad_events=True,
    )
    assert request.byte_rate == 288000
    assert request.request.callback == Callback("https://user:pass@example.com/hook")
    assert request.request.options["custom_metadata"] == {"user": "J"}
    assert request.request.options["replace"] == [["john", "Jon"]]
    assert (request.request.dialect, request.request.key_id, request.request.warnings) == ("gladia-live", "key-1", ())


@cases(
    ("encoding", "depth", "codec", "rate"),
    [
        ("wav/pcm", 8, "pcm_u8", 8000),
        ("wav/pcm", 16, "pcm_s16le", 16000),
        ("wav/pcm", 32, "pcm_s32le", 32000),
        ("wav/alaw", 8, "pcm_alaw", 8000),
        ("wav/ulaw", 8, "pcm_mulaw", 8000),
    ],
)
def test_every_encoding_is_one_that_ffmpeg_knows(
    catalogue: Catalogue, encoding: str, depth: int, codec: str, rate: int
) -> None:
    request = asked(catalogue, {"encoding": encoding, "bit_depth": depth, "sample_rate": 8000})
    assert request.options.raw == RawFormat(codec, 8000, 1)
    assert request.byte_rate == rate


@cases(
    ("body", "named"),
    [
        ({"encoding": "mp3"}, "encoding"),
        ({"bit_depth": 12}, "bit_depth"),
        ({"sample_rate": 11025}, "sample_rate"),
        ({"channels": 9}, "channels"),
        ({"endpointing": 11}, "endpointing"),
        ({"model": "nova-9"}, "model"),
        ({"realtime_processing": {"translation": True}}, "realtime_processing.translation"),
        ({"realtime_processing": {"sentiment_analysis": True}}, "realtime_processing.sentiment_analysis"),
        ({"post_processing": {"summarization": True}}, "post_processing.summarization"),
        ({"messages_config": {"receive_everything": True}}, "messages_config.receive_everything"),
        ({"messages_config": {"receive_errors": "yes"}}, "messages_config.receive_errors"),
        ({"callback": True}, "callback_config.url"),
        ({"custom_metadata": "J"}, "custom_metadata"),
        ({"audio_url": "https://example.com/a.wav"}, "audio_url"),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_once(catalogue: Catalogue, body: dict[str, Any], named: str) -> None:
    problem = read(catalogue, body)
    assert isinstance(problem, GladiaProblem)
    assert problem.status == 422
    assert [error.partition(" must ")[0] for error in problem.validation_errors] == [named]


def test_what_is_missing_and_does_no_harm_is_a_warning_and_has_its_place_in_the_result(catalogue: Catalogue) -> None:
    body = {"realtime_processing": {"translation": True}, "post_processing": {"chapterization": True}}
    request = read(catalogue, body, "warn")
    assert isinstance(request, LiveRequest)
    assert [one["parameter"] for one in request.request.warnings] == ["translation", "chapterization"]
    document = result(request.request, Media("", 0, 0.0), Transcript(MODEL, 0.0, 1, ()))
    assert {document[name]["error"]["status_code"] for name in ("translation", "chapterization")} == {501}


def test_what_configures_nothing_is_warned_about(catalogue: Catalogue) -> None:
    body = {
        "callback_config": {"url": "https://example.com/hook"},
        "realtime_processing": {"translation_config": {"target_languages": ["fr"]}},
    }
    told = [(one["parameter"], one["type"]) for one in asked(catalogue, body).request.warnings]
    assert told == [("callback_config", "unused_parameter"), ("translation_config", "unused_parameter")]


def test_what_the_recogniser_cannot_do_is_accepted_with_a_warning(catalogue: Catalogue) -> None:
    body = {"pre_processing": {"audio_enhancer": True}, "maximum_duration_without_endpointing": 5}
    warnings = asked(catalogue, body).request.warnings
    assert [one["parameter"] for one in warnings] == ["audio_enhancer", "maximum_duration_without_endpointing"]


def test_every_chunk_is_acknowledged_with_its_place_in_the_session(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue)
    assert sent(speaker, bytes(32000)).data == bytes(32000)
    (first,) = shown(sent(speaker, bytes(16000)).answers)
    assert first == {
        "session_id": REQUEST_ID,
        "created_at": "2025-11-20T20:58:34.123Z",
        "type": "audio_chunk",
        "acknowledged": True,
        "error": None,
        "data": {"byte_range": [32000, 48000], "time_range": [1.0, 1.5]},
    }


def test_audio_may_come_as_json_too(catalogue: Catalogue) -> None:
    chunk = json.dumps({"type": "audio_chunk", "data": {"chunk": base64.b64encode(b"sound").decode()}})
    assert sent(protocol(catalogue), chunk).data == b"sound"


def test_audio_that_comes_again_is_acknowledged_again_and_heard_once(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue)
    for chunk in (b"one.", b"two.", b"three."):
        sent(speaker, chunk)
    speaker.reconnected()
    again = sent(speaker, b"two.three.four.")
    assert again.data == b"four."
    assert shown(again.answers)[0]["data"]["byte_range"] == [4, 19]


@cases(
    "text",
    ["", "stop", "[]", "{}", '{"type":"audio_chunk"}', '{"type":"audio_chunk","data":{"chunk":"?"}}', "[" * 9999],
)
def test_what_nobody_understands_is_not_answered(catalogue: Catalogue, text: str) -> None:
    assert protocol(catalogue).understand(text, NOW) == Answered((), flawed=True)


def test_the_end_of_a_recording_is_acknowledged_with_what_is_left(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue)
    sent(speaker, bytes(96000))
    told(speaker, Final(0, 0.0, 2.0, WORDS))
    said = speaker.understand('{"type": "stop_recording"}', NOW)
    assert isinstance(said, EndOfStream)
    (ack,) = shown(said.answers)
    assert ack["data"] == {"recording_duration": 3.0, "recording_left_to_process": 1.0}


def test_a_transcript_keeps_its_id_until_it_is_final(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue, **wanting(partial_transcripts=True))
    first, final = (
        shown(told(speaker, Partial(0, 1.0, 0.5, WORDS[:1]))),
        shown(told(speaker, Final(0, 1.0, 1.0, WORDS))),
    )
    (following,) = shown(told(speaker, Final(0, 3.0, 1.0, WORDS)))
    assert [one["data"]["is_final"] for one in (*first, *final)] == [False, True]
    assert first[0]["data"]["id"] == final[0]["data"]["id"] == "00-00000000"
    assert following["data"]["id"] == "00-00000001"
    assert final[0]["data"]["utterance"] == {
        "start": 1.0,
        "end": 2.0,
        "confidence": 0.75,
        "channel": 0,
        "text": "Hello, doctor.",
        "language": "en",
        "words": [
            {"word": " Hello,", "start": 1.0, "end": 1.5, "confidence": 0.5},
            {"word": " doctor.", "start": 1.5, "end": 2.0, "confidence": 1.0},
        ],
    }


def test_speech_begins_and_ends(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue)
    (start,) = shown(told(speaker, SpeechStarted(0, 0.9)))
    transcript, end = shown(told(speaker, Final(0, 1.0, 1.5, WORDS, speech_final=True)))
    assert (start["type"], start["data"]) == ("speech_start", {"time": 0.9, "channel": 0})
    assert transcript["type"] == "transcript"
    assert (end["type"], end["data"]) == ("speech_end", {"time": 2.5, "channel": 0})


def test_each_kind_of_message_comes_only_where_it_is_wanted(catalogue: Catalogue) -> None:
    nothing = dict.fromkeys(("final_transcripts", "speech_events", "post_processing_events", "acknowledgments"), False)
    speaker = protocol(catalogue, **wanting(**nothing))
    messages = [
        *speaker.opening(NOW),
        *sent(speaker, bytes(100)).answers,
        *told(speaker, SpeechStarted(0, 0.0)),
        *told(speaker, Partial(0, 0.0, 1.0, WORDS)),
        *told(speaker, Final(0, 0.0, 1.0, WORDS, speech_final=True)),
        *told(speaker, Finished(1.0, 1, "")),
    ]
    assert messages == []


def test_a_whole_session_in_the_vendors_order(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue, **wanting(lifecycle_events=True), custom_metadata={"user": "J"})
    messages = [
        *speaker.opening(NOW),
        *sent(speaker, bytes(32000)).answers,
        *told(speaker, SpeechStarted(0, 0.9)),
        *told(speaker, Final(0, 1.0, 1.0, WORDS)),
        *told(speaker, Final(0, 2.0, 1.0, (), speech_final=True)),
        *told(speaker, Finished(3.0, 1, "ab" * 32)),
    ]
    assert types(messages) == [
        *("start_recording", "audio_chunk", "speech_start", "transcript", "speech_end"),
        *("end_recording", "post_transcript", "post_final_transcript", "end_session"),
    ]
    post, final = shown(messages)[-3:-1]
    assert post["data"]["full_transcript"] == "Hello, doctor."
    assert final["data"]["transcription"] == post["data"]
    assert final["data"]["metadata"]["audio_duration"] == 3.0


def test_a_callback_gets_what_it_asked_for_and_nothing_else(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue, **CALLBACK)
    messages = [
        *speaker.opening(NOW),
        *sent(speaker, bytes(32000)).answers,
        *told(speaker, SpeechStarted(0, 0.9)),
        *told(speaker, Final(0, 1.0, 1.0, WORDS)),
        *told(speaker, Finished(3.0, 1, "ab" * 32)),
    ]
    documents = called_back(messages)
    assert [document["event"] for document in documents] == [
        *("live.start_session", "live.start_recording", "live.transcript", "live.end_recording"),
        *("live.post_transcript", "live.post_final_transcript", "live.end_session"),
    ]
    assert {document["id"] for document in documents} == {REQUEST_ID}
    assert documents[2]["payload"] == shown(messages[-5:])[0] | {"type": "transcript"}


def test_words_are_spelt_as_the_caller_wants_them(catalogue: Catalogue) -> None:
    spelling = {"custom_spelling": True, "custom_spelling_config": {"spelling_dictionary": {"Dr": ["doctor"]}}}
    speaker = protocol(catalogue, realtime_processing=spelling)
    (transcript,) = shown(told(speaker, Final(0, 1.0, 1.0, WORDS)))
    assert transcript["data"]["utterance"]["text"] == "Hello, Dr."
    assert shown(told(speaker, Finished(3.0, 1, "")))[0]["data"]["full_transcript"] == "Hello, Dr."


def test_only_a_broken_connection_is_worth_coming_back_to(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue)
    codes = {ending: speaker.goodbye(ending, "").code for ending in EndReason}
    again = {ending for ending, code in codes.items() if not (code in {1000, 1001} or 4400 <= code < 4500)}
    assert again == {EndReason.TOO_LARGE}  # the vendor's clients send smaller pieces then
    assert all(len(speaker.goodbye(ending, "(destination_left_alone)").reason.encode()) <= 123 for ending in EndReason)


def test_who_is_behind_is_warned_where_errors_are_wanted(catalogue: Catalogue) -> None:
    (late,) = protocol(catalogue).late(6.25, 1, NOW)
    warning = create_live_v2_web_socket_message_from_dict(json.loads(json.dumps(late.to_caller)))
    assert isinstance(warning, LiveV2UnknownWebSocketMessage)  # which its client hands on
    assert (warning.type, warning.data["code"], late.to_callback) == ("warning", "behind", None)
    assert "6.2 s" in warning.data["message"]
    assert protocol(catalogue, **wanting(errors=False)).late(6.25, 1, NOW) == ()


def test_a_session_is_shown_as_the_vendor_shows_jobs(catalogue: Catalogue) -> None:
    request = asked(catalogue, {"custom_metadata": {"user": "J"}, **CALLBACK}).request
    waiting = LiveV2Response.from_dict(running_job(request, NOW, has_begun=False))
    assert (waiting.status, waiting.kind, waiting.custom_metadata) == ("queued", "live", {"user": "J"})
    assert LiveV2Response.from_dict(running_job(request, NOW, has_begun=True)).status == "processing"
    assert LiveV2InitResponse.from_dict(live_started(request, NOW, "ws://x")).url == "ws://x"


def test_a_session_that_is_over_has_its_result_or_its_error(catalogue: Catalogue) -> None:
    speaker = protocol(catalogue, **CALLBACK)
    sent(speaker, bytes(32000))
    told(speaker, Final(0, 0.0, 1.0, WORDS))
    request, media = asked(catalogue, CALLBACK).request, speaker.media
    ended = Record(request, media, JobState.DONE, NOW, NOW, NOW + 1, 1.0, speaker.transcript())
    done = LiveV2Response.from_dict(live_job(ended))
    assert done.result
    assert done.result.transcription
    assert (done.status, done.result.transcription.full_transcript) == ("done", "Hello, doctor.")
    assert done.request_params
    assert done.request_params.callback_config
    assert done.request_params.callback_config.url == "https://user:pass@example.com/hook"
    failure = Failed(FailureCode.AUDIO, "not audio")
    failed = LiveV2Response.from_dict(live_job(Record(request, media, JobState.FAILED, NOW, NOW, NOW, 0.0, failure)))
    assert (failed.status, failed.error_code, failed.result) == ("error", 400, None)


@given(st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=40), st.data())
def test_however_a_connection_breaks_each_byte_is_heard_once(chunks: list[bytes], data: st.DataObject) -> None:
    """A client begins again behind what it knows to be acknowledged; all that came after it may have come already."""
    chunks = [bytes([index]) + chunk for index, chunk in enumerate(chunks)]  # sound, which does not repeat itself
    receipts = Receipts()
    heard = b"".join(receipts.take(chunk) for chunk in chunks)
    known = data.draw(st.integers(max(0, len(chunks) - REMEMBERED), len(chunks)))
    receipts.reconnected()
    heard += receipts.take(b"".join(chunks[known:]) + b"\xffmore")
    assert heard == b"".join(chunks) + b"\xffmore"
    assert receipts.count == len(heard)
