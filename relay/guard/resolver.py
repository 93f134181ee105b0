"""The address half of the guard: turns a host into addresses that may be dialled, or says why there are none.

The same object judges a URL when it is submitted and again at every new connection. It remembers nothing, so a name
that changes its answer is judged by the answer that is about to be dialled.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from relay.guard.address import is_address, judge_addresses
from relay.guard.rules import Refusal, Rules
from relay.guard.url import PRE_RECORDED, Target, read

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""A host name to its addresses, best first. A name that does not resolve raises OSError."""

# Threads of their own, because a lookup cannot be cancelled: a name server that never answers would hold the few
# threads that the event loop shares between everything else (uvloop has four).
_THREADS = ThreadPoolExecutor(max_workers=64, thread_name_prefix="lookup")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a host may be dialled: at least one address, all of them judged, in the order of preference."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unresolved:
    """The host has no address at this moment. `detail` is a sentence without the name."""

    detail: str


async def system_lookup(host: str) -> tuple[str, ...]:
    """The addresses that this machine's resolver knows, IPv4 and IPv6, without repetition."""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(_THREADS, _getaddrinfo, host)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class Resolver:
    """Looks hosts up and judges every answer. `timeout` is in seconds, for one lookup."""

    def __init__(self, rules: Rules, lookup: Lookup = system_lookup, timeout: float = 5.0) -> None:
        self.rules = rules
        self._lookup = lookup
        self._timeout = timeout
        self._under_way: dict[str, asyncio.Task[Addresses | Unresolved]] = {}

    async def resolve(self, host: str) -> Addresses | Refusal | Unresolved:
        """The addresses of a target's host. An address is its own answer; one forbidden address refuses them all."""
        found = Addresses((host,)) if is_address(host) else await self._look_up(host)
        if isinstance(found, Unresolved):
            return found
        return judge_addresses(found.values, self.rules) or found

    async def _look_up(self, host: str) -> Addresses | Unresolved:
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(self._shared(host))
        except TimeoutError:
            return Unresolved(f"The host name did not resolve within {self._timeout:g} s.")

    def _shared(self, host: str) -> asyncio.Task[Addresses | Unresolved]:
        """The lookup of this name that is under way, or a new one: a slow name holds one thread, however many wait."""
        if host not in self._under_way:
            self._under_way[host] = task = asyncio.create_task(self._ask(host))
            task.add_done_callback(lambda _: self._under_way.pop(host))
        return self._under_way[host]

    async def _ask(self, host: str) -> Addresses | Unresolved:
        try:
            found = tuple(await self._lookup(host))
        except (OSError, UnicodeError) as error:
            return Unresolved(f"The host name does not resolve: {_reason(error)}.")
        return Addresses(found) if found else Unresolved("The host name has no address.")


async def admit(url: str, resolver: Resolver, schemes: frozenset[str] = PRE_RECORDED) -> Target | Refusal | Unresolved:
    """The whole guard in one call, for a URL that is being submitted: reads it, resolves its host, judges both."""
    target = read(url, resolver.rules, schemes)
    if isinstance(target, Refusal):
        return target
    found = await resolver.resolve(target.host)
    return target if isinstance(found, Addresses) else found


def _getaddrinfo(host: str) -> list[tuple[object, object, object, object, tuple[object, ...]]]:
    return list(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))


def _reason(error: OSError | UnicodeError) -> str:
    # A UnicodeError spells out the name; what the system says of a name does not.
    return (error.strerror if isinstance(error, OSError) else None) or "it is not a name that can be looked up"
