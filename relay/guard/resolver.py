"""The address half of the guard: turns a host into addresses that may be dialled, or says why there are none.

The same object judges a URL when it is submitted and again at every new connection. What a name was found to be is kept
for as long as its DNS records say, and a minute at the most; what was found is judged anew each time, and dialled as it
was judged. How names are looked up is a `Lookup`; this machine's own is in `relay.service.dns`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from relay.guard.address import is_address, judge_addresses
from relay.guard.rules import Refusal, Rules
from relay.guard.url import PRE_RECORDED, Target, read

LONGEST_KEPT = 60.0
"""Seconds for which a name's addresses are used again, whatever their DNS records say."""

_NAMES = 8192  # that are remembered
_AGAIN_SECONDS = 0.5  # until somebody is looked for who may be asked


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a host may be dialled: at least one address, in the order of preference."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unresolved:
    """The host has no address at this moment. `detail` is a sentence without the name; `answered` whether it was DNS
    that said so, and not its silence or its failure: those may be over in a moment."""

    detail: str
    answered: bool = False


@dataclass(frozen=True, slots=True)
class LookupShortage:
    """Nobody was asked, and the shortage is ours: it says nothing of the host. `detail` is a sentence without the
    name."""

    detail: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a lookup brought: addresses, best first and without repetition, and for how many seconds they hold."""

    addresses: tuple[str, ...]
    seconds: float = 0.0


Lookup = Callable[[str], Awaitable[Found | Unresolved | LookupShortage]]
"""Looks a host name up, and raises nothing."""

_NO_ROOM = LookupShortage("The host name was not looked up: too many other names are being looked up.")
_NO_ADDRESS = Unresolved("The host name has no address.", answered=True)


class Names:
    """Names and their addresses: each name is looked up once at a time, and kept for as long as it holds.

    At most `most` lookups are under way. Names that never resolved, as far as is known, leave a quarter of that room to
    those that did, and names whose latest lookup failed have but a quarter of it; so have the names that one owner asks
    for a sixteenth, until they resolve. Who finds no room, or nobody to ask, waits for it as for an answer: `timeout`
    seconds.
    """

    def __init__(self, lookup: Lookup, most: int = 1024, timeout: float = 5.0) -> None:
        self._lookup = lookup
        self._timeout = timeout
        self._known: dict[str, tuple[Addresses | None, float]] = {}  # None: it failed; and until when that holds
        self._under_way: dict[str, asyncio.Task[Addresses | Unresolved | LookupShortage]] = {}
        self._room = asyncio.Semaphore(most)
        self._room_of_unproven = asyncio.Semaphore(max(1, most * 3 // 4))
        self._room_of_failed = asyncio.Semaphore(max(1, most // 4))
        self._of_each = max(1, most // 16)
        self._room_of_owners: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._asked: set[str] = set()  # of those under way

    async def find(self, host: str, owner: str | None = None) -> Addresses | Unresolved | LookupShortage:
        """The addresses of a name, unjudged. `owner` is whose request it is, where that is known."""
        addresses, until = self._known.get(host, (None, 0.0))
        if addresses is not None and time.monotonic() < until:
            return addresses
        unasked: LookupShortage | None = None
        try:
            async with asyncio.timeout(self._timeout), self._among(owner, proven=addresses is not None):
                while isinstance(found := await asyncio.shield(self._shared(host)), LookupShortage):
                    unasked = found
                    await asyncio.sleep(_AGAIN_SECONDS)
                return found
        except TimeoutError:
            if unasked or host not in self._asked:
                return unasked or _NO_ROOM
            return Unresolved(f"The host name did not resolve within {self._timeout:g} s.")

    @asynccontextmanager
    async def _among(self, owner: str | None, *, proven: bool) -> AsyncIterator[None]:
        """A turn among what an owner waits for."""
        if owner is None or proven:
            yield
            return
        room = self._room_of_owners.get(owner) or asyncio.Semaphore(self._of_each)
        self._room_of_owners[owner] = room
        async with room:
            yield

    def _shared(self, host: str) -> asyncio.Task[Addresses | Unresolved | LookupShortage]:
        """The lookup of this name that is under way, or a new one."""
        if host not in self._under_way:
            self._under_way[host] = task = asyncio.create_task(self._ask(host))
            task.add_done_callback(lambda _: self._under_way.pop(host))
        return self._under_way[host]

    async def _ask(self, host: str) -> Addresses | Unresolved | LookupShortage:
        async with AsyncExitStack() as stack:
            for room in self._rooms(host):
                await stack.enter_async_context(room)
            self._asked.add(host)
            stack.callback(self._asked.discard, host)
            found = await self._lookup(host)
        if isinstance(found, LookupShortage):
            return found
        addresses = Addresses(found.addresses) if isinstance(found, Found) and found.addresses else None
        self._remember(host, addresses, found.seconds if isinstance(found, Found) else 0.0)
        return addresses or (found if isinstance(found, Unresolved) else _NO_ADDRESS)

    def _rooms(self, host: str) -> tuple[asyncio.Semaphore, ...]:
        """What a name needs a place in, the narrowest first."""
        if host not in self._known:
            return self._room_of_unproven, self._room
        if self._known[host][0] is None:
            return self._room_of_failed, self._room_of_unproven, self._room
        return (self._room,)

    def _remember(self, host: str, addresses: Addresses | None, seconds: float) -> None:
        self._known.pop(host, None)  # the latest stands last
        self._known[host] = addresses, time.monotonic() + min(seconds, LONGEST_KEPT)
        if len(self._known) > _NAMES:
            del self._known[next(iter(self._known))]


class Resolver:
    """Finds hosts' addresses and judges every one."""

    def __init__(self, rules: Rules, names: Names) -> None:
        self.rules = rules
        self.names = names

    async def resolve(self, host: str, owner: str | None = None) -> Addresses | Refusal | Unresolved | LookupShortage:
        """The addresses of a target's host. An address is its own answer; one forbidden address refuses them all."""
        found = Addresses((host,)) if is_address(host) else await self.names.find(host, owner)
        if not isinstance(found, Addresses):
            return found
        return judge_addresses(found.values, self.rules) or found


async def admit(
    url: str, resolver: Resolver, schemes: frozenset[str] = PRE_RECORDED, owner: str | None = None
) -> Target | Refusal | Unresolved | LookupShortage:
    """The whole guard in one call, for a URL that is being submitted: reads it, resolves its host, judges both."""
    target = read(url, resolver.rules, schemes)
    if isinstance(target, Refusal):
        return target
    found = await resolver.resolve(target.host, owner)
    return target if isinstance(found, Addresses) else found
