"""A caller who waits long: kept by spaces, told of late failures, and noticed when leaving."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from deepgram.types.listen_v1response import ListenV1Response

from engine.api.admission import RequestLimits
from engine.request import Failed, FailureCode
from tests.engine.api.conftest import wav
from tests.engine.api.deepgram.test_upload import until
from tests.engine.api.stage import Stage, client_of, stage


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Stage]:
    """Speaks every 20 ms, and has a listener who takes time."""
    async with stage(tmp_path, limits=RequestLimits(keep_alive=0.02)) as running:
        running.transcriber.let_go.clear()
        yield running


async def test_spaces_come_before_a_slow_result(server: Stage, client: aiohttp.ClientSession) -> None:
    async with client.post("/v1/listen", data=wav()) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert await response.content.readexactly(3) == b"   "
        server.transcriber.let_go.set()
        document = ListenV1Response.model_validate(json.loads(await response.read()))
    assert document.metadata.request_id == response.headers["dg-request-id"]
    assert server.stored == []


async def test_a_late_failure_is_an_error_object_without_results(server: Stage, client: aiohttp.ClientSession) -> None:
    server.transcriber.result = Failed(FailureCode.TIMEOUT, "Recognition took more than 600 s.")
    async with client.post("/v1/listen", data=wav()) as response:
        assert await response.content.readexactly(1) == b" "
        server.transcriber.let_go.set()
        assert json.loads(await response.read()) == {
            "err_code": "GATEWAY_TIMEOUT",
            "err_msg": "Recognition took more than 600 s.",
            "request_id": response.headers["dg-request-id"],
        }


async def test_what_is_refused_at_once_keeps_its_status(server: Stage, client: aiohttp.ClientSession) -> None:
    async with client.post("/v1/listen", data=b"no audio at all" * 100) as response:
        assert response.status == 400
    async with client.post("/v1/listen?model=none", data=wav()) as response:
        assert response.status == 400


async def test_a_quick_failure_keeps_its_status(tmp_path: Path) -> None:
    async with stage(tmp_path, limits=RequestLimits(keep_alive=60)) as server, client_of(server) as client:
        server.transcriber.result = Failed(FailureCode.INTERNAL, "It broke.")
        async with client.post("/v1/listen", data=wav()) as response:
            assert (response.status, (await response.json())["err_code"]) == (500, "INTERNAL_SERVER_ERROR")


@pytest.mark.parametrize("spaces", [0, 2])
async def test_a_caller_who_leaves_cancels_the_work(
    server: Stage, client: aiohttp.ClientSession, spaces: int, capsys: pytest.CaptureFixture[str]
) -> None:
    asking = asyncio.create_task(listen_to(client, spaces))
    await (until(lambda: server.stored != []) if spaces == 0 else asking)
    asking.cancel()
    async with asyncio.timeout(10):
        await server.transcriber.cancelled.wait()
    await until(lambda: server.stored == [])
    assert "http.request.failed" not in capsys.readouterr().out


async def listen_to(client: aiohttp.ClientSession, spaces: int) -> None:
    """Ask, hear so many spaces, and hang up."""
    async with client.post("/v1/listen", data=wav()) as response:
        await response.content.readexactly(spaces)
        response.close()
