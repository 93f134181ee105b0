"""Deepgram's own Python client, unmodified, against a running engine and relay: one changed base URL, and all works."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import httpx
import pytest
import pytest_asyncio
from aiohttp import web
from deepgram import AsyncDeepgramClient, DeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment
from deepgram.errors import BadRequestError
from deepgram.types.listen_v1accepted_response import ListenV1AcceptedResponse
from deepgram.types.listen_v1response import ListenV1Response

from tests.acceptance.speech import first_seconds, silence
from tests.acceptance.stage import ROOT, Line, Process, Stage
from tests.clips.dialogues import dialogue
from tests.ports import free_callback_port, free_port
from tests.schemas import hold, told
from tests.services import clients, voices, whisper

STEREO = ROOT / "tests" / "clips" / "stereo.flac"
SPEECH = first_seconds(1.5)
SENTENCE = first_seconds(3.2)
QUIET = silence(0.2)
KEEP_ALIVE_SECONDS = 0.25

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.asyncio(loop_scope="module"),
    # The SDK imports names that websockets has deprecated.
    pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning"),
]


@dataclass(frozen=True)
class World:
    """The running processes, a key to the engine, and a server that hosts audio."""

    stage: Stage
    receiver: Process
    engine: Process
    key: str
    audio_url: str

    @property
    def environment(self) -> DeepgramClientEnvironment:
        url = self.stage.engine_url
        return DeepgramClientEnvironment(base=url, production=url, agent=url, agent_rest=url)

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Token {self.key}"}

    def recognising(self) -> list[int]:
        """The engine's processes that hear recordings."""
        children = Path(f"/proc/{self.engine.pid}/task/{self.engine.pid}/children").read_text().split()
        commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        return [pid for pid, command in commands.items() if b"workers.worker" in command and b"--nice" in command]

    async def called_back(self, request_id: str | None) -> Line:
        """The callback of a request."""
        line = await self.receiver.said(lambda line: line.get("headers", {}).get("webhook-id") == request_id)
        hold("deepgram", line["body"])
        return line


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    callback_port, audio_port = free_callback_port(), free_port()
    ports = f"{callback_port}, {audio_port}"
    stage = Stage(
        tmp_path_factory.mktemp("sdk"),
        callback_port,
        outbox__guard__ports=ports,
        engine__fetch__tries=1,
        engine__recognisers__multilingual__model=whisper.base(),
        engine__models_dir=voices.models_dir(tmp_path_factory.mktemp("models")),
        engine__keep_alive_seconds=KEEP_ALIVE_SECONDS,
        engine__workers=1,  # or another that nobody stopped may be started for a request
    )
    async with AsyncExitStack() as stack:
        await hosting(stack, audio_port)
        key = await a_key(stage)
        receiver = await stage.receiver()
        engine = await stage.engine()
        for process in (receiver, engine, await stage.relay()):
            stack.push_async_callback(process.stop)
        yield World(stage, receiver, engine, key, f"http://127.0.0.1:{audio_port}")


async def hosting(stack: AsyncExitStack, port: int) -> None:
    """A web server with one clip, `/speech.wav`."""

    async def speech(_: web.Request) -> web.Response:
        return web.Response(body=SPEECH, content_type="audio/wav")

    application = web.Application()
    application.router.add_get("/speech.wav", speech)
    server = web.AppRunner(application)
    await server.setup()
    stack.push_async_callback(server.cleanup)
    await web.TCPSite(server, "127.0.0.1", port).start()


async def a_key(stage: Stage) -> str:
    making = await Process.start("engine", "keys", "add", "sdk", env=stage.env)
    assert await making.finished() == 0
    return next(word for word in making.words if word.startswith("osk_"))


class Blocking:
    """The synchronous client, in a thread so that this test's audio server can answer meanwhile."""

    def __init__(self, client: DeepgramClient) -> None:
        self._media = client.listen.v1.media

    async def file(self, audio: bytes, **options: Any) -> Any:
        return await asyncio.to_thread(lambda: self._media.transcribe_file(request=audio, **options))

    async def pieces(self, audio: bytes, **options: Any) -> Any:
        return await asyncio.to_thread(lambda: self._media.transcribe_file(request=cut(audio), **options))

    async def url(self, url: str, **options: Any) -> Any:
        return await asyncio.to_thread(lambda: self._media.transcribe_url(url=url, **options))


