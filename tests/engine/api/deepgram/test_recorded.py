"""POST /v1/listen: what is accepted is stored whole, what is refused leaves nothing behind."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web
from deepgram.types.listen_v1response import ListenV1Response

from engine.api.admission import RequestLimits
from engine.dialects.deepgram import MAX_JSON
from engine.request import Callback, Failed, FailureCode
from tests.cases import cases
from tests.engine.api.conftest import wav
from tests.engine.api.stage import Stage, client_of, key_id_of, remote, stage
from tests.schemas import told

CALLBACK = {"callback": "http://u:pa55@127.0.0.1:8080/hook?token=tok3n"}
BAD_AUDIO = "Bad Request: failed to process audio: corrupt or unsupported data. "
BAD_JSON = "Content-type was application/json, but we could not process the JSON payload. "


async def post(
    client: aiohttp.ClientSession, body: Any, params: dict[str, str] | None = None, **headers: str
) -> tuple[int, dict[str, Any], aiohttp.ClientResponse]:
    spelt = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.post("/v1/listen", data=body, params=params, headers=spelt) as response:
        return response.status, await response.json(), response


def assert_refused(
    answer: tuple[int, dict[str, Any], aiohttp.ClientResponse], status: int, code: str, message: str
) -> None:
    """The vendor's error shape, in body and headers, and no secret in either."""
    got, body, response = answer
    assert (got, body["err_code"]) == (status, code)
    assert message in told(body)
    assert set(body) - {"details"} == {"err_code", "err_msg", "request_id"}
    assert response.headers["dg-request-id"] == body["request_id"] == str(UUID(body["request_id"]))
    assert response.headers["dg-error"] == told(body)
    assert not {"pa55", "tok3n"} & set(json.dumps(body).replace("=", " ").replace("@", " ").split())


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "audio/wav",
        "application/octet-stream",
        "AUDIO/MPEG",
        "deepgram/audio+video",
        "text/plain; x=1",
        "nonsense",
    ],
)
async def test_a_body_of_any_content_type_is_accepted_whole(
    server: Stage, client: aiohttp.ClientSession, content_type: str | None
) -> None:
    headers = {"Content_Type": content_type} if content_type else {}
    status, body, response = await post(client, wav(), CALLBACK, **headers)
    assert (status, response.content_type) == (200, "application/json")
    assert body == {"request_id": response.headers["dg-request-id"]}
    job = await server.take()
    assert job.id == body["request_id"]
    assert job.request.callback == Callback(CALLBACK["callback"], "POST")
    assert (job.media.sha256, job.media.size) == (hashlib.sha256(wav()).hexdigest(), len(wav()))
    (path,) = server.stored
    assert (job.has_audio, path.name, path.read_bytes()) == (True, job.id, wav())


async def test_a_chunked_body_is_accepted_whole(server: Stage, client: aiohttp.ClientSession) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(wav()), 1000):
            yield wav()[start : start + 1000]

    status, _, _ = await post(client, pieces(), {**CALLBACK, "callback_method": "put", "tag": "a"})
    job = await server.take()
    assert (status, job.media.size) == (200, len(wav()))
    assert job.request.callback == Callback(CALLBACK["callback"], "PUT")


async def test_raw_audio_needs_no_container(server: Stage, client: aiohttp.ClientSession) -> None:
    status, _, _ = await post(client, b"\0\1" * 8000, {**CALLBACK, "encoding": "linear16", "sample_rate": "8000"})
    assert status == 200


async def test_without_a_callback_the_result_comes_at_once_and_nothing_stays(
    server: Stage, client: aiohttp.ClientSession
) -> None:
    status, body, response = await post(client, wav(), {"model": "nova-3", "tag": "a"})
    document = ListenV1Response.model_validate(body)
    assert (status, document.metadata.request_id) == (200, response.headers["dg-request-id"])
    assert document.metadata.sha256 == hashlib.sha256(wav()).hexdigest()
    assert body["metadata"]["created"] == "2025-11-20T20:58:34.000Z"
    assert body["results"]["channels"][0]["alternatives"][0]["transcript"] == "hello"
    assert (server.stored, await server.jobs()) == ([], [])


async def test_a_synchronous_failure_is_an_error(server: Stage, client: aiohttp.ClientSession) -> None:
    server.transcriber.result = Failed(FailureCode.TIMEOUT, "Recognition took longer than 600 s.")
    assert_refused(await post(client, wav()), 504, "GATEWAY_TIMEOUT", "longer than 600 s")
    assert server.stored == []


