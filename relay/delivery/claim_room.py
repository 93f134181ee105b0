"""How much may be claimed ahead: enough that no slot waits for a claim, and of what is slow no more than it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from relay.delivery import slots as kinds
from relay.delivery.destination_queue import MOST_AHEAD, DestinationQueue
from relay.delivery.settler import Settler
from relay.delivery.slots import Slots
from relay.delivery.start_order import StartOrder
from relay.policy.attempt import Lease, Outcome
from relay.policy.breaker import Standing
from relay.queue.claims import ClaimRequest, DestinationKey

_ANSWERS, _UNTRIED, _SILENT = Standing.ANSWERS, Standing.UNTRIED, Standing.SILENT
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
        self._period_ends = 0.0
        self._asked = 0

    def left(self) -> RoomLeft:
        """What is not settled yet has given back its body, and takes none of it before it is very much. Half at most is
        for those that are not prompt, as what is slow needs little ahead."""
        held = of_others = 0
        for queue in self._order.queues.values():
            held += queue.held
            of_others += 0 if queue.is_prompt else queue.held
        unsettled = max(0, len(self._settler.waiting) - MOST_AHEAD)
        return RoomLeft(self._most_held - held - unsettled, self._most_of_others - of_others)

    def request(self, room: RoomLeft, cap: int, leases: Callable[[], Sequence[Lease]]) -> ClaimRequest:
        """How much to claim. Of what some is held of, what it took lately, twice: so that a fast one ramps up, and one
        that hangs holds a handful."""
        order = self._order
        order.forget_empty()
        few = min(cap, self._slots.few)
        origins: dict[str, int] = {}
        endpoints: dict[DestinationKey, int] = {}
        use, met = order.use, order.newcomers.met
        untried = use.three_quarters + use.excess - use.unproven + 2 * len(met)
        silent, too_late, is_crowded = use.quarter, not use.may_start(kinds.LATE), use.is_crowded
        for origin, queue in order.queues.items():
            # It has what it can take, and may be one of many.
            if (too_late and queue.expected is kinds.LATE) or (is_crowded and queue.standing is _UNTRIED):
                origins[origin] = 0
                untried -= queue.standing is _UNTRIED and not queue.busy
                continue
            most = cap if queue.standing is _ANSWERS else few
            taken, unanswered = self._take_stock(queue, most, cap, endpoints)
            origins[origin] = min(most + 2 * queue.took.lately, MOST_AHEAD) - taken
            untried -= queue.standing is _UNTRIED and not queue.busy
            silent -= queue.held if queue.standing is _SILENT else unanswered
        for attempt in self._settler.waiting:  # until it is written down, nobody else leaves one alone that fails
            if attempt.outcome is not _SUCCESS:
                endpoints[attempt.delivery.endpoint] = endpoints.get(attempt.delivery.endpoint, cap) - 1
        self._turn_period()
        newcomers = order.newcomers.ask(use, beside=bool(order.prompt or order.slow))
        untried, silent = (max(0, min(room_of_kind, newcomers)) for room_of_kind in (untried, silent))
        return ClaimRequest(
            room=room.in_all,
            of_origin=cap,
            of_endpoint=cap,
            silent=silent,
            untried=untried,
            few=few,
            of_untried=1,
            origins=origins,
            endpoints=endpoints,
            ahead=self._next_ahead(),
            prompt=order.prompt,
            others=min(_OTHERS, room.of_others),
            met=tuple(met),  # others may answer while it is under way
            held=leases,
            others_wait=order.slow_in_line(cap) >= _IN_LINE,
        )

    def _take_stock(
        self, queue: DestinationQueue, most: int, cap: int, room: dict[DestinationKey, int]
    ) -> tuple[int, int]:
        """How much `room` each endpoint of an origin has left; returns what they take of the origin's own, and how much
        those hold that did not answer, of one that does."""
        taken = unanswered = 0
        for path, endpoint in list(queue.endpoints.items()):
            held = endpoint.held
            if not held and endpoint.took.lately < cap:
                del queue.endpoints[path]
                continue
            # One that has yet to answer counts for no more than it can take.
            share = queue.share_of(endpoint, most, self._slots)
            taken += held if held < share else share
            room[queue.origin, path] = min(min(cap, share) + 2 * endpoint.took.lately, MOST_AHEAD) - held
            unanswered += held if endpoint.answered is False and queue.standing is _ANSWERS else 0
        return taken, unanswered

    def _next_ahead(self) -> list[DestinationKey]:
        """Endpoints for which something has not started: of many some, and with the next claim those behind them."""
        ahead = [
            (origin, path)
            for origin, queue in self._order.queues.items()
            if queue.ahead
            for path, endpoint in queue.endpoints.items()
            if endpoint.ahead
        ]
        first = self._asked = self._asked % max(1, len(ahead))
        self._asked += _ASKED
        return [*ahead[first:], *ahead[:first]][:_ASKED]

    def _turn_period(self) -> None:
        now = time.monotonic()
        if now >= self._period_ends:
            self._period_ends = now + _PERIOD_SECONDS
            for queue in self._order.queues.values():
                queue.turn_period()
