"""How this machine looks names up: c-ares, which waits for no thread. It reads hosts file, name servers and search
domains where the system keeps them (/etc/hosts, /etc/resolv.conf)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

import pycares

from relay.guard.resolver import LONGEST_KEPT, Found, LookupShortage, Names, Unresolved

_ANSWERED = {
    pycares.errno.ARES_ENOTFOUND: "it does not exist",
    pycares.errno.ARES_ENODATA: "it has no address",
    pycares.errno.ARES_EBADNAME: "it is not a name that can be looked up",
}
_FAILED = {
    pycares.errno.ARES_ESERVFAIL: "the name server failed",
    pycares.errno.ARES_EREFUSED: "the name server refused",
    pycares.errno.ARES_ETIMEOUT: "no name server answered",
    pycares.errno.ARES_EBADRESP: "the name server's answer is malformed",
}


_Told = tuple[pycares.AddrInfoResult | None, int | None]
"""What c-ares said: an answer, or the number of a failure."""


class SystemLookup:
    """Looks names up, IPv4 and IPv6. `servers` are asked instead of the system's: addresses, maybe with a port.

    c-ares keeps answers for an hour and reads the system's files when it starts: it is started anew each minute. The
    one before ends with its last lookup.
    """

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._servers = list(servers) or None
        self._channel: pycares.Channel | None = None
        self._started_at = 0.0

    async def __call__(self, host: str) -> Found | Unresolved | LookupShortage:
        found, failure = await self._ask(host)
        if failure is not None or found is None:
            return _unresolved(failure)
        addresses = dict.fromkeys(node.addr[0].decode() for node in found.nodes)
        ttls = [node.ttl for node in found.nodes] + [alias.ttl for alias in found.cnames]
        return Found(tuple(addresses), min(ttls, default=0))

    async def _ask(self, host: str) -> _Told:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[_Told] = loop.create_future()

        def hear(found: pycares.AddrInfoResult | None, failure: int | None) -> None:
            with suppress(RuntimeError):  # the loop has ended, and whoever asked with it
                loop.call_soon_threadsafe(_tell, told, (found, failure))

        try:
            self._running().getaddrinfo(host, None, type=socket.SOCK_STREAM, callback=hear)
        except UnicodeError:
            return None, pycares.errno.ARES_EBADNAME
        return await told

    def _running(self) -> pycares.Channel:
        now = time.monotonic()
        if self._channel is None or now >= self._started_at + LONGEST_KEPT:
            self._channel, self._started_at = pycares.Channel(servers=self._servers), now
        return self._channel


def system_names(servers: Sequence[str] = ()) -> Names:
    """Names as this machine knows them, or these name servers do."""
    return Names(SystemLookup(servers))


def _tell(told: asyncio.Future[_Told], what: _Told) -> None:
    if not told.done():
        told.set_result(what)


def _unresolved(failure: int | None) -> Unresolved | LookupShortage:
    if failure == pycares.errno.ARES_ECONNREFUSED:
        return LookupShortage("The host name was not looked up: no name server can be reached.")
    if failure in _ANSWERED:
        return Unresolved(f"The host name does not resolve: {_ANSWERED[failure]}.", answered=True)
    why = _FAILED.get(failure or 0, "it could not be looked up")
    return Unresolved(f"The host name does not resolve: {why}.")
