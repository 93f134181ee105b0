"""Secrets as canaries, planted wherever a caller, a receiver or an operator can put one, and looked for wherever the
two daemons say anything: logs, metrics, pages, the admin API, commands, and the errors that callers get."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.acceptance.speech import silence
from tests.acceptance.stage import Process, Stage
from tests.ports import free_callback_port

pytestmark = pytest.mark.acceptance

TOKEN = "canary-admin-token-7d1f5a2e8b3c4960"
PAGES = ("/", "/deliveries", "/deliveries/{id}", "/destinations", "/destination?origin={origin}", "/audit")
CALLS = (
    *("/api/v1/deliveries", "/api/v1/deliveries/{id}", "/api/v1/deliveries/{id}/attempts", "/api/v1/settings"),
    *("/api/v1/destinations", "/api/v1/keys", "/api/v1/attempts", "/api/v1/doctor", "/api/v1/audit"),
)
COMMANDS = (("list", "--json"), ("show", "{id}", "--attempts", "--json"), ("config", "show"), ("doctor",), ("audit",))


@pytest.fixture
async def stage(tmp_path: Path) -> Stage:
    settings = {"relay__retry__delay": 0.1, "relay__admin__token": TOKEN, "engine__fetch__tries": 1}
    return Stage(tmp_path, free_callback_port(), **settings)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as entered:
        yield entered


async def refuse(request: web.Request) -> web.Response:
    """A receiver that fails, with secrets of its own in its answer's head."""
    headers = {"Set-Cookie": "session=canary-cookie", "Location": "https://u:canary-location@h.example/?k=canary-moved"}
    return web.Response(status=500, headers=headers)


async def receiver(stack: AsyncExitStack, port: int) -> None:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", refuse)
    runner = web.AppRunner(application)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", port).start()


async def words(*command: str, stage: Stage) -> str:
    process = await Process.start(*command, env=stage.env)
    await process.finished()
    return "\n".join(process.words)


async def test_no_secret_is_ever_said(stage: Stage, stack: AsyncExitStack) -> None:
    signing_key = await stage.signing_key()
    said_of_key = await words("engine", "keys", "add", "somebody", stage=stage)
    api_key = next(word for word in said_of_key.splitlines() if word.startswith("osk_"))
    secrets = [signing_key.removeprefix("whsec_"), api_key, "canary-"]
    await receiver(stack, stage.callback_port)
    engine, relay = await stage.engine(), await stage.relay()
    said = [await submissions(stage, api_key)]
    for daemon, port in ((engine, stage.engine_port), (relay, stage.relay_port)):
        await malformed(daemon, port)
    first = await relay.said(lambda line: line.get("event") == "delivery.attempt.finished")
    said += await looked_at(stage, relay, str(first["delivery.id"]))
    await asyncio.gather(engine.stop(), relay.stop())
    said += ["\n".join(engine.words), "\n".join(relay.words)]
    found = {
        secret: [re.findall(f".{{60}}{re.escape(secret)}.{{20}}", text, re.S) for text in said if secret in text]
        for secret in secrets
    }
    assert found == {secret: [] for secret in secrets}


async def submissions(stage: Stage, key: str) -> str:
    """Requests with secrets in them, good and bad; what the engine answered."""
    port = stage.callback_port
    callback = f"http://user:canary-password@127.0.0.1:{port}/hook?token=canary-query"
    audio = f"http://user:canary-audio@127.0.0.1:{port}/a.wav?sig=canary-signature"
    listen, jobs = f"{stage.engine_url}/v1/listen", f"{stage.engine_url}/v2/pre-recorded"
    good, wrong = {"Authorization": f"Token {key}"}, {"Authorization": "Token canary-wrong"}
    forbidden = {"callback": "http://user:canary-forbidden@10.0.0.1/?k=canary-there"}
    answers = []
    async with aiohttp.ClientSession() as session:
        for ask in (
            session.post(listen, params={"callback": callback}, data=silence(0.3), headers=good),
            session.post(listen, params={"callback": callback}, json={"url": audio}, headers=good),
            session.post(listen, json={"url": audio}, headers=good),
            session.post(listen, params=forbidden, data=silence(0.3), headers=good),
            session.post(listen, data=silence(0.3), headers=wrong),
            session.post(jobs, json={"audio_url": audio, "callback_url": callback}, headers={"x-gladia-key": key}),
            session.post(jobs, json={"audio_url": audio}, headers={"x-gladia-key": "canary-wrong"}),
        ):
            async with ask as response:
                answers.append(f"{response.headers}\n{await response.text()}")
    assert len([answer for answer in answers if "request_id" in answer]) >= 6
    return "\n".join(answers)


async def malformed(daemon: Process, port: int) -> None:
    """Requests that nobody can read, with secrets where the parser stumbles."""
    for request in (
        "canary-method\r\n\r\n",
        "GET / HTTP/1.1\r\nAuthorization Token canary-no-colon\r\n\r\n",
        f"GET / HTTP/1.1\r\nAuthorization: Token canary-long{'x' * 9000}\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request.encode())
        assert b" 400 " in await reader.readline()
        writer.close()
    await daemon.said(lambda line: line.get("event") == "library.logged" and line["kind"] == "LineTooLong")


async def looked_at(stage: Stage, relay: Process, id_: str) -> list[str]:
    """All that an operator can look at."""
    admin = str((await relay.event("relay.ready"))["admin"]).rstrip("/")
    places = {"id": id_, "origin": f"http://127.0.0.1:{stage.callback_port}"}
    said = []
    async with aiohttp.ClientSession() as session:
        for url in (stage.metrics_url, f"{stage.engine_url}/metrics"):
            async with session.get(url) as response:
                assert response.status == 200
                said.append(await response.text())
        for path in (*PAGES, *CALLS):
            url = admin + path.format(**places)
            async with session.get(url, headers={"Authorization": f"Bearer {TOKEN}"}) as response:
                said.append(await response.text())
                assert response.status == 200, (path, said[-1])
    for command in COMMANDS:
        said.append(await words("relay", *(word.format(**places) for word in command), stage=stage))
        assert said[-1]
    return said
