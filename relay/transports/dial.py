"""Opening a connection: the guard's addresses in their order, TCP, then TLS with the host's own name.

Through a forward proxy it is the proxy that is dialled, whose address nobody judges, because the operator named it. The
receiver's is judged as far as it resolves here; a name that only the proxy can resolve is left to the proxy.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

from relay.guard.resolver import Addresses, LookupShortage, Resolver, Unresolved
from relay.guard.rules import ANYWHERE, Refusal
from relay.guard.url import Target
from relay.transports import fault
from relay.transports.deadline import TimeLimits
from relay.transports.fault import Fault
from relay.transports.proxy import pass_proxy

P = TypeVar("P", bound=asyncio.BaseProtocol)


@dataclass(frozen=True, slots=True)
class Dialled(Generic[P]):
    """An open connection, the address that was dialled, and the seconds that each step to it took: `connect` is TCP and
    the way through the proxy, if there is one."""

    protocol: P
    transport: asyncio.Transport
    peer: str
    connect: float
    tls: float | None


class Dialler(Generic[P]):
    """Dials only what the resolver approved, and asks it anew for every connection.

    `timeout` is in seconds and spans TCP, tunnel and TLS over all addresses. `make` gets what is called and the address
    that was dialled for it.
    """

    def __init__(
        self,
        resolver: Resolver,
        timeout: float,
        tls: ssl.SSLContext,
        proxy: Target | None,
        make: Callable[[Target, str], P],
    ) -> None:
        self._resolver = resolver
        self._unguarded = Resolver(ANYWHERE, resolver.names)
        self._timeout = timeout
        self._tls = tls
        self._proxy = proxy
        self._make = make
        self._limits = TimeLimits()

    async def dial(self, target: Target) -> tuple[Dialled[P] | Fault, float]:
        """A connection or why there is none, and the seconds that the lookup took."""
        started = perf_counter()
        found = await self._resolver.resolve(target.host)
        if self._proxy is not None and not isinstance(found, Refusal):
            found = await self._unguarded.resolve(self._proxy.host)
        dns = perf_counter() - started
        match found:
            case Addresses():
                return await self._first_of(target, found.values), dns
            case Refusal():
                return fault.blocked(found), dns
            case Unresolved():
                return fault.unresolved(found), dns
            case LookupShortage():
                return fault.lookup_shortage(found), dns

    async def _first_of(self, target: Target, addresses: tuple[str, ...]) -> Dialled[P] | Fault:
        """The first address that answers. Each gets an equal share of the time left: a dead one starves no other."""
        until = perf_counter() + self._timeout
        outcome: Dialled[P] | Fault = fault.connect_timed_out(self._timeout)
        for tried, address in enumerate(addresses):
            share = (until - perf_counter()) / (len(addresses) - tried)
            outcome = await self._try(target, address, share)
            if isinstance(outcome, Dialled):
                break
        return outcome

    async def _try(self, target: Target, address: str, seconds: float) -> Dialled[P] | Fault:
        try:
            return await self._limits.keep(seconds, self._open(target, address))
        except TimeoutError:
            return fault.connect_timed_out(self._timeout)
        except OSError as error:
            return fault.not_connected(error)

    async def _open(self, target: Target, address: str) -> Dialled[P] | Fault:
        started = perf_counter()
        secure = target.scheme in {"https", "wss"}
        if self._proxy is None and not secure:
            # Nothing comes between: for the loop to connect takes less than half of what a socket of ours does.
            transport, protocol = await asyncio.get_running_loop().create_connection(
                lambda: self._make(target, address), address, target.port, flags=socket.AI_NUMERICHOST
            )
            return Dialled(protocol, transport, address, perf_counter() - started, None)
        sock = await _connected(address, (self._proxy or target).port)
        if self._proxy is not None:
            passed = await pass_proxy(sock, target, self._proxy, self._tls)
            if isinstance(passed, Fault):
                return passed
            sock = passed
        connected = perf_counter()
        transport, protocol = await asyncio.get_running_loop().create_connection(
            lambda: self._make(target, address),
            sock=sock,
            ssl=self._tls if secure else None,
            server_hostname=target.host if secure else None,
        )
        tls = perf_counter() - connected if secure else None
        return Dialled(protocol, transport, address, connected - started, tls)


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