@cases("content_type", ["application/json", "Application/JSON; Charset=UTF-8", "application/json;"])
async def test_a_url_with_a_callback_is_accepted_before_it_is_fetched(
    server: Stage, client: aiohttp.ClientSession, content_type: str
) -> None:
    url = "https://u:pa55@nowhere.example/a.wav?sig=tok3n"
    status, body, _ = await post(client, json.dumps({"url": url}).encode(), CALLBACK, Content_Type=content_type)
    job = await server.take()
    assert (status, body, job.has_audio) == (200, {"request_id": job.id}, False)
    assert (job.request.audio_url, job.media.sha256, job.media.size) == (url, "", 0)
    assert "tok3n" not in repr(job.request)


async def test_a_url_without_a_callback_is_fetched_and_transcribed(tmp_path: Path) -> None:
    async def sound(_: web.Request) -> web.Response:
        return web.Response(body=wav())

    async with remote(sound) as port, stage(tmp_path, ports=frozenset({port})) as server, client_of(server) as client:
        payload = json.dumps({"url": f"http://127.0.0.1:{port}/a.wav"}).encode()
        status, body, _ = await post(client, payload, Content_Type="application/json")
        assert (status, body["metadata"]["sha256"]) == (200, hashlib.sha256(wav()).hexdigest())
        payload = json.dumps({"url": f"http://127.0.0.1:{port}/b.wav"}).encode()
        answer = await post(client, payload, Content_Type="application/json")
        assert_refused(answer, 400, "REMOTE_CONTENT_ERROR", "returned a client error: 404.")
        assert server.stored == []


@cases(
    ("body", "message"),
    [
        (b"", "The body is not JSON; send"),
        (b"{", "The body is not JSON; send"),
        (b"\xff\xfe", "The body is not JSON; send"),
        (b"[" * 60000, "The body is not JSON; send"),
        (b'"http://a.example/"', "url: the field is missing; send"),
        (b"{}", "url: the field is missing; send"),
        (b'{"URL": "http://a.example/"}', "url: the field is missing; send"),
        (b'{"url": 7}', "url: the value is not a string"),
        (b'{"url": null}', "url: the value is not a string"),
        (b'{"url": ""}', "url: the value is not a string"),
    ],
)
async def test_json_that_names_no_url_is_refused(
    server: Stage, client: aiohttp.ClientSession, body: bytes, message: str
) -> None:
    answer = await post(client, body, CALLBACK, Content_Type="application/json")
    assert_refused(answer, 400, "Bad Request", BAD_JSON + message)
    assert (server.stored, await server.jobs()) == ([], [])


@cases("name", ["model", "callback", "diarize", "redact", "language"])
async def test_a_parameter_in_the_body_belongs_in_the_query(
    server: Stage, client: aiohttp.ClientSession, name: str
) -> None:
    body = json.dumps({"url": "http://hook.example/a.wav", name: "x"}).encode()
    answer = await post(client, body, CALLBACK, Content_Type="application/json")
    assert_refused(answer, 400, "Bad Request", f"{name}: belongs in the query; send POST /v1/listen?{name}=...")
    assert await server.jobs() == []


async def test_what_nobody_knows_of_the_body_is_warned_of(server: Stage, client: aiohttp.ClientSession) -> None:
    body = json.dumps({"url": "http://hook.example/a.wav", "colour": "blue"}).encode()
    assert (await post(client, body, CALLBACK, Content_Type="application/json"))[0] == 200
    (warning,) = (await server.take()).request.warnings
    assert (warning["parameter"], warning["type"]) == ("colour", "unknown_parameter")


@cases("chunked", [False, True])
@cases("seconds", [1.0, 4.0])
async def test_audio_that_is_sent_as_json_is_told_so(
    server: Stage, client: aiohttp.ClientSession, seconds: float, chunked: bool
) -> None:
    """Whether it would fit in what JSON may take, or not."""
    audio = wav(seconds)
    assert (len(audio) > MAX_JSON) is (seconds > 2)
    body = io.BytesIO(audio) if chunked else audio
    answer = await post(client, body, CALLBACK, Content_Type="application/json")
    assert_refused(answer, 400, "Bad Request", "audio is sent with its own type, such as Content-Type: audio/wav")
    assert server.stored == []


async def test_json_without_its_type_is_told_to_have_one(server: Stage, client: aiohttp.ClientSession) -> None:
    for headers in ({}, {"Content_Type": "application/x-www-form-urlencoded"}):
        answer = await post(client, b' {"url": "http://hook.example/a.wav"}', CALLBACK, **headers)
        assert_refused(answer, 400, "Bad Request", "looks like JSON; send it with Content-Type: application/json.")


