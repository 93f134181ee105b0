"""Both vendors' own live clients, unmodified, against a running engine and relay: real speech, in real time where it
matters when results come."""

from __future__ import annotations

import asyncio
import hashlib
import json
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from difflib import SequenceMatcher
from io import BytesIO
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from gladiaio_sdk import GladiaClient
from gladiaio_sdk.v2.live.generated_types import create_live_v2_callback_message_from_dict

from tests.acceptance.dictation import (
    PATIENCE,
    SECOND,
    Heard,
    deepgram,
    deepgram_async,
    deepgram_session,
    gladia,
    gladia_async,
    speak,
)
from tests.acceptance.sockets import Conversation, receiving
from tests.acceptance.speech import first_seconds
from tests.acceptance.stage import Line, Process, Stage
from tests.acceptance.test_deepgram_sdk import a_key
from tests.clips.dialogues import dialogue
from tests.ports import free_callback_port, free_port
from tests.schemas import hold
from tests.services import voices

HEADER = 44
SPEECH = first_seconds(3.2)
PCM = SPEECH[HEADER:]
INTERIM: dict[str, Any] = {"interim_results": "true", "endpointing": "300"}
FAST = 4.0
"""How many times real time speech may come."""

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.asyncio(loop_scope="module"),
    # Both clients use what the websockets library is about to give up.
    pytest.mark.filterwarnings("ignore:.*websocket:DeprecationWarning"),
]


@dataclass
class World:
    """The running processes, and a key to the engine."""

    stage: Stage
    receiver: Process
    engine: Process
    relay: Process
    key: str
    socket_port: int

    @property
    def url(self) -> str:
        return self.stage.engine_url

    async def stop(self) -> None:
        """The processes that run now: some tests kill one, and start another."""
        for process in (self.relay, self.engine, self.receiver):
            await process.stop()

    async def posted(self, request_id: str, count: int) -> list[Line]:
        """So many callbacks of a session by POST, in the order in which they came."""
        await self.receiver.said(lambda line: _is(line, f"{request_id}-{count}"))
        lines = [line for line in self.receiver.lines if _is(line, request_id)]
        for line in lines:
            hold("gladia" if "event" in json.loads(line["body"]) else "deepgram", line["body"])
        return lines


def _is(line: Line, beginning: str) -> bool:
    return str(line.get("headers", {}).get("webhook-id", "")).startswith(beginning)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    callback_port, socket_port = free_callback_port(), free_port()
    stage = Stage(
        tmp_path_factory.mktemp("live"),
        callback_port,
        outbox__guard__ports=f"{callback_port}, {socket_port}",
        engine__live__capacity_share=100,  # nobody is refused because others have the machine
        engine__live__liveness_seconds=300,
        engine__preload='["default"]',
        engine__models_dir=voices.models_dir(tmp_path_factory.mktemp("models")),
    )
    async with AsyncExitStack() as stack:
        key = await a_key(stage)
        world = World(stage, await stage.receiver(), await engine(stage), await stage.relay(), key, socket_port)
        stack.push_async_callback(world.stop)
        yield world


async def engine(stage: Stage) -> Process:
    """One that has found out what live sessions cost: until then they might have to come again."""
    process = await stage.engine()
    await process.event("live.measured")
    return process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recorded(world: World) -> list[str]:
    """The words of the same speech, sent as a file."""
    headers = {"Authorization": f"Token {world.key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{world.url}/v1/listen", data=SPEECH) as answer,
    ):
        document = await answer.json()
    return str(document["results"]["channels"][0]["alternatives"][0]["transcript"]).split()


def alike(one: list[str], other: list[str]) -> float:
    return SequenceMatcher(None, one, other).ratio()


@pytest.mark.parametrize("client", ["synchronous", "asynchronous"])
async def test_deepgrams_client_hears_while_somebody_speaks_what_a_file_would_say(
    world: World, recorded: list[str], client: str
) -> None:
    heard = Heard()
    if client == "synchronous":
        await asyncio.to_thread(deepgram, world.url, world.key, PCM, heard, vad_events="true", **INTERIM)
    else:
        async with deepgram_session(world.url, world.key, heard, vad_events="true", **INTERIM) as live:
            await speak(live, PCM)
            assert await asyncio.to_thread(heard.results.wait, PATIENCE)  # before the caller says that it was all
            await live.send_close_stream()
    assert heard.code == 1000
    assert heard.messages[0].type == "SpeechStarted"
    (metadata,) = heard.of("Metadata")
    assert heard.messages[-1] == metadata
    assert (metadata.sha256, metadata.duration) == (hashlib.sha256(PCM).hexdigest(), 3.2)
    assert alike(heard.words, recorded) > 0.8


