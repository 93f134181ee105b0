"""The documents that Deepgram's SDKs and receivers read, compared with golden files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from deepgram.types.listen_v1response import ListenV1Response

from engine.audio.pcm import raw_format
from engine.dialects.catalogue import Catalogue
from engine.dialects.deepgram import acknowledge, failure_reply, parse, render, render_failure
from engine.request import Failed, FailureCode, Media, Request
from engine.transcript import Channel, Segment, Transcript, Word
from tests.cases import cases
from tests.engine.dialects.conftest import REQUEST_ID
from tests.schemas import hold

GOLDEN = Path(__file__).parent / "golden"
EVERYTHING = [
    *(("tag", "a"), ("tag", "b"), ("extra", "k:v"), ("punctuate", "true"), ("paragraphs", "true")),
    *(("utterances", "true"), ("search", "hello doctor"), ("search", "absent"), ("replace", "are you:r u")),
    *(("model", "large"), ("detect_language", "true"), ("multichannel", "true"), ("zoom", "1")),
]


@pytest.fixture
def plain(catalogue: Catalogue) -> Request:
    return asked(catalogue)


def asked(catalogue: Catalogue, *pairs: tuple[str, str]) -> Request:
    request = parse(pairs, request_id=REQUEST_ID, catalogue=catalogue, raw_format=raw_format)
    assert isinstance(request, Request), request
    return request


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def test_a_bare_request_gets_words_and_nothing_it_did_not_ask_for(
    plain: Request, media: Media, conversation: Transcript
) -> None:
    assert render(plain, media, conversation) == golden("plain")


def test_a_request_for_everything_gets_everything(catalogue: Catalogue, media: Media, conversation: Transcript) -> None:
    assert render(asked(catalogue, *EVERYTHING), media, conversation) == golden("everything")


def test_utterances_and_paragraphs_end_where_somebody_else_begins(
    catalogue: Catalogue, media: Media, conversation: Transcript
) -> None:
    """Within a second, and although no sentence ends there."""
    words = [replace(word, end=word.start + 0.1) for word in conversation.channels[0].segments[1].words]
    said = [
        replace(word, speaker=speaker, speaker_confidence=0.9) for word, speaker in zip(words, (0, 0, 1), strict=True)
    ]
    told = replace(conversation, channels=(Channel((Segment(tuple(said)),)),))
    request = asked(
        replace(catalogue, speakers=True), ("diarize", "true"), ("utterances", "true"), ("paragraphs", "true")
    )
    document = hold("deepgram", orjson.dumps(render(request, media, told)))
    ListenV1Response.model_validate(document)
    assert [(one["speaker"], one["transcript"]) for one in document["results"]["utterances"]] == [
        (0, "Are you"),
        (1, "in?"),
    ]
    (alternative,) = document["results"]["channels"][0]["alternatives"]
    assert [one["speaker_confidence"] for one in alternative["words"]] == [0.9, 0.9, 0.9]
    assert alternative["paragraphs"]["transcript"] == "\nSpeaker 0: Are you\n\nSpeaker 1: in?"
    assert [one["speaker"] for one in alternative["paragraphs"]["paragraphs"]] == [0, 1]


def test_silence_still_has_one_alternative(catalogue: Catalogue, media: Media, silence: Transcript) -> None:
    request = asked(catalogue, ("paragraphs", "true"), ("utterances", "true"), ("search", "hello"))
    assert render(request, media, silence) == golden("silence")


def test_rendering_twice_gives_the_same_bytes(catalogue: Catalogue, media: Media, conversation: Transcript) -> None:
    request = asked(catalogue, *EVERYTHING)
    first, second = render(request, media, conversation), render(request, media, conversation)
    assert orjson.dumps(first) == orjson.dumps(second)


@cases("name", ["plain", "everything", "silence"])
def test_the_vendors_own_model_reads_the_documents(name: str) -> None:
    document = ListenV1Response.model_validate(golden(name))
    assert document.metadata.request_id == REQUEST_ID
    alternatives = document.results.channels[0].alternatives
    assert alternatives is not None
    assert alternatives[0].transcript == golden(name)["results"]["channels"][0]["alternatives"][0]["transcript"]


@cases(
    ("split", "transcripts"),
    [
        ("0.4", ["hello doctor", "are you in", "yes", "hello"]),
        ("0.8", ["hello doctor are you in", "yes", "hello"]),
        ("3", ["hello doctor are you in", "yes", "hello"]),
        ("3.5", ["hello doctor are you in hello", "yes"]),
    ],
)
def test_a_silence_of_utt_split_seconds_ends_an_utterance(
    catalogue: Catalogue, media: Media, conversation: Transcript, split: str, transcripts: list[str]
) -> None:
    request = asked(catalogue, ("utterances", "true"), ("utt_split", split))
    found = render(request, media, conversation)["results"]["utterances"]
    assert [utterance["transcript"] for utterance in found] == transcripts
    assert len({utterance["id"] for utterance in found}) == len(transcripts)


@cases(
    ("pairs", "transcript"),
    [
        (["hello:hi"], "hi doctor are you in hi"),
        (["HELLO Doctor:dear sir"], "dear sir are you in hello"),
        (["hello:"], "doctor are you in"),
        (["doctor are:x"], "hello doctor are you in hello"),
        (["hello:doctor", "doctor:nurse"], "nurse nurse are you in nurse"),
        (["absent:x", " :x"], "hello doctor are you in hello"),
    ],
)
def test_phrases_are_replaced_in_order_and_never_across_a_pause(
    catalogue: Catalogue, media: Media, conversation: Transcript, pairs: list[str], transcript: str
) -> None:
    request = asked(catalogue, *(("replace", pair) for pair in pairs))
    (alternative,) = render(request, media, conversation)["results"]["channels"][0]["alternatives"]
    assert alternative["transcript"] == transcript


def test_a_replaced_phrase_keeps_the_time_of_its_words(
    catalogue: Catalogue, media: Media, conversation: Transcript
) -> None:
    request = asked(catalogue, ("replace", "hello doctor:greeting"))
    word = render(request, media, conversation)["results"]["channels"][0]["alternatives"][0]["words"][0]
    assert word == {"word": "greeting", "start": 0.0, "end": 1.0, "confidence": 0.8}


def test_a_channel_emptied_by_replacement_reads_as_silence(
    catalogue: Catalogue, media: Media, conversation: Transcript
) -> None:
    right = Transcript(conversation.model, 6.0, 1, (Channel(conversation.channels[1].segments),))
    request = asked(catalogue, ("replace", "yes:"), ("paragraphs", "true"), ("utterances", "true"))
    results = render(request, media, right)["results"]
    assert results["channels"][0]["alternatives"][0]["transcript"] == ""
    assert results["channels"][0]["alternatives"][0]["confidence"] == 0.0
    assert results["utterances"] == []


def test_a_paragraph_ends_after_five_sentences(catalogue: Catalogue, media: Media, conversation: Transcript) -> None:
    left = conversation.channels[0]
    six = Transcript(conversation.model, 6.0, 1, (Channel(left.segments[:1] * 6),))
    (alternative,) = render(asked(catalogue, ("paragraphs", "true")), media, six)["results"]["channels"][0][
        "alternatives"
    ]
    assert [len(paragraph["sentences"]) for paragraph in alternative["paragraphs"]["paragraphs"]] == [5, 1]


def test_sentences_end_at_full_stops_and_not_where_the_recogniser_took_breath(
    catalogue: Catalogue, media: Media, conversation: Transcript
) -> None:
    words = [
        Word(text.lower().strip("."), n * 0.5, n * 0.5 + 0.4, 1.0, text) for n, text in enumerate(["A", "b.", "C", "d"])
    ]
    late = Word("e", 9.0, 9.5, 1.0, "e.")
    segments = (Segment(tuple(words[:1])), Segment(tuple(words[1:])), Segment((late,)))
    spoken = Transcript(conversation.model, 10.0, 1, (Channel(segments),))
    (alternative,) = render(asked(catalogue, ("paragraphs", "true")), media, spoken)["results"]["channels"][0][
        "alternatives"
    ]
    assert alternative["paragraphs"]["transcript"] == "\nA b. C d\n\ne."
    sentences = [[part["text"] for part in group["sentences"]] for group in alternative["paragraphs"]["paragraphs"]]
    assert sentences == [["A b.", "C d"], ["e."]]


def test_smart_formatting_writes_numbers_in_digits_and_search_still_hears_the_words(
    catalogue: Catalogue, media: Media, conversation: Transcript
) -> None:
    words = [Word(text, float(n), n + 0.5, 0.5) for n, text in enumerate(["about", "twenty", "five", "people"])]
    spoken = Transcript(conversation.model, 4.0, 1, (Channel((Segment(tuple(words)),)),))
    request = asked(catalogue, ("smart_format", "true"), ("search", "twenty five"), ("utterances", "true"))
    results = render(request, media, spoken)["results"]
    (channel,) = results["channels"]
    assert channel["alternatives"][0]["transcript"] == results["utterances"][0]["transcript"] == "about 25 people"
    assert channel["alternatives"][0]["words"][1] == {
        "word": "25",
        "start": 1.0,
        "end": 2.5,
        "confidence": 0.5,
        "punctuated_word": "25",
    }
    assert [hit["snippet"] for hit in channel["search"][0]["hits"]] == ["twenty five"]


def test_smart_formatting_makes_paragraphs(catalogue: Catalogue, media: Media, conversation: Transcript) -> None:
    document = render(asked(catalogue, ("smart_format", "true")), media, conversation)
    alternatives = ListenV1Response.model_validate(document).results.channels[0].alternatives
    assert alternatives
    found = alternatives[0].paragraphs
    assert found
    assert found.transcript == "\nHello, doctor. Are you in?\n\nHello!"
    assert found.paragraphs
    first, second = found.paragraphs
    assert (first.num_words, first.start, first.end, second.num_words) == (5, 0.0, 2.0, 1)
    assert first.sentences
    assert [(one.text, one.start, one.end) for one in first.sentences] == [
        ("Hello, doctor.", 0.0, 1.0),
        ("Are you in?", 1.5, 2.0),
    ]
    shown = document["results"]["channels"][0]["alternatives"][0]["paragraphs"]["paragraphs"]
    assert all("speaker" not in paragraph for paragraph in shown)


def test_the_acknowledgement_is_the_request_id_alone(plain: Request) -> None:
    assert acknowledge(plain) == {"request_id": REQUEST_ID}


def test_a_failure_has_an_error_code_the_echo_and_no_results(catalogue: Catalogue) -> None:
    request = asked(catalogue, ("tag", "a"), ("extra", "k:v"))
    failed = Failed(FailureCode.REMOTE_CONTENT, "The remote server hosting the media returned a client error: 404.")
    assert render_failure(request, failed) == golden("failure")


def test_a_failure_without_tags_echoes_none(plain: Request) -> None:
    document = render_failure(plain, Failed(FailureCode.INTERNAL, "It broke."))
    assert document["metadata"] == {"request_id": REQUEST_ID}


@cases(
    ("code", "status", "err_code"),
    [
        (FailureCode.AUDIO, 400, "Bad Request"),
        (FailureCode.REMOTE_CONTENT, 400, "REMOTE_CONTENT_ERROR"),
        (FailureCode.TOO_LARGE, 413, "PAYLOAD_TOO_LARGE"),
        (FailureCode.TIMEOUT, 504, "GATEWAY_TIMEOUT"),
        (FailureCode.INTERNAL, 500, "INTERNAL_SERVER_ERROR"),
    ],
)
def test_every_failure_has_a_status_and_a_code_of_the_vendor(code: FailureCode, status: int, err_code: str) -> None:
    reply = failure_reply(Failed(code, "Why."))
    assert (reply.status, reply.err_code) == (status, err_code)
    assert reply.line.endswith("Why.")


def test_audio_that_is_incomplete_is_a_warning_after_those_of_the_request(
    catalogue: Catalogue, media: Media, conversation: Transcript
) -> None:
    flawed = replace(conversation, flaw="The file ends in the middle of its audio.")
    document = render(asked(catalogue, ("zoom", "1")), media, flawed)
    assert [warning["parameter"] for warning in document["metadata"]["warnings"]] == ["zoom", "audio"]
    assert document["metadata"]["warnings"][1] == {
        "parameter": "audio",
        "type": "incomplete_audio",
        "message": "The file ends in the middle of its audio.",
    }
    assert ListenV1Response.model_validate(document).metadata.request_id == REQUEST_ID


def test_speech_without_words_is_a_warning_with_its_times(
    catalogue: Catalogue, media: Media, gapped: Transcript
) -> None:
    document = render(asked(catalogue), media, gapped)
    unheard, repetitive = document["metadata"]["warnings"]
    assert unheard == {
        "parameter": "audio",
        "type": "unheard_speech",
        "message": "Somebody seems to speak, but no words could be made out from 2.2 to 4.8 s on channel 0.",
        "channel": 0,
        "start": 2.25,
        "end": 4.75,
    }
    assert (repetitive["type"], repetitive["channel"], repetitive["end"]) == ("repetitive_speech", 1, 2.0)
    assert ListenV1Response.model_validate(document).metadata.request_id == REQUEST_ID


def test_silence_has_no_language(catalogue: Catalogue, media: Media, silence: Transcript) -> None:
    request = asked(catalogue, ("model", "large"), ("detect_language", "true"))
    (channel,) = render(request, media, silence)["results"]["channels"]
    assert "detected_language" not in channel
    assert "language_confidence" not in channel


def test_a_language_that_was_not_found_out_has_no_confidence(
    catalogue: Catalogue, media: Media, conversation: Transcript
) -> None:
    known = replace(conversation, channels=(Channel(conversation.channels[0].segments, "en"),))
    request = asked(catalogue, ("model", "large"), ("detect_language", "true"))
    (channel,) = render(request, media, known)["results"]["channels"]
    assert channel["detected_language"] == "en"
    assert "language_confidence" not in channel


def test_where_languages_change_each_word_tells_its_own(
    catalogue: Catalogue, media: Media, bilingual: Transcript
) -> None:
    request = asked(catalogue, ("model", "large"), ("language", "multi"), ("punctuate", "true"))
    document = render(request, media, bilingual)
    (channel,) = document["results"]["channels"]
    (alternative,) = channel["alternatives"]
    assert alternative["languages"] == ["en", "es"]
    assert [word["language"] for word in alternative["words"]] == ["es", "en", "en"]
    assert (channel["detected_language"], channel["language_confidence"]) == ("en", 0.75)
    assert ListenV1Response.model_validate(document).metadata.request_id == REQUEST_ID
