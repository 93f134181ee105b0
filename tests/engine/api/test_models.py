"""GET /v1/models: the same path for clients of two vendors, who are told apart by how they send their key."""

from __future__ import annotations

import aiohttp
import pytest

from tests.engine.api.stage import Stage

BEARER = {"Authorization": "Bearer none"}
TOKEN = {"Authorization": "Token none"}


async def test_openais_list_holds_ours_and_the_vendors(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/models", headers=BEARER) as response:
        body = await response.json()
    assert body["object"] == "list"
    assert [(model["id"], model["object"]) for model in body["data"]] == [("ours", "model"), ("whisper-1", "model")]


async def test_deepgrams_list_holds_ours_and_the_vendors(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/models", headers=TOKEN) as response:
        body = await response.json()
    assert (sorted(body), body["tts"]) == (["stt", "tts"], [])
    assert [(model["name"], model["languages"]) for model in body["stt"]] == [("nova-3", ["en"]), ("ours", ["en"])]


async def test_one_model_of_openais(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/models/nova-3", headers=BEARER) as response:
        assert (await response.json())["id"] == "nova-3"
    async with client.get("/v1/models/some/other", headers=BEARER) as response:
        error = (await response.json())["error"]
    assert (response.status, error["param"], error["code"]) == (404, "model", "model_not_found")
    assert "'some/other' does not exist here" in error["message"]


async def test_one_model_of_deepgrams_by_name_and_by_uuid(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/models/nova-3", headers=TOKEN) as response:
        model = await response.json()
    async with client.get(f"/v1/models/{model['uuid']}", headers=TOKEN) as response:
        assert await response.json() == model
    async with client.get("/v1/models/other", headers=TOKEN) as response:
        assert (response.status, (await response.json())["err_code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("scheme", ["Bearer", "Token"])
async def test_models_are_told_to_those_with_a_key(server: Stage, client: aiohttp.ClientSession, scheme: str) -> None:
    key = server.add_key()
    for path in ("/v1/models", "/v1/models/nova-3"):
        for secret, status in ((key, 200), ("osk_wrong", 401)):
            async with client.get(path, headers={"Authorization": f"{scheme} {secret}"}) as response:
                assert response.status == status
                assert secret == key or ("error" in await response.json()) is (scheme == "Bearer")
