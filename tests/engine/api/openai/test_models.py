"""GET /v1/models: OpenAI's list, and what is said of one that is not here."""

from __future__ import annotations

import aiohttp

from tests.engine.api.stage import Stage


async def test_models_are_ours_and_the_vendors(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/models", headers={"Authorization": "Bearer none"}) as response:
        body = await response.json()
    assert body["object"] == "list"
    assert [(model["id"], model["object"]) for model in body["data"]] == [("ours", "model"), ("whisper-1", "model")]


async def test_one_model(client: aiohttp.ClientSession) -> None:
    bearer = {"Authorization": "Bearer none"}
    async with client.get("/v1/models/nova-3", headers=bearer) as response:
        assert (await response.json())["id"] == "nova-3"
    async with client.get("/v1/models/some/other", headers=bearer) as response:
        error = (await response.json())["error"]
    assert (response.status, error["param"], error["code"]) == (404, "model", "model_not_found")
    assert "'some/other' does not exist here" in error["message"]


async def test_models_are_told_to_those_with_a_key(server: Stage, client: aiohttp.ClientSession) -> None:
    key = server.add_key()
    for secret, status in ((key, 200), ("osk_wrong", 401)):
        async with client.get("/v1/models", headers={"Authorization": f"Bearer {secret}"}) as response:
            assert response.status == status
