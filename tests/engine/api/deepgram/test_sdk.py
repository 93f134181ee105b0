"""Deepgram's own Python client, unmodified, against this server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from deepgram import AsyncDeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.core.request_options import RequestOptions
from deepgram.environment import DeepgramClientEnvironment
from deepgram.errors import BadRequestError
from deepgram.types.listen_v1accepted_response import ListenV1AcceptedResponse
from deepgram.types.listen_v1response import ListenV1Response

from engine.api.admission import RequestLimits
from tests.engine.api.conftest import wav
from tests.engine.api.stage import Stage, key_id_of, stage

# The SDK imports names that websockets has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")

HOOK = "http://user:pass@127.0.0.1:8080/hook?x=1&y=a%20b"


@pytest.fixture
async def sdk(server: Stage) -> AsyncIterator[AsyncDeepgramClient]:
    async with connected(server) as client:
        yield client


@asynccontextmanager
async def connected(server: Stage, key: str = "none") -> AsyncIterator[AsyncDeepgramClient]:
    places = DeepgramClientEnvironment(base=server.url, production=server.url, agent=server.url, agent_rest=server.url)
    async with httpx.AsyncClient() as http:
        yield AsyncDeepgramClient(api_key=key, environment=places, httpx_client=http)


async def test_a_file_is_transcribed_at_once(sdk: AsyncDeepgramClient) -> None:
    result = await sdk.listen.v1.media.transcribe_file(request=wav(), model="nova-3", utterances=True, tag=["a", "b"])
    assert isinstance(result, ListenV1Response)
    alternatives = result.results.channels[0].alternatives
    assert alternatives is not None
    assert alternatives[0].transcript == "hello"
    assert result.metadata.tags == ["a", "b"]


async def test_a_file_with_a_callback_is_acknowledged(server: Stage) -> None:
    key = server.add_key()
    async with connected(server, key) as sdk:
        answer = await sdk.listen.v1.media.transcribe_file(
            request=wav(), model="nova-3", callback=HOOK, callback_method="PUT", extra=["k:v"], language="en"
        )
    assert isinstance(answer, ListenV1AcceptedResponse)
    request = (await server.take()).request
    assert request.id == answer.request_id
    assert request.callback is not None
    assert (request.callback.url, request.callback.method, request.key_id) == (HOOK, "PUT", key_id_of(key))
    assert request.options["extra"] == {"k": "v"}


async def test_a_generator_arrives_whole(server: Stage, sdk: AsyncDeepgramClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield wav()[:10000]
        yield wav()[10000:]

    await sdk.listen.v1.media.transcribe_file(request=pieces(), model="nova-3", callback=HOOK)
    assert (await server.take()).media.size == len(wav())


async def test_a_url_with_a_callback_is_acknowledged(server: Stage, sdk: AsyncDeepgramClient) -> None:
    answer = await sdk.listen.v1.media.transcribe_url(url="https://nowhere.example/a.wav", callback=HOOK)
    assert isinstance(answer, ListenV1AcceptedResponse)
    assert (await server.take()).request.audio_url == "https://nowhere.example/a.wav"


async def test_errors_arrive_as_the_clients_own(server: Stage, sdk: AsyncDeepgramClient) -> None:
    with pytest.raises(BadRequestError) as bad:
        await sdk.listen.v1.media.transcribe_file(request=b"", model="nova-3")
    assert bad.value.body["err_code"] == "Bad Request"
    server.add_key()
    with pytest.raises(ApiError) as unknown:
        await sdk.listen.v1.media.transcribe_file(request=wav(), model="nova-3")
    assert (unknown.value.status_code, unknown.value.body["err_code"]) == (401, "INVALID_AUTH")


async def test_a_client_with_little_patience_gets_a_slow_result(tmp_path: Path) -> None:
    """Recognition takes more than twice as long as the client would wait for the next byte."""
    async with stage(tmp_path, limits=RequestLimits(keep_alive=0.1)) as server, connected(server) as sdk:
        server.transcriber.let_go.clear()
        asyncio.get_running_loop().call_later(1.2, server.transcriber.let_go.set)
        impatient = RequestOptions(timeout_in_seconds=0.5, max_retries=0)
        result = await sdk.listen.v1.media.transcribe_file(request=wav(), request_options=impatient)
    assert isinstance(result, ListenV1Response)
    assert result.metadata.duration == 1.0
