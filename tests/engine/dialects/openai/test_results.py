"""What OpenAI's clients and receivers read, and that its own models can."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from openai.types.audio import (
    Transcription,
    TranscriptionDiarized,
    TranscriptionTextSegmentEvent,
    TranscriptionVerbose,
    TranslationVerbose,
)

from engine.dialects.catalogue import Abilities, Catalogue
from engine.dialects.openai import acknowledge, answer, events, parse, plain_answer
from engine.dialects.openai import render as rendered
from engine.dialects.openai import render_failure as failure
from engine.dialects.openai.languages import language_name
from engine.recognisers.languages import CODES, public_code
from engine.request import Failed, FailureCode, Media, Request, SpeakerBounds
from engine.transcript import Channel, Segment, Transcript, Word
from tests.engine.dialects.conftest import REQUEST_ID
from tests.schemas import hold

CATALOGUE = Catalogue(
    {"whisper-1": "default"}, {"default": Abilities(frozenset({"en", "de"}), True, True)}, "whisper-1"
)


@pytest.fixture
def monologue(conversation: Transcript) -> Transcript:
    return Transcript(conversation.model, 6.0, 2, conversation.channels[:1])


def asked(*pairs: tuple[str, str], translate: bool = False, **fields: str) -> Request:
    given = [*pairs, *fields.items()]
    request = parse(given, request_id=REQUEST_ID, catalogue=CATALOGUE, translate=translate)
    assert isinstance(request, Request), request
    return request


def render(request: Request, media: Media, transcript: Transcript) -> Any:
    """A callback's document, held against its schema."""
    return hold("openai", json.dumps(rendered(request, media, transcript)))


def render_failure(request: Request, failed: Failed) -> Any:
    """The same of a failure."""
    return hold("openai", json.dumps(failure(request, failed)))


def test_the_plain_json_answer(monologue: Transcript) -> None:
    document = answer(asked(), monologue)
    assert document == {"text": "Hello, doctor. Are you in? Hello!", "usage": {"type": "duration", "seconds": 6}}
    assert Transcription.model_validate(document).text == document["text"]


def test_the_diarized_answer_calls_speakers_by_letters(monologue: Transcript, media: Media) -> None:
    request, heard = _diarized(monologue)
    read = TranscriptionDiarized.model_validate(answer(request, heard))
    assert [(one.speaker, one.text) for one in read.segments] == [
        ("A", "Hello, doctor."),
        ("B", "Are you in?"),
        ("C", "Hello!"),
    ]
    assert render(request, media, heard)["segments"][2]["id"] == "seg_2"


def test_a_diarized_stream_tells_who_says_each_segment_behind_its_words(monologue: Transcript) -> None:
    request, heard = _diarized(monologue, ("stream", "true"))
    found = told(events(request, heard, told=2))
    types = [*["transcript.text.delta"] * 2, *["transcript.text.segment"] * 3, "transcript.text.done"]
    assert [one["type"] for one in found] == types
    read = [TranscriptionTextSegmentEvent.model_validate(one) for one in found[2:-1]]
    assert [(one.speaker, one.text) for one in read] == [("A", "Hello, doctor."), ("B", "Are you in?"), ("C", "Hello!")]
    assert found[-1]["text"] == " ".join(one.text for one in read)


def _diarized(monologue: Transcript, *more: tuple[str, str]) -> tuple[Request, Transcript]:
    """Asked for so, each segment said by another."""
    fields = [("response_format", "diarized_json"), ("model", "whisper-1"), *more]
    request = parse(fields, request_id=REQUEST_ID, catalogue=replace(CATALOGUE, speakers=True))
    assert isinstance(request, Request), request
    assert (request.speakers, request.warnings) == (SpeakerBounds(), ())
    said = [
        Segment(tuple(replace(word, speaker=n) for word in one.words))
        for n, one in enumerate(monologue.channels[0].segments)
    ]
    return request, replace(monologue, channels=(Channel(tuple(said)),))


def test_the_verbose_answer(monologue: Transcript) -> None:
    both = (("timestamp_granularities[]", "word"), ("timestamp_granularities[]", "segment"))
    document = answer(asked(*both, response_format="verbose_json"), monologue)
    read = TranscriptionVerbose.model_validate(document)
    assert (document["task"], read.language, read.duration) == ("transcribe", "english", 6.0)
    assert read.words is not None
    assert [(word.word, word.start, word.end) for word in read.words[:2]] == [("Hello", 0.0, 0.5), ("doctor", 0.5, 1.0)]
    assert read.segments is not None
    first = read.segments[0]
    assert (first.id, first.text, first.start, first.end, first.tokens) == (0, " Hello, doctor.", 0.0, 1.0, [])
    assert first.avg_logprob == pytest.approx(-0.231018)
    assert first.compression_ratio > 0


