"""Which deliveries go next, inside one write transaction: by turns of owner, origin and endpoint, at a cost that does
not grow with how many there are of any of these.

What is pending stands in one of three lanes. *Scheduled* it is not due; *ready* it goes when its turn comes; *held* it
waits for its destination to be asked what it allows (`relay.queue.holding`). Whoever walks past something in the wrong
lane puts it into the right one, a slice at a time: so nothing that may not go stands for long before what may.

Statements gather what they find into one JSON value, which costs less than a row for each of it.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from relay.outbox.queries import statement
from relay.outbox.store import Connection
from relay.policy.breaker import Standing
from relay.policy.newcomers import TOGETHER
from relay.queue.claims import (
    READY_ALONE,
    ClaimBatch,
    ClaimRequest,
    DestinationKey,
    DueLanes,
    Group,
    OwnersOrigin,
)
from relay.queue.holding import HELD, READY, Holder, arm, gathered, set_lane
from relay.queue.turns import MORE, Turns, is_served, one_each, pick

FEW = 384
"""Groups: so many are looked at all at once."""

_FALLEN_DUE = statement("fallen_due", __package__)
_FEW_READY = statement("few_ready", __package__)
_ALL_GROUPS = statement("groups", __package__)
_ARRIVED = statement("arrived", __package__)
_HEADS = statement("heads", __package__)
_LEASE = statement("lease", __package__)

_AT_ONCE = 8  # deliveries that go without anybody's turn being asked for, if they are all there are
_SLICE = 500  # deliveries that have become due with one claim
_MOVED = 32  # that leave the lane of what is ready with one claim: nothing else is done meanwhile
_EACH_MOVED = 16  # of one endpoint, where there are many
_RESTS = 39.0  # times as long as that took, until the next slice: what is in the way has a fortieth of the time
_AFTER_SECONDS = 0.01  # after the first of what goes first, until all is looked at: it is sent, and answered
_NEWEST = 64  # deliveries that are looked at, of what came since the last claim
_GROUPS = 32  # that are set aside with one claim, at the most
_EACH = 4  # endpoints of each origin that answered a moment ago, while nothing else is looked at
_MANY = 16  # where there are more groups than FEW, twice so many are looked at, besides those that were served lately
_CROWD = 128  # groups that were never tried and have no room: more of them are set aside, as each claim meets them all


class Chooser:
    """Chooses, of what is ready and of what is held. It remembers how much there was. `lease` is in seconds, as is the
    `clock` by which it rests."""

    def __init__(self, turns: Turns, holder: Holder, lease: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._turns = turns
        self._holder = holder
        self._lease = lease
        self._clock = clock
        self._many = False
        self._left = False  # the last claim left something that is ready
        self._rests_until = 0.0  # by its clock; until then nothing is set aside, and of many only some are looked at
        self._several = False  # groups were found when all were looked for last
        self._met_new = False  # some of them were of origins that never were tried
        self._moves = False  # there was something to set aside when it was looked for last
        self._unseen = False  # of many, not all were looked at, and there was room for more
        self._newest = 0
        self._crowded = False  # many groups were found whose origins are not prompt
        self._all_from = 0.0  # by its clock; until then what came goes first, and after it all is looked at

    def lease(
        self, connection: Connection, request: ClaimRequest, lanes: DueLanes, token: str, now: float
    ) -> ClaimBatch:
        """Choose, and claim what was chosen under a token."""
        batch = ClaimBatch()
        if lanes.due:
            batch.more |= self._promote(connection, now)
        freed = False
        if lanes.held or lanes.due:
            freed = self._holder.ask(connection, request, batch, now)
            batch.more |= freed
        else:
            self._holder.pass_over()
        took_all = lanes == READY_ALONE and not self._left and self._take_all(connection, request, batch)
        if not took_all and (lanes.ready or lanes.due or freed):
            self._choose(connection, request, batch, now)
        if batch.seqs:
            values = {"token": token, "until": now + self._lease, "seqs": json.dumps(batch.seqs)}
            connection.execute(_LEASE, values)
        return batch

    def note_committed(self, batch: ClaimBatch) -> None:
        """What it looked at was seen: one that is undone has taken nothing of what came."""
        self._newest = max(self._newest, batch.newest)

    def _promote(self, connection: Connection, now: float) -> bool:
        """What has become due goes to its lane; returns whether there may be more."""
        due = gathered(connection, _FALLEN_DUE, now=now, slice=_SLICE)
        held = [row for row in due if row[4] or row[5]]
        set_lane(connection, READY, [row[0] for row in due if not (row[4] or row[5])])
        set_lane(connection, HELD, [row[0] for row in held])
        arm(connection, {(origin, path if part else ""): owner for _, owner, origin, path, _, part in held}, now)
        return len(due) == _SLICE

    def _take_all(self, connection: Connection, request: ClaimRequest, batch: ClaimBatch) -> bool:
        """Take whatever is ready, if that is a few, and all of them may simply go; returns whether they do."""
        rows = connection.execute(_FEW_READY, {"most": _AT_ONCE + 1}).fetchall()
        if len(rows) > _AT_ONCE or not _may_all_go(rows, request):
            return False
        batch.seqs += [row[0] for row in rows]
        self._turns.note_served({(owner, origin): False for _, owner, origin, *_ in rows})
        return True

    def _choose(self, connection: Connection, request: ClaimRequest, batch: ClaimBatch, now: float) -> None:
        """Take what is ready, in turn; what must not go now leaves the lane."""
        began = self._clock()
        rests = began < self._rests_until
        arrived = self._arrived(connection, batch)
        no_others = request.others_wait or request.others <= 0
        comes_first = not (rests or no_others) and self._comes_first(arrived, request, began)
        # Where so many that are new may come, those before them answered: the others are worth a look.
        new_may_come = self._met_new and request.untried > TOGETHER
        in_part = comes_first or no_others or (self._several and rests and not new_may_come)
        groups = self._groups(connection, request, arrived, in_part=in_part)
        free, untried, held = _sorted_out(groups, request)
        if not in_part:
            self._several, self._met_new = len(groups) > 2 * _MANY, bool(untried)
            self._crowded = sum(row[1] not in request.prompt for row in groups) > 2 * _MANY
        room, going = request.room - len(batch.seqs), _that_may_begin(untried, request, batch)
        drained: dict[Group, int] = {}

        def heads_of(depths: Mapping[Group, int]) -> Mapping[Group, Sequence[int]]:
            heads = _heads(connection, depths)
            drained.update((group, len(heads[group])) for group, depth in depths.items() if len(heads[group]) < depth)
            return heads

        chosen = pick([*free, *going], request, room, heads_of, going)
        picked = Counter(group for group, _ in chosen)
        batch.left = frozenset(row[1] for row in groups if drained.get(tuple(row[:3]), -1) != picked[tuple(row[:3])])
        batch.seqs += [seq for _, seq in chosen]
        batch.standing |= {(origin, ""): Standing.UNTRIED for _, origin, _ in picked.keys() & going.keys()}
        self._left = bool(batch.left)
        self._turns.remember(groups, picked.keys(), reached_all=room > len(chosen), in_turn=not in_part)
        self._turns.note_served({group[:2]: group[1] in batch.left for group, _ in chosen if group not in going})
        if comes_first:
            batch.more, batch.pause = True, self._all_from - began
            return
        self._all_from = 0.0
        if no_others:
            return
        if not rests:
            self._clear_away(connection, held, [group for group in untried if group not in going], now)
            self._unseen = self._many and room > len(chosen)
            if self._moves or (self._unseen and not chosen) or _in_the_way(groups, request) > _MANY:
                self._rests_until = self._clock() + _RESTS * (self._clock() - began)
        if not (in_part or self._many or self._moves):
            batch.groups = groups
        if self._moves or self._unseen:
            batch.more, batch.pause = True, max(0.0, self._rests_until - self._clock())

    def _comes_first(self, arrived: Iterable[OwnersOrigin], request: ClaimRequest, now: float) -> bool:
        """Whether this claim is for what came for those that answer: to look at all that is in line beside it takes
        longer than they have to wait. So that is done a moment later, when they have been sent, and answered; not
        whenever more has come, as they may come all the time."""
        if not self._all_from and self._crowded and any(origin in request.prompt for _, origin in arrived):
            self._all_from = now + _AFTER_SECONDS
        return now < self._all_from

    def _clear_away(
        self, connection: Connection, held: Mapping[Group, DestinationKey], rest: Sequence[Group], now: float
    ) -> None:
        """A slice of what may not go leaves the lane; of the `rest`, which never was tried, where it is a crowd."""
        crowd: dict[Group, DestinationKey] = {}
        if self._many or self._holder.crowded or len(rest) > _CROWD:
            crowd = {group: (group[1], "") for group in rest}
        if crowd:
            self._holder.meet_crowd()
        self._moves = _set_aside(connection, held, now) or _set_aside(connection, crowd, now, tried=False)

    def _groups(
        self, connection: Connection, request: ClaimRequest, arrived: Sequence[OwnersOrigin], *, in_part: bool
    ) -> list[Any]:
        """Groups with something ready, round robin after those that had their turn: all while they are few, or else as
        many as could fill the room, and as many more as may be full. `in_part`: only those that answered a moment ago,
        and what came since the last claim."""
        came = [*request.met, *arrived]
        if in_part:
            prompt = [pair for pair in self._turns.lately() if pair[1] in request.prompt]
            return self._endpoints(connection, dict.fromkeys([*prompt, *came]), _EACH)
        if not self._many:
            found: list[Any] = gathered(connection, _ALL_GROUPS, most=FEW)
            if len(found) < FEW:
                return sorted(found, key=self._turns.place_of)
        found = self._several_groups(connection, request, came)
        self._many = len(found) >= 2 * _MANY
        return found

    def _arrived(self, connection: Connection, batch: ClaimBatch) -> list[OwnersOrigin]:
        """Owners and origins of what came since the last claim: a new one does not wait behind a crowd either."""
        newest, found = gathered(connection, _ARRIVED, after=self._newest, room=_NEWEST)
        batch.newest = newest
        return [(owner, origin) for owner, origin in found]

    def _several_groups(self, connection: Connection, request: ClaimRequest, came: Iterable[OwnersOrigin]) -> list[Any]:
        room = min(request.room + len(request.endpoints) + MORE, _MANY)
        owners = self._turns.owners(connection, room)
        origins = self._turns.origins(connection, owners, max(1, 2 * room // max(1, len(owners))))
        # Whoever is served all the time does not wait until the ring has come to it through a crowd.
        several = dict.fromkeys([*self._turns.lately(), *came, *origins])
        # Two at least: of one alone nobody could tell whether another waits behind it.
        return self._endpoints(connection, several, max(2, 2 * room // max(1, len(several))))

    def _endpoints(self, connection: Connection, origins: Collection[OwnersOrigin], room: int) -> list[Any]:
        found = self._turns.endpoints(connection, origins, room)
        self._turns.note_looked(origins, {(owner, origin) for owner, origin, *_ in found})
        return found


def _sorted_out(
    groups: Iterable[Sequence[Any]], request: ClaimRequest
) -> tuple[list[Group], dict[Group, None], dict[Group, DestinationKey]]:
    """What may go, what never was tried, and what is held, with what holds it: its endpoint, or the whole origin."""
    free: list[Group] = []
    untried: dict[Group, None] = {}
    held: dict[Group, DestinationKey] = {}
    for owner, origin, path, known, whole, part in groups:
        group = (owner, origin, path)
        if whole or part:
            held[group] = (origin, path if part else "")
        elif known or is_served(origin, request):
            free.append(group)
        else:
            untried[group] = None
    return free, untried, held


def _that_may_begin(untried: Collection[Group], request: ClaimRequest, batch: ClaimBatch) -> dict[Group, None]:
    """Of groups that never were tried, those whose origins may have a first attempt now. Such as had been set aside and
    have their turn with the same claim take half of the room for them at most."""
    asked = [*batch.standing.values()].count(Standing.UNTRIED)
    newcomers = request.untried - min(asked, request.untried // 2)
    strangers = dict.fromkeys(origin for _, origin, _ in one_each(untried) if origin not in request.origins)
    begun = set(islice(strangers, newcomers))
    return {group: None for group in untried if group[1] in begun}


def _may_all_go(rows: Sequence[Sequence[Any]], request: ClaimRequest) -> bool:
    """Whether a few that are ready have room, and nobody has a say in it: their origins are known, and not held."""
    origins, endpoints, others = dict(request.origins), dict(request.endpoints), request.others
    for _, _, origin, path, known, is_held in rows:
        origins[origin] = origins.get(origin, request.of_origin) - 1
        endpoints[origin, path] = endpoints.get((origin, path), request.of_endpoint) - 1
        others -= origin not in request.prompt
        if is_held or not known or origins[origin] < 0 or endpoints[origin, path] < 0 or others < 0:
            return False
    return len(rows) <= request.room


def _in_the_way(groups: Iterable[Any], request: ClaimRequest) -> int:
    """Of how many nothing can be taken, as they keep what was claimed of them waiting, or their kind does."""
    return sum(
        origin not in request.prompt and (request.others <= 0 or request.origins.get(origin, 1) <= 0)
        for _, origin, *_ in groups
    )


def _set_aside(
    connection: Connection, groups: Mapping[Group, DestinationKey], now: float, *, tried: bool = True
) -> bool:
    """Into the lane of the held, a slice; returns whether any was moved."""
    if not groups:
        return False
    several = list(groups)[:_GROUPS]
    heads = _heads(connection, dict.fromkeys(several, max(_EACH_MOVED, _MOVED // max(1, len(several)))))
    moved: dict[Group, list[int]] = {}
    room = _MOVED
    for group, seqs in heads.items():
        if seqs and room > 0:
            moved[group] = seqs
            room -= len(seqs)
    set_lane(connection, HELD, [seq for seqs in moved.values() for seq in seqs])
    arm(connection, {groups[group]: group[0] for group in moved}, now, tried=tried)
    return bool(moved)


def _heads(connection: Connection, depths: Mapping[Group, int]) -> dict[Group, list[int]]:
    """The heads of some groups, at least as deep as asked."""
    queues: dict[Group, list[int]] = {}
    for cap, groups in _by_power_of_four(depths).items():
        found = gathered(connection, _HEADS, groups=json.dumps(groups), cap=cap)
        queues |= {group: seqs[: depths[group]] for group, seqs in zip(groups, found, strict=True)}
    return queues


def _by_power_of_four(depths: Mapping[Group, int]) -> dict[int, list[Group]]:
    """A handful of queries whatever the depths are, because a query has one LIMIT for all its groups."""
    groups: dict[int, list[Group]] = defaultdict(list)
    for group, depth in depths.items():
        groups[4 ** ((depth - 1).bit_length() + 1 >> 1)].append(group)
    return groups
