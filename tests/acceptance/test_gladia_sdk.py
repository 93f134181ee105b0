"""Gladia's own Python client, unmodified, against a running engine and relay: one changed base URL, and all works."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from gladiaio_sdk import (
    GladiaClient,
    HttpError,
    PreRecordedV2CallbackConfig,
    PreRecordedV2CustomSpellingConfig,
    PreRecordedV2CustomVocabularyConfig,
    PreRecordedV2CustomVocabularyEntry,
    PreRecordedV2InitTranscriptionRequest,
    PreRecordedV2LanguageConfig,
    PreRecordedV2ListParams,
    PreRecordedV2Response,
    PreRecordedV2SubtitlesConfig,
)
from gladiaio_sdk.v2.prerecorded.generated_types import PreRecordedV2TranscriptionResult

from tests.acceptance.speech import first_seconds
from tests.acceptance.stage import ROOT, Line, Process, Stage
from tests.acceptance.test_deepgram_sdk import a_key, hosting
from tests.ports import free_callback_port, free_port
from tests.schemas import hold

STEREO = ROOT / "tests" / "clips" / "stereo.flac"
SPEECH = first_seconds(1.5)

pytestmark = [pytest.mark.acceptance, pytest.mark.asyncio(loop_scope="module")]


@dataclass(frozen=True)
class World:
    """The running processes, a key to the engine, and a server that hosts audio."""

    stage: Stage
    receiver: Process
    key: str
    audio_url: str

    async def called_back(self, job_id: str) -> Line:
        """The callback of a job."""
        line = await self.receiver.said(lambda line: line.get("headers", {}).get("webhook-id") == job_id)
        hold("gladia", line["body"])
        return line


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    callback_port, audio_port = free_callback_port(), free_port()
    ports = f"{callback_port}, {audio_port}"
    stage = Stage(tmp_path_factory.mktemp("sdk"), callback_port, outbox__guard__ports=ports, engine__fetch__tries=1)
    async with AsyncExitStack() as stack:
        await hosting(stack, audio_port)
        key = await a_key(stage)
        receiver = await stage.receiver()
        for process in (receiver, await stage.engine(), await stage.relay()):
            stack.push_async_callback(process.stop)
        yield World(stage, receiver, key, f"http://127.0.0.1:{audio_port}")


class Jobs:
    """The client, of either kind. The synchronous one works in a thread, so that this test's audio server can answer
    meanwhile."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*args: Any, **options: Any) -> Any:
            if inspect.iscoroutinefunction(method):
                return await method(*args, **options)
            return await asyncio.to_thread(method, *args, **options)

        return call

    async def close(self) -> None:
        """What the SDK leaves to the garbage collector, which would complain."""
        closing = self._client._http_client.close()
        if inspect.isawaitable(closing):
            await closing


@pytest_asyncio.fixture(loop_scope="module", params=["synchronous", "asynchronous"])
async def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def connect(kind: str, url: str, key: str) -> Jobs:
    client = GladiaClient(api_key=key, api_url=url)
    return Jobs(client.prerecorded() if kind == "synchronous" else client.prerecorded_async())


@pytest_asyncio.fixture(loop_scope="module")
async def jobs(world: World, kind: str) -> AsyncIterator[Jobs]:
    jobs = connect(kind, world.stage.engine_url, world.key)
    yield jobs
    await jobs.close()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "good morning.wav"
    path.write_bytes(SPEECH)
    return path


def spoken(document: PreRecordedV2Response) -> str:
    """The text of a job that is done, whose parts agree."""
    assert document.status == "done"
    assert document.result is not None
    return text_of(document.result)


def text_of(result: PreRecordedV2TranscriptionResult) -> str:
    assert result.transcription is not None
    text = str(result.transcription.full_transcript)
    utterances = result.transcription.utterances
    assert text == " ".join(utterance.text for utterance in utterances)
    assert [utterance.start for utterance in utterances] == sorted(utterance.start for utterance in utterances)
    for utterance in utterances:
        assert utterance.text == "".join(word.word for word in utterance.words).lstrip()
        assert (utterance.start, utterance.end) == (utterance.words[0].start, utterance.words[-1].end)
    return text