async def test_a_form_is_told_to_send_bytes(server: Stage) -> None:
    form = aiohttp.FormData()
    form.add_field("file", wav(), filename="a.wav")
    async with client_of(server) as client, client.post("/v1/listen", data=form) as response:
        body = await response.json()
    assert (response.status, server.stored) == (400, [])
    assert "The body is a form; send the bytes of the file alone, as curl does with --data-binary" in told(body)


@cases(
    ("url", "message"),
    [
        ("http://10.0.0.1/a.wav", "URL for media download must be publicly routable. url: The destination has"),
        ("file:///etc/passwd", "url: The URL must begin with"),
        ("http://inside.example/a.wav", "URL for media download must be publicly routable."),
        ("http://hook.example:25/a.wav", "url: The port is not one of those that are open"),
    ],
)
async def test_an_audio_url_passes_the_guard_at_submission(
    server: Stage, client: aiohttp.ClientSession, url: str, message: str
) -> None:
    answer = await post(client, json.dumps({"url": url}).encode(), CALLBACK, Content_Type="application/json")
    assert_refused(answer, 400, "REMOTE_CONTENT_ERROR", message)
    assert await server.jobs() == []


async def test_an_audio_url_that_does_not_resolve_is_a_remote_content_error(client: aiohttp.ClientSession) -> None:
    answer = await post(client, b'{"url": "http://nowhere.example/a.wav"}', Content_Type="application/json")
    assert_refused(answer, 400, "REMOTE_CONTENT_ERROR", "Could not determine if URL for media download is publicly")


@cases(
    ("callback", "message"),
    [
        ("http://hook.example:25/", "callback: The port is not one of those that are open here. Use one of 80, 443"),
        ("ftp://u:pa55@hook.example/", "callback: The URL must begin with http:// or https://"),
        ("ws://hook.example/", "callback: The URL must begin with"),
        ("http://10.1.2.3/?token=tok3n", "callback: The destination has an address inside 10.0.0.0/8"),
        ("http://inside.example/", "callback: The destination has an address inside 10.0.0.0/8"),
        ("http://hook.example/\r\nX: y", "callback: Character 21 of the URL is a control character"),
        ("http://hook.example/" + "a" * 8192, "callback: The URL is longer than 4096 bytes"),
        ("", "callback: the value is empty"),
    ],
)
async def test_a_callback_that_no_result_can_go_to_is_refused(
    server: Stage, client: aiohttp.ClientSession, callback: str, message: str
) -> None:
    answer = await post(client, wav(), {"callback": callback})
    assert_refused(answer, 400, "INVALID_QUERY_PARAMETER", "Invalid callback url. " + message)
    assert (server.stored, await server.jobs()) == ([], [])


async def test_a_callback_that_does_not_resolve_is_refused(server: Stage, client: aiohttp.ClientSession) -> None:
    answer = await post(client, wav(), {"callback": "http://u:pa55@nowhere.example/?token=tok3n"})
    assert_refused(answer, 400, "Bad Request", "Failed to resolve callback. callback: The host name does not resolve")
    assert server.stored == []


async def test_who_is_called_by_a_name_that_dns_says_nothing_of_may_come_again(
    server: Stage, client: aiohttp.ClientSession
) -> None:
    answers = [await post(client, wav(), {"callback": "http://u:pa55@silent.example/?token=tok3n"})]
    answers.append(await post(client, b'{"url": "http://silent.example/a.wav"}', content_type="application/json"))
    for answer, field in zip(answers, ("callback", "url"), strict=True):
        assert_refused(answer, 503, "SERVICE_UNAVAILABLE", f"{field}: The host name does not resolve: no name server")
        assert answer[2].headers["Retry-After"] == "5"
    assert server.stored == []


@cases(
    ("body", "params", "code", "message"),
    [
        (b"", CALLBACK, "Bad Request", BAD_AUDIO + "The body is empty; send the audio's bytes, or JSON with a url."),
        (b"", {}, "Bad Request", BAD_AUDIO),
        (b"this is a text file named .wav" * 99, {}, "Bad Request", BAD_AUDIO),
        (wav()[:40], {}, "Bad Request", BAD_AUDIO),
        (wav(0), {}, "Bad Request", BAD_AUDIO),
        (
            wav(),
            {**CALLBACK, "model": "nova-99"},
            "Bad Request",
            "No such model/language/tier combination found. model:",
        ),
        (wav(), {**CALLBACK, "encoding": "vinyl"}, "INVALID_QUERY_PARAMETER", "encoding: 'vinyl' is not supported"),
        (
            wav(),
            {**CALLBACK, "callback_method": "DELETE"},
            "INVALID_QUERY_PARAMETER",
            "callback_method: unknown variant",
        ),
        (
            wav(),
            {**CALLBACK, "redact": "pci"},
            "INVALID_QUERY_PARAMETER",
            "redact: this server does not offer redaction",
        ),
    ],
)
async def test_what_cannot_be_transcribed_is_refused_before_anything_is_stored(
    server: Stage, client: aiohttp.ClientSession, body: bytes, params: dict[str, str], code: str, message: str
) -> None:
    assert_refused(await post(client, body, params), 400, code, message)
    assert (server.stored, await server.jobs()) == ([], [])


