"""`relay run` opens the admin port: with a token that it makes, for whoever holds it, beside deliveries under way."""

from __future__ import annotations

import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, CookieJar, request

from relay.outbox.sqlite.database import SqliteDatabase
from tests.acceptance.stage import Process, Stage
from tests.ports import free_port
from tests.relay.deliveries import new, put

pytestmark = pytest.mark.acceptance


@pytest.fixture
async def stage(folder: Path) -> AsyncIterator[Stage]:
    stage = Stage(folder, free_port())
    await (await Process.start("relay", "migrate", env=stage.env)).finished()
    yield stage


async def test_a_relay_makes_its_token_serves_api_and_console_and_never_logs_it(stage: Stage) -> None:
    put(SqliteDatabase(stage.database), new("d1", f"http://127.0.0.1:{stage.callback_port}/t0ken"))
    stage.env["OUTSPOKEN_RELAY__ADMIN__GRAFANA_URL"] = "https://grafana.example/"
    relay = await stage.relay()
    made = Path((await relay.event("admin.token"))["file"])
    token = made.read_text().strip()
    assert made == stage.database.with_suffix(".admin-token")
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    address = (await relay.event("relay.ready"))["admin"]
    await relay.event("delivery.attempt.finished")
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:  # an address is no name, to a cookie
        async with session.get(f"{address}api/v1/status", headers={"Authorization": f"Bearer {token}"}) as answer:
            told = await answer.json()
        async with session.get(f"{address}api/v1/settings", headers={"Authorization": f"Bearer {token}"}) as answer:
            settings = {one["setting"]: one for one in (await answer.json())["settings"]}
        sent = {"token": token, "name": "Ada"}
        async with session.post(f"{address}login", data=sent, headers={"Sec-Fetch-Site": "same-origin"}) as answer:
            page = await answer.text()
        async with session.post(f"{address}login", data={"token": "wr0ng"}, headers={"Origin": address[:-1]}) as answer:
            assert answer.status == 403
    assert (told["relays"], told["scheduled"]) == (1, 1)
    assert settings["relay.admin.port"]["origin"] == "environment"
    assert "at most 1 in one" in page
    assert 'href="https://grafana.example/d/outspoken-overview"' in page
    await relay.event("admin.login.refused")
    assert await relay.stop() == 0
    assert not any(secret in word for word in relay.words for secret in (token, "wr0ng", "t0ken"))


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_operators_alone_need_is_loaded_once_one_of_them_asks(stage: Stage, workers: int) -> None:
    stage.env |= {"OUTSPOKEN_RELAY__WORKERS": str(workers), "PYTHONUNBUFFERED": "afresh"}  # not forked
    relay = await stage.relay()
    told = await relay.event("relay.ready")
    for page in ("livez", "readyz", "metrics"):
        async with request("GET", told["metrics"].replace("metrics", page)) as answer:
            assert answer.status == 200
    others = {line["pid"] for line in relay.lines if line["event"] == "worker.started"}
    assert len(others) == (workers if workers > 1 else 0)
    assert not any(map(_has_pydantic, (relay.pid, *others)))
    async with request("GET", f"{told['admin']}login") as answer:
        assert answer.status == 200
    assert _has_pydantic(relay.pid)
    assert not any(map(_has_pydantic, others))
    assert await relay.stop() == 0


def _has_pydantic(pid: int) -> bool:
    """Whether a process has loaded its compiled half."""
    return "pydantic_core" in Path(f"/proc/{pid}/maps").read_text()


async def test_a_link_that_is_printed_opens_the_console_once(stage: Stage) -> None:
    stage.env["OUTSPOKEN_RELAY__ADMIN__PORT"] = str(free_port())
    relay = await stage.relay()
    printer = await Process.start("relay", "login", env=stage.env)
    assert await printer.finished() == 0
    (link,) = printer.words
    seen = []
    for _ in range(2):
        async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser:
            async with browser.head(link, allow_redirects=False) as answer:
                assert answer.status == 200
            async with browser.get(link) as answer:
                seen.append((answer.url.path, "opened a session already" in await answer.text()))
    assert seen == [("/", False), ("/login", True)]
    assert await relay.stop() == 0
    assert not any("ticket" in word for word in relay.words)


async def test_a_token_of_the_configuration_is_masked_and_makes_no_file(stage: Stage) -> None:
    stage.env["OUTSPOKEN_RELAY__ADMIN__TOKEN"] = "s3cret-and-long-enough"
    relay = await stage.relay()
    address = (await relay.event("relay.ready"))["admin"]
    bearer = {"Authorization": "Bearer s3cret-and-long-enough"}
    async with request("GET", f"{address}api/v1/settings", headers=bearer) as answer:
        assert answer.status == 200
        assert "s3cret" not in await answer.text()
    assert await relay.stop() == 0
    assert not stage.database.with_suffix(".admin-token").exists()
    shown = await Process.start("relay", "config", "show", env=stage.env)
    assert await shown.finished() == 0
    assert "s3cret" not in "".join(shown.words)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("TOKEN", "short", "relay.admin.token: a token has at least 16 characters"),
        ("PORT", "{taken}", "relay.admin.port"),
    ],
)
async def test_a_door_that_cannot_be_opened_is_said(stage: Stage, setting: str, value: str, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        taken = occupant.getsockname()[1]
        stage.env[f"OUTSPOKEN_RELAY__ADMIN__{setting}"] = value.format(taken=taken)
        relay = await Process.start("relay", "run", env=stage.env)
        assert await relay.finished() == 1
    assert any(words in word for word in relay.words)


async def test_a_relay_leaves_although_a_stream_is_open(stage: Stage) -> None:
    relay = await stage.relay()
    address = (await relay.event("relay.ready"))["admin"]
    token = stage.database.with_suffix(".admin-token").read_text().strip()
    bearer = {"Authorization": f"Bearer {token}"}
    async with request("GET", f"{address}api/v1/attempts/stream", headers=bearer) as answer:
        assert answer.status == 200
        assert await relay.stop() == 0