async def test_a_job_through_every_call(jobs: Jobs, clip: Path) -> None:
    upload = await jobs.upload_file(clip)
    assert (upload.audio_metadata.filename, upload.audio_metadata.size) == (clip.name, len(SPEECH))
    assert (upload.audio_metadata.extension, upload.audio_metadata.audio_duration) == ("wav", 1.5)
    created = await jobs.create({"audio_url": upload.audio_url, "custom_metadata": {"user": "J"}})
    assert str(UUID(created.id)) == created.id
    assert created.result_url.endswith(f"/v2/pre-recorded/{created.id}")
    polled = await jobs.poll(created.id, interval=0.05)
    assert "morning" in spoken(polled)
    assert polled == await jobs.get(created.id)
    assert (polled.custom_metadata, polled.kind, polled.version) == ({"user": "J"}, "pre-recorded", 2)
    assert (polled.file.filename, polled.file.audio_duration, polled.file.number_of_channels) == (clip.name, 1.5, 1)
    assert polled.result.metadata.billing_time == 1.5
    assert polled.result.metadata.transcription_time > 0
    listed = await jobs.list({"limit": 5, "custom_metadata": {"user": "J"}, "status": ["done", "error"]})
    assert polled in listed.items
    assert await jobs.get_file(created.id) == SPEECH
    assert await jobs.delete(created.id) is True
    with pytest.raises(HttpError) as gone:
        await jobs.get(created.id)
    assert gone.value.status == 404


async def test_transcribe_does_it_all_in_one_call(world: World, jobs: Jobs) -> None:
    sent = await jobs.transcribe(BytesIO(SPEECH), interval=0.05)
    fetched = await jobs.transcribe(f"{world.audio_url}/speech.wav", interval=0.05)
    assert spoken(sent) == spoken(fetched) != ""
    assert (fetched.file.filename, fetched.file.source) == ("speech.wav", f"{world.audio_url}/speech.wav")
    assert await jobs.get_file(fetched.id) == SPEECH


@pytest.mark.parametrize(
    ("kind", "method"),
    [("synchronous", "POST"), ("asynchronous", "PUT"), ("asynchronous", None)],
    indirect=["kind"],
)
async def test_a_callback_brings_the_result_that_polling_would(
    world: World, jobs: Jobs, clip: Path, method: Any
) -> None:
    upload = await jobs.upload_file(clip)
    created = await jobs.create(
        PreRecordedV2InitTranscriptionRequest(
            audio_url=upload.audio_url,
            callback=True,
            callback_config=PreRecordedV2CallbackConfig(url=world.stage.callback_url, method=method),
            subtitles=True,
        )
    )
    heard = await world.called_back(created.id)
    assert (heard["method"], heard["headers"]["content-type"]) == (method or "POST", "application/json")
    event = json.loads(heard["body"])
    assert (set(event), event["id"], event["event"]) == ({"id", "event", "payload"}, created.id, "success")
    polled = await jobs.poll(created.id, interval=0.05)
    assert PreRecordedV2TranscriptionResult.from_dict(event["payload"]) == polled.result
    assert "morning" in spoken(polled)


@pytest.mark.parametrize("kind", ["asynchronous"], indirect=True)
async def test_channels_come_apart_and_everything_that_was_asked_for_comes_along(jobs: Jobs) -> None:
    upload = await jobs.upload_file(str(STEREO))
    done = await jobs.create_and_poll(
        PreRecordedV2InitTranscriptionRequest(
            audio_url=upload.audio_url,
            model="solaria-1",
            language_config=PreRecordedV2LanguageConfig(languages=["en"]),
            custom_vocabulary=True,
            custom_vocabulary_config=PreRecordedV2CustomVocabularyConfig(
                vocabulary=["letter", PreRecordedV2CustomVocabularyEntry(value="brother")]
            ),
            custom_spelling=True,
            custom_spelling_config=PreRecordedV2CustomSpellingConfig(spelling_dictionary={"MORNING": ["morning"]}),
            subtitles=True,
            subtitles_config=PreRecordedV2SubtitlesConfig(formats=["srt", "vtt"], maximum_characters_per_row=20),
            sentences=True,
            punctuation_enhanced=True,
            custom_metadata={"user": "J", "nested": {"a": [1, None]}},
        ),
        interval=0.05,
    )
    assert "MORNING" in spoken(done)
    transcription = done.result.transcription
    assert {utterance.channel for utterance in transcription.utterances} == {0, 1}
    assert transcription.languages == ["en"]
    assert done.result.metadata.number_of_distinct_channels == 2
    assert sorted(" ".join(transcription.sentences[0].results).split()) == sorted(spoken(done).split())
    srt, vtt = transcription.subtitles
    assert re.match(r"1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\n", srt.subtitles)
    assert vtt.subtitles.startswith("WEBVTT\n\n00:00:0")
    assert max(map(len, srt.subtitles.splitlines())) <= len("00:00:00,000 --> 00:00:00,000")
    assert done.request_params.custom_spelling_config.spelling_dictionary == {"MORNING": ["morning"]}