class Awaited:
    """The asynchronous client."""

    def __init__(self, client: AsyncDeepgramClient) -> None:
        self._media = client.listen.v1.media

    async def file(self, audio: bytes, **options: Any) -> Any:
        return await self._media.transcribe_file(request=audio, **options)

    async def pieces(self, audio: bytes, **options: Any) -> Any:
        async def cutting() -> AsyncIterator[bytes]:
            for piece in cut(audio):
                yield piece

        return await self._media.transcribe_file(request=cutting(), **options)

    async def url(self, url: str, **options: Any) -> Any:
        return await self._media.transcribe_url(url=url, **options)


def cut(audio: bytes) -> Iterator[bytes]:
    for start in range(0, len(audio), 10_000):
        yield audio[start : start + 10_000]


Connect = Callable[..., Blocking | Awaited]
Media = Blocking | Awaited


@pytest_asyncio.fixture(loop_scope="module", params=["synchronous", "asynchronous"])
async def connect(request: pytest.FixtureRequest, world: World) -> AsyncIterator[Connect]:
    """Makes clients of either kind; their connections are closed at the end."""
    with httpx.Client() as blocking:
        async with httpx.AsyncClient() as awaited:

            def connect(**credentials: str) -> Media:
                if request.param == "synchronous":
                    return Blocking(DeepgramClient(**credentials, environment=world.environment, httpx_client=blocking))
                return Awaited(AsyncDeepgramClient(**credentials, environment=world.environment, httpx_client=awaited))

            yield connect


@pytest.fixture
def media(connect: Connect, world: World) -> Media:
    return connect(api_key=world.key)


def words(result: Any, channel: int = 0) -> list[str]:
    """The words of one channel, with times in order."""
    assert isinstance(result, ListenV1Response), result
    (alternative,) = result.results.channels[channel].alternatives or []
    said = alternative.words or []
    times = [time for word in said for time in (word.start or 0.0, word.end or 0.0)]
    assert times == sorted(times)
    assert alternative.transcript == " ".join(str(getattr(word, "punctuated_word", word.word)) for word in said)
    return [str(word.word) for word in said]


async def test_a_file_a_generator_and_a_url_give_the_same_words(world: World, media: Media) -> None:
    file = await media.file(SPEECH, model="nova-3")
    pieces = await media.pieces(SPEECH, model="nova-3")
    fetched = await media.url(f"{world.audio_url}/speech.wav", model="nova-3")
    assert "morning" in words(file)
    assert words(file) == words(pieces) == words(fetched)
    assert file.metadata.sha256 == pieces.metadata.sha256 == fetched.metadata.sha256
    assert (file.metadata.duration, file.metadata.channels) == (1.5, 1)


@pytest.mark.parametrize("connect", ["asynchronous"], indirect=True)
async def test_channels_come_apart_and_everything_that_was_asked_for_comes_along(media: Media) -> None:
    result = await media.file(
        STEREO.read_bytes(),
        model="multilingual",
        language="en",
        version="latest",
        multichannel=True,
        punctuate=True,
        paragraphs=True,
        utterances=True,
        utt_split=0.5,
        numerals=True,
        smart_format=True,
        profanity_filter=True,
        filler_words=True,
        detect_language=["en", "en-US"],
        search=["call"],
        replace=["morning:evening"],
        keyterm=["letter"],
        keywords=["brother:2"],
        mip_opt_out=True,
        tag=["a", "b"],
        extra=["k:v", "job:4:2"],
    )
    assert words(result, 0) != words(result, 1)
    assert "morning" not in words(result, 0)
    assert (result.metadata.tags, result.metadata.extra) == (["a", "b"], {"k": "v", "job": "4:2"})
    assert {utterance.channel for utterance in result.results.utterances} == {0, 1}
    left = result.results.channels[0]
    assert left.detected_language == "en"
    assert left.alternatives[0].paragraphs.paragraphs[0].num_words == len(words(result, 0))
    assert [found.query for found in left.search] == ["call"]
    assert {warning["parameter"] for warning in result.metadata.warnings} >= {"keywords", "numerals"}


