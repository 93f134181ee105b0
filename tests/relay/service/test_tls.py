"""Receivers and stores of audio whose certificates a company signed itself."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.audio.fetch import HttpFetcher
from engine.audio.sink import Stored
from relay.guard.resolver import Names, Resolver
from relay.guard.rules import Rules
from relay.outbox.errors import ConfigError
from relay.policy.attempt import Failure
from relay.service.tls import tls_context
from relay.transports.http import HttpTransport
from tests.relay.app.test_settings import from_environment
from tests.relay.transports.certificates import Authority
from tests.relay.transports.conftest import LOOPBACK, PATIENT, envelope, loopback
from tests.relay.transports.receivers import OK, answers, receiving


async def test_a_receiver_signed_by_an_authority_of_its_own_is_trusted_where_that_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    answered = []
    for ca_file in ("", str(authority.file())):
        transport = HttpTransport(Resolver(LOOPBACK, Names(loopback)), PATIENT, tls_context(ca_file))
        async with receiving(answers(OK), authority.server("hook.test")) as receiver:
            answer = await transport.send(envelope(receiver.port, scheme="https", host="hook.test"))
        await transport.aclose()
        answered.append(answer.failure or answer.status)
    assert answered == [Failure.TLS, 200]


async def test_audio_is_fetched_from_there_too(tmp_path: Path) -> None:
    async def sound(_: web.Request) -> web.Response:
        return web.Response(body=b"sound")

    authority, site = Authority(tmp_path), web.Application()
    site.router.add_get("/a.wav", sound)
    server = TestServer(site)
    await server.start_server(ssl=authority.server("store.test"))
    rules = Rules(ports=frozenset({server.port or 0}), networks=(ip_network("127.0.0.0/8"),))
    fetcher = HttpFetcher(Resolver(rules, Names(loopback)), None, tls_context(str(authority.file())))
    found = await fetcher.fetch(f"https://store.test:{server.port}/a.wav", tmp_path / "a.wav")
    await server.close()
    assert isinstance(found, Stored)


@pytest.mark.parametrize("setting", ["RELAY__HTTP__CA_FILE", "ENGINE__FETCH__CA_FILE"])
@pytest.mark.parametrize(("content", "flaw"), [(None, "No such file"), (b"words", "no certificate in PEM")])
def test_a_file_that_holds_none_is_said_at_the_start(
    setting: str, content: bytes | None, flaw: str, tmp_path: Path
) -> None:
    path = tmp_path / "authority.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=flaw):
        started(setting, str(path))


def started(setting: str, value: str) -> None:
    if setting.startswith("RELAY"):
        from_environment(**{setting: value})
    else:
        from engine.settings import read

        read(None, {f"OUTSPOKEN_{setting}": value})
