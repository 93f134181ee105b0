"""POST /v1/audio/...: what is accepted is stored whole, what is refused leaves nothing behind, errors are OpenAI's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import aiohttp

from engine.api.admission import RequestLimits
from engine.jobs.admission import QueueBounds
from engine.request import Callback, Failed, FailureCode
from engine.transcript import Channel, Segment, Transcript, Word
from tests.cases import cases
from tests.engine.api.conftest import wav
from tests.engine.api.stage import HELLO, Stage, client_of, key_id_of, stage

HOOK = "http://u:pa55@127.0.0.1:8080/hook?token=tok3n"
PATH = "/v1/audio/transcriptions"


def form(*, audio: Any = None, **fields: str) -> aiohttp.FormData:
    """As clients send it: the file first, and then fields."""
    data = aiohttp.FormData()
    data.add_field("file", wav() if audio is None else audio, filename="a.wav", content_type="audio/wav")
    for name, value in fields.items():
        data.add_field(name, value)
    return data


async def send(
    client: aiohttp.ClientSession, data: Any, path: str = PATH, **headers: str
) -> tuple[int, dict[str, Any], aiohttp.ClientResponse]:
    async with client.post(path, data=data, headers=headers) as response:
        return response.status, await response.json(), response


async def refused(client: aiohttp.ClientSession, server: Stage, data: Any, path: str = PATH) -> tuple[int, Any]:
    """Status and error of a request, of which nothing stays and which tells no secret."""
    status, body, response = await send(client, data, path)
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"] == response.headers["dg-request-id"]
    assert not any(secret in json.dumps(body) for secret in ("pa55", "tok3n"))
    assert (server.stored, await server.jobs()) == ([], [])
    return status, body["error"]


async def test_the_result_comes_at_once_and_nothing_stays(server: Stage, client: aiohttp.ClientSession) -> None:
    status, body, response = await send(client, form(model="whisper-1"))
    assert (status, body) == (200, {"text": "hello", "usage": {"type": "duration", "seconds": 1}})
    assert response.content_type == "application/json"
    assert (server.stored, await server.jobs()) == ([], [])


async def test_with_a_callback_it_is_on_disk_before_the_answer(server: Stage, client: aiohttp.ClientSession) -> None:
    key = server.add_key()
    data = form(model="whisper-1", callback=HOOK, callback_method="PUT", response_format="verbose_json")
    status, body, response = await send(client, data, Authorization=f"Bearer {key}")
    assert (status, body["object"], body["status"]) == (202, "audio.transcription", "queued")
    assert body["id"] == response.headers["x-request-id"]
    job = await server.take()
    assert (job.id, job.request.key_id, job.request.callback) == (body["id"], key_id_of(key), Callback(HOOK, "PUT"))
    assert (job.media.sha256, job.media.size) == (hashlib.sha256(wav()).hexdigest(), len(wav()))
    (path,) = server.stored
    assert (path.name, path.read_bytes()) == (job.id, wav())


async def test_what_became_of_it_is_told_by_id(server: Stage, client: aiohttp.ClientSession) -> None:
    _, body, _ = await send(client, form(callback=HOOK, response_format="srt"))
    await server.finish()
    async with client.get(f"/v1/requests/{body['id']}") as response:
        told = await response.json()
    assert (told["dialect"], told["state"], told["delivery"]["state"]) == ("openai", "done", "pending")
    assert (told["result"]["status"], told["result"]["text"]) == ("completed", "hello")
    assert told["result"]["srt"].startswith("1\n00:00:00,100")


@cases(("form_of", "begin"), [("text", "hello\n"), ("srt", "1\n00:00:00,100 -->"), ("vtt", "WEBVTT\n")])
async def test_text_is_text(client: aiohttp.ClientSession, form_of: str, begin: str) -> None:
    async with client.post(PATH, data=form(response_format=form_of, temperature="0.5")) as response:
        assert (response.status, response.content_type) == (200, "text/plain")
        assert (await response.text()).startswith(begin)
        (warning,) = json.loads(response.headers["x-warnings"])
    assert warning["parameter"] == "temperature"


async def test_events_come_while_the_rest_is_heard(server: Stage, client: aiohttp.ClientSession) -> None:
    words = tuple(Word(text, number, number + 1.0, 1.0, text) for number, text in enumerate(["one", "two", "three"]))
    server.transcriber.result = Transcript(HELLO.model, 3.0, 1, (Channel((Segment(words),), "en"),))
    server.transcriber.heard = (words[:1], (), words[1:2])
    server.transcriber.let_go.clear()
    fields = form(stream="true", temperature="0.5")
    async with client.post(PATH, data=fields) as response:
        assert (response.content_type, "temperature" in response.headers["x-warnings"]) == ("text/event-stream", True)
        first = [await response.content.readline() for _ in range(4)]
        server.transcriber.let_go.set()
        lines = b"".join(first).splitlines() + (await response.read()).splitlines()
    told = [json.loads(line.removeprefix(b"data: ")) for line in lines if line]
    assert [one.get("delta") for one in told] == ["one", " two", " three", None]
    assert told[-1]["text"] == "one two three"


async def test_events(client: aiohttp.ClientSession) -> None:
    async with client.post(PATH, data=form(stream="true")) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert (await response.text()).splitlines() == [
            'data: {"type":"transcript.text.delta","delta":"hello"}',
            "",
            'data: {"type":"transcript.text.done","text":"hello"}',
            "",
        ]


@cases(
    ("fields", "status", "param", "message"),
    [
        ({"model": "gpt-9"}, 404, "model", "'gpt-9' does not exist here. Use one of"),
        ({"language": "de"}, 400, "language", "knows: en"),
        ({"callback": "ftp://127.0.0.1/"}, 400, "callback", "callback must be a URL that this server may call."),
        ({"callback": "http://u:pa55@10.0.0.1/?token=tok3n"}, 400, "callback", "must be a URL that this server may"),
        ({"callback": "http://gone.example/"}, 400, "callback", "callback must be a URL that resolves."),
        ({"callback": "http://silent.example/"}, 503, None, "callback: "),
    ],
)
async def test_a_field_that_is_wrong_is_named(
    server: Stage, client: aiohttp.ClientSession, fields: dict[str, str], status: int, param: str, message: str
) -> None:
    got, error = await refused(client, server, form(**fields))
    assert (got, error["param"]) == (status, param)
    assert message in error["message"]


@cases(
    ("data", "message"),
    [
        (form(audio=b""), "file must have something in it."),
        (form(audio=b"not audio at all"), "file must be audio or video that can be decoded."),
        (wav(), "file must be sent as multipart/form-data with a boundary."),
        ({"model": "whisper-1", "file": ""}, "file must be sent as multipart/form-data with a boundary."),
        (aiohttp.FormData({"model": "whisper-1"}, default_to_multipart=True), "file must be a file in the form."),
        (form(prompt="a" * 70_000), "file must be sent with no more than 65536 bytes in other fields."),
    ],
)
async def test_a_body_without_a_file_is_told_so(
    server: Stage, client: aiohttp.ClientSession, data: Any, message: str
) -> None:
    status, error = await refused(client, server, data)
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", "file")
    assert error["message"].startswith(message)


async def test_an_english_model_does_not_translate(server: Stage, client: aiohttp.ClientSession) -> None:
    status, error = await refused(client, server, form(), "/v1/audio/translations")
    assert (status, error["param"]) == (400, "model")
    assert "No model here does; whoever runs this server can add a multilingual one." in error["message"]


async def test_a_failure_is_an_error_of_its_own_status(server: Stage, client: aiohttp.ClientSession) -> None:
    server.transcriber.result = Failed(FailureCode.TIMEOUT, "Recognition took too long.")
    for fields in ({}, {"response_format": "text"}, {"stream": "true"}):
        status, error = await refused(client, server, form(**fields))
        assert (status, error["type"], error["code"]) == (504, "server_error", "timeout")


@cases("path", ["/v1/audio/speech", "/v1/audio/transcriptions/x"])
async def test_what_is_not_here_says_what_is(server: Stage, client: aiohttp.ClientSession, path: str) -> None:
    status, error = await refused(client, server, form(), path)
    assert (status, error["code"]) == (404, "not_found")
    assert "Send audio to POST /v1/audio/transcriptions." in error["message"]


async def test_without_a_key_nothing_is_read(server: Stage, client: aiohttp.ClientSession) -> None:
    server.add_key()
    async with client.post(PATH, data=form(), headers={"Authorization": "Bearer osk_wrong"}) as response:
        error = (await response.json())["error"]
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
        assert "Authorization: Bearer <key>" in error["message"]


async def test_where_the_queue_is_full_it_says_when_to_come_again(tmp_path: Path) -> None:
    async with stage(tmp_path, bounds=QueueBounds(jobs=1)) as server, client_of(server) as client:
        assert (await send(client, form(callback=HOOK)))[0] == 202
        status, body, response = await send(client, form(callback=HOOK))
        assert (status, body["error"]["type"], body["error"]["code"]) == (429, "requests", "rate_limit_exceeded")
        assert int(response.headers["Retry-After"]) > 0


async def test_more_than_may_be_sent(tmp_path: Path) -> None:
    async with stage(tmp_path, limits=RequestLimits(upload=1000)) as server, client_of(server) as client:
        status, error = await refused(client, server, form())
        assert (status, error["code"]) == (413, "request_entity_too_large")


async def test_a_late_answer_is_waited_for_in_the_form_that_it_has(tmp_path: Path) -> None:
    """Spaces before JSON, comments before events, and nothing before text."""
    limits = RequestLimits(keep_alive=0.02)
    async with stage(tmp_path, limits=limits, speakers=True) as server, client_of(server) as client:
        fields: dict[str, str]
        for fields, filler in (
            ({}, b"   "),
            ({"response_format": "diarized_json"}, b"   "),
            ({"stream": "true"}, b":\n\n:\n\n"),
        ):
            server.transcriber.let_go.clear()
            async with client.post(PATH, data=form(**fields)) as response:
                assert await response.content.readexactly(len(filler)) == filler
                server.transcriber.result = Failed(FailureCode.TIMEOUT, "Too long.")
                server.transcriber.let_go.set()
                last = (await response.read()).lstrip(b":\n ")
                assert response.headers["x-request-id"]
            assert json.loads(last.removeprefix(b"data: "))["error"]["message"] == "Too long."
            assert last.startswith(b"data: ") is ("stream" in fields)
        status, body, _ = await send(client, form(response_format="text"))
        assert (status, body["error"]["code"]) == (504, "timeout")
