"""Probes on real sockets: what a receiver says to them is what it would say to a delivery."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from relay.admin import keys, probe
from relay.admin.probe import Probe, Probed
from relay.app.admin import send
from relay.guard.resolver import Found, Names, Resolver
from relay.guard.rules import ANYWHERE, Rules
from relay.outbox.model import Method
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from relay.policy.outcome import OnTooLarge, RetryPolicy
from relay.service.dns import system_names
from relay.transports.exchange import ExchangeBounds
from relay.transports.http import HttpTransport
from tests.relay.admin.past import OPERATOR, change
from tests.relay.deliveries import apart, new, put
from tests.relay.transports.certificates import Authority
from tests.relay.transports.receivers import OK, Receiver, answers, hangs_up, receiving, refuses_early


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    opened = HttpTransport(Resolver(ANYWHERE, system_names()), ExchangeBounds(exchange_timeout=5))
    yield opened
    await opened.aclose()


async def probed(
    transport: HttpTransport,
    receiver: Receiver,
    size: int = probe.SMALLEST,
    on_too_large: OnTooLarge = OnTooLarge.RETRY,
) -> Probed:
    what = Probe(f"http://127.0.0.1:{receiver.port}/hook?t0ken", size=size)
    return await send(what, transport, ANYWHERE, RetryPolicy(on_too_large=on_too_large))


async def test_a_probe_is_a_small_json_request_that_says_what_it_is(transport: HttpTransport) -> None:
    async with receiving(answers(OK.replace(b"\r\n", b"\r\nServer: tiny/1\r\n", 1))) as receiver:
        told = await probed(transport, receiver)
    (request,) = receiver.requests
    headers, body = dict(request.headers), json.loads(request.body)
    assert request.line == "POST /hook?t0ken HTTP/1.1"
    assert headers["webhook-id"] == body["id"] == told.id
    assert told.id.startswith("probe_")
    assert (headers["content-type"], len(request.body), body["event"]) == ("application/json", 256, "relay.probe")
    assert (told.verdict, told.delivered, told.status, told.server) == ("delivered", True, 200, "tiny/1")
    assert (told.address, told.signed, told.redirected) == ("127.0.0.1", False, False)
    assert list(told.timing) == ["dns", "connect", "first_byte", "total"]
    assert "t0ken" not in repr(told)


async def test_a_probe_is_signed_by_the_keys_of_its_destination(transport: HttpTransport, database: Database) -> None:
    secret = keys.generate()
    async with receiving(answers(OK)) as receiver:
        url = f"http://user:password@127.0.0.1:{receiver.port}/hook"
        origin = f"http://127.0.0.1:{receiver.port}"
        apart(lambda: keys.add(database, secret, origin, OPERATOR, 1000.0))
        told = await send(
            await asyncio.to_thread(probe.prepared, database, url, Method.PUT, 1000),
            transport,
            ANYWHERE,
            RetryPolicy(),
        )
    (request,) = receiver.requests
    assert (told.signed, told.method, request.line, len(request.body)) == (True, "PUT", "PUT /hook HTTP/1.1", 1000)
    Webhook(secret).verify(request.body, dict(request.headers))


async def test_without_an_outbox_a_probe_goes_unsigned(folder: Path) -> None:
    nowhere = SqliteDatabase(folder / "none.db")
    assert probe.prepared(nowhere, "https://receiver.example/", Method.POST, 256).signing == ()


async def test_a_larger_body_finds_the_limit_of_a_receiver(transport: HttpTransport) -> None:
    async with receiving(refuses_early) as receiver:
        told = await probed(transport, receiver, 2**20)
        linked = await probed(transport, receiver, 2**20, OnTooLarge.POINTER)
        dead = await probed(transport, receiver, 2**20, OnTooLarge.DEAD)
    assert (told.bytes, told.outcome, told.server) == (2**20, "http_413", "tiny")
    assert "too large" in told.why
    assert [(one.verdict, one.reason, one.pointer) for one in (told, linked, dead)] == [
        ("retried", None, False),
        ("retried", None, True),
        ("dead", "too_large", False),
    ]


async def test_what_the_destination_taught_about_size_is_part_of_the_diagnosis(
    transport: HttpTransport, database: Database
) -> None:
    async with receiving(hangs_up) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/"
        put(database, new("d1", url))
        insert = "INSERT INTO outspoken_destinations (origin, largest_accepted)"
        change(database, f"{insert} SELECT origin, 1000 FROM outspoken_deliveries")
        large = await asyncio.to_thread(probe.prepared, database, url, Method.POST, 2**20)
        told = await send(large, transport, ANYWHERE, RetryPolicy())
    assert told.outcome == "reset"
    assert "probably a size limit" in told.why


@pytest.mark.parametrize(
    ("status", "location", "redirect"),
    [
        ("302 Found", "https://elsewhere.example/SECRET?SECRET", "https://elsewhere.example:443"),
        ("301 Moved", "/SECRET", None),
        ("307 Temporary", "http://SECRET:SECRET/SECRET@x/", None),
    ],
)
async def test_a_redirect_is_told_by_the_destination_to_which_it_leads(
    transport: HttpTransport, status: str, location: str, redirect: str | None
) -> None:
    moved = f"HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    async with receiving(answers(moved.encode())) as receiver:
        told = await probed(transport, receiver)
    assert (told.verdict, told.redirected, told.redirect) == ("retried", True, redirect)
    assert told.retry_in == 30
    assert len(receiver.requests) == 1
    assert "SECRET" not in repr(told)


async def test_tls_is_timed_and_its_failure_explained(folder: Path) -> None:
    authority = Authority(folder)
    trusting = HttpTransport(
        Resolver(ANYWHERE, system_names()), ExchangeBounds(exchange_timeout=5), authority.trusted()
    )
    try:
        async with receiving(answers(OK), authority.server("localhost")) as receiver:
            url = Probe(f"https://localhost:{receiver.port}/")
            told = await send(url, trusting, ANYWHERE, RetryPolicy())
            wrong = replace(url, url=f"https://127.0.0.1:{receiver.port}/")
            refused = await send(wrong, trusting, ANYWHERE, RetryPolicy())
    finally:
        await trusting.aclose()
    assert told.delivered
    assert "tls" in told.timing
    assert (refused.outcome, refused.verdict, refused.status) == ("tls", "retried", None)
    assert "certificate" in refused.why


async def test_a_name_that_leads_inwards_only_once_it_is_dialled_is_refused_there() -> None:
    async def rebinding(host: str) -> Found:
        return Found(("10.0.0.1",))

    rules = Rules(networks=(ip_network("127.0.0.0/8"),))
    guarded = HttpTransport(Resolver(rules, Names(rebinding)), ExchangeBounds())
    told = await send(Probe("https://receiver.example/"), guarded, rules, RetryPolicy())
    await guarded.aclose()
    assert (told.verdict, told.reason, told.address) == ("dead", "forbidden_destination", None)
    assert "10.0.0.1" not in told.why
