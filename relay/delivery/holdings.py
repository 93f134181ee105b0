"""What is held of each origin, as a claim counts it. Counted again is only what has changed: of a crowd that hangs
nothing has, and to walk through it would take longer than all else that a claim does."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from relay.delivery.destination_queue import MOST_AHEAD, DestinationQueue
from relay.delivery.slots import LATE, OriginKind, Slots
from relay.policy.breaker import Standing
from relay.queue.claims import DestinationKey

# By names of their own: to ask an enumeration for a member takes half a microsecond.
_ANSWERS, _UNTRIED, _SILENT = Standing.ANSWERS, Standing.UNTRIED, Standing.SILENT


class _Count(NamedTuple):
    """Of one origin: its kind, how much is held, and how much of it counts as held of others than prompt ones, as first
    attempts that have yet to start, and as what may not be answered; and its endpoints."""

    kind: OriginKind
    held: int
    of_others: int
    untried: int
    silent: int
    endpoints: Sequence[DestinationKey]


class Holdings:
    """Of all origins together: how much is `held`, of it `of_others`, which are not prompt, and how many first attempts
    have yet to start (`untried`). Of `origins` and `endpoints` that hold something, how much more may be claimed.
    `late` are those that keep their attempts waiting, and have something that has not started."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.held = self.of_others = self.untried = 0
        self.origins: dict[str, int] = {}
        self.endpoints: dict[DestinationKey, int] = {}
        self.late: set[DestinationQueue] = set()
        self._counts: dict[str, _Count] = {}
        self._cap = 0  # with which they were counted
        self._full: frozenset[OriginKind] = frozenset()
        self._rooms: dict[OriginKind, dict[str, int]] = defaultdict(dict)  # of origins of each kind, were it not full
        self._silent = Counter[OriginKind]()
        self._ahead: dict[DestinationKey, None] = {}
        self._took: set[DestinationQueue] = set()  # something, lately

    @property
    def silent(self) -> int:
        """How much is held that may not be answered, but for kinds that are full."""
        return sum(held for kind, held in self._silent.items() if kind not in self._full)

    def count(self, changed: Iterable[DestinationQueue], queues: Mapping[str, DestinationQueue], cap: int) -> None:
        """What there is now of those that have changed, of all `queues`. An origin may have `cap` slots."""
        if cap != self._cap:
            self._cap, changed = cap, {*changed, *queues.values()}
        for queue in changed:
            self.late.discard(queue)
            self._took.discard(queue)
            before = self._take_off(queue.origin)
            if (current := queues.get(queue.origin)) is not None:
                self._add(current)
            for key in before:
                if key not in self.endpoints:
                    self._ahead.pop(key, None)

    def fill(self, full: frozenset[OriginKind]) -> None:
        """Kinds that are full have what they can take: no more is claimed of an origin that may be one of many."""
        for kind in full ^ self._full:
            rooms = self._rooms[kind]
            self.origins.update(dict.fromkeys(rooms, 0) if kind in full else rooms)
        self._full = full

    def some_ahead(self, most: int) -> list[DestinationKey]:
        """Endpoints for which something has not started: of many some, and the next time those behind them."""
        some = list(islice(self._ahead, most))
        for key in some:
            del self._ahead[key]
            self._ahead[key] = None
        return some

    def turn_period(self) -> None:
        """What is taken is counted anew."""
        for queue in self._took:
            queue.turn_period()

    def _take_off(self, origin: str) -> Sequence[DestinationKey]:
        count = self._counts.pop(origin, None)
        if count is None:
            return ()
        del self.origins[origin], self._rooms[count.kind][origin]
        for key in count.endpoints:
            del self.endpoints[key]
        self.held -= count.held
        self.of_others -= count.of_others
        self.untried -= count.untried
        self._silent[count.kind] -= count.silent
        return count.endpoints

    def _add(self, queue: DestinationQueue) -> None:
        origin, kind, held = queue.origin, queue.kind, queue.held
        most = self._cap if queue.standing is _ANSWERS else min(self._cap, self._slots.few)
        taken, unanswered, endpoints = self._add_endpoints(queue, most)
        untried = int(queue.standing is _UNTRIED and not queue.busy)
        silent = held if queue.standing is _SILENT else unanswered if queue.standing is _ANSWERS else 0
        self._counts[origin] = _Count(kind, held, 0 if queue.is_prompt else held, untried, silent, endpoints)
        self._rooms[kind][origin] = room = min(most + 2 * queue.took.lately, MOST_AHEAD) - taken
        self.origins[origin] = 0 if kind in self._full else room
        self.held += held
        self.of_others += 0 if queue.is_prompt else held
        self.untried += untried
        self._silent[kind] += silent
        if kind is LATE and queue.ahead:
            self.late.add(queue)
        if queue.took.lately:
            self._took.add(queue)

    def _add_endpoints(self, queue: DestinationQueue, most: int) -> tuple[int, int, Sequence[DestinationKey]]:
        """How much room each endpoint has left; returns how many of so many slots of the origin they take, and how much
        those hold that did not answer."""
        endpoints: list[DestinationKey] = []
        taken = unanswered = 0
        for path, endpoint in list(queue.endpoints.items()):
            held, key = endpoint.held, (queue.origin, path)
            if not held and endpoint.took.lately < self._cap:
                del queue.endpoints[path]
                continue
            # One that has yet to answer counts for no more than it can take.
            share = queue.share_of(endpoint, most, self._slots)
            taken += held if held < share else share
            unanswered += held if endpoint.answered is False else 0
            self.endpoints[key] = min(min(self._cap, share) + 2 * endpoint.took.lately, MOST_AHEAD) - held
            endpoints.append(key)
            if endpoint.ahead:
                self._ahead.setdefault(key)
            else:
                self._ahead.pop(key, None)
        return taken, unanswered, endpoints
