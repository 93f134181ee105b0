"""GET /v1/listen over real sockets: what is refused, what is said, and how every session ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from engine.dialects.live import EndReason
from engine.events import Broken, Final, LiveOptions, Partial
from engine.keys import ApiKeys
from engine.live.conversation import Lateness
from engine.live.session import SessionLimits
from engine.recognisers.whisper.passes import Costs
from engine.request import FailureCode, RawFormat
from relay.outbox.store import Database
from tests.cases import cases
from tests.engine.api.live_stage import Stage, messages, next_message, stage
from tests.engine.api.stage import key_id_of
from tests.engine.live.recogniser import HELLO
from tests.schemas import told

RAW = "/v1/listen?model=nova-3&encoding=linear16&sample_rate=16000"
RAW_INTERIM = f"{RAW}&interim_results=true"
CALLBACK = f"{RAW}&interim_results=true&callback=ws%3A%2F%2Fuser%3Apass%40127.0.0.1%3A8080%2Flive"
CLOSE = '{"type": "CloseStream"}'


@pytest.fixture
async def server(tmp_path: Path, database: Database) -> AsyncIterator[Stage]:
    async with stage(tmp_path, database) as running:
        yield running


async def refused(server: Stage, path: str, **options: Any) -> aiohttp.ClientResponse:
    """The answer instead of an upgrade."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers = upgrade | {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} | options.pop("headers", {})
    answer: aiohttp.ClientResponse = await server.http.get(f"{server.url}{path}", headers=headers, **options)
    await answer.read()
    return answer


async def closed(socket: aiohttp.ClientWebSocketResponse) -> tuple[list[dict[str, Any]], int | None, str]:
    """What still came, and how it was closed."""
    found: list[dict[str, Any]] = []
    while True:
        message = await socket.receive(timeout=5)
        if message.type is not aiohttp.WSMsgType.TEXT:
            return found, socket.close_code, str(message.extra or "")
        found.append(json.loads(message.data))


