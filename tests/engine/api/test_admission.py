"""Admission over real sockets: who is turned away learns it, and is not read to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from engine.jobs.admission import QueueBounds
from tests.cases import cases

from .conftest import wav
from .stage import Stage, client_of, served, stage

PATIENCE = 20.0
CALLBACK = {"callback": "http://127.0.0.1:8080/hook"}


@pytest.fixture
async def full(tmp_path: Path) -> AsyncIterator[Stage]:
    """A server in whose queue one job waits, which is as many as may."""
    async with stage(tmp_path, bounds=QueueBounds(jobs=1)) as running, client_of(running) as client:
        async with client.post("/v1/listen", params=CALLBACK, data=wav()) as response:
            assert response.status == 200
        yield running


async def test_beyond_the_bound_a_caller_gets_429_in_the_vendors_shape_and_when_to_come_again(full: Stage) -> None:
    waiting = full.files
    async with client_of(full) as client:
        async with client.post("/v1/listen", params=CALLBACK, data=wav()) as response:
            answer = await response.json()
            assert (response.status, answer["err_code"]) == (429, "TOO_MANY_REQUESTS")
            assert answer["err_msg"].startswith("Too many requests. Please try again later.")
            assert 1 <= int(response.headers["Retry-After"]) <= 60
            assert response.headers["dg-request-id"] == answer["request_id"]
        assert full.files == waiting
        await full.finish()
        async with client.post("/v1/listen", params=CALLBACK, data=wav()) as response:
            assert response.status == 200


async def test_a_caller_who_waits_for_a_result_takes_a_place_until_it_is_there(tmp_path: Path) -> None:
    async with stage(tmp_path, bounds=QueueBounds(jobs=1)) as server, client_of(server) as client:
        server.transcriber.let_go.clear()
        first = asyncio.create_task(client.post("/v1/listen", data=wav()))
        while not server.stored:
            await asyncio.sleep(0)
        async with client.post("/v1/listen", params=CALLBACK, data=wav()) as response:
            assert response.status == 429
        server.transcriber.let_go.set()
        async with await first as response:
            assert response.status == 200
        async with client.post("/v1/listen", params=CALLBACK, data=wav()) as response:
            assert response.status == 200


async def test_of_many_that_come_at_once_no_more_get_in_than_there_is_room_for(tmp_path: Path) -> None:
    async with stage(tmp_path, bounds=QueueBounds(jobs=3)) as server, client_of(server) as client:
        server.transcriber.let_go.clear()

        async def ask() -> int:
            async with client.post("/v1/listen", data=wav()) as response:
                if response.status == 429:
                    turned_away.release()
                return response.status

        turned_away = asyncio.Semaphore(0)
        asking = [asyncio.create_task(ask()) for _ in range(12)]
        for _ in range(9):
            await asyncio.wait_for(turned_away.acquire(), PATIENCE)
        server.transcriber.let_go.set()
        assert sorted(await asyncio.gather(*asking)) == [200] * 3 + [429] * 9


async def test_one_keys_bound_is_told_apart(tmp_path: Path) -> None:
    async with (
        stage(tmp_path, bounds=QueueBounds(per_key_jobs=0)) as server,
        client_of(server) as client,
        client.post("/v1/listen", params=CALLBACK, data=wav()) as response,
    ):
        assert (response.status, "of this key" in await response.text()) == (429, True)


Talk = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def talk_to(server: Stage) -> AsyncIterator[Talk]:
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    yield reader, writer
    writer.close()


@pytest.fixture
async def talk(server: Stage) -> AsyncIterator[Talk]:
    async with talk_to(server) as talk:
        yield talk


def head(length: int, *more: str) -> bytes:
    lines = ["POST /v1/listen?callback=http://127.0.0.1:8080/ HTTP/1.1", "Host: h", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


async def answer(reader: asyncio.StreamReader) -> str:
    """An answer's head, or what comes before it."""
    return (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)).decode()


async def test_a_client_that_asks_before_it_sends_is_told_no_without_a_byte(full: Stage) -> None:
    async with talk_to(full) as (reader, writer):
        writer.write(head(2 * 10**9, "Expect: 100-continue"))
        said = await answer(reader)
    assert said.startswith("HTTP/1.1 429")
    assert "connection: close" in said.lower()


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on_once_there_is_room(
    server: Stage, talk: Talk
) -> None:
    reader, writer = talk
    writer.write(head(len(wav()), "Expect: 100-continue"))
    assert await answer(reader) == "HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(wav())
    assert (await answer(reader)).startswith("HTTP/1.1 200")
    assert len(await server.jobs()) == 1


async def test_another_expectation_is_refused(talk: Talk) -> None:
    reader, writer = talk
    writer.write(head(1, "Expect: a-miracle"))
    assert (await answer(reader)).startswith("HTTP/1.1 417")


async def test_a_client_that_sends_all_of_a_big_body_first_still_sees_the_answer(full: Stage) -> None:
    piece, pieces, waiting = bytes(1024 * 1024), 64, full.files
    async with talk_to(full) as (reader, writer):
        writer.write(head(len(piece) * pieces))
        for _ in range(pieces):
            writer.write(piece)
            await asyncio.wait_for(writer.drain(), PATIENCE)
        assert (await answer(reader)).startswith("HTTP/1.1 429")
        rest = await asyncio.wait_for(reader.read(), PATIENCE)
    assert rest.endswith(b"}"), "and the connection ends in order"
    assert full.files == waiting


async def test_a_body_that_announces_nothing_is_weighed_as_it_comes(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(64 * 1024)

    async with stage(tmp_path, bounds=QueueBounds(bytes=1024 * 1024)) as server, client_of(server) as client:
        async with client.post("/v1/listen", params=CALLBACK, data=endless()) as response:
            assert (response.status, "more than 1048576 bytes" in await response.text()) == (429, True)
        assert server.stored == []
        async with client.post("/v1/listen", params=CALLBACK, data=wav()) as response:
            assert response.status == 200


@cases(
    "half",
    [b"", b"POST /v1/listen HTTP/1.1\r\nHost: x\r\nAuthorization: To", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET"],
)
async def test_a_head_that_does_not_come_to_its_end_holds_no_connection(half: bytes) -> None:
    application = web.Application()
    application.router.add_get("/livez", _live)
    async with served(application, head_seconds=0.2) as (_, url):
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(half)
        async with asyncio.timeout(PATIENCE):
            await reader.read()  # until it is closed
        writer.close()


async def _live(_: web.Request) -> web.Response:
    return web.Response()
