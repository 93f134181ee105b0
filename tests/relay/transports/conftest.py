"""The transports under test, on both event loops, and a watch over what they leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import uvloop

from relay.guard.resolver import Found, Lookup, Names, Resolver
from relay.guard.rules import Rules
from relay.guard.url import Target
from relay.outbox.model import Method
from relay.policy.attempt import Envelope
from relay.transports.exchange import ExchangeBounds
from relay.transports.http import HttpTransport
from tests.relay.transports.certificates import Authority

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, LoopFactory] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}
PATIENT = ExchangeBounds()
QUICK = ExchangeBounds(exchange_timeout=0.5)
LOOPBACK = Rules(networks=(IPv4Network("127.0.0.0/8"),))


Open = Callable[..., HttpTransport]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Function) -> dict[str, LoopFactory]:
    """Every test that opens connections runs on both event loops, every other on asyncio's."""
    return LOOPS if "nothing_is_left" in item.fixturenames else {"asyncio": LOOPS["asyncio"]}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Issues the certificates of the tests."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def nothing_is_left() -> AsyncIterator[None]:
    """After the test, no socket is open and no task runs that was not there before. What an earlier test forgot may be
    closed meanwhile."""
    before = _held()
    yield
    async with asyncio.timeout(30):
        while any(now > then for now, then in zip(_held(), before, strict=True)):
            await asyncio.sleep(0)


@pytest.fixture
async def open_transport(authority: Authority, nothing_is_left: None) -> AsyncIterator[Open]:
    """Opens transports that trust the tests' authority and find every host on loopback, and closes them."""
    async with AsyncExitStack() as stack:

        def open_one(bounds: ExchangeBounds = PATIENT, lookup: Lookup = loopback) -> HttpTransport:
            transport = HttpTransport(Resolver(LOOPBACK, Names(lookup)), bounds, authority.trusted())
            stack.push_async_callback(transport.aclose)
            return transport

        yield open_one


async def loopback(host: str) -> Found:
    """Every name is this machine."""
    return Found(("127.0.0.1",))


def envelope(
    port: int,
    body: bytes = b'{"text":"hello"}',
    *,
    method: Method = Method.POST,
    scheme: str = "http",
    host: str = "hook.test",
    path: str = "/callback?id=7",
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"), ("webhook-id", "msg_1")),
    authorization: str | None = None,
) -> Envelope:
    """A request to a receiver on this machine."""
    return Envelope(method, Target(scheme, host, port, path, authorization), headers, body)


def _held() -> tuple[int, int]:
    """Open sockets (uvloop opens other descriptors once and keeps them) and running tasks."""
    descriptors = list(Path("/proc/self/fd").iterdir())
    return sum(_is_socket(descriptor) for descriptor in descriptors), len(asyncio.all_tasks())


def _is_socket(descriptor: Path) -> bool:
    try:
        return str(descriptor.readlink()).startswith("socket:")
    except FileNotFoundError:  # the descriptor of the listing itself
        return False