async def finished(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Have the session come to its end."""
    await socket.send_str(CLOSE)
    await closed(socket)


def kill(database: Database) -> None:
    """As the relay writes down that the receiver's socket dropped."""
    with database.writing() as connection:
        connection.execute("UPDATE outspoken_streams SET state = 'killed', reason = 'connection_lost', finished_at = 1")


def called_back(database: Database) -> list[dict[str, Any]]:
    with database.writing() as connection:
        return [json.loads(body) for (body,) in connection.execute("SELECT body FROM outspoken_bodies ORDER BY seq")]


def states(database: Database) -> list[str]:
    with database.writing() as connection:
        return [state for (state,) in connection.execute("SELECT state FROM outspoken_streams")]


async def test_audio_goes_in_and_what_is_heard_comes_out(server: Stage) -> None:
    async with server.connect(RAW + "&interim_results=true") as socket:
        recognition = await server.recognition()
        assert recognition.options == LiveOptions(raw=RawFormat("pcm_s16le", 16000, 1), interim=True, endpointing=0.01)
        await socket.send_bytes(bytes(32000))
        recognition.heard.put_nowait(Partial(0, 0.0, 0.5, HELLO[:1]))
        recognition.heard.put_nowait(Final(0, 0.0, 1.0, HELLO, speech_final=True))
        assert (await next_message(socket))["is_final"] is False
        final = await next_message(socket)
        assert final["channel"]["alternatives"][0]["transcript"] == "hello there"
        await socket.send_str(CLOSE)
        last, code, reason = await closed(socket)
    assert [message["type"] for message in last] == ["Metadata"]
    assert (code, reason) == (1000, "")
    assert recognition.taken == bytes(32000)
    assert recognition.closed.is_set()
    assert UUID(last[0]["request_id"])
    (ended,) = server.ended
    assert (ended.ending, ended.audio, ended.audio_bytes, ended.told_caller) == (EndReason.DONE, 1.0, 32000, 3)


async def test_the_upgrade_names_the_request(server: Stage) -> None:
    async with server.connect(RAW) as socket:
        request_id = socket._response.headers["dg-request-id"]
        await socket.send_str(CLOSE)
        (metadata,) = await messages(socket)
    assert metadata["request_id"] == request_id


@pytest.mark.parametrize("scheme", ["token", "Token", "bearer"])
async def test_a_browser_sends_its_key_as_a_subprotocol_and_gets_the_first_one_back(server: Stage, scheme: str) -> None:
    key = server.add_key()
    offered = (scheme, key, "x-deepgram-session-id", "9b2e")
    async with server.connect(RAW, protocols=offered) as socket:
        assert socket._response.headers["Sec-WebSocket-Protocol"] == scheme
        await socket.send_str(CLOSE)
        await messages(socket)
    assert server.ended[0].asked.request.key_id == key_id_of(key)


async def test_a_token_that_was_granted_opens_a_session_as_its_key(server: Stage) -> None:
    key = server.add_key()
    keys = ApiKeys(server.database, open_without_keys=False)
    token, expired = await keys.grant(key_id_of(key), 60), await keys.grant(key_id_of(key), -1)
    await keys.close()
    for options in ({"protocols": ("bearer", token)}, {"headers": {"Authorization": f"Bearer {token}"}}):
        async with server.connect(RAW, **options) as socket:
            await finished(socket)
    assert [session.asked.request.key_id for session in server.ended] == [key_id_of(key)] * 2
    assert (await refused(server, RAW, headers={"Authorization": f"Bearer {expired}"})).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Token wrong"},
        {"Sec-WebSocket-Protocol": "token, wrong"},
        {"Sec-WebSocket-Protocol": "token"},
        {"Authorization": "Token wrong", "Sec-WebSocket-Protocol": "token, {}"},
    ],
)
async def test_a_stranger_is_refused_before_the_upgrade(server: Stage, headers: dict[str, str]) -> None:
    key = server.add_key()
    answer = await refused(server, RAW, headers={name: value.format(key) for name, value in headers.items()})
    assert answer.status == 401
    assert (await answer.json())["err_code"] == "INVALID_AUTH"
    assert UUID(answer.headers["dg-request-id"])
    assert "Invalid credentials" in answer.headers["dg-error"]
    assert server.recogniser.opened.empty()


@cases(
    ("query", "named"),
    [
        ("&utterance_end_ms=1", "utterance_end_ms"),
        ("&redact=pii", "redact"),
        ("&callback=ftp%3A%2F%2F127.0.0.1%3A8080%2F", "Invalid callback url"),
        ("&callback=ws%3A%2F%2F10.0.0.1%3A8080%2F", "Invalid callback url"),
        ("&callback=wss%3A%2F%2F127.0.0.1%3A25%2F", "Invalid callback url"),
        ("&callback=ws%3A%2F%2Fnowhere.example%2F", "Failed to resolve callback"),
    ],
)
async def test_a_bad_request_is_refused_before_the_upgrade(server: Stage, query: str, named: str) -> None:
    answer = await refused(server, RAW + query)
    assert answer.status == 400
    assert named in told(await answer.json())
    assert server.recogniser.opened.empty()
    assert states(server.database) == []


async def test_what_is_no_websocket_is_told_to_become_one(server: Stage) -> None:
    answer = await server.http.get(server.url + RAW)
    assert answer.status == 426
    assert (await answer.json())["err_code"] == "UPGRADE_REQUIRED"


async def test_without_room_a_session_is_refused_with_a_time_to_come_back(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, places=0) as server:
        answer = await refused(server, RAW)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
    assert server.refused == ["memory"]