async def test_deepgrams_client_reads_who_says_what_is_final(world: World) -> None:
    """Two people, one of them twice."""
    voices.skip_without()
    said = dialogue(("en/adler", 2), ("en/bennet", 3), ("en/adler", 3))
    heard = Heard()
    async with deepgram_session(world.url, world.key, heard, diarize="true", **INTERIM) as live:
        for start in range(0, len(said.pcm), SECOND):
            await live.send_media(said.pcm[start : start + SECOND])
        await live.send_close_stream()
    for result in heard.of("Results"):
        hold("deepgram", result.json())
        (alternative,) = result.channel.alternatives
        assert all((word.speaker is not None) == result.is_final for word in alternative.words)
        assert result.metadata.diarize_info is not None
    words = [word for one in heard.of("Results") if one.is_final for word in one.channel.alternatives[0].words]
    for turn in said.turns:
        spoken = [word for word in words if turn.start + 0.3 < word.start < turn.end - 0.3]
        assert len(spoken) > 4
        assert {word.speaker for word in spoken} == {turn.speaker}, turn
    (metadata,) = heard.of("Metadata")
    assert not getattr(metadata, "warnings", [])


async def test_callbacks_by_post_are_complete_and_in_order(world: World, recorded: list[str]) -> None:
    heard = Heard()
    await deepgram_async(world.url, world.key, PCM, heard, FAST, callback=world.stage.callback_url, **INTERIM)
    (metadata,) = heard.messages
    log = await world.engine.said(lambda line: line.get("request_id") == metadata.request_id)
    lines = await world.posted(metadata.request_id, log["told_callback"])
    numbers = [int(line["headers"]["webhook-sequence"]) for line in lines]
    assert numbers == list(range(1, log["told_callback"] + 1))
    bodies = [line["body"] if isinstance(line["body"], dict) else json.loads(line["body"]) for line in lines]
    assert bodies[-1] == metadata.dict() | bodies[-1]
    finals = [body for body in bodies if body.get("is_final")]
    said = " ".join(body["channel"]["alternatives"][0]["transcript"] for body in finals).split()
    assert alike(said, recorded) > 0.8


async def test_callbacks_over_a_websocket_are_one_conversation_closed_in_order(
    world: World, recorded: list[str]
) -> None:
    heard = Heard()
    async with receiving(port=world.socket_port) as receiver:
        callback = receiver.url.replace("ws://", "ws://user:pass@")
        await deepgram_async(world.url, world.key, PCM, heard, FAST, callback=callback, **INTERIM)
        conversation = await receiver.next()
        assert await conversation.closed() == 1000
    documents = [json.loads(text) for text in conversation.texts]
    assert documents[-1] == json.loads(json.dumps(heard.messages[0].dict())) | documents[-1]
    assert [document["type"] for document in documents].count("Metadata") == 1
    starts = [document["start"] for document in documents if document["type"] == "Results"]
    assert starts == sorted(starts)
    assert conversation.headers["Authorization"] == "Basic dXNlcjpwYXNz"
    said = [document for document in documents if document.get("is_final")]
    words = " ".join(document["channel"]["alternatives"][0]["transcript"] for document in said).split()
    assert alike(words, recorded) > 0.8


async def test_a_receiver_that_drops_its_socket_ends_the_callers_while_it_speaks(world: World) -> None:
    heard = Heard()
    async with receiving(port=world.socket_port) as receiver:
        options = INTERIM | {"callback": receiver.url, "stop": False}
        speaking = asyncio.create_task(asyncio.to_thread(deepgram, world.url, world.key, PCM * 5, heard, **options))
        conversation = await receiver.next()
        await conversation.heard(2)
        conversation.drop()
        await speaking
    assert (heard.code, heard.reason.partition(":")[0]) == (1011, "Callback lost")
    assert heard.said < len(PCM) * 5
    assert receiver.opened.empty()  # nothing reconnects


async def heard_after(world: World, dropping: Callable[[Conversation], Awaitable[None]]) -> Heard:
    """What the caller hears to the end, which it does not ask for."""
    heard = Heard()
    async with (
        receiving(port=world.socket_port) as receiver,
        deepgram_session(world.url, world.key, heard, callback=receiver.url, **INTERIM) as live,
    ):
        await speak(live, PCM[: 2 * SECOND], FAST)
        conversation = await receiver.next()
        await conversation.heard(1)
        await dropping(conversation)
    return heard


async def test_the_same_for_the_asynchronous_client(world: World) -> None:
    async def drop(conversation: Conversation) -> None:
        conversation.drop()

    heard = await heard_after(world, drop)
    assert (heard.code, heard.reason.partition(":")[0]) == (1011, "Callback lost")


