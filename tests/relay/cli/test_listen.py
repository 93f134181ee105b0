from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from relay.admin.keys import generate
from relay.admin.signatures import Verifier, headers_for, verifier
from relay.cli.listen import Behaviour, Receiver, Report, as_json, as_text
from relay.outbox.errors import StoreUnavailable
from relay.policy.signing import SigningKey, parse_key


@asynccontextmanager
async def receiving(behaviour: Behaviour) -> AsyncIterator[tuple[Any, list[Report]]]:
    """Sends to a receiver, and what it reported."""
    reports: list[Report] = []
    async with TestServer(Receiver(behaviour, reports.append).application()) as server, ClientSession() as session:

        async def send(body: bytes = b"{}", id_: str = "d1", method: str = "POST", **more: Any) -> int:
            headers = {"Webhook-Id": id_, **more.get("headers", {})}
            async with session.request(method, server.make_url("/a/b?x=1"), data=body, headers=headers) as response:
                return response.status

        yield send, reports


async def test_every_request_is_reported_as_it_came() -> None:
    async with receiving(Behaviour()) as (send, reports):
        assert await send("hé".encode(), method="PUT") == 200
    (report,) = reports
    assert (report["method"], report["path"], report["body"], report["status"]) == ("PUT", "/a/b?x=1", "hé", 200)
    assert report["headers"]["webhook-id"] == "d1"


async def test_the_first_attempts_of_each_delivery_fail_on_demand() -> None:
    async with receiving(Behaviour(fail_first=2)) as (send, reports):
        assert [await send(id_="a") for _ in range(3)] == [500, 500, 200]
        assert [await send(id_="b") for _ in range(3)] == [500, 500, 200]
    assert [report["status"] for report in reports] == [500, 500, 200] * 2


async def test_a_share_of_the_answers_fails_and_it_is_the_same_share_in_every_run() -> None:
    async def run() -> list[int]:
        async with receiving(Behaviour(fail_ratio=1 / 3)) as (send, _):
            return [await send() for _ in range(60)]

    first = await run()
    assert first == await run()
    assert 10 <= first.count(500) <= 30


async def test_the_status_is_the_one_that_was_asked_for() -> None:
    async with receiving(Behaviour(status=410)) as (send, _):
        assert await send() == 410


async def test_only_a_body_over_the_limit_is_too_large() -> None:
    async with receiving(Behaviour(max_body=1000)) as (send, reports):
        assert [await send(bytes(1000)), await send(bytes(1001))] == [200, 413]
    assert [report["status"] for report in reports] == [200, 413]


async def test_a_report_is_one_json_line_or_a_text_for_a_person() -> None:
    async with receiving(Behaviour()) as (send, reports):
        await send(b'{"text": "two\\nlines\n"}')
    assert json.loads(as_json(reports[0])) == reports[0]
    assert "\n" not in as_json(reports[0])
    assert as_text(reports[0]).startswith("POST /a/b?x=1 -> 200\n")


async def test_each_signature_is_judged_by_the_keys_of_its_moment() -> None:
    keys: list[SigningKey] = []

    def known(_: str) -> list[Verifier]:
        if not keys:
            raise StoreUnavailable("missing", "the outbox is not there")
        return [verifier(key) for key in keys]

    async with receiving(Behaviour(keys=known)) as (send, reports):
        await send()
        for key in (parse_key(generate()), parse_key(generate())):
            keys[:] = [key]
            await send(headers=headers_for([key], "d1", int(time.time()), b"{}"))
    assert [report["signature"] for report in reports] == ["unknown: the outbox is not there", "valid", "valid"]


async def test_a_browser_sees_what_arrived_as_text() -> None:
    async with TestServer(Receiver(Behaviour(), lambda _: None).application()) as server, ClientSession() as session:
        async with session.post(server.make_url("/"), data=b"<script>x</script>", headers={"Webhook-Id": "d1"}) as sent:
            assert sent.status == 200
        async with session.get(server.make_url("/")) as answer:
            page = await answer.text()
    assert "webhook-id: d1" in page
    assert "&lt;script&gt;x" in page
    assert "<script" not in page
