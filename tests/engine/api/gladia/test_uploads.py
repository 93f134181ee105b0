"""/v2/upload: audio in a form or by URL, kept whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from gladiaio_sdk import PreRecordedV2AudioUploadResponse

from engine.api.admission import RequestLimits
from engine.jobs.admission import QueueBounds
from relay.outbox.store import Database
from tests.cases import cases
from tests.engine.api.conftest import wav
from tests.engine.api.deepgram.test_upload import until
from tests.engine.api.stage import Stage, client_of, remote, stage

UPLOAD = "/v2/upload"
MIB = 1024 * 1024
FORM = {"Content-Type": "multipart/form-data; boundary=B"}
HEAD = b'--B\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n'


def form(content: bytes = b"", filename: str = "a.wav", name: str = "audio") -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field(name, content or wav(), filename=filename)
    return data


async def send(client: aiohttp.ClientSession, **options: Any) -> tuple[int, dict[str, Any]]:
    async with client.post(UPLOAD, **options) as response:
        return response.status, await response.json()


async def flaw(client: aiohttp.ClientSession, server: Stage, **options: Any) -> str:
    """The one thing that is wrong with an upload, of which nothing stays."""
    status, body = await send(client, **options)
    assert (status, body["statusCode"]) == (422, 422), body
    assert server.files == []
    (found,) = body["validation_errors"]
    return str(found)


async def test_a_file_is_kept_whole_under_a_url_of_ours(server: Stage, client: aiohttp.ClientSession) -> None:
    status, body = await send(client, data=form(wav(2.0, channels=2)))
    answer = PreRecordedV2AudioUploadResponse.from_dict(body)
    metadata = answer.audio_metadata
    assert status == 200
    assert answer.audio_url == f"{server.url}/file/{metadata.id}"
    assert (metadata.filename, metadata.extension, metadata.size) == ("a.wav", "wav", len(wav(2.0, channels=2)))
    assert (metadata.audio_duration, metadata.number_of_channels) == (2.0, 2)
    assert server.files == [metadata.id]
    assert (server.folder / metadata.id).read_bytes() == wav(2.0, channels=2)


async def test_a_file_comes_by_url_through_the_guard(tmp_path: Path, database: Database) -> None:
    async def audio(request: web.Request) -> web.Response:
        return web.Response(body=wav())

    async with remote(audio) as port, stage(tmp_path, database, ports=frozenset({port})) as server:
        async with client_of(server) as client:
            url = f"http://u:p@127.0.0.1:{port}/a.wav?token=t"
            status, body = await send(client, json={"audio_url": url})
        assert (status, body["audio_metadata"]["filename"], body["audio_metadata"]["source"]) == (200, "a.wav", url)
        assert server.files == [body["audio_metadata"]["id"]]


@cases("url", ["http://10.0.0.1/a.wav", "http://127.0.0.1:22/", "file:///etc/passwd", "gopher://x"])
async def test_a_url_that_the_guard_denies_is_not_fetched(
    server: Stage, client: aiohttp.ClientSession, url: str
) -> None:
    found = await flaw(client, server, json={"audio_url": url})
    assert found.startswith(
        "audio_url must be a URL address that can be fetched. URL for media download must be publicly"
    )


@cases("body", [{}, [], "x", {"audio_url": None}, {"audio_url": 1}, {"audio_url": ""}])
async def test_json_without_a_url_is_refused(server: Stage, client: aiohttp.ClientSession, body: Any) -> None:
    assert (await flaw(client, server, json=body)).startswith("audio_url must be a")


async def test_a_field_that_nobody_knows_is_refused(server: Stage, client: aiohttp.ClientSession) -> None:
    found = await flaw(client, server, json={"audio_url": "http://127.0.0.1:8080/", "language": "en"})
    assert found.startswith("language must be left out")


async def test_a_form_without_the_field_is_refused(server: Stage, client: aiohttp.ClientSession) -> None:
    assert await flaw(client, server, data=form(name="file")) == "audio must be a file in the form"


async def test_a_form_with_several_files_is_refused(server: Stage, client: aiohttp.ClientSession) -> None:
    data = form()
    data.add_field("audio", wav(), filename="b.wav")
    assert await flaw(client, server, data=data) == "audio must be one file; send the others one by one"


async def test_other_fields_are_passed_over(server: Stage, client: aiohttp.ClientSession) -> None:
    data = aiohttp.FormData()
    data.add_field("before", "x" * 70_000)
    data.add_field("audio", wav(), filename="a.wav")
    data.add_field("after", b"\r\n--", filename="audio")
    status, body = await send(client, data=data)
    assert (status, body["audio_metadata"]["size"]) == (200, len(wav()))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b'"../../../etc/cron.d/x.wav"', "x.wav"),
        (b'"C:\\\\calls\\\\a.wav"', "a.wav"),
        (b'"a%22%0D%0ASet-Cookie: x.wav"', "aSet-Cookie: x.wav"),
        (b'"a\\"b.wav"', "ab.wav"),
        (b'"a\rb\n.wav"', "ab.wav"),
        ('"grüße.wav"'.encode(), "grüße.wav"),
        (b'"\xff\xfe.wav"', "\ufffd\ufffd.wav"),
        (b'""', "audio"),
        (b'"' + b"x" * 5000 + b'"', "x" * 255),
    ],
)
async def test_a_hostile_file_name_is_a_name_and_nothing_more(
    server: Stage, client: aiohttp.ClientSession, sent: bytes, kept: str
) -> None:
    body = HEAD.replace(b'"a.wav"', sent) + wav() + b"\r\n--B--"
    status, answer = await send(client, data=body, headers=FORM)
    assert (status, answer["audio_metadata"]["filename"]) == (200, kept)
    assert server.files == [answer["audio_metadata"]["id"]]
    async with client.post("/v2/pre-recorded", json={"audio_url": answer["audio_url"]}) as response:
        job_id = (await response.json())["id"]
    async with client.get(f"/v2/pre-recorded/{job_id}/file") as response:
        assert await response.read() == wav()
        assert "Set-Cookie" not in response.headers


@cases(
    ("headers", "body", "why"),
    [
        (FORM, HEAD + wav(), "audio must be complete"),
        (FORM, b"", "audio must be complete"),
        (FORM, b"--B--", "audio must be a file in the form"),
        (FORM, HEAD + b"\r\n--B--", "audio must be a file with something in it"),
        (
            FORM,
            HEAD + b"I am a text, whatever my name is." * 99 + b"\r\n--B--",
            "audio must be audio or video that can",
        ),
        (FORM, b"--B\r\n" + b"x" * 20_000, "audio must have headers of no more than"),
        ({"Content-Type": "multipart/form-data"}, HEAD + b"--B--", "audio must be sent as multipart/form-data"),
        ({"Content-Type": "audio/wav"}, wav(), "audio must be sent as multipart/form-data"),
        ({"Content-Type": "multipart/mixed; boundary=B"}, HEAD, "audio must be sent as multipart/form-data"),
    ],
)
async def test_a_body_that_is_no_file_in_a_form_is_refused(
    server: Stage, client: aiohttp.ClientSession, headers: dict[str, str], body: bytes, why: str
) -> None:
    assert (await flaw(client, server, data=body, headers=headers)).startswith(why)


async def test_a_playlist_opens_nothing(server: Stage, client: aiohttp.ClientSession, tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(wav())
    playlist = f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n".encode()
    assert (await flaw(client, server, data=form(playlist, "a.m3u8"))).startswith("audio must be audio or video")


@pytest.mark.parametrize("announced", [True, False])
async def test_a_file_that_is_too_large_is_refused(tmp_path: Path, database: Database, announced: bool) -> None:
    body = HEAD + bytes(2 * MIB) + b"\r\n--B--"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    async with stage(tmp_path, database, limits=RequestLimits(upload=MIB // 2)) as server, client_of(server) as client:
        status, answer = await send(client, data=BytesIO(body) if announced else pieces(), headers=FORM)
        assert (status, answer["statusCode"]) == (413, 413)
        assert "Send less audio at a time." in answer["message"]
        assert server.files == []


async def test_an_upload_that_stops_half_way_leaves_nothing(server: Stage) -> None:
    url = urlsplit(server.url)
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    fields = f"Host: x\r\nContent-Type: {FORM['Content-Type']}\r\nContent-Length: {8 * MIB}\r\n\r\n"
    writer.write(f"POST {UPLOAD} HTTP/1.1\r\n{fields}".encode() + HEAD + bytes(3 * MIB))
    await writer.drain()
    await until(lambda: any(path.stat().st_size for path in server.stored))
    writer.close()
    await writer.wait_closed()
    await until(lambda: server.files == [])


async def test_an_upload_that_stalls_is_given_up(tmp_path: Path, database: Database) -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield HEAD + wav()[:1000]
        await asyncio.Event().wait()

    async with stage(tmp_path, database, limits=RequestLimits(stall=0.1)) as server, client_of(server) as client:
        status, answer = await send(client, data=stalling(), headers=FORM)
        assert (status, answer["message"]) == (422, "Unable to read the entire client request.")
        assert server.files == []


async def test_an_upload_survives_the_server_and_stays_its_own(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as server, client_of(server) as client:
        _, body = await send(client, data=form())
    async with stage(tmp_path, database, public_url="https://elsewhere.example") as again, client_of(again) as client:
        async with client.post("/v2/pre-recorded", json={"audio_url": body["audio_url"]}) as response:
            assert response.status == 201, await response.text()
        assert (await again.take()).has_audio


async def test_uploads_that_no_job_has_named_are_counted_among_what_waits(tmp_path: Path, database: Database) -> None:
    content = wav()
    async with (
        stage(tmp_path, database, bounds=QueueBounds(bytes=3 * len(content))) as server,
        client_of(server) as client,
    ):
        sent = [await send(client, data=form(content)) for _ in range(3)]
        assert [status for status, _ in sent] == [200, 200, 429]
        assert (await server.store.backlog("")).bytes == 2 * len(content)
        async with client.post("/v2/pre-recorded", json={"audio_url": sent[0][1]["audio_url"]}) as response:
            assert response.status == 201
        assert (await server.store.backlog("")).bytes == 2 * len(content), "now they are the job's"
        job = await server.store.lease(1)
        assert len(job) == 1


async def test_what_is_fetched_into_an_upload_is_counted_too(tmp_path: Path, database: Database) -> None:
    async def sound(_: web.BaseRequest) -> web.Response:
        return web.Response(body=wav())

    async with remote(sound) as port:
        bounds = QueueBounds(bytes=len(wav()) - 1)
        async with stage(tmp_path, database, bounds=bounds, ports={port}) as server, client_of(server) as client:
            status, _ = await send(client, json={"audio_url": f"http://127.0.0.1:{port}/a.wav"})
            assert (status, server.files) == (429, [])