async def test_who_speaks_stands_at_each_word_utterance_and_paragraph(world: World) -> None:
    """Two people, one of them twice."""
    voices.skip_without()
    said = dialogue(("en/adler", 2), ("en/bennet", 3), ("en/adler", 3))
    with httpx.Client() as client:
        media = Blocking(DeepgramClient(api_key=world.key, environment=world.environment, httpx_client=client))
        result = await media.file(said.wav(), diarize_model="latest", punctuate=True, utterances=True, paragraphs=True)
    words(result)
    (alternative,) = result.results.channels[0].alternatives
    for turn in said.turns:
        heard = [word for word in alternative.words if turn.start + 0.3 < word.start < turn.end - 0.3]
        assert len(heard) > 4
        assert {word.speaker for word in heard} == {turn.speaker}, turn
        assert min(word.speaker_confidence for word in heard) > 0.8
    assert {tuple({word.speaker for word in one.words}) for one in result.results.utterances} == {(0,), (1,)}
    assert {one.speaker for one in result.results.utterances} == {0, 1}
    assert [one.speaker for one in alternative.paragraphs.paragraphs] == [0, 1, 0]
    assert "\n\nSpeaker 1: " in alternative.paragraphs.transcript
    assert result.metadata.diarize_info is not None
    assert not getattr(result.metadata, "warnings", [])


async def test_silence_is_a_result_without_words(media: Media) -> None:
    quiet = await media.file(bytes(32000), encoding="linear16", request_options=also(sample_rate="16000"))
    assert words(quiet) == []
    assert (quiet.metadata.duration, quiet.results.channels[0].alternatives[0].confidence) == (1.0, 0.0)


async def test_a_client_that_hangs_up_after_a_second_of_silence_gets_a_result_that_takes_longer(
    world: World, media: Media
) -> None:
    await media.file(QUIET)  # so that there is one
    workers = world.recognising()
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    hearing = asyncio.create_task(media.file(SPEECH, request_options={"timeout_in_seconds": 1, "max_retries": 0}))
    # Who asks after it is told, by as many spaces, that more than a second has gone by.
    asking = aiohttp.request("POST", f"{world.stage.engine_url}/v1/listen", data=QUIET, headers=world.authorization)
    async with asking as answer:
        await answer.content.readexactly(int(1 / KEEP_ALIVE_SECONDS) + 2)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        assert "morning" in words(await hearing)
        assert (await answer.read()).lstrip().startswith(b"{")


def also(**parameters: str) -> dict[str, Any]:
    """Query parameters that the SDK has no name for."""
    return {"additional_query_parameters": parameters}


async def test_parameters_of_tomorrow_are_listed_and_harmless(media: Media) -> None:
    result = await media.file(QUIET, request_options=also(telepathy="true"))
    assert [warning["parameter"] for warning in result.metadata.warnings] == ["telepathy"]


@pytest.mark.parametrize(
    ("connect", "method"), [("synchronous", "POST"), ("asynchronous", "put")], indirect=["connect"]
)
async def test_a_callback_brings_the_very_document_that_waiting_would(world: World, media: Media, method: str) -> None:
    callback = f"http://user:pa%20ss@127.0.0.1:{world.stage.callback_port}/hook?x=1&y=a+b"
    accepted = await media.file(
        SPEECH, model="nova-3", callback=callback, callback_method=method, tag=["a"], extra=["secret:s3cret"]
    )
    assert isinstance(accepted, ListenV1AcceptedResponse)
    assert str(UUID(accepted.request_id)) == accepted.request_id
    heard = await world.called_back(accepted.request_id)
    assert (heard["method"], heard["path"]) == (method.upper(), "/hook?x=1&y=a+b")
    assert heard["headers"]["content-type"] == "application/json"
    assert heard["headers"]["authorization"] == "Basic " + base64.b64encode(b"user:pa ss").decode()
    assert heard["headers"]["dg-token"] == world.key.split("_")[1]
    result = ListenV1Response.model_validate(json.loads(heard["body"]))
    assert result.metadata.request_id == accepted.request_id
    assert result.metadata.extra == {"secret": "s3cret"}
    assert words(result) == words(await media.file(SPEECH, model="nova-3"))


