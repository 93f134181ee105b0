"""The documents that Gladia's SDKs and receivers read, compared with golden files and read by the SDK's own models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from gladiaio_sdk import PreRecordedV2AudioUploadResponse, PreRecordedV2InitTranscriptionResponse, PreRecordedV2Response
from gladiaio_sdk.v2.prerecorded.generated_types import PreRecordedV2TranscriptionResult

from engine.dialects.catalogue import Abilities, Catalogue
from engine.dialects.gladia import (
    UploadedFile,
    job,
    parse,
    render_problem,
    result,
    started,
    upload_url,
    uploaded,
)
from engine.dialects.gladia import render as rendered
from engine.dialects.gladia import render_failure as failure
from engine.dialects.gladia.errors import invalid
from engine.record import JobState, Record
from engine.request import Failed, FailureCode, Media, Request
from engine.transcript import Channel, Segment, Transcript, Word
from tests.cases import cases
from tests.engine.dialects.conftest import REQUEST_ID
from tests.schemas import hold

GOLDEN = Path(__file__).parent / "golden"
CATALOGUE = Catalogue(
    models={"solaria-1": "default"},
    recognisers={"default": Abilities(frozenset({"en"}))},
    default="solaria-1",
)
URL = "https://u:p@files.example/calls/Caf%C3%A9%201.wav?token=t"
EVERYTHING: dict[str, Any] = {
    "callback": True,
    "callback_config": {"url": "https://hook.example/x?key=k", "method": "PUT"},
    "custom_metadata": {"user": "J"},
    "custom_vocabulary": ["doctor"],
    "custom_spelling": True,
    "custom_spelling_config": {"spelling_dictionary": {"MD": ["doctor"]}},
    "language_config": {"languages": ["en"]},
    "sentences": True,
    "subtitles": True,
    "subtitles_config": {"formats": ["srt", "vtt"]},
}


def asked(event_names: str = "short", **fields: Any) -> Request:
    request = parse({"audio_url": URL, **fields}, request_id=REQUEST_ID, catalogue=CATALOGUE, event_names=event_names)
    assert isinstance(request, Request), request
    return request


def render(request: Request, media: Media, transcript: Transcript) -> Any:
    """A success, held against its schema."""
    hold("gladia", orjson.dumps(document := rendered(request, media, transcript)))
    return document


def render_failure(request: Request, failed: Failed) -> Any:
    """A failure, held against its schema."""
    hold("gladia", orjson.dumps(document := failure(request, failed)))
    return document


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def done(request: Request, media: Media, outcome: Transcript | Failed) -> Record:
    state = JobState.FAILED if isinstance(outcome, Failed) else JobState.DONE
    return Record(request, media, state, 1763672314.5, 1763672315.0, 1763672316.25, 6.0, outcome)


def test_a_bare_job_gets_words_and_nothing_it_did_not_ask_for(media: Media, conversation: Transcript) -> None:
    assert result(asked(), media, conversation) == golden("plain")


def test_a_job_with_everything_gets_everything(media: Media, conversation: Transcript) -> None:
    assert job(done(asked(**EVERYTHING), media, conversation)) == golden("everything")


def test_a_callback_carries_the_result_that_get_shows(media: Media, conversation: Transcript) -> None:
    request = asked(**EVERYTHING)
    shown = job(done(request, media, conversation))["result"]
    assert render(request, media, conversation) == {"id": REQUEST_ID, "event": "success", "payload": shown}


def test_the_vendors_present_names_of_events_come_with_the_metadata(media: Media, silence: Transcript) -> None:
    request = asked("namespaced", custom_metadata={"user": "J"})
    event = render(request, media, silence)
    assert (event["event"], event["custom_metadata"]) == ("transcription.success", {"user": "J"})
    failed = render_failure(request, Failed(FailureCode.TOO_LARGE, "Too much."))
    assert failed["event"] == "transcription.error"
    assert failed["error"] == {"code": 413, "message": "Too much."}


def test_a_failure_has_a_word_for_its_code() -> None:
    event = render_failure(asked(custom_metadata={"a": 1}), Failed(FailureCode.AUDIO, "It is a text."))
    assert event == {"id": REQUEST_ID, "event": "error", "error": {"code": "audio", "message": "It is a text."}}


@cases(
    ("code", "status"),
    [
        (FailureCode.AUDIO, 400),
        (FailureCode.REMOTE_CONTENT, 400),
        (FailureCode.TOO_LARGE, 413),
        (FailureCode.TIMEOUT, 504),
        (FailureCode.INTERNAL, 500),
    ],
)
def test_a_failed_job_has_a_number_that_the_sdks_show(media: Media, code: FailureCode, status: int) -> None:
    document = PreRecordedV2Response.from_dict(job(done(asked(), media, Failed(code, "Why."))))
    assert (document.status, document.error_code, document.result) == ("error", status, None)
    assert document.post_session_metadata == {"error": "Why."}


@cases("state", [JobState.QUEUED, JobState.PROCESSING])
def test_a_job_under_way_has_every_key_and_no_result(media: Media, state: JobState) -> None:
    record = Record(asked(), media, state, 1763672314.5)
    document = PreRecordedV2Response.from_dict(job(record))
    assert (document.status, document.completed_at, document.result) == (state.value, None, None)
    assert (document.created_at, document.request_id) == ("2025-11-20T20:58:34.500Z", "G-00000001")
    assert document.file is not None
    assert (document.file.filename, document.file.source) == ("Café 1.wav", URL)


def test_the_vendors_own_models_read_the_documents() -> None:
    plain = PreRecordedV2TranscriptionResult.from_dict(golden("plain"))
    assert plain.transcription is not None
    assert plain.transcription.full_transcript == "Hello, doctor. Are you in? Yes. Hello!"
    everything = PreRecordedV2Response.from_dict(golden("everything"))
    assert everything.result is not None
    assert everything.result.transcription is not None
    assert everything.result.transcription.sentences is not None
    assert everything.result.transcription.sentences[0].results == ["Hello, MD.", "Are you in?", "Yes.", "Hello!"]
    assert [subtitle.format for subtitle in everything.result.transcription.subtitles or []] == ["srt", "vtt"]
    assert everything.request_params is not None
    assert everything.request_params.custom_spelling


def test_silence_has_no_utterances_and_one_channel(media: Media, silence: Transcript) -> None:
    document = result(asked(sentences=True, subtitles=True), media, silence)
    assert document["transcription"]["utterances"] == document["transcription"]["languages"] == []
    assert document["transcription"]["full_transcript"] == ""
    assert document["metadata"]["number_of_distinct_channels"] == 1
    assert document["sentences"]["is_empty"]
    PreRecordedV2TranscriptionResult.from_dict(document)


def test_channels_that_say_the_same_count_once(media: Media, conversation: Transcript) -> None:
    left = conversation.channels[0]
    shifted = Channel(tuple(Segment(tuple(_later(word, 0.1) for word in segment.words)) for segment in left.segments))
    same = replace(conversation, channels=(left, shifted, conversation.channels[1]))
    document = result(asked(), media, same)
    assert [utterance["channel"] for utterance in document["transcription"]["utterances"]] == [0, 0, 2, 0]
    assert document["metadata"]["number_of_distinct_channels"] == 2
    assert document["metadata"]["billing_time"] == 12.0


def test_the_time_that_recognition_took_is_told(media: Media, conversation: Transcript) -> None:
    document = result(asked(), media, replace(conversation, took=0.5))
    assert document["metadata"]["transcription_time"] == 0.5


def _later(word: Word, seconds: float) -> Word:
    return replace(word, start=word.start + seconds, end=word.end + seconds)


def test_languages_come_in_the_order_of_their_words(media: Media, conversation: Transcript) -> None:
    left, right = conversation.channels
    mixed = replace(conversation, channels=(replace(right, language="fr"), replace(left, language="de")))
    assert result(asked(), media, mixed)["transcription"]["languages"] == ["de", "fr"]


def test_rendering_twice_gives_the_same_bytes(media: Media, conversation: Transcript) -> None:
    request = asked(**EVERYTHING)
    first, second = render(request, media, conversation), render(request, media, conversation)
    assert orjson.dumps(first) == orjson.dumps(second)


def test_an_upload_is_named_in_its_answer_and_in_the_jobs_that_use_it(media: Media) -> None:
    file = UploadedFile(id="u-1", filename="a.wav", audio_duration=1.5, number_of_channels=2)
    url = upload_url("https://speech.example", "u-1")
    answer = PreRecordedV2AudioUploadResponse.from_dict(uploaded(url, file, "wav", 44))
    assert (answer.audio_url, answer.audio_metadata.extension, answer.audio_metadata.size) == (url, "wav", 44)
    request = asked()
    options = {**request.options, "file": file, "audio_url": url}
    document = job(Record(replace(request, audio_url=None, options=options), media, JobState.QUEUED, 0.0))
    assert document["file"] == {**file, "source": None}
    assert document["request_params"]["audio_url"] == url


def test_the_answer_to_a_job_says_where_its_result_will_be() -> None:
    answer = PreRecordedV2InitTranscriptionResponse.from_dict(started(asked(), "https://speech.example"))
    assert answer.result_url == f"https://speech.example/v2/pre-recorded/{REQUEST_ID}"


def test_an_error_has_the_vendors_shape() -> None:
    document = render_problem(invalid("a must b"), path="/v2/upload", request_id=REQUEST_ID, now=1763672314.5)
    assert document == {
        "timestamp": "2025-11-20T20:58:34.500Z",
        "path": "/v2/upload",
        "request_id": "G-00000001",
        "statusCode": 422,
        "message": "Invalid parameter(s): a must b",
        "validation_errors": ["a must b"],
    }


def test_audio_that_is_incomplete_is_a_warning_which_the_vendors_models_pass_over(
    media: Media, conversation: Transcript
) -> None:
    payload = render(asked(), media, replace(conversation, flaw="Some of the audio is damaged."))["payload"]
    warning = {"parameter": "audio", "type": "incomplete_audio", "message": "Some of the audio is damaged."}
    assert payload["metadata"]["warnings"] == [warning]
    assert PreRecordedV2TranscriptionResult.from_dict(payload).metadata.audio_duration == conversation.duration


def test_speech_without_words_is_a_warning_with_its_times(media: Media, gapped: Transcript) -> None:
    payload = render(asked(), media, gapped)["payload"]
    assert [
        (warning["type"], warning["channel"], warning["start"], warning["end"])
        for warning in payload["metadata"]["warnings"]
    ] == [("unheard_speech", 0, 2.25, 4.75), ("repetitive_speech", 1, 0.0, 2.0)]
    assert PreRecordedV2TranscriptionResult.from_dict(payload).metadata.audio_duration == gapped.duration


def test_where_languages_change_each_utterance_has_its_own(media: Media, bilingual: Transcript) -> None:
    payload = render(asked(), media, bilingual)["payload"]
    assert payload["transcription"]["languages"] == ["en", "es"]
    assert [one["language"] for one in payload["transcription"]["utterances"]] == ["es", "en"]
    assert PreRecordedV2TranscriptionResult.from_dict(payload).transcription is not None


def test_the_vendors_own_models_read_who_says_each_utterance(media: Media, conversation: Transcript) -> None:
    left, right = conversation.channels
    said = (
        Segment(tuple(replace(word, speaker=n % 2, speaker_confidence=0.9) for word in one.words))
        for n, one in enumerate(left.segments)
    )
    told = replace(conversation, channels=(replace(left, segments=tuple(said)), right))
    read = PreRecordedV2TranscriptionResult.from_dict(render(asked(), media, told)["payload"])
    assert read.transcription is not None
    assert [one.speaker for one in read.transcription.utterances] == [0, 1, None, 0]


def test_silence_has_no_language(media: Media, silence: Transcript) -> None:
    transcription = render(asked(), media, silence)["payload"]["transcription"]
    assert (transcription["languages"], transcription["utterances"]) == ([], [])