async def test_a_session_that_the_machine_could_not_keep_in_real_time_is_refused_until_another_ends(
    tmp_path: Path, database: Database
) -> None:
    async with stage(tmp_path, database, costs=Costs(final=0.1, interim=0.5), cores=1.0) as server:
        async with server.connect(RAW_INTERIM) as first:
            answer = await refused(server, RAW_INTERIM)
            assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
            assert "real time" in told(await answer.json())
            async with server.connect(RAW) as second:  # without interim results it takes less
                await finished(second)
            await finished(first)
        async with server.connect(RAW_INTERIM) as third:
            await finished(third)
    assert server.refused == ["capacity"]


async def test_a_model_too_slow_for_one_session_is_refused_for_good(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, costs=Costs(final=1.5, interim=1.0), cores=1.0) as server:
        answer = await refused(server, RAW)
    assert answer.status == 503
    assert "Retry-After" not in answer.headers
    assert "too slow" in told(await answer.json())
    assert server.refused == ["capacity"]


async def test_the_bound_on_sessions_holds_whatever_the_machine_could_do(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, most=1) as server, server.connect(RAW) as first:
        answer = await refused(server, RAW)
        assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
        await finished(first)
    assert server.refused == ["limit"]


async def test_a_recogniser_is_measured_once(server: Stage) -> None:
    for _ in range(2):
        async with server.connect(RAW) as socket:
            await finished(socket)
    assert server.recogniser.measured == 1


