"""Gladia's live sessions over real sockets: begun, connected, broken off and taken up again, ended and looked at."""

from __future__ import annotations

import asyncio
import json
import wave
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from engine.events import Broken, Final
from engine.live.session import SessionLimits
from engine.recognisers.whisper.passes import Costs
from engine.request import FailureCode
from relay.outbox.store import Database
from tests.cases import cases
from tests.engine.api.live_stage import Stage, stage
from tests.engine.live.recogniser import HELLO

STOP = '{"type": "stop_recording"}'


@pytest.fixture
async def server(tmp_path: Path, database: Database) -> AsyncIterator[Stage]:
    async with stage(tmp_path, database) as running:
        yield running


async def asked(server: Stage, method: str, path: str, **options: Any) -> tuple[int, Any]:
    async with server.http.request(method, f"{server.url}{path}", **options) as answer:
        body = await answer.read()
        return answer.status, json.loads(body) if body else None


async def begun(server: Stage, **body: Any) -> tuple[str, str]:
    """The id of a new session, and the path to connect to."""
    status, session = await asked(server, "POST", "/v2/live", json=body)
    assert status == 201
    assert session["url"].startswith("ws://127.0.0.1:")
    return session["id"], path_of(session)


def path_of(session: dict[str, Any]) -> str:
    """Where a session is connected to, behind `/v2`."""
    return str(session["url"]).partition("/v2")[2]


def connect(server: Stage, path: str) -> Any:
    return server.http.ws_connect(f"{server.url}/v2{path}")


async def ended(socket: aiohttp.ClientWebSocketResponse) -> tuple[list[dict[str, Any]], int | None]:
    """What still came, and the code by which it was closed."""
    found = []
    while (message := await socket.receive(timeout=5)).type is aiohttp.WSMsgType.TEXT:
        found.append(json.loads(message.data))
    return found, socket.close_code


async def acknowledged(socket: aiohttp.ClientWebSocketResponse, audio: bytes) -> list[int]:
    await socket.send_bytes(audio)
    message = await socket.receive_json(timeout=5)
    assert message["type"] == "audio_chunk"
    range_: list[int] = message["data"]["byte_range"]
    return range_


async def test_a_session_from_its_beginning_to_its_result(server: Stage) -> None:
    session_id, path = await begun(server, custom_metadata={"user": "J"})
    assert (await asked(server, "GET", f"/v2/live/{session_id}"))[1]["status"] == "queued"
    async with connect(server, path) as socket:
        recognition = await server.recognition()
        assert await acknowledged(socket, bytes(16000)) == [0, 16000]
        assert await acknowledged(socket, bytes(16000)) == [16000, 32000]
        assert (await asked(server, "GET", f"/v2/live/{session_id}"))[1]["status"] == "processing"
        recognition.heard.put_nowait(Final(0, 0.0, 1.0, HELLO))
        await socket.send_str(STOP)
        said, code = await ended(socket)
    assert ([message["type"] for message in said], code) == (
        ["transcript", "stop_recording", "post_transcript", "post_final_transcript"],
        1000,
    )
    assert {message["session_id"] for message in said} == {session_id}
    status, job = await asked(server, "GET", f"/v2/live/{session_id}")
    assert (status, job["status"], job["kind"], job["custom_metadata"]) == (200, "done", "live", {"user": "J"})
    assert job["result"]["transcription"]["full_transcript"] == "Hello, there."
    assert job["result"]["metadata"]["audio_duration"] == 1.0


async def test_a_session_that_is_over_is_listed_once_and_deleted_for_good(server: Stage) -> None:
    session_id, path = await begun(server)
    async with connect(server, path) as socket:
        status, _ = await asked(server, "DELETE", f"/v2/live/{session_id}")
        assert status == 409
        await socket.send_str(STOP)
        await ended(socket)
    await over(server, session_id)
    _, page = await asked(server, "GET", "/v2/live?limit=5&status=done")
    assert [item["id"] for item in page["items"]] == [session_id]
    assert page["next"] is None
    status, problem = await asked(server, "GET", f"/v2/live/{session_id}/file")
    assert (status, problem["message"].partition(":")[0]) == (404, "The audio of this session is not here")
    assert (await asked(server, "DELETE", f"/v2/live/{session_id}"))[0] == 202
    assert (await asked(server, "GET", f"/v2/live/{session_id}"))[0] == 404
    assert (await asked(server, "GET", "/v2/live"))[1]["items"] == []


