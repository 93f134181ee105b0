"""Fetching audio by URL: guarded at every hop, bounded in everything, every failure a value."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web

from engine.audio.fetch import FetchLimits, HttpFetcher, TransientFailure
from engine.audio.sink import Stored
from engine.request import Failed, FailureCode
from relay.guard.resolver import Found, Lookup, Names, Resolver, Unresolved
from relay.guard.rules import Rules

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

SOUND = bytes(range(256)) * 2000


@asynccontextmanager
async def remote(handler: Handler) -> AsyncIterator[int]:
    """The port of a server that answers every request with the handler."""
    server = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    try:
        yield server.addresses[0][1]
    finally:
        await server.cleanup()


async def one_name(host: str) -> Found:
    return Found({"media.example": ("127.0.0.1",), "inside.example": ("10.0.0.1",)}[host])


def fetcher(port: int, limits: FetchLimits | None = None, lookup: Lookup = one_name) -> HttpFetcher:
    rules = Rules(ports=frozenset({80, port}), networks=(ip_network("127.0.0.0/8"),))
    return HttpFetcher(Resolver(rules, Names(lookup)), limits)


async def sound(_: web.BaseRequest) -> web.Response:
    return web.Response(body=SOUND)


def assert_failed(result: Stored | Failed, message: str, code: FailureCode = FailureCode.REMOTE_CONTENT) -> None:
    assert isinstance(result, Failed), result
    assert result.code is code
    assert message in result.message


async def test_media_is_stored_with_its_sum(tmp_path: Path) -> None:
    async with remote(sound) as port:
        result = await fetcher(port).fetch(f"http://media.example:{port}/a.wav", tmp_path / "a")
    assert result == Stored(hashlib.sha256(SOUND).hexdigest(), len(SOUND))
    assert (tmp_path / "a").read_bytes() == SOUND
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


async def test_credentials_in_the_url_become_basic_and_the_query_stays_as_it_is(tmp_path: Path) -> None:
    seen: list[tuple[str, str | None]] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        seen.append((request.raw_path, request.headers.get("Authorization")))
        return web.Response(body=b"x")

    async with remote(handler) as port:
        await fetcher(port).fetch(f"http://user:p%40ss@127.0.0.1:{port}/a%2Fb?sig=%7E+%2B", tmp_path / "a")
    assert seen == [("/a%2Fb?sig=%7E+%2B", "Basic " + base64.b64encode(b"user:p@ss").decode())]


async def test_redirects_are_followed_and_credentials_stay_with_their_server(tmp_path: Path) -> None:
    seen: list[tuple[str, str | None]] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        seen.append((request.path, request.headers.get("Authorization")))
        hops = {"/1": "/2", "/2": f"http://media.example:{port}/3"}
        location = hops.get(request.path)
        return web.Response(status=302, headers={"Location": location}) if location else web.Response(body=SOUND)

    async with remote(handler) as port:
        result = await fetcher(port).fetch(f"http://u:p@127.0.0.1:{port}/1", tmp_path / "a")
    assert isinstance(result, Stored)
    assert [(path, bool(credentials)) for path, credentials in seen] == [("/1", True), ("/2", True), ("/3", False)]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://10.0.0.1/", "URL for media download must be publicly routable. url: The destination has an address"),
        ("http://inside.example/", "URL for media download must be publicly routable."),
        ("http://media.example:25/", "The port is not one of those that are open"),
        ("file:///etc/passwd", "The URL must begin with http:// or https://"),
        ("gopher://media.example/", "The URL must begin with"),
        ("", "a redirect that leads nowhere"),
        ("/again", "too many redirects, more than 5."),
    ],
)
async def test_every_hop_is_judged_anew(tmp_path: Path, location: str, message: str) -> None:
    async def handler(_: web.BaseRequest) -> web.Response:
        return web.Response(status=307, headers={"Location": location})

    async with remote(handler) as port:
        result = await fetcher(port).fetch(f"http://media.example:{port}/", tmp_path / "a")
    assert_failed(result, message)
    assert not isinstance(result, TransientFailure)
    assert list(tmp_path.iterdir()) == []


async def test_a_name_that_changes_its_answer_is_judged_by_the_answer_that_is_dialled(tmp_path: Path) -> None:
    answers = ["127.0.0.1", "169.254.169.254"]

    async def rebinding(_: str) -> Found:
        return Found((answers.pop(0),))

    async def again(_: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": "/again"})

    async with remote(again) as port:
        result = await fetcher(port, lookup=rebinding).fetch(f"http://media.example:{port}/", tmp_path / "a")
    assert_failed(result, "must be publicly routable. url: The destination has an address inside 169.254.0.0/16")


async def test_a_name_without_an_address_is_undetermined(tmp_path: Path) -> None:
    async def nowhere(_: str) -> Unresolved:
        return Unresolved("The host name does not resolve: it does not exist.", answered=True)

    result = await fetcher(80, lookup=nowhere).fetch("http://media.example/", tmp_path / "a")
    assert_failed(result, "Could not determine if URL for media download is publicly routable. url: The host name")
    assert isinstance(result, TransientFailure), "a name server may be back in a moment"


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "returned a client error: 404."), (503, "returned a server error: 503."), (204, "a server error: 204.")],
)
async def test_an_answer_without_media_is_told_by_its_status(tmp_path: Path, status: int, message: str) -> None:
    async def handler(_: web.BaseRequest) -> web.Response:
        return web.Response(status=status)

    async with remote(handler) as port:
        assert_failed(await fetcher(port).fetch(f"http://127.0.0.1:{port}/", tmp_path / "a"), message)


@pytest.mark.parametrize(
    ("status", "passing"),
    [(400, False), (401, False), (403, False), (404, False), (410, False), (451, False), (204, False)]
    + [(408, True), (425, True), (429, True), (500, True), (502, True), (503, True), (504, True)],
)
async def test_only_what_may_be_over_next_time_is_worth_another_try(tmp_path: Path, status: int, passing: bool) -> None:
    async def handler(_: web.BaseRequest) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "7"})

    async with remote(handler) as port:
        result = await fetcher(port).fetch(f"http://127.0.0.1:{port}/", tmp_path / "a")
    assert isinstance(result, TransientFailure) is passing
    assert not isinstance(result, TransientFailure) or result.wait == 7.0


async def test_an_empty_answer_is_no_media(tmp_path: Path) -> None:
    async def handler(_: web.BaseRequest) -> web.Response:
        return web.Response(body=b"")

    async with remote(handler) as port:
        assert_failed(await fetcher(port).fetch(f"http://127.0.0.1:{port}/", tmp_path / "a"), "returned no content")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("announced", [True, False])
async def test_more_than_the_limit_is_not_stored(tmp_path: Path, announced: bool) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(SOUND) if announced else None
        await response.prepare(request)
        await response.write(SOUND)
        return response

    async with remote(handler) as port:
        result = await fetcher(port, FetchLimits(size=1000)).fetch(f"http://127.0.0.1:{port}/", tmp_path / "a")
    assert_failed(result, "larger than 1000 bytes", FailureCode.TOO_LARGE)
    assert list(tmp_path.iterdir()) == []


async def test_an_endless_answer_ends_with_the_time(tmp_path: Path) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"drip")
        await asyncio.Event().wait()
        return response

    async with remote(handler) as port:
        result = await fetcher(port, FetchLimits(total=0.2)).fetch(f"http://127.0.0.1:{port}/", tmp_path / "a")
        assert_failed(result, "did not deliver it in time")
        assert isinstance(result, TransientFailure)
    assert list(tmp_path.iterdir()) == []


async def test_an_answer_that_breaks_off_is_not_media(tmp_path: Path) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    async with remote(handler) as port:
        result = await fetcher(port).fetch(f"http://127.0.0.1:{port}/", tmp_path / "a")
    assert_failed(result, "could not be read: the connection ended early.")
    assert isinstance(result, TransientFailure)
    assert list(tmp_path.iterdir()) == []


async def test_a_closed_port_is_a_failed_connection_and_names_no_host(tmp_path: Path) -> None:
    async with remote(sound) as port:
        pass
    result = await fetcher(port).fetch(f"http://u:secret@media.example:{port}/?token=x", tmp_path / "a")
    assert_failed(result, "could not be read: the connection failed.")
    assert isinstance(result, TransientFailure)
    assert not any(part in result.message for part in ("media.example", "secret", "token"))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_media_that_comes_packed_though_nobody_asked_is_unpacked(tmp_path: Path, coding: str) -> None:
    packed = gzip.compress(SOUND) if coding == "gzip" else zlib.compress(SOUND)
    async with remote(packed_as(coding, packed)) as port:
        result = await fetcher(port).fetch(f"http://127.0.0.1:{port}/", tmp_path / "a")
    assert isinstance(result, Stored)
    assert (tmp_path / "a").read_bytes() == SOUND


@pytest.mark.parametrize(
    ("coding", "packed", "message"),
    [
        ("gzip", gzip.compress(bytes(64 * 1024**2), 1), "packed more than 50 times"),
        ("gzip", gzip.compress(SOUND)[:-20], "did not send all of it"),
        ("gzip", b"no gzip at all", "sent it broken"),
        ("br", SOUND, "in a coding that was not asked for"),
    ],
)
async def test_media_that_is_packed_badly_or_too_well_is_not_kept(
    tmp_path: Path, coding: str, packed: bytes, message: str
) -> None:
    async with remote(packed_as(coding, packed)) as port:
        result = await fetcher(port).fetch(f"http://127.0.0.1:{port}/", tmp_path / "a")
    assert_failed(result, message)
    assert list(tmp_path.iterdir()) == []


def packed_as(coding: str, packed: bytes) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": coding})

    return answer
