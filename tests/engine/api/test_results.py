"""A result that was too large for its receiver, opened by the link that it got instead."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from engine.api import requests
from engine.api.errors import identify
from engine.jobs.archive import Archive
from engine.jobs.folder import AudioFolder
from engine.keys import ApiKeys
from relay import outbox
from relay.outbox.model import Kind, Method, NewDelivery
from relay.outbox.results import Results
from relay.outbox.store import Database
from relay.policy.attempt import Delivery, Lease
from relay.policy.pointer import Pointers
from tests.cases import cases

NOW = 1_700_000_000.0
BODY = b'{"results": {}}'

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def reader(database: Database) -> Results:
    with database.writing() as connection:
        outbox.add(connection, NewDelivery("kept", "https://hooks.example.com/x", BODY))
    return Results(database)


@pytest.fixture
async def client(reader: Results, database: Database, tmp_path: Path) -> AsyncIterator[Client]:
    keys, archive = ApiKeys(database, open_without_keys=False), Archive(database, AudioFolder(tmp_path))
    application = web.Application(middlewares=[identify])
    application.add_routes(requests.routes(keys, archive, reader, lambda: NOW))
    async with TestClient(TestServer(application)) as client:
        yield client
    for each in (keys, archive, reader):
        await each.close()


async def link(reader: Results, delivery_id: str, now: float = NOW) -> str:
    """The path and query that a pointer carries."""
    delivery = Delivery(
        Lease(1, "t"), delivery_id, "https://hooks.example.com:443", "", Method.POST, Kind.FINAL, "application/json",
        {}, None, len(BODY), now, now, 1, 0,
    )  # fmt: skip
    url = json.loads(Pointers("https://speech.example.com", await reader.secret()).envelope(delivery, now))[
        "result_url"
    ]
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


async def test_a_link_opens_the_very_bytes_that_were_too_large(client: Client, reader: Results) -> None:
    async with client.get(await link(reader, "kept")) as response:
        assert (response.status, await response.read()) == (200, BODY)
        assert response.headers["Content-Type"] == "application/json"


@cases(
    "path",
    [
        "/v1/results/kept",
        "/v1/results/kept?expires=99999999999&signature=00",
        "/v1/results/kept?expires=soon&signature=%C3%A9",
        f"/v1/results/kept?expires={'9' * 400}&signature=00",
    ],
)
async def test_a_link_that_we_did_not_make_opens_nothing(client: Client, path: str) -> None:
    await _refused(client.get(path), 403, "INSUFFICIENT_PERMISSIONS")


async def test_a_link_opens_its_own_result_only(client: Client, reader: Results) -> None:
    await _refused(
        client.get((await link(reader, "other")).replace("/other", "/kept")), 403, "INSUFFICIENT_PERMISSIONS"
    )


async def test_a_link_expires(client: Client, reader: Results) -> None:
    await _refused(client.get(await link(reader, "kept", now=NOW - 8 * 86400)), 403, "INSUFFICIENT_PERMISSIONS")


async def test_a_result_that_is_no_longer_kept_is_not_there(client: Client, reader: Results) -> None:
    await _refused(client.get(await link(reader, "gone")), 404, "NOT_FOUND")


async def _refused(request: aiohttp.client._RequestContextManager, status: int, code: str) -> None:
    async with request as response:
        assert (response.status, (await response.json())["err_code"]) == (status, code)
