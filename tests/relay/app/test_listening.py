"""What a daemon serves, at addresses that are bound before it is loaded."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from relay.app.listening import is_known, listen_on_demand

AF_DECNET = 12  # Linux had it until 6.1, as a module


async def _status(address: str) -> int:
    async with aiohttp.ClientSession() as client, client.get(f"http://{address}/") as answer:
        return answer.status


async def test_a_site_is_loaded_for_whoever_connects_first() -> None:
    loaded: list[web.Application] = []

    def load() -> web.Application:
        loaded.append(web.Application())
        return loaded[-1]

    async with AsyncExitStack() as stack:
        address = await listen_on_demand(stack, load, "127.0.0.1", 0, "relay.admin")
        assert not loaded
        assert [await _status(address) for _ in range(2)] == [404, 404]
        assert len(loaded) == 1


async def test_whoever_asks_for_a_site_that_cannot_be_loaded_is_refused_and_the_log_says_why() -> None:
    def load() -> web.Application:
        raise ImportError("No module named jinja2")

    async with AsyncExitStack() as stack:
        with capture_logs() as lines:
            address = await listen_on_demand(stack, load, "127.0.0.1", 0, "relay.admin")
            for _ in range(2):
                with pytest.raises(aiohttp.ClientError):
                    await _status(address)
    (line,) = lines
    assert (line["event"], line["site"], str(line["exc_info"])) == (
        "site.unavailable",
        "relay.admin",
        "No module named jinja2",
    )


def test_a_kernel_need_not_have_every_family_of_addresses() -> None:
    assert is_known(socket.AF_INET)
    assert not is_known(AF_DECNET)