@pytest.mark.parametrize(("asked_for", "given"), [("word", "words"), ("segment", "segments")])
def test_only_the_granularity_that_is_asked_for(monologue: Transcript, asked_for: str, given: str) -> None:
    request = asked(("timestamp_granularities[]", asked_for), response_format="verbose_json")
    assert answer(request, monologue).keys() & {"words", "segments"} == {given}


def test_a_translation_is_english_whatever_was_spoken(monologue: Transcript) -> None:
    german = Transcript(monologue.model, 6.0, 1, (Channel(monologue.channels[0].segments, "de", 0.9),))
    document = answer(asked(response_format="verbose_json", translate=True), german)
    assert (document["task"], TranslationVerbose.model_validate(document).language) == ("translate", "english")
    assert answer(asked(response_format="verbose_json"), german)["language"] == "german"


def test_text_and_subtitles_are_no_json(monologue: Transcript) -> None:
    assert plain_answer(asked(response_format="text"), monologue) == "Hello, doctor. Are you in? Hello!\n"
    assert str(plain_answer(asked(response_format="srt"), monologue)).startswith("1\n00:00:00,000 --> 00:00:01,000\nHe")
    assert str(plain_answer(asked(response_format="vtt"), monologue)).startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01")
    assert plain_answer(asked(), monologue) is None


def test_a_stream_is_a_piece_for_each_segment_and_the_whole(monologue: Transcript) -> None:
    found = told(events(asked(stream="true"), monologue))
    assert [one["type"] for one in found] == [*["transcript.text.delta"] * 3, "transcript.text.done"]
    assert "".join(one["delta"] for one in found[:-1]) == found[-1]["text"] == "Hello, doctor. Are you in? Hello!"


def test_a_stream_of_a_script_without_spaces(monologue: Transcript) -> None:
    words = (Segment((Word("你好", 0, 1, 0.9, spaced=False),)), Segment((Word("世界", 1, 2, 0.9, spaced=False),)))
    chinese = Transcript(monologue.model, 2.0, 1, (Channel(words, "zh"),))
    found = told(events(asked(stream="true"), chinese))
    assert "".join(one["delta"] for one in found[:-1]) == found[-1]["text"] == "你好世界"


def test_silence_has_no_words(silence: Transcript) -> None:
    request = asked(("timestamp_granularities[]", "word"), response_format="verbose_json")
    document = answer(request, silence)
    assert (document["text"], document["words"], document["language"]) == ("", [], "unknown")
    assert [one["type"] for one in told(events(asked(stream="true"), silence))] == ["transcript.text.done"]
    assert plain_answer(asked(response_format="srt"), silence) == ""


def test_what_is_missing_is_told(gapped: Transcript) -> None:
    request = asked(temperature="0.5", stream="true")
    found = [warning["type"] for warning in answer(request, gapped)["warnings"]]
    assert found == ["unsupported_parameter", "unheard_speech", "repetitive_speech"]
    assert [warning["type"] for warning in told(events(request, gapped))[-1]["warnings"]] == found


@pytest.mark.parametrize(
    ("form", "more"),
    [("json", set()), ("text", set()), ("srt", {"srt"}), ("vtt", {"vtt"}), ("verbose_json", {"task", "segments"})],
)
def test_a_callbacks_document_is_the_answer_under_an_id(
    form: str, more: set[str], monologue: Transcript, media: Media
) -> None:
    document = render(asked(response_format=form), media, monologue)
    assert (document["id"], document["object"], document["status"]) == (REQUEST_ID, "audio.transcription", "completed")
    assert document["text"] == "Hello, doctor. Are you in? Hello!"
    assert more <= document.keys()
    assert acknowledge(asked(translate=True)) == {"id": REQUEST_ID, "object": "audio.translation", "status": "queued"}


def test_a_failure_is_told_in_the_vendors_shape() -> None:
    document = render_failure(asked(), Failed(FailureCode.AUDIO, "It is broken."))
    error = {"message": "It is broken.", "type": "invalid_request_error", "param": "file", "code": "audio"}
    assert document == {"id": REQUEST_ID, "object": "audio.transcription", "status": "failed", "error": error}
    own = render_failure(asked(), Failed(FailureCode.INTERNAL, "Our fault."))["error"]
    assert (own["type"], own["param"], own["code"]) == ("server_error", None, "internal")


def test_every_language_that_whisper_knows_has_a_name() -> None:
    unnamed = {code for code in CODES if language_name(public_code(code)) == public_code(code)}
    assert unnamed <= {"jw", "fil", "iw", "in", "nb", "cmn"}
    assert language_name("pt-BR") == "portuguese"


def told(stream: bytes) -> list[dict[str, Any]]:
    """The documents of server-sent events."""
    return [json.loads(part.removeprefix(b"data: ")) for part in stream.split(b"\n\n") if part]
