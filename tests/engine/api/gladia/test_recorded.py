"""/v2/pre-recorded: a job from its creation to its end, for the key that made it and for nobody else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import pytest
from gladiaio_sdk import PreRecordedV2ListResponse, PreRecordedV2Response

from engine.jobs.admission import QueueBounds
from engine.request import Callback, Failed, FailureCode
from relay.outbox.results import Results
from relay.outbox.store import Database
from tests.cases import cases
from tests.engine.api.conftest import wav
from tests.engine.api.stage import Stage, client_of, key_id_of, stage

URL = "http://127.0.0.1:8080/calls/a.wav?token=tok3n"
HOOK = "http://u:pa55@127.0.0.1:8080/hook"
JOBS = "/v2/pre-recorded"
Answer = tuple[int, Any]


async def ask(client: aiohttp.ClientSession, method: str, path: str, **options: Any) -> Answer:
    """One request; the answer's status and its JSON."""
    async with client.request(method, path, **options) as response:
        assert response.headers["x-aipi-call-id"] == str(UUID(response.headers["x-aipi-call-id"]))
        body = await response.read()
        return response.status, json.loads(body) if response.content_type == "application/json" else body


async def create(client: aiohttp.ClientSession, **fields: Any) -> str:
    status, body = await ask(client, "POST", JOBS, json={"audio_url": URL, **fields})
    assert status == 201, body
    return str(body["id"])


async def refusal(client: aiohttp.ClientSession, **fields: Any) -> str:
    """The one flaw of a body."""
    status, body = await ask(client, "POST", JOBS, json={"audio_url": URL, **fields})
    assert (status, body["statusCode"], body["path"]) == (422, 422, JOBS)
    assert body["request_id"].startswith("G-")
    (flaw,) = body["validation_errors"]
    assert not {"pa55", "tok3n"} & set(flaw.replace("=", " ").replace("@", " ").replace(":", " ").split())
    return str(flaw)


async def upload(client: aiohttp.ClientSession) -> str:
    form = aiohttp.FormData()
    form.add_field("audio", wav(), filename="a.wav")
    status, body = await ask(client, "POST", "/v2/upload", data=form)
    assert status == 200, body
    return str(body["audio_url"])


async def test_a_job_is_on_disk_when_its_id_goes_out(server: Stage) -> None:
    key = server.add_key()
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    body = {"audio_url": URL, "callback": True, "callback_config": {"url": HOOK, "method": "PUT"}}
    async with (
        client_of(server, key) as client,
        client.post(JOBS, json=body, headers={"traceparent": traceparent}) as response,
    ):
        answer = await response.json()
    assert answer["result_url"] == f"{server.url}{JOBS}/{answer['id']}"
    job = await server.take()
    assert (job.request.id, job.request.audio_url, job.request.key_id) == (answer["id"], URL, key_id_of(key))
    assert (job.request.callback, job.request.traceparent) == (Callback(HOOK, "PUT"), traceparent)


async def test_a_job_is_looked_at_from_its_creation_to_its_end(server: Stage, client: aiohttp.ClientSession) -> None:
    job_id = await create(client, custom_metadata={"user": "J"})
    _, queued = await ask(client, "GET", f"{JOBS}/{job_id}")
    await server.finish()
    status, done = await ask(client, "GET", f"{JOBS}/{job_id}")
    document = PreRecordedV2Response.from_dict(done)
    assert (queued["status"], status, document.status) == ("queued", 200, "done")
    assert queued["custom_metadata"] == document.custom_metadata == {"user": "J"}
    assert queued["created_at"] == document.completed_at == "2025-11-20T20:58:34.000Z"
    assert document.result is not None
    assert document.result.transcription is not None
    assert document.result.transcription.full_transcript == "hello"


async def test_a_job_being_worked_on_says_so(server: Stage, client: aiohttp.ClientSession) -> None:
    job_id = await create(client)
    await server.take()
    assert (await ask(client, "GET", f"{JOBS}/{job_id}"))[1]["status"] == "processing"


async def test_a_failed_job_has_a_code(server: Stage, client: aiohttp.ClientSession) -> None:
    job_id = await create(client)
    await server.finish(Failed(FailureCode.REMOTE_CONTENT, "It is not there."))
    _, body = await ask(client, "GET", f"{JOBS}/{job_id}")
    assert (body["status"], body["error_code"], body["result"]) == ("error", 400, None)


async def test_a_callback_says_what_get_shows(server: Stage, client: aiohttp.ClientSession) -> None:
    job_id = await create(client, callback_url=HOOK)
    await server.finish()
    _, shown = await ask(client, "GET", f"{JOBS}/{job_id}")
    results = Results(server.database)
    delivered = await results.fetch(job_id)
    await results.close()
    assert delivered is not None
    assert json.loads(delivered.body) == {"id": job_id, "event": "success", "payload": shown["result"]}


async def test_the_old_path_is_the_same_list(server: Stage, client: aiohttp.ClientSession) -> None:
    status, body = await ask(client, "POST", "/v2/transcription", json={"audio_url": URL, "language": "en"})
    assert status == 201
    _, new = await ask(client, "GET", f"{JOBS}/{body['id']}")
    assert await ask(client, "GET", f"/v2/transcription/{body['id']}") == (200, new)
    assert (await ask(client, "GET", "/v2/transcription"))[1]["items"] == [new]
    assert await ask(client, "DELETE", f"/v2/transcription/{body['id']}") == (202, b"")


async def test_jobs_of_another_key_are_not_there(server: Stage) -> None:
    mine, other = server.add_key("mine"), server.add_key("other")
    async with client_of(server, mine) as client, client_of(server, other) as stranger:
        job_id, audio_url = await create(client), await upload(client)
        for method, path in [("GET", ""), ("DELETE", ""), ("GET", "/file")]:
            status, body = await ask(stranger, method, f"{JOBS}/{job_id}{path}")
            assert (status, body["message"]) == (
                404,
                "There is no such job: it was deleted, or is no longer kept, or another key made it.",
            )
        assert (await ask(stranger, "GET", JOBS))[1]["items"] == []
        assert (await refusal(stranger, audio_url=audio_url)).startswith("audio_url must name an upload")
        assert (await ask(client, "GET", f"{JOBS}/{job_id}"))[0] == 200


@pytest.mark.parametrize("headers", [{}, {"x-gladia-key": "wr0ng"}, {"Authorization": "Token {}"}])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", JOBS), ("GET", JOBS), ("GET", f"{JOBS}/1"), ("DELETE", f"{JOBS}/1"), ("GET", f"{JOBS}/1/file")]
    + [("POST", "/v2/upload"), ("POST", "/v2/transcription")],
)
async def test_without_a_key_nothing_is_answered(
    server: Stage, method: str, path: str, headers: dict[str, str]
) -> None:
    key = server.add_key()
    sent = {name: value.format(key) for name, value in headers.items()}
    async with aiohttp.ClientSession(server.url, headers=sent) as nobody:
        status, body = await ask(nobody, method, path, json={"audio_url": URL} if method == "POST" else None)
    assert (status, body["statusCode"]) == (401, 401)
    assert body["message"].startswith("gladia key not found")


async def test_an_upload_becomes_the_audio_of_jobs_without_any_fetch(
    server: Stage, client: aiohttp.ClientSession
) -> None:
    audio_url = await upload(client)
    first, second = await create(client, audio_url=audio_url), await create(client, audio_url=audio_url)
    job = await server.take()
    assert (job.has_audio, job.request.audio_url, job.media.size) == (True, None, len(wav()))
    await server.store.release([job])
    await server.finish()
    await server.finish()
    for job_id in (first, second):
        _, document = await ask(client, "GET", f"{JOBS}/{job_id}")
        assert (document["file"]["filename"], document["file"]["source"]) == ("a.wav", None)
        assert document["request_params"]["audio_url"] == audio_url
    await ask(client, "DELETE", f"{JOBS}/{first}")
    assert await ask(client, "GET", f"{JOBS}/{second}/file") == (200, wav())


async def test_the_file_comes_as_it_was_sent_and_as_nothing_that_runs(
    server: Stage, client: aiohttp.ClientSession
) -> None:
    job_id = await create(client, audio_url=await upload(client))
    async with client.get(f"{JOBS}/{job_id}/file") as response:
        assert await response.read() == wav()
        assert response.content_type == "application/octet-stream"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Disposition"] == "attachment; filename*=UTF-8''a.wav"


async def test_a_file_that_is_yet_to_be_fetched_is_not_there(client: aiohttp.ClientSession) -> None:
    status, body = await ask(client, "GET", f"{JOBS}/{await create(client)}/file")
    assert (status, body["message"]) == (
        404,
        "The audio of this job is not here: it is yet to be fetched, or no longer kept.",
    )


async def test_a_deleted_job_is_gone_with_its_audio(server: Stage, client: aiohttp.ClientSession) -> None:
    audio_url = await upload(client)
    job_id = await create(client, audio_url=audio_url)
    async with client.delete(f"{JOBS}/{job_id}") as response:
        assert (response.status, await response.read()) == (202, b"")
        assert response.content_type != "application/json"
    assert (await ask(client, "GET", f"{JOBS}/{job_id}"))[0] == 404
    assert (await ask(client, "DELETE", f"{JOBS}/{job_id}"))[0] == 404
    assert server.files == [audio_url.rpartition("/")[2]]


async def test_pages_follow_one_another_under_the_same_filters(server: Stage, client: aiohttp.ClientSession) -> None:
    made = []
    for number in range(5):
        server.clock.now += 1
        made.append(await create(client, custom_metadata={"user": "J", "n": number}))
    await create(client, custom_metadata={"user": "K"})
    path, found = f"{JOBS}?limit=2&custom_metadata[user]=J&status=queued&status=done", []
    while path:
        _, body = await ask(client, "GET", path)
        page = PreRecordedV2ListResponse.from_dict(body)
        found += [item.id for item in page.items]
        assert urlsplit(page.first).query.startswith("offset=0&limit=2&")
        path = page.next.removeprefix(server.url) if page.next else ""
    assert found == made[::-1]


async def test_filters_choose_jobs(server: Stage, client: aiohttp.ClientSession) -> None:
    early = await create(client)
    await server.finish()
    server.clock.now += 86400
    late = await create(client, custom_metadata={"n": 5})

    async def listed(query: str) -> list[str]:
        _, body = await ask(client, "GET", f"{JOBS}?{query}")
        return [item["id"] for item in body["items"]]

    assert await listed("") == [late, early]
    assert await listed("status=done") == [early]
    assert await listed("status=error") == []
    assert await listed("date=2025-11-20") == [early]
    assert await listed("after_date=2025-11-21") == [late]
    assert await listed("before_date=2025-11-21T00:00:00Z") == [early]
    assert await listed("custom_metadata[n]=5") == [late]
    assert await listed("custom_metadata[n]=6") == []
    assert await listed("kind=live") == []
    assert await listed("offset=1") == [early]


async def test_results_stand_in_the_list(server: Stage, client: aiohttp.ClientSession) -> None:
    job_id = await create(client)
    await server.finish()
    _, alone = await ask(client, "GET", f"{JOBS}/{job_id}")
    _, listed = await ask(client, "GET", JOBS)
    assert listed["items"] == [alone]
    assert listed["items"][0]["result"]["transcription"]["full_transcript"] == "hello"


async def test_a_list_that_cannot_be_made_is_refused_by_name(client: aiohttp.ClientSession) -> None:
    status, body = await ask(client, "GET", f"{JOBS}?limit=1000&zoom=1")
    assert status == 422
    assert [flaw.split(" must ")[0] for flaw in body["validation_errors"]] == ["zoom", "limit"]


@cases(
    "body",
    [b"", b"{", b"\xff", b'{"audio_url": NaN}', b'{"audio_url": "\\ud800"}', b"[" * 5000, b"null", b"[]", b'"x"'],
)
async def test_a_body_that_is_no_json_object_is_a_bad_request(client: aiohttp.ClientSession, body: bytes) -> None:
    status, answer = await ask(client, "POST", JOBS, data=body, headers={"Content-Type": "application/json"})
    assert (status, answer["statusCode"]) == (400, 400)
    assert '{"audio_url": "https://..."}' in answer["message"]
    assert "validation_errors" not in answer


async def test_a_body_that_is_too_large_is_refused(client: aiohttp.ClientSession) -> None:
    status, body = await ask(client, "POST", JOBS, json={"audio_url": URL, "custom_metadata": {"k": "x" * 300_000}})
    assert (status, body["statusCode"]) == (413, 413)


@cases(
    ("fields", "flaw"),
    [
        ({"callback_url": "ftp://127.0.0.1/hook"}, "callback_url must be a URL address that this server may call."),
        ({"callback_url": "http://10.0.0.1/tok3n"}, "callback_url must be a URL address that this server may call."),
        (
            {"callback": True, "callback_config": {"url": "http://u:pa55@inside.example/"}},
            "callback_config.url must be",
        ),
        ({"callback_url": "http://nowhere.example/tok3n"}, "callback_url must be a URL address that resolves."),
        ({"audio_url": "file:///etc/passwd"}, "audio_url must be a URL address that this server may call."),
        ({"audio_url": "http://169.254.169.254/latest"}, "audio_url must be a URL address that this server may call."),
        ({"audio_url": "http://x:22/?k=tok3n"}, "audio_url must be a URL address that this server may call."),
        ({"custom_metadata": {"k": "x" * 2000}}, "custom_metadata must be no longer than 2000 characters as JSON"),
        ({"pii_redaction": True}, "pii_redaction must be left out"),
    ],
)
async def test_what_is_refused_is_refused_before_anything_is_stored(
    server: Stage, client: aiohttp.ClientSession, fields: dict[str, Any], flaw: str
) -> None:
    assert (await refusal(client, **fields)).startswith(flaw)
    assert (await server.store.snapshot()).queued == 0


async def test_who_is_called_by_a_name_that_dns_says_nothing_of_may_come_again(
    server: Stage, client: aiohttp.ClientSession
) -> None:
    fields = {"audio_url": URL, "callback_url": "http://silent.example/"}
    async with client.post(JOBS, json=fields) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
    assert (await server.store.snapshot()).queued == 0


async def test_audio_whose_host_does_not_resolve_now_may_do_so_later(client: aiohttp.ClientSession) -> None:
    assert await create(client, audio_url="http://nowhere.example/a.wav")


async def test_an_upload_that_was_never_made_is_named(server: Stage, client: aiohttp.ClientSession) -> None:
    unknown = f"{server.url}/file/0199c0de-0000-7000-8000-00000000000a"
    assert (await refusal(client, audio_url=unknown)).startswith("audio_url must name an upload that is still kept")


async def test_behind_a_proxy_urls_begin_as_it_is_called_outside(tmp_path: Path, database: Database) -> None:
    outside = "https://speech.example/stt"
    async with stage(tmp_path, database, public_url=outside + "/") as server, client_of(server) as client:
        audio_url = await upload(client)
        status, body = await ask(client, "POST", JOBS, json={"audio_url": audio_url})
        assert audio_url.startswith(outside + "/file/")
        assert (status, body["result_url"]) == (201, f"{outside}{JOBS}/{body['id']}")
        assert (await ask(client, "GET", JOBS))[1]["first"].startswith(f"{outside}{JOBS}?")
        job = await server.take()
        assert job.has_audio


async def test_a_client_that_names_no_host_gets_the_address_that_it_called(server: Stage) -> None:
    url, body = urlsplit(server.url), json.dumps({"audio_url": URL}).encode()
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(f"POST {JOBS} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
    assert answer["result_url"].startswith(f"{server.url}{JOBS}/")
    writer.close()


async def test_the_setting_names_the_events_of_new_jobs(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, event_names="namespaced") as server, client_of(server) as client:
        await create(client)
        assert (await server.take()).request.options["event_names"] == "namespaced"


async def test_a_full_queue_is_said_before_the_body_is_read(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, bounds=QueueBounds(jobs=1)) as server, client_of(server) as client:
        await create(client)
        for path in (JOBS, "/v2/upload"):
            async with client.post(path, json={"audio_url": URL}) as response:
                assert (response.status, (await response.json())["statusCode"]) == (429, 429)
                assert int(response.headers["Retry-After"]) > 0


@cases(("method", "path", "status"), [("GET", "/v2/nothing", 404), ("PUT", JOBS, 405)])
async def test_paths_that_are_none_speak_as_the_vendor_does(
    client: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    got, body = await ask(client, method, path)
    assert (got, body["statusCode"], body["path"]) == (status, status, path)
    assert set(body) == {"timestamp", "path", "request_id", "statusCode", "message"}