async def test_what_a_session_heard_is_fetched_by_its_own_key_and_gone_with_it(server: Stage) -> None:
    mine, other = ({"x-gladia-key": server.add_key(name)} for name in ("mine", "other"))
    body = {"bit_depth": 24, "sample_rate": 8000, "channels": 2}
    _, session = await asked(server, "POST", "/v2/live", json=body, headers=mine)
    path, heard = f"/v2/live/{session['id']}", bytes(range(240)) * 100
    async with connect(server, path_of(session)) as socket:
        for start in range(0, len(heard), 4800):
            await acknowledged(socket, heard[start : start + 4800])
        assert (await asked(server, "GET", f"{path}/file", headers=mine))[0] == 409
        await socket.send_str(STOP)
        await ended(socket)
    file = (await over(server, session["id"], headers=mine))["file"]
    assert (file["filename"], file["source"]) == (f"{session['id']}.wav", None)
    assert (await asked(server, "GET", f"{path}/file", headers=other))[0] == 404
    async with server.http.get(f"{server.url}{path}/file", headers=mine) as answer:
        audio = await answer.read()
    with wave.open(BytesIO(audio)) as wav:
        assert (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) == (2, 3, 8000)
        assert wav.readframes(wav.getnframes()) == heard
    assert (await asked(server, "DELETE", path, headers=mine))[0] == 202
    assert (await asked(server, "GET", f"{path}/file", headers=mine))[0] == 404
    assert [file for file in server.folder.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize("options", [{"keeps_audio": False}, {"max_upload": 4800}])
async def test_a_session_that_is_not_kept_or_too_long_has_no_file(
    tmp_path: Path, database: Database, options: dict[str, Any]
) -> None:
    async with stage(tmp_path, database, **options) as server:
        session_id, path = await begun(server)
        async with connect(server, path) as socket:
            for _ in range(2):
                await acknowledged(socket, bytes(4800))
            await socket.send_str(STOP)
            await ended(socket)
        assert (await over(server, session_id))["file"] is None
        assert (await asked(server, "GET", f"/v2/live/{session_id}/file"))[0] == 404
        assert [file for file in server.folder.rglob("*") if file.is_file()] == []


async def over(server: Stage, session_id: str, **options: Any) -> dict[str, Any]:
    """The session, once it is written down."""
    async with asyncio.timeout(60):
        while True:
            _, job = await asked(server, "GET", f"/v2/live/{session_id}", **options)
            if job["status"] not in {"queued", "processing"}:
                return dict(job)
            await asyncio.sleep(0.01)


async def test_a_broken_connection_is_taken_up_where_it_broke(server: Stage) -> None:
    session_id, path = await begun(server)
    chunks, connections = [bytes([n]) * 1600 for n in range(5)], server.connections
    async with connect(server, path) as socket:
        recognition = await server.recognition()
        for chunk in chunks[:3]:
            await acknowledged(socket, chunk)
        assert socket._response.connection
        socket._response.connection.transport.abort()
    await gone(server, session_id, connections)
    recognition.heard.put_nowait(Final(0, 0.0, 0.1, HELLO))  # nobody is there to be told
    async with connect(server, path) as socket:
        told = await socket.receive_json(timeout=5)
        # The acknowledgement of the last chunk was lost: it comes again, with what was spoken meanwhile.
        assert await acknowledged(socket, b"".join(chunks[2:])) == [3200, 8000]
        await socket.send_str(STOP)
        _, code = await ended(socket)
    assert told["type"] == "transcript"
    assert code == 1000
    assert recognition.taken == b"".join(chunks)
    assert (await over(server, session_id))["result"]["transcription"]["full_transcript"] == "Hello, there."


async def gone(server: Stage, session_id: str, connections: int) -> None:
    """Until the server knows that its caller is gone: what it wrote before that is lost with the connection."""
    async with asyncio.timeout(60):
        while server.connections > connections:
            await asyncio.sleep(0)
    await asked(server, "GET", f"/v2/live/{session_id}")  # once it answers, whoever read that socket knows too


async def test_a_second_socket_takes_the_place_of_the_first(server: Stage) -> None:
    _, path = await begun(server)
    async with connect(server, path) as first:
        await acknowledged(first, b"one.")
        async with connect(server, path) as second:
            _, code = await ended(first)
            assert await acknowledged(second, b"two.") == [4, 8]
    assert code == 1001


async def test_a_caller_who_says_goodbye_does_not_come_back(server: Stage) -> None:
    session_id, path = await begun(server)
    async with connect(server, path) as socket:
        await acknowledged(socket, bytes(3200))
        await socket.close(code=1001)
    assert (await over(server, session_id))["status"] == "done"
    async with connect(server, path) as again:
        _, code = await ended(again)
    assert code == 4403


async def test_a_session_that_nobody_comes_back_to_ends(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, limits=SessionLimits(idle=0.2)) as server:
        session_id, path = await begun(server)
        async with connect(server, path) as socket:
            await acknowledged(socket, bytes(3200))
            assert socket._response.connection
            socket._response.connection.transport.abort()
        assert (await over(server, session_id))["status"] == "done"


async def test_audio_that_cannot_be_decoded_is_an_error_of_the_job(server: Stage) -> None:
    session_id, path = await begun(server)
    async with connect(server, path) as socket:
        (await server.recognition()).heard.put_nowait(Broken(FailureCode.AUDIO, "not audio"))
        _, code = await ended(socket)
    assert code == 4400
    job = await over(server, session_id)
    assert (job["status"], job["error_code"], job["result"]) == ("error", 400, None)


async def test_the_callback_gets_its_own_messages_and_the_caller_too(server: Stage) -> None:
    callback = {"callback": True, "callback_config": {"url": "http://127.0.0.1:8080/hook"}}
    _, path = await begun(server, **callback)
    async with connect(server, path) as socket:
        await acknowledged(socket, bytes(3200))
        (await server.recognition()).heard.put_nowait(Final(0, 0.0, 1.0, HELLO))
        await socket.send_str(STOP)
        said, _ = await ended(socket)
    assert "transcript" in [message["type"] for message in said]
    async with asyncio.timeout(60):
        while "live.end_session" not in (events := called_back(server.database)):
            await asyncio.sleep(0.01)
    assert events == [
        *("live.start_session", "live.start_recording", "live.transcript", "live.end_recording"),
        *("live.post_transcript", "live.post_final_transcript", "live.end_session"),
    ]


def called_back(database: Database) -> list[str]:
    with database.writing() as connection:
        return [
            json.loads(body)["event"]
            for (body,) in connection.execute("SELECT body FROM outspoken_bodies ORDER BY seq")
        ]


@cases(
    ("body", "status", "named"),
    [
        ({"encoding": "mp3"}, 422, "encoding"),
        ({"callback": True, "callback_config": {"url": "ws://127.0.0.1:8080/x"}}, 422, "callback_config.url"),
        ({"callback": True, "callback_config": {"url": "http://10.0.0.1:8080/x"}}, 422, "callback_config.url"),
    ],
)
async def test_what_cannot_be_is_refused_at_the_start(
    server: Stage, body: dict[str, Any], status: int, named: str
) -> None:
    answer, problem = await asked(server, "POST", "/v2/live", json=body)
    assert answer == status
    assert problem["validation_errors"][0].startswith(named)


async def test_sessions_belong_to_their_keys(server: Stage) -> None:
    mine, other = ({"x-gladia-key": server.add_key(name)} for name in ("mine", "other"))
    _, session = await asked(server, "POST", "/v2/live", json={}, headers=mine)
    session_id, path = session["id"], path_of(session)
    for headers, expected in ((other, 404), ({"x-gladia-key": "wrong"}, 401), (mine, 200)):
        status, _ = await asked(server, "GET", f"/v2/live/{session_id}", headers=headers)
        assert status == expected
    async with connect(server, path) as socket:
        await socket.send_str(STOP)
        await ended(socket)
    await over(server, session_id, headers=mine)
    status, _ = await asked(server, "GET", f"/v2/live/{session_id}", headers=other)
    assert status == 404


async def test_a_token_that_nobody_gave_out_opens_nothing(server: Stage) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await connect(server, "/live?token=guessed")
    assert refused.value.status == 401


async def test_without_room_the_socket_is_refused_and_may_be_tried_again(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, places=0) as server:
        _, path = await begun(server)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await connect(server, path)
        assert refused.value.status == 429
        server.recogniser.places = 1
        async with connect(server, path) as socket:
            assert await acknowledged(socket, b"now") == [0, 3]


async def test_without_capacity_a_session_is_refused_before_it_is_made(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, costs=Costs(final=0.3, interim=0.3), cores=0.5) as server:
        _, path = await begun(server)
        async with connect(server, path) as socket:
            assert (await asked(server, "POST", "/v2/live", json={}))[0] == 429
            await socket.send_str(STOP)
            await ended(socket)
        await begun(server)
    assert server.refused == ["capacity"]


async def test_a_model_too_slow_for_one_session_is_refused_as_the_vendor_can(
    tmp_path: Path, database: Database
) -> None:
    async with stage(tmp_path, database, costs=Costs(final=1.0, interim=1.0), cores=0.5) as server:
        status, problem = await asked(server, "POST", "/v2/live", json={})
    assert (status, "too slow" in problem["message"]) == (429, True)


async def test_what_became_of_a_session_is_told_by_requests_too(server: Stage) -> None:
    session_id, path = await begun(server)
    async with connect(server, path) as socket:
        (await server.recognition()).heard.put_nowait(Final(0, 0.0, 1.0, HELLO))
        await socket.send_str(STOP)
        await ended(socket)
    await over(server, session_id)
    record = await server.archive.find(session_id, None)
    assert record
    assert (record.state.value, record.duration, record.request.dialect) == ("done", 0.0, "gladia-live")
