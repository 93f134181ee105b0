"""Engines and relays on one PostgreSQL, on machines of their own: what one accepted, any other may finish."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.acceptance.speech import first_seconds
from tests.acceptance.stage import Line, Process, Stage
from tests.ports import free_callback_port
from tests.services.postgres import Server
from tests.services.s3 import Bucketry, Cable

SPEECH = first_seconds(0.8)
LEASE = 2.0

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]


@pytest.fixture
def url(postgres: Server) -> Iterator[str]:
    """An empty database."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@dataclass(frozen=True)
class World:
    """A receiver, a relay, and what machines with an engine have in common."""

    stack: AsyncExitStack
    receiver: Process
    folder: Path
    callback_port: int
    common: dict[str, object]

    async def machine(self, name: str) -> tuple[Stage, Process]:
        """One more machine, with folders of its own and a running engine."""
        folder = self.folder / name
        folder.mkdir()
        stage = Stage(folder, self.callback_port, **self.common)
        engine = await stage.engine()
        self.stack.push_async_callback(engine.stop)
        return stage, engine

    async def called_back(self, job_id: str) -> Line:
        line = await self.receiver.said(lambda line: line.get("headers", {}).get("webhook-id") == job_id)
        return {**line, "document": json.loads(line["body"])}


async def a_world(stack: AsyncExitStack, folder: Path, url: str, **settings: object) -> World:
    port = free_callback_port()
    common: dict[str, object] = {"outbox__url": url, "engine__lease_seconds": LEASE, **settings}
    stage = Stage(folder, port, **common)
    receiver = await stage.receiver()
    stack.push_async_callback(receiver.stop)
    relay = await stage.relay()
    stack.push_async_callback(relay.stop)
    return World(stack, receiver, folder, port, common)


def in_bucket(server: Bucketry, endpoint: str) -> dict[str, object]:
    """Settings for audio in a bucket of its own."""
    return {
        "engine__audio__url": f"s3://{server.create()}/speech",
        "engine__audio__endpoint": endpoint,
        "engine__audio__region": "eu-central-1",
        "engine__audio__access_key_id": "key",
        "engine__audio__secret_access_key": "nobody-may-see-this",
    }


async def submit(http: aiohttp.ClientSession, stage: Stage) -> str:
    query = {"callback": stage.callback_url}
    async with http.post(f"{stage.engine_url}/v1/listen", params=query, data=SPEECH) as answer:
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["request_id"])


async def document(http: aiohttp.ClientSession, url: str) -> Any:
    async with http.get(url) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


def words(results: Any) -> str:
    return str(results["channels"][0]["alternatives"][0]["transcript"])


@pytest.mark.parametrize("where", ["folder", "bucket"])
async def test_a_file_and_an_upload_go_in_and_their_words_come_out_and_are_fetched_again(
    tmp_path: Path, stack: AsyncExitStack, http: aiohttp.ClientSession, url: str, s3: Bucketry, where: str
) -> None:
    world = await a_world(stack, tmp_path, url, **(in_bucket(s3, s3.url) if where == "bucket" else {}))
    stage, _ = await world.machine("one")
    form = aiohttp.FormData()
    form.add_field("audio", SPEECH, filename="talk.wav")
    async with http.post(f"{stage.engine_url}/v2/upload", data=form) as answer:
        assert answer.status == 200, await answer.text()
        audio_url = (await answer.json())["audio_url"]
    wish = {"audio_url": audio_url, "callback": True, "callback_config": {"url": stage.callback_url}}
    async with http.post(f"{stage.engine_url}/v2/pre-recorded", json=wish) as answer:
        assert answer.status == 201, await answer.text()
        made = await answer.json()
    called = (await world.called_back(made["id"]))["document"]
    job = await document(http, made["result_url"])
    said = job["result"]["transcription"]["full_transcript"]
    assert said
    assert said in json.dumps(called)
    listed = await document(http, f"{stage.engine_url}/v2/pre-recorded")
    assert [item["id"] for item in listed["items"]] == [made["id"]]
    async with http.get(f"{made['result_url']}/file") as answer:
        assert await answer.read() == SPEECH
        assert answer.headers["x-aipi-call-id"]
    job_id = await submit(http, stage)  # on the connection that brought the file
    called = (await world.called_back(job_id))["document"]
    assert words(called["results"])
    kept = await document(http, f"{stage.engine_url}/v1/requests/{job_id}")
    assert words(called["results"]) in json.dumps(kept)


async def test_another_engine_finishes_what_a_killed_one_accepted(
    tmp_path: Path, stack: AsyncExitStack, http: aiohttp.ClientSession, url: str, s3: Bucketry
) -> None:
    world = await a_world(stack, tmp_path, url, **in_bucket(s3, s3.url))
    one, killed = await world.machine("one")
    accepted = await asyncio.gather(*(submit(http, one) for _ in range(2)))
    await killed.kill()
    _, other = await world.machine("other")
    for job_id in accepted:
        assert words((await world.called_back(job_id))["document"]["results"])
    assert any(line.get("event") == "job.started" for line in other.lines)
    assert not [path for path in (tmp_path / "other").rglob("*") if path.is_file()], "what was fetched is gone again"


async def test_while_the_bucket_is_away_callers_are_told_in_their_vendors_words_and_no_job_is_lost(
    tmp_path: Path, stack: AsyncExitStack, http: aiohttp.ClientSession, url: str, s3: Bucketry
) -> None:
    cable = Cable(s3.port)
    await cable.plug_in()
    stack.push_async_callback(cable.pull_out)
    world = await a_world(stack, tmp_path, url, **in_bucket(s3, cable.url))
    stage, engine = await world.machine("one")
    accepted = await submit(http, stage)
    await cable.pull_out()
    async with http.post(f"{stage.engine_url}/v1/listen", params={"callback": stage.callback_url}, data=SPEECH) as said:
        assert (said.status, (await said.json())["err_code"]) == (503, "SERVICE_UNAVAILABLE")
        assert said.headers["Retry-After"] == "5"
    form = aiohttp.FormData()
    form.add_field("audio", SPEECH, filename="talk.wav")
    async with http.post(f"{stage.engine_url}/v2/upload", data=form) as said:
        assert (said.status, (await said.json())["statusCode"]) == (503, 503)
    await cable.plug_in()
    again = await submit(http, stage)
    for job_id in (accepted, again):
        assert words((await world.called_back(job_id))["document"]["results"])
    assert "nobody-may-see-this" not in "\n".join(engine.words)
