"""Opening a connection: the guard's addresses in their order, TCP, then TLS with the host's own name."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from relay.guard.resolver import Resolver, Unresolved
from relay.guard.rules import Refusal
from relay.guard.url import Target
from relay.transports import fault
from relay.transports.connection import HttpConnection
from relay.transports.exchange import Bounds
from relay.transports.fault import Fault


@dataclass(frozen=True, slots=True)
class Dialled:
    """An open connection, and the seconds that each step to it took."""

    connection: HttpConnection
    connect: float
    tls: float | None


class Dialler:
    """Dials only what the resolver approved, and asks it anew for every connection."""

    def __init__(
        self,
        resolver: Resolver,
        bounds: Bounds,
        ssl_context: ssl.SSLContext,
        on_lost: Callable[[HttpConnection], None],
    ) -> None:
        self._resolver = resolver
        self._bounds = bounds
        self._tls = ssl_context
        self._on_lost = on_lost

    async def dial(self, target: Target) -> tuple[Dialled | Fault, float]:
        """A connection or why there is none, and the seconds that the lookup took."""
        started = perf_counter()
        found = await self._resolver.resolve(target.host)
        dns = perf_counter() - started
        if isinstance(found, Refusal):
            return fault.blocked(found), dns
        if isinstance(found, Unresolved):
            return fault.unresolved(found), dns
        return await self._first_of(target, found.values), dns

    async def _first_of(self, target: Target, addresses: tuple[str, ...]) -> Dialled | Fault:
        """The first address that answers. Each gets an equal share of the time left: a dead one starves no other."""
        until = perf_counter() + self._bounds.connect_timeout
        outcome: Dialled | Fault = fault.connect_timed_out(self._bounds.connect_timeout)
        for tried, address in enumerate(addresses):
            share = (until - perf_counter()) / (len(addresses) - tried)
            outcome = await self._try(target, address, share)
            if isinstance(outcome, Dialled):
                break
        return outcome

    async def _try(self, target: Target, address: str, seconds: float) -> Dialled | Fault:
        try:
            async with asyncio.timeout(seconds):
                return await self._open(target, address)
        except TimeoutError:
            return fault.connect_timed_out(self._bounds.connect_timeout)
        except OSError as error:
            return fault.not_connected(error)

    async def _open(self, target: Target, address: str) -> Dialled:
        started = perf_counter()
        sock = await _connected(address, target.port)
        connected = perf_counter()
        connection = HttpConnection((target.scheme, target.host, target.port), address, self._bounds, self._on_lost)
        secure = target.scheme == "https"
        await asyncio.get_running_loop().create_connection(
            lambda: connection,
            sock=sock,
            ssl=self._tls if secure else None,
            server_hostname=target.host if secure else None,
        )
        return Dialled(connection, connected - started, perf_counter() - connected if secure else None)


async def _connected(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock
