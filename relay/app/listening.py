"""Where a daemon is asked: addresses that are bound at its start, and what is served there."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import structlog
from aiohttp import web

from relay.outbox.errors import ConfigError

_SHUTDOWN_SECONDS = 1.0
_HEAD_SECONDS = 30.0  # for the head of a request, and for an idle connection

log = structlog.get_logger()


async def listen(stack: AsyncExitStack, site: web.Application, host: str, port: int, section: str) -> str:
    """Serve on an address until the stack is left; returns the one that is bound. Raises ConfigError."""
    sockets = await _bound(stack, host, port, section)
    await _serve(stack, site, sockets)
    return _address(sockets)


async def listen_on_demand(
    stack: AsyncExitStack, load: Callable[[], web.Application], host: str, port: int, section: str
) -> str:
    """The same for a site that takes much memory: it is loaded once somebody connects, who waits for it; in a thread,
    so that nothing else does."""
    sockets = await _bound(stack, host, port, section)
    serving = asyncio.create_task(_serve_once_asked(load, sockets, section), name=section)
    stack.push_async_callback(_cancelled, serving)
    return _address(sockets)


async def listen_on_file(stack: AsyncExitStack, site: web.Application, path: Path) -> None:
    """Serve on a Unix socket until the stack is left."""
    await web.UnixSite(await _running(stack, site), path).start()


async def _bound(stack: AsyncExitStack, host: str, port: int, section: str) -> Sequence[socket.socket]:
    """Sockets at which connections wait from now on, until the stack is left."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        addresses = dict.fromkeys((family, address) for family, _, _, _, address in found if is_known(family))
        return [stack.enter_context(socket.create_server(address, family=family)) for family, address in addresses]
    except OSError as error:
        place, reason = _authority(host, port), error.strerror or error
        raise ConfigError(f"{section}.host, {section}.port: cannot listen on {place}: {reason}") from error


def is_known(family: int) -> bool:
    """Whether the kernel has this family of addresses: a name may have one of IPv6 where that is not built in."""
    try:
        socket.socket(family).close()
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            raise
        return False
    return True


async def _serve(stack: AsyncExitStack, site: web.Application, sockets: Sequence[socket.socket]) -> None:
    runner = await _running(stack, site)
    for one in sockets:
        one.setblocking(False)
        await web.SockSite(runner, one).start()


async def _running(stack: AsyncExitStack, site: web.Application) -> web.AppRunner:
    # A stream of attempts has no end of its own: it is not waited for.
    runner = web.AppRunner(site, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS, keepalive_timeout=_HEAD_SECONDS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


async def _serve_once_asked(
    load: Callable[[], web.Application], sockets: Sequence[socket.socket], section: str
) -> None:
    await _asked(sockets)
    try:
        site = await asyncio.to_thread(load)
    except Exception as error:
        log.error("site.unavailable", site=section, exc_info=error)
        for one in sockets:  # whoever connects is refused, and does not wait
            one.close()
        return
    async with AsyncExitStack() as stack:
        await _serve(stack, site, sockets)
        await asyncio.Event().wait()  # until it is cancelled


async def _asked(sockets: Sequence[socket.socket]) -> None:
    """Wait until somebody connects to one of them; whoever accepts finds the connection there."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    for one in sockets:
        loop.add_reader(one, came.set)
    try:
        await came.wait()
    finally:
        for one in sockets:
            loop.remove_reader(one)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _address(sockets: Sequence[socket.socket]) -> str:
    return _authority(*sockets[0].getsockname()[:2])


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