async def test_a_caller_that_drops_has_its_results_finished_and_the_callback_closed(world: World) -> None:
    heard = Heard()
    async with receiving(port=world.socket_port) as receiver:
        async with deepgram_session(world.url, world.key, heard, callback=receiver.url, **INTERIM) as live:
            await speak(live, PCM, FAST)
            live._websocket.transport.abort()
        conversation = await receiver.next()
        assert await conversation.closed() == 1000
    documents = [json.loads(text) for text in conversation.texts]
    assert documents[-1]["type"] == "Metadata"
    assert any(document.get("is_final") for document in documents)


def file_of(world: World, session_id: str) -> bytes:
    client = GladiaClient(api_key=world.key, api_url=world.url).live_v2()
    try:
        return bytes(client.get_file(session_id))
    finally:
        client._http_client.close()


@pytest.mark.parametrize("client", ["synchronous", "asynchronous"])
async def test_gladias_client_has_every_byte_acknowledged_and_its_result_at_the_end(
    world: World, recorded: list[str], client: str
) -> None:
    heard, speech = Heard(), PCM
    wanted = ("partial_transcripts", "lifecycle_events", "acknowledgments")
    wishes: dict[str, Any] = {"messages_config": {f"receive_{name}": True for name in wanted}}
    if client == "synchronous":
        await asyncio.to_thread(gladia, world.url, world.key, speech, heard, **wishes)
    else:
        await gladia_async(world.url, world.key, speech, heard, **wishes)
    assert heard.code == 1000
    ranges = [message.data.byte_range for message in heard.of("audio_chunk")]
    assert [end for _, end in ranges[:-1]] == [start for start, _ in ranges[1:]]
    assert (ranges[0][0], ranges[-1][1]) == (0, len(speech))
    assert heard.messages[-1].type == "end_session"
    assert {one.data.is_final for one in heard.of("transcript")} == {False, True}
    (final,) = heard.of("post_final_transcript")
    said = final.data.transcription.full_transcript.split()
    assert alike(said, recorded[: len(said)]) > 0.7
    url = f"{world.url}/v2/live/{final.session_id}"
    async with aiohttp.ClientSession(headers={"x-gladia-key": world.key}) as http, http.get(url) as answer:
        job = await answer.json()
    assert job["result"]["transcription"]["full_transcript"].split() == said
    audio = await asyncio.to_thread(file_of, world, final.session_id)
    with wave.open(BytesIO(audio)) as wav:
        assert (wav.getframerate(), wav.readframes(wav.getnframes())) == (16000, speech)


async def test_gladias_callbacks_are_what_its_client_can_read(world: World) -> None:
    heard = Heard()
    callback: dict[str, Any] = {"callback": True, "callback_config": {"url": world.stage.callback_url}}
    await gladia_async(world.url, world.key, PCM, heard, FAST, **callback)
    session_id = heard.messages[-1].session_id
    log = await world.engine.said(lambda line: line.get("request_id") == session_id)
    lines = await world.posted(session_id, log["told_callback"])
    assert [int(line["headers"]["webhook-sequence"]) for line in lines] == list(range(1, len(lines) + 1))
    bodies = [line["body"] if isinstance(line["body"], dict) else json.loads(line["body"]) for line in lines]
    messages = [create_live_v2_callback_message_from_dict(body) for body in bodies]
    assert [message.event for message in messages][:2] == ["live.start_session", "live.start_recording"]
    assert messages[-1].event == "live.end_session"
    assert "live.transcript" in [message.event for message in messages]


async def test_a_relay_that_dies_takes_its_socket_and_the_callers_with_it(world: World) -> None:
    async def kill(_: Conversation) -> None:
        await world.relay.kill()

    heard = await heard_after(world, kill)
    assert (heard.code, heard.reason.partition(":")[0]) == (1011, "Callback lost")
    world.relay = await world.stage.relay()


async def test_an_engine_that_dies_has_its_callbacks_finished(world: World) -> None:
    heard = Heard()
    async with (
        receiving(port=world.socket_port) as receiver,
        deepgram_session(world.url, world.key, heard, callback=receiver.url, **INTERIM) as live,
    ):
        await speak(live, PCM[: 2 * SECOND], FAST)
        conversation = await receiver.next()
        await conversation.heard(1)
        await world.engine.kill()
        assert await conversation.closed() == 1001  # long before its silence would tell
    world.engine = await engine(world.stage)


async def test_an_engine_that_stops_finishes_what_it_has_heard(world: World) -> None:
    """The last test: none that comes after has an engine."""
    heard = Heard()
    async with deepgram_session(world.url, world.key, heard, **INTERIM) as live:
        await speak(live, PCM, FAST)
        stopping = asyncio.create_task(world.engine.stop())
    assert await stopping == 0
    assert heard.code == 1001
    assert heard.messages[-1].type == "Metadata"
    assert heard.words