async def test_a_url_with_a_callback_is_fetched_later(world: World, media: Media) -> None:
    accepted = await media.url(
        f"{world.audio_url}/speech.wav", callback=world.stage.callback_url, callback_method="PUT"
    )
    heard = await world.called_back(accepted.request_id)
    result = ListenV1Response.model_validate(json.loads(heard["body"]))
    assert "morning" in words(result)
    assert len(str(result.metadata.sha256)) == 64


async def test_audio_that_never_came_calls_back_with_the_vendors_code_and_the_echo(world: World, media: Media) -> None:
    accepted = await media.url(
        f"{world.audio_url}/nothing.wav", callback=world.stage.callback_url, tag=["a"], extra=["k:v"]
    )
    body = json.loads((await world.called_back(accepted.request_id))["body"])
    assert body == {
        "err_code": "REMOTE_CONTENT_ERROR",
        "err_msg": "The remote server hosting the media returned a client error: 404.",
        "request_id": accepted.request_id,
        "metadata": {"request_id": accepted.request_id, "tags": ["a"], "extra": {"k": "v"}},
    }
    assert ListenV1AcceptedResponse.model_validate(body).request_id == accepted.request_id


@pytest.mark.parametrize(
    ("audio", "options", "code", "message"),
    [
        (
            b"",
            {},
            "Bad Request",
            "Bad Request: failed to process audio: corrupt or unsupported data. The body is",
        ),
        (b"words, not sound " * 99, {}, "Bad Request", "failed to process audio: corrupt or unsupported data."),
        (SPEECH, {"model": "nova-99"}, "Bad Request", "No such model/language/tier combination found. model:"),
        (SPEECH, {"redact": "pii"}, "INVALID_QUERY_PARAMETER", "redact: this server does not offer"),
        (SPEECH, {"redact": ["pci", "ssn"]}, "INVALID_QUERY_PARAMETER", "redact: this server does not offer redaction"),
        (SPEECH, {"utt_split": 0}, "INVALID_QUERY_PARAMETER", "utt_split: '0' is not a positive number"),
        (SPEECH, {"encoding": "g726"}, "INVALID_QUERY_PARAMETER", "encoding: 'g726' is not supported; use one of"),
        (SPEECH, {"callback": "http://127.0.0.1:25/"}, "INVALID_QUERY_PARAMETER", "Invalid callback url. callback:"),
        (SPEECH, {"callback": "example.com/hook"}, "INVALID_QUERY_PARAMETER", "Invalid callback url. callback:"),
        (SPEECH, {"callback": "http://10.0.0.1/"}, "INVALID_QUERY_PARAMETER", "Invalid callback url. callback:"),
    ],
)
async def test_what_is_wrong_with_a_request_arrives_as_the_clients_own_error(
    media: Media, audio: bytes, options: dict[str, Any], code: str, message: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        await media.file(audio, **options)
    assert caught.value.status_code == 400
    assert caught.value.body["err_code"] == code
    assert message in told(caught.value.body)
    headers = caught.value.headers or {}
    assert headers["dg-request-id"] == caught.value.body["request_id"] == str(UUID(headers["dg-request-id"]))
    assert headers["dg-error"] == told(caught.value.body)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nothing.wav", "The remote server hosting the media returned a client error: 404."),
        (":25/a.wav", "URL for media download must be publicly routable."),
    ],
)
async def test_audio_that_cannot_be_fetched_is_a_remote_content_error(
    world: World, media: Media, path: str, message: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        await media.url(f"{world.audio_url}{path}" if path.startswith("/") else f"http://127.0.0.1{path}")
    assert caught.value.body["err_code"] == "REMOTE_CONTENT_ERROR"
    assert message in told(caught.value.body)


async def test_a_generator_that_comes_again_empty_is_refused(media: Media) -> None:
    with pytest.raises(BadRequestError, match="The body is empty"):
        await media.pieces(b"")


async def test_an_access_token_is_as_good_as_a_key_and_a_wrong_one_is_none(world: World, connect: Connect) -> None:
    assert words(await connect(access_token=world.key).file(QUIET)) == []
    for credentials in ({"api_key": "wrong"}, {"access_token": world.key[:-1]}):
        with pytest.raises(ApiError) as caught:
            await connect(**credentials).file(SPEECH)
        assert (caught.value.status_code, caught.value.body["err_code"]) == (401, "INVALID_AUTH")


async def test_the_request_id_is_in_the_headers_of_a_success_too(world: World) -> None:
    async with httpx.AsyncClient() as http:
        client = AsyncDeepgramClient(api_key=world.key, environment=world.environment, httpx_client=http)
        raw = await client.listen.v1.media.with_raw_response.transcribe_file(request=QUIET)
        assert isinstance(raw.data, ListenV1Response)
        assert raw.headers["dg-request-id"] == raw.data.metadata.request_id


async def test_a_callback_tells_that_its_audio_is_none(world: World, media: Media) -> None:
    answer = await media.file(b"words, not sound " * 99, callback=world.stage.callback_url)
    failure = json.loads((await world.called_back(answer.request_id))["body"])
    assert failure["err_msg"] == "Bad Request: failed to process audio: corrupt or unsupported data"
    assert "send a WAV" in failure["details"]


QUICKSTART = """
import sys
from deepgram import DeepgramClient, DeepgramClientOptions, PrerecordedOptions

url, key, file = sys.argv[1:]
with open(file, "rb") as audio:
    source = {"buffer": audio.read()}
options = PrerecordedOptions(model="nova-2-meeting", smart_format=True, diarize=True)
client = DeepgramClient(key, DeepgramClientOptions(url=url))
answer = client.listen.rest.v("1").transcribe_file(source, options)
print(answer.results.channels[0].alternatives[0].paragraphs.transcript)
"""


@pytest.fixture
def sentence(tmp_path: Path) -> str:
    """The path of a file."""
    path = tmp_path / "sentence.wav"
    path.write_bytes(SENTENCE)
    return str(path)


@pytest.mark.parametrize("version", ["3.11.0", "4.8.1"])
async def test_the_quickstart_of_older_clients_prints_paragraphs(world: World, sentence: str, version: str) -> None:
    programs = await asyncio.to_thread(clients.installed, f"deepgram-sdk=={version}")
    said = await output(programs / "python", "-c", QUICKSTART, world.stage.engine_url, world.key, sentence)
    assert said.lstrip().removeprefix("Speaker 0: ").startswith("Good morning and thank you for calling.")


async def test_the_vendors_command_line_works(world: World, sentence: str) -> None:
    """`dg`, for projects, models and speech."""
    programs = await asyncio.to_thread(clients.installed, "deepctl==0.4.0")

    async def dg(*arguments: str) -> Any:
        given = ("--non-interactive", "--base-url", world.stage.engine_url, "--api-key", world.key, "-o", "json")
        home = str(world.stage.folder)
        return json.loads(await output(programs / "dg", *given, *arguments, DEEPCTL_TELEMETRY_DISABLED="1", HOME=home))

    assert [project["name"] for project in (await dg("projects", "--list"))["projects"]] == ["Outspoken"]
    assert "multilingual" in [model["name"] for model in (await dg("models"))["models"]]
    heard = await dg("listen", sentence, "--diarize")
    assert "Good morning" in json.dumps(heard)


async def output(program: Path, *arguments: str, **environ: str) -> str:
    """What a program prints."""
    process = await asyncio.create_subprocess_exec(
        program, *arguments, env=os.environ | environ, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
    return told.decode()
