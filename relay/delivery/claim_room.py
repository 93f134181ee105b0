"""How much may be claimed ahead: enough that no slot waits for a claim, and of what is slow no more than it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from relay.delivery import slots as kinds
from relay.delivery.destination_queue import MOST_AHEAD, DestinationQueue
from relay.delivery.holdings import Holdings
from relay.delivery.settler import Settler
from relay.delivery.slots import Slots
from relay.delivery.start_order import StartOrder
from relay.policy.attempt import Lease, Outcome
from relay.queue.claims import ClaimRequest, DestinationKey

_SUCCESS = Outcome.SUCCESS
_PERIOD_SECONDS = 0.1  # in which is counted what a destination takes
_ASKED = 64  # endpoints, with one claim, whether what is ahead for them may still go
_OTHERS = 64  # of those that are not prompt, in one claim: what is prompt waits for it
_IN_LINE = 32  # of those that are slow: as many that could start are enough for a while, in which all others are served


class RoomLeft(NamedTuple):
    """How much may be claimed in all, and of it for those that are not prompt; below nothing where more is held."""

    in_all: int
    of_others: int


class ClaimRoom:
    """Beside what is held already: of it, what waits to be settled is held too."""

    def __init__(self, order: StartOrder, settler: Settler, slots: Slots) -> None:
        self._order = order
        self._settler = settler
        self._slots = slots
        self._most_held = max(slots.in_all, MOST_AHEAD) * 2
        self._most_of_others = slots.unproven_of(self._most_held) // 2
        self._holdings = Holdings(slots)
        self._period_ends = 0.0

    def left(self) -> RoomLeft:
        """What is not settled yet has given back its body, and takes none of it before it is very much. Half at most is
        for those that are not prompt, as what is slow needs little ahead."""
        order, holdings = self._order, self._holdings
        holdings.count(order.take_changed(), order.queues, order.share())
        unsettled = max(0, len(self._settler.waiting) - MOST_AHEAD)
        return RoomLeft(self._most_held - holdings.held - unsettled, self._most_of_others - holdings.of_others)

    def late(self) -> list[DestinationQueue]:
        """Those that keep their attempts waiting, and have something that has not started."""
        return list(self._holdings.late)

    def request(self, room: RoomLeft, cap: int, leases: Callable[[], Sequence[Lease]]) -> ClaimRequest:
        """How much to claim. Of what some is held of, what it took lately, twice: so that a fast one ramps up, and one
        that hangs holds a handful."""
        order, use, holdings = self._order, self._order.use, self._holdings
        holdings.count(order.take_changed(), order.queues, cap)
        full = ((kinds.LATE, not use.may_start(kinds.LATE)), (kinds.UNTRIED, use.is_crowded))
        holdings.fill(frozenset(kind for kind, is_full in full if is_full))
        met = order.newcomers.met
        untried = use.three_quarters + use.excess - use.unproven + 2 * len(met) - holdings.untried
        newcomers = order.newcomers.ask(use, beside=bool(order.prompt or order.slow))
        return ClaimRequest(
            room=room.in_all,
            of_origin=cap,
            of_endpoint=cap,
            silent=max(0, min(use.quarter - holdings.silent, newcomers)),
            untried=max(0, min(untried, newcomers)),
            few=min(cap, self._slots.few),
            of_untried=1,
            origins=holdings.origins,
            endpoints=self._endpoints(cap),
            ahead=holdings.some_ahead(_ASKED),
            prompt=order.prompt,
            others=min(_OTHERS, room.of_others),
            met=tuple(met),  # others may answer while it is under way
            held=leases,
            others_wait=order.is_slow_in_line(_IN_LINE, cap),
        )

    def prepare(self) -> None:
        """What the next claim would have to count, before anybody waits for it."""
        now = time.monotonic()
        if now >= self._period_ends:
            self._period_ends = now + _PERIOD_SECONDS
            self._holdings.turn_period()
        self.left()

    def _endpoints(self, cap: int) -> Mapping[DestinationKey, int]:
        """Until it is written down that one has failed, nobody else leaves its endpoint alone."""
        failed = [attempt.delivery.endpoint for attempt in self._settler.waiting if attempt.outcome is not _SUCCESS]
        if not failed:
            return self._holdings.endpoints
        endpoints = dict(self._holdings.endpoints)
        for endpoint in failed:
            endpoints[endpoint] = endpoints.get(endpoint, cap) - 1
        return endpoints