async def test_with_a_callback_the_id_comes_first_and_what_is_wrong_with_the_audio_there(
    server: Stage, client: aiohttp.ClientSession
) -> None:
    status, body, _ = await post(client, b"this is a text file named .wav" * 99, CALLBACK)
    assert (status, body) == (200, {"request_id": (await server.take()).id})


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_beyond_the_limit_is_refused(tmp_path: Path, chunked: bool) -> None:
    body: Any = io.BytesIO(wav()) if chunked else wav()
    async with stage(tmp_path, limits=RequestLimits(upload=20000)) as server, client_of(server) as client:
        answer = await post(client, body, CALLBACK)
        assert_refused(answer, 413, "PAYLOAD_TOO_LARGE", "The body is larger than 20000 bytes. Send less")
        assert server.stored == []


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        *(("Token {}", 200), ("token {}", 200), ("Bearer {}", 200), ("bearer  {}", 200)),
        *(("Token wrong", 401), ("Basic {}", 401), ("{}", 401), ("Token", 401), ("", 401)),
    ],
)
async def test_a_required_key_is_asked_for(
    server: Stage, client: aiohttp.ClientSession, authorization: str, status: int
) -> None:
    key = server.add_key()
    answer = await post(client, wav(), CALLBACK, Authorization=authorization.format(key))
    assert answer[0] == status
    if status == 200:
        assert (await server.take()).request.key_id == key_id_of(key)
    else:
        assert_refused(answer, 401, "INVALID_AUTH", "Invalid credentials. Send the header Authorization: Token <key>")


async def test_where_no_key_is_required_a_wrong_one_is_no_hindrance(
    server: Stage, client: aiohttp.ClientSession
) -> None:
    assert (await post(client, wav(), CALLBACK, Authorization="Token anything"))[0] == 200
    assert (await server.take()).request.key_id is None


@cases(
    ("sent", "kept"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", False),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra", False),
        ("", False),
    ],
)
async def test_a_wellformed_traceparent_travels_with_the_job(
    server: Stage, client: aiohttp.ClientSession, sent: str, kept: bool
) -> None:
    await post(client, wav(), CALLBACK, traceparent=sent)
    assert (await server.take()).request.traceparent == (sent if kept else None)


@cases(
    ("method", "path", "status", "code", "message"),
    [
        ("POST", "/v1/nothing", 404, "NOT_FOUND", "There is nothing at this path. Send audio to POST /v1/listen."),
        ("GET", "/v1/listen", 405, "METHOD_NOT_ALLOWED", "This path does not take this method. Use POST."),
        ("PROPFIND", "/v1/listen", 405, "METHOD_NOT_ALLOWED", "Use POST."),
    ],
)
async def test_unknown_paths_and_methods_answer_in_the_vendors_shape(
    client: aiohttp.ClientSession, method: str, path: str, status: int, code: str, message: str
) -> None:
    async with client.request(method, path) as response:
        assert_refused((response.status, await response.json(), response), status, code, message)


async def test_an_error_that_repeats_a_strange_value_still_fits_into_a_header(client: aiohttp.ClientSession) -> None:
    status, body, response = await post(client, wav(), {"model": "größe\r\nX: y"})
    assert (status, "größe" in told(body)) == (400, True)
    assert response.headers["dg-error"].startswith("No such model/language/tier combination found. model: 'gr??e")


async def test_a_broken_server_says_so_and_nothing_more(
    server: Stage, client: aiohttp.ClientSession, capsys: pytest.CaptureFixture[str]
) -> None:
    with server.database.writing() as connection:
        connection.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON outspoken_jobs BEGIN "
            "SELECT RAISE(ABORT, 'details of the database'); END"
        )
    answer = await post(client, wav(), CALLBACK)
    assert_refused(answer, 500, "INTERNAL_SERVER_ERROR", "The server failed to handle the request.")
    assert "database" not in answer[1]["err_msg"]
    logged = capsys.readouterr().out
    assert "details of the database" in logged
    assert not any(secret in logged for secret in ("pa55", "tok3n"))