async def test_pages_follow_one_another(jobs: Jobs, kind: str, clip: Path) -> None:
    upload = await jobs.upload_file(clip)
    metadata = {"pages": kind}
    made = [
        (await jobs.create({"audio_url": upload.audio_url, "custom_metadata": metadata, "subtitles": False})).id
        for _ in range(3)
    ]
    page = await jobs.list(PreRecordedV2ListParams(limit=2, custom_metadata=metadata))
    found = [item.id for item in page.items]
    rest = await jobs.list({"url": page.next})
    assert found + [item.id for item in rest.items] == made[::-1]
    assert rest.next is None
    assert (await jobs.list({"date": "2001-01-01"})).items == []
    for job_id in made:
        assert await jobs.delete(job_id)


async def test_audio_that_never_came_fails_with_a_code_and_calls_back(world: World, jobs: Jobs) -> None:
    created = await jobs.create(
        {
            "audio_url": f"{world.audio_url}/nothing.wav",
            "callback": True,
            "callback_config": {"url": world.stage.callback_url, "method": "PUT"},
        }
    )
    with pytest.raises(Exception, match=f"Pre-recorded job {created.id} failed with error code: 400"):
        await jobs.poll(created.id, interval=0.05)
    heard = await world.called_back(created.id)
    event = json.loads(heard["body"])
    assert (heard["method"], event["event"], event["error"]["code"]) == ("PUT", "error", "remote_content")
    assert "client error: 404" in event["error"]["message"]


async def test_what_cannot_be_done_is_named_where_the_sdk_shows_it(world: World, jobs: Jobs) -> None:
    with pytest.raises(HttpError) as refused:
        await jobs.create({"audio_url": f"{world.audio_url}/speech.wav", "pii_redaction": True, "sentnces": True})
    assert refused.value.status == 422
    assert refused.value.invalid_parameters == ["pii_redaction", "sentnces"]
    assert "did you mean 'sentences'" in str(refused.value)
    assert str(UUID(refused.value.id)) == refused.value.id
    assert refused.value.request_id == "G-" + refused.value.id[-8:]


async def test_a_file_that_is_no_audio_is_refused_at_once(jobs: Jobs) -> None:
    with pytest.raises(HttpError, match="audio must be audio or video that can be decoded") as refused:
        await jobs.upload_file(BytesIO(b"I am a text." * 99))
    assert refused.value.status == 422


async def test_without_a_key_there_is_nothing(world: World, kind: str) -> None:
    stranger = connect(kind, world.stage.engine_url, "wrong")
    with pytest.raises(HttpError, match="gladia key not found") as refused:
        await stranger.list()
    assert refused.value.status == 401
    await stranger.close()


async def test_events_are_named_as_the_setting_says(world: World) -> None:
    port = free_port()
    env = world.stage.env | {"OUTSPOKEN_ENGINE__PORT": str(port), "OUTSPOKEN_ENGINE__GLADIA__EVENT_NAMES": "namespaced"}
    engine = await Process.start("engine", "run", env=env)
    await engine.event("engine.ready")
    jobs = connect("asynchronous", f"http://127.0.0.1:{port}", world.key)
    try:
        asked = {"callback_url": world.stage.callback_url, "custom_metadata": {"user": "J"}}
        good = await jobs.create({"audio_url": f"{world.audio_url}/speech.wav", **asked})
        bad = await jobs.create({"audio_url": f"{world.audio_url}/nothing.wav", **asked})
        success = json.loads((await world.called_back(good.id))["body"])
        error = json.loads((await world.called_back(bad.id))["body"])
    finally:
        await jobs.close()
        await engine.stop()
    assert (success["event"], success["custom_metadata"]) == ("transcription.success", {"user": "J"})
    assert "morning" in text_of(PreRecordedV2TranscriptionResult.from_dict(success["payload"]))
    assert (error["event"], error["error"]["code"], error["custom_metadata"]) == (
        "transcription.error",
        400,
        {"user": "J"},
    )
