"""OpenAI's own clients for Python and JavaScript, unmodified, against a running engine and relay; and the way in which
other programs call its API."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from tests.acceptance.speech import first_seconds, silence
from tests.acceptance.stage import ROOT, Line, Process, Stage
from tests.acceptance.test_deepgram_sdk import a_key
from tests.clips.dialogues import dialogue
from tests.lazily import imported
from tests.ports import free_callback_port
from tests.schemas import hold
from tests.services import voices, whisper

if TYPE_CHECKING:
    import openai
    from openai import AsyncOpenAI
else:
    openai = imported("openai")

SPEECH = first_seconds(1.5)
DEMO = ROOT / "tests" / "clips" / "demo.flac"
GERMAN = ROOT / "tests" / "clips" / "de" / "arzt.ogg"
JAVASCRIPT = ROOT / "tests" / "acceptance" / "openai"
INSTALLED = ROOT / "build" / "openai"
PATH = "/v1/audio/transcriptions"

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.asyncio(loop_scope="module"),
    # Translations are old, and still called.
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]


@dataclass(frozen=True)
class World:
    """The running processes, a key to the engine, and the key that signs callbacks."""

    stage: Stage
    receiver: Process
    engine: Process
    key: str
    signing_key: str

    @property
    def base_url(self) -> str:
        return f"{self.stage.engine_url}/v1"

    async def called_back(self, request_id: str) -> Line:
        """The callback of a request."""
        line = await self.receiver.said(lambda line: line.get("headers", {}).get("webhook-id") == request_id)
        hold("openai", line["body"])
        return line


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    port = free_callback_port()
    stage = Stage(
        tmp_path_factory.mktemp("openai"),
        port,
        outbox__guard__ports=port,
        engine__recognisers__multilingual__model=whisper.base(),
        engine__models_dir=voices.models_dir(tmp_path_factory.mktemp("models")),
    )
    async with AsyncExitStack() as stack:
        signing_key = await stage.signing_key()
        key = await a_key(stage)
        receiver = await stage.receiver()
        engine = await stage.engine()
        for process in (receiver, engine, await stage.relay()):
            stack.push_async_callback(process.stop)
        yield World(stage, receiver, engine, key, signing_key)


@pytest_asyncio.fixture(loop_scope="module")
async def client(world: World) -> AsyncIterator[AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key=world.key, base_url=world.base_url, max_retries=0) as client:
        yield client


def is_the_beginning(text: str) -> bool:
    return text.lower().startswith("good morning")


async def test_a_file_is_transcribed(client: AsyncOpenAI) -> None:
    answer = await client.audio.transcriptions.create(file=("a.wav", SPEECH), model="whisper-1", language="en")
    assert is_the_beginning(answer.text)


async def test_the_synchronous_client_does_the_same(world: World) -> None:
    def transcribe() -> str:
        with (
            openai.OpenAI(api_key=world.key, base_url=world.base_url, max_retries=0) as client,
            DEMO.open("rb") as file,
        ):
            text: str = client.audio.transcriptions.create(file=file, model="gpt-4o-transcribe").text
            return text

    assert is_the_beginning(await asyncio.to_thread(transcribe))


async def test_times_of_words_and_segments(client: AsyncOpenAI) -> None:
    answer = await client.audio.transcriptions.create(
        file=BytesIO(SPEECH),
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert isinstance(answer, openai.types.audio.TranscriptionVerbose)
    assert (answer.language, answer.duration) == ("english", 1.5)
    assert answer.words is not None
    assert answer.segments is not None
    assert [word.word.lower() for word in answer.words[:2]] == ["good", "morning"]
    assert answer.words[0].start < answer.words[0].end <= answer.segments[0].end <= 1.5
    assert is_the_beginning(answer.segments[0].text.strip())


@pytest.mark.parametrize(("form", "begin"), [("text", "good morning"), ("srt", "1\n00:00:00"), ("vtt", "webvtt")])
async def test_text_and_subtitles(client: AsyncOpenAI, form: Any, begin: str) -> None:
    answer = await client.audio.transcriptions.create(file=("a.wav", SPEECH), model="whisper-1", response_format=form)
    assert isinstance(answer, str)
    assert answer.lower().startswith(begin)  # what is a capital differs between processors


async def test_events(client: AsyncOpenAI) -> None:
    stream = await client.audio.transcriptions.create(file=("a.wav", SPEECH), model="gpt-transcribe", stream=True)
    events = [event async for event in stream]
    assert {event.type for event in events[:-1]} == {"transcript.text.delta"}
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == "".join(event.delta for event in events[:-1] if event.type == "transcript.text.delta")


async def test_events_tell_who_speaks(client: AsyncOpenAI) -> None:
    """Two people, one of them twice: words as they come, then segments with their speakers."""
    voices.skip_without()
    said = dialogue(("en/adler", 2), ("en/bennet", 3), ("en/adler", 3))
    stream = await client.audio.transcriptions.create(
        file=("a.wav", said.wav()), model="gpt-4o-transcribe-diarize", response_format="diarized_json", stream=True
    )
    events = [event async for event in stream]
    segments = [event for event in events if event.type == "transcript.text.segment"]
    kinds = [kind for kind, _ in groupby(event.type for event in events)]
    assert kinds == ["transcript.text.delta", "transcript.text.segment", "transcript.text.done"]
    assert [speaker for speaker, _ in groupby(event.speaker for event in segments)] == ["A", "B", "A"]
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == " ".join(event.text for event in segments)
    assert events[-1].text == "".join(event.delta for event in events if event.type == "transcript.text.delta")


async def test_german_is_translated(client: AsyncOpenAI) -> None:
    answer = await client.audio.translations.create(file=("arzt.ogg", GERMAN.read_bytes()), model="multilingual")
    assert "doctor" in answer.text.lower()


async def test_a_model_that_cannot_translate_says_which_can(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.audio.translations.create(file=("a.wav", SPEECH), model="whisper-1")
    assert (refused.value.param, refused.value.type) == ("model", "invalid_request_error")
    assert "Models here that do: multilingual." in refused.value.message


async def test_models(client: AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    assert {"whisper-1", "gpt-4o-transcribe", "default", "multilingual"} <= set(listed)
    assert (await client.models.retrieve("whisper-1")).owned_by == "outspoken"


async def test_errors_are_the_clients_own(world: World, client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as broken:
        await client.audio.transcriptions.create(file=("a.wav", b"no audio"), model="whisper-1")
    assert (broken.value.param, broken.value.request_id is not None) == ("file", True)
    with pytest.raises(openai.APIError, match="'whisper-9' does not exist here"):
        await client.audio.transcriptions.create(file=("a.wav", SPEECH), model="whisper-9")
    async with openai.AsyncOpenAI(api_key="osk_wrong", base_url=world.base_url) as stranger:
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key"):
            await stranger.models.list()


async def test_the_result_goes_to_the_callback_signed_as_the_clients_verify_it(
    world: World, client: AsyncOpenAI
) -> None:
    more: dict[str, Any] = {"callback": world.stage.callback_url}
    accepted = await client.audio.transcriptions.create(file=("a.wav", SPEECH), model="whisper-1", extra_body=more)
    line = await world.called_back(accepted.id)
    document = json.loads(line["body"])
    assert (document["id"], document["object"], document["status"]) == (
        line["headers"]["webhook-id"],
        "audio.transcription",
        "completed",
    )
    assert is_the_beginning(document["text"])
    client.webhooks.verify_signature(line["body"], line["headers"], secret=world.signing_key)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(line["body"] + " ", line["headers"], secret=world.signing_key)


async def test_a_callback_comes_though_the_engine_is_killed_once_it_accepted(tmp_path: Path) -> None:
    port = free_callback_port()
    stage = Stage(tmp_path, port, outbox__guard__ports=port, engine__lease_seconds=2)
    async with AsyncExitStack() as stack:
        receiver = await stage.receiver()
        stack.push_async_callback(receiver.stop)
        engine = await stage.engine()
        async with openai.AsyncOpenAI(api_key="none", base_url=f"{stage.engine_url}/v1", max_retries=0) as client:
            more = {"callback": stage.callback_url}
            accepted = [
                await client.audio.transcriptions.create(
                    file=("a.wav", silence(1.0)), model="whisper-1", extra_body=more
                )
                for _ in range(3)
            ]
        await engine.kill()
        for process in (await stage.engine(), await stage.relay()):
            stack.push_async_callback(process.stop)
        ids = {answer.id for answer in accepted}
        assert len(ids) == 3
        await receiver.until(lambda: ids <= {line.get("headers", {}).get("webhook-id") for line in receiver.lines})


async def test_as_open_webui_calls_it(world: World) -> None:
    """requests with a file, the model, and whatever language its user chose; then the key `text` of the JSON."""
    form = aiohttp.FormData({"model": "whisper-1", "language": "en"})
    form.add_field("file", SPEECH, filename="audio.wav", content_type="audio/wav")
    headers = {"Authorization": f"Bearer {world.key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(world.stage.engine_url + PATH, headers=headers, data=form) as response,
    ):
        assert response.status == 200
        assert is_the_beginning((await response.json())["text"])


async def test_as_langchain_calls_it(client: AsyncOpenAI) -> None:
    """OpenAIWhisperParser hands everything that it was given to the client, and reads `text`."""
    file = BytesIO(SPEECH)
    file.name = "part_0.mp3"  # whatever the part is called
    options: dict[str, Any] = {"prompt": "A phone call.", "response_format": "verbose_json", "temperature": 0.0}
    answer = await client.audio.transcriptions.create(model="whisper-1", file=file, **options)
    assert is_the_beginning(answer.text)


async def in_javascript(*asked: dict[str, Any]) -> list[Any]:
    """What the client was given for each call, all of them in one process."""
    await asyncio.to_thread(install)
    process = await asyncio.create_subprocess_exec(
        "node", INSTALLED / "client.mjs", json.dumps(asked), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return [json.loads(line) for line in out.splitlines()]


def calling(world: World, call: str, file: Path = DEMO, **options: Any) -> dict[str, Any]:
    return {"url": world.stage.engine_url, "key": world.key, "call": call, "file": str(file), "options": options}


def install() -> None:
    """The client for JavaScript, into build/ once."""
    files = ("package.json", "client.mjs")
    same = all(
        (INSTALLED / name).exists() and (INSTALLED / name).read_bytes() == (JAVASCRIPT / name).read_bytes()
        for name in files
    )
    if same and (INSTALLED / "node_modules" / ".package-lock.json").exists():
        return
    shutil.rmtree(INSTALLED, ignore_errors=True)
    shutil.copytree(JAVASCRIPT, INSTALLED)
    npm = ("npm", "install", "--prefix", str(INSTALLED), "--no-package-lock", "--no-audit", "--no-fund")
    subprocess.run(npm, check=True, stdout=subprocess.DEVNULL, timeout=300)


@pytest.mark.needs("node")
@pytest.mark.needs("npm")
async def test_the_client_for_javascript(world: World, tmp_path: Path) -> None:
    short = tmp_path / "a.wav"
    short.write_bytes(SPEECH)
    words = {"response_format": "verbose_json", "timestamp_granularities": ["word"]}
    back = {"callback": world.stage.callback_url, "callback_method": "PUT"}
    plain, verbose, streamed, accepted, models, wrong = await in_javascript(
        calling(world, "transcriptions", short, model="whisper-1"),
        calling(world, "transcriptions", short, model="whisper-1", **words),
        calling(world, "transcriptions", short, model="gpt-4o-transcribe", stream=True),
        calling(world, "transcriptions", short, model="whisper-1", **back),
        calling(world, "models"),
        calling(world, "transcriptions", short, model="whisper-9"),
    )
    assert is_the_beginning(plain["answer"]["text"])
    assert [word["word"].lower() for word in verbose["answer"]["words"][:2]] == ["good", "morning"]
    assert streamed["answer"][-1]["type"] == "transcript.text.done"
    assert "whisper-1" in models["answer"]
    assert (wrong["status"], wrong["param"], wrong["code"]) == (404, "model", "model_not_found")
    line = await world.called_back(accepted["answer"]["id"])
    assert (line["method"], json.loads(line["body"])["status"]) == ("PUT", "completed")
    signer = replace(world, key=world.signing_key)
    verified, forged = await in_javascript(
        calling(signer, "verify", body=line["body"], headers=line["headers"]),
        calling(signer, "verify", body=line["body"] + " ", headers=line["headers"]),
    )
    assert verified["answer"] == json.loads(line["body"])
    assert "message" in forged
