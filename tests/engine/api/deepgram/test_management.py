"""What Deepgram's clients ask for besides /v1/listen, by its own client and over HTTP."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from deepgram.core.api_error import ApiError

from tests.cases import cases
from tests.engine.api.conftest import wav
from tests.engine.api.deepgram.test_sdk import connected
from tests.engine.api.stage import Stage, client_of, key_id_of

# The SDK imports names that websockets has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")


async def test_the_client_finds_a_project_and_its_models(server: Stage) -> None:
    key = server.add_key()
    async with connected(server, key) as sdk:
        (one,) = (await sdk.manage.v1.projects.list()).projects or []
        assert one.project_id
        assert (await sdk.manage.v1.projects.get(one.project_id)).name == one.name == "Outspoken"
        listed = [model.canonical_name for model in (await sdk.manage.v1.models.list()).stt or []]
        assert listed == ["nova-3", "ours"]
        models = (await sdk.manage.v1.projects.models.list(one.project_id)).stt or []
        assert [model.canonical_name for model in models] == listed
        assert models[0].uuid_
        found = await sdk.manage.v1.projects.models.get(one.project_id, models[0].uuid_)
        assert found.canonical_name == "nova-3"


async def test_what_is_not_there_is_said_in_the_vendors_shape(server: Stage, client: aiohttp.ClientSession) -> None:
    for path in ("/v1/projects/x", "/v1/projects/x/models", "/v1/projects/x/models/y"):
        async with client.get(path) as response:
            body = await response.json()
        assert (response.status, body["err_code"]) == (404, "NOT_FOUND")
        assert "GET /v1/projects tells the one there is" in body["err_msg"]


async def test_the_client_is_granted_a_token_that_listens_and_no_more(server: Stage) -> None:
    key = server.add_key()
    async with connected(server, key) as sdk:
        granted = await sdk.auth.v1.tokens.grant(ttl_seconds=60)
    assert granted.expires_in == 60
    bearer = {"Authorization": f"Bearer {granted.access_token}"}
    listen: dict[str, Any] = {"data": wav(), "params": {"callback": "http://127.0.0.1:8080/"}, "headers": bearer}
    async with client_of(server) as client:
        async with client.post("/v1/listen", **listen) as response:
            assert response.status == 200
        assert (await server.take()).request.key_id == key_id_of(key)
        for path in ("/v1/requests", "/v1/projects"):
            async with client.get(path, headers=bearer) as response:
                assert response.status == 401
        async with client.post("/v1/auth/grant", headers=bearer) as response:
            assert response.status == 401
        server.clock.now += 60
        async with client.post("/v1/listen", **listen) as response:
            assert response.status == 401
    async with connected(server, "osk_wrong") as sdk:
        with pytest.raises(ApiError):
            await sdk.auth.v1.tokens.grant()


@cases("body", ['{"ttl_seconds": 0}', '{"ttl_seconds": 3601}', '{"ttl_seconds": "x"}', "[]", "{"])
async def test_how_long_a_token_is_good_has_bounds(client: aiohttp.ClientSession, body: str) -> None:
    async with client.post("/v1/auth/grant", data=body) as response:
        told = await response.json()
    assert response.status == 400
    assert told["err_msg"].startswith("ttl_seconds: expected a number from 1 to 3600")


async def test_without_a_body_a_token_is_good_for_half_a_minute(client: aiohttp.ClientSession) -> None:
    async with client.post("/v1/auth/grant") as response:
        assert (await response.json())["expires_in"] == 30


async def test_the_server_is_healthy_while_it_can_accept(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/status") as response:
        assert (response.status, await response.json()) == (200, {"system_health": "Healthy"})


@cases("method", ["GET", "POST"])
async def test_flux_is_told_what_to_use_instead(client: aiohttp.ClientSession, method: str) -> None:
    async with client.request(method, "/v2/listen?model=flux-general-en") as response:
        body = await response.json()
    assert (response.status, body["err_code"]) == (404, "NOT_FOUND")
    assert "Connect to /v1/listen" in body["err_msg"]
    assert response.headers["dg-error"] == body["err_msg"]