async def test_who_is_behind_is_warned_once_each_time_and_hears_on(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as server, server.connect(RAW_INTERIM) as socket:
        recognition = await server.recognition()
        recognition.lag = 6.0
        warning = await next_message(socket)
        assert (warning["type"], warning["is_final"]) == ("Results", False)
        assert warning["metadata"]["warnings"][0]["type"] == "behind"
        assert warning["channel"]["alternatives"][0]["transcript"] == ""
        assert server.sessions.lag == 6.0
        recognition.lag = 0.0
        while len(server.records) < 2:
            await asyncio.sleep(0.01)
        await finished(socket)
    assert [record.is_late for record in server.records if isinstance(record, Lateness)] == [True, False]
    assert server.sessions.lag == 0.0


async def test_who_is_too_far_behind_is_let_go_with_what_was_heard(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as server, server.connect(RAW) as socket:
        recognition = await server.recognition()
        recognition.lag = 31.0
        metadata = await next_message(socket)
        assert metadata["type"] == "Metadata"
        assert (await closed(socket))[1] == 1011
    assert server.ended[0].ending is EndReason.TOO_LATE


async def test_finalize_is_handed_on_and_answered(server: Stage) -> None:
    async with server.connect(RAW) as socket:
        recognition = await server.recognition()
        await socket.send_bytes(bytes(3200))
        await socket.send_str('{"type":"Finalize","channel":0}')
        assert (await next_message(socket))["from_finalize"] is True
        assert await recognition.flushed.get() == 0


async def test_an_empty_message_ends_the_stream_as_it_used_to(server: Stage) -> None:
    async with server.connect(RAW) as socket:
        await socket.send_bytes(b"")
        last, code, _ = await closed(socket)
    assert (len(last), code) == (1, 1000)


async def test_text_behind_the_last_word_changes_nothing(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, stuck=True) as server, server.connect(RAW) as socket:
        recognition = await server.recognition()
        await socket.send_str(CLOSE)
        for text in (CLOSE, "nonsense", '{"type":"Finalize"}'):
            await socket.send_str(text)
        await socket.send_bytes(bytes(3200))
        await socket.ping()
        recognition.stuck = False
        await recognition.finish()
        last, code, _ = await closed(socket)
    assert ([message["type"] for message in last], code) == (["Metadata"], 1000)
    assert recognition.taken == b""
    assert recognition.flushed.empty()


async def test_nonsense_is_bounded(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, limits=SessionLimits(flaws=3)) as server, server.connect(RAW) as socket:
        for _ in range(3):
            await socket.send_str("nonsense")
        said, code, _ = await closed(socket)
    assert [message["type"] for message in said] == ["Error", "Error", "Error", "Metadata"]
    assert code == 1008


async def test_a_silent_caller_is_left_with_the_vendors_code(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, limits=SessionLimits(idle=0.2)) as server, server.connect(RAW) as socket:
        said, code, reason = await closed(socket)
    assert [message["type"] for message in said] == ["Metadata"]
    assert code == 1011
    assert reason.startswith("NET-0001")


async def test_a_message_that_is_too_large_is_refused(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, max_message=1000) as server, server.connect(RAW) as socket:
        recognition = await server.recognition()
        await socket.send_bytes(bytes(2000))
        _, code, _ = await closed(socket)
        await recognition.closed.wait()
    assert code == 1009
    assert [ended.ending for ended in server.ended] == [EndReason.TOO_LARGE]


async def test_what_is_no_audio_is_said_to_be_none(server: Stage) -> None:
    async with server.connect(RAW) as socket:
        recognition = await server.recognition()
        recognition.heard.put_nowait(Broken(FailureCode.AUDIO, "not audio"))
        said, code, reason = await closed(socket)
    assert [(message["type"], message["description"]) for message in said] == [("Error", "not audio")]
    assert (code, reason[:9]) == (1008, "DATA-0000")


async def test_a_recogniser_that_dies_ends_the_session_and_nothing_else(server: Stage) -> None:
    async with server.connect(RAW) as socket, server.connect(RAW) as other:
        first, second = await server.recognition(), await server.recognition()
        first.heard.put_nowait(Broken(FailureCode.INTERNAL, "the recogniser ended"))
        _, code, reason = await closed(socket)
        second.heard.put_nowait(Final(0, 0.0, 1.0, HELLO))
        assert (await next_message(other))["is_final"] is True
    assert (code, reason[:8]) == (1011, "NET-0000")


async def test_a_slow_recogniser_slows_the_caller_down_and_not_what_is_heard(server: Stage) -> None:
    async with server.connect(RAW) as socket:
        recognition = await server.recognition()
        recognition.room.clear()
        await socket.send_bytes(bytes(3200))
        await socket.send_str(CLOSE)
        recognition.heard.put_nowait(Final(0, 0.0, 1.0, HELLO))
        assert (await next_message(socket))["is_final"] is True
        assert recognition.taken == b""
        recognition.room.set()
        _, code, _ = await closed(socket)
    assert (recognition.taken, code) == (bytes(3200), 1000)


async def test_a_caller_faster_than_speech_is_held_back_and_no_other(tmp_path: Path, database: Database) -> None:
    limits = SessionLimits(burst=1.0, speed=0.001, idle=60.0)
    leaving = aiohttp.ClientWSTimeout(ws_close=0.1)  # nobody hears it leave, so that it would wait for ten seconds
    async with stage(tmp_path, database, limits=limits) as server, server.connect(RAW, timeout=leaving) as hasty:
        held_back = await server.recognition()
        for _ in range(4):
            await hasty.send_bytes(bytes(16000))
        while held_back.duration < 1.5:  # a second at once; what goes beyond it is the last for a while
            await asyncio.sleep(0)
        async with server.connect(RAW) as socket:
            recognition = await server.recognition()
            await socket.send_bytes(bytes(16000))
            await finished(socket)
        assert (held_back.duration, recognition.duration) == (1.5, 0.5)


async def test_what_was_held_back_is_heard_in_the_end(tmp_path: Path, database: Database) -> None:
    limits = SessionLimits(burst=1.0, speed=20.0, idle=60.0)
    async with stage(tmp_path, database, limits=limits) as server, server.connect(RAW) as socket:
        recognition = await server.recognition()
        for _ in range(4):
            await socket.send_bytes(bytes(16000))
        await finished(socket)
    assert recognition.duration == 2.0


async def test_a_caller_that_leaves_has_its_results_finished(server: Stage) -> None:
    async with server.connect(CALLBACK) as socket:
        recognition = await server.recognition()
        recognition.heard.put_nowait(Final(0, 0.0, 1.0, HELLO))
        assert socket._response.connection
        socket._response.connection.transport.abort()
        await recognition.closed.wait()
    await until_committed(server, 2)
    assert [message["type"] for message in called_back(server.database)] == ["Results", "Metadata"]
    assert states(server.database) == ["ended"]
    assert server.ended[0].ending is EndReason.LEFT


async def until_committed(server: Stage, count: int) -> None:
    """The callbacks commits within milliseconds; how it is woken is its own business."""
    async with asyncio.timeout(60):
        while len(called_back(server.database)) < count or states(server.database) == ["open"]:
            await asyncio.sleep(0.01)


async def test_with_a_callback_the_caller_gets_the_metadata_and_the_callback_everything(server: Stage) -> None:
    async with server.connect(CALLBACK) as socket:
        recognition = await server.recognition()
        recognition.heard.put_nowait(Partial(0, 0.0, 0.5, HELLO[:1]))
        recognition.heard.put_nowait(Final(0, 0.0, 1.0, HELLO))
        await socket.send_str(CLOSE)
        said, code, _ = await closed(socket)
    assert ([message["type"] for message in said], code) == (["Metadata"], 1000)
    await until_committed(server, 3)
    assert [message["type"] for message in called_back(server.database)] == ["Results", "Results", "Metadata"]


async def test_a_mirror_shows_the_caller_what_goes_to_the_callback(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, mirror=True) as server, server.connect(CALLBACK) as socket:
        recognition = await server.recognition()
        recognition.heard.put_nowait(Final(0, 0.0, 1.0, HELLO))
        await socket.send_str(CLOSE)
        said, _, _ = await closed(socket)
    assert [message["type"] for message in said] == ["Results", "Metadata"]


async def test_a_lost_callback_closes_the_caller_who_says_nothing(server: Stage) -> None:
    async with server.connect(CALLBACK) as socket:
        recognition = await server.recognition()
        kill(server.database)
        said, code, reason = await closed(socket)
        await recognition.closed.wait()
    assert (said, code) == ([], 1011)
    assert reason == "Callback lost: nothing would arrive there any more. (connection_lost)"


async def test_a_client_that_opens_again_what_was_killed_is_told_to_wait(server: Stage) -> None:
    headers = {"x-deepgram-session-id": "9b2e"}
    async with server.connect(CALLBACK, headers=headers) as socket:
        kill(server.database)
        await closed(socket)
    answer = await refused(server, CALLBACK, headers=headers)
    assert answer.status == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 30
    async with server.connect(CALLBACK, headers={"x-deepgram-session-id": "another"}) as socket:
        await socket.send_str(CLOSE)
        assert (await closed(socket))[1] == 1000


async def test_a_callback_too_slow_for_its_results_ends_the_session_with_a_reason(
    tmp_path: Path, database: Database
) -> None:
    async with stage(tmp_path, database, backlog=3) as server, server.connect(CALLBACK) as socket:
        recognition = await server.recognition()
        for _ in range(3):
            recognition.heard.put_nowait(Final(0, 0.0, 1.0, HELLO))
        said, code, reason = await closed(socket)
        assert ([message["type"] for message in said], code) == (["Metadata"], 1011)
        assert reason.startswith("Callback too slow")
        await until_committed(server, 4)
    assert states(database) == ["ended"]


async def test_a_stopping_server_finishes_its_sessions_first(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as server:
        socket = await server.connect(RAW)
        recognition = await server.recognition()
        recognition.heard.put_nowait(Final(0, 0.0, 1.0, HELLO))
        stopping = asyncio.create_task(server.sessions.stop(5.0))
        said, code, _ = await closed(socket)
        await stopping
        answer = await refused(server, RAW)
    assert [message["type"] for message in said] == ["Results", "Metadata"]
    assert (code, answer.status) == (1001, 429)
