"""Whose turn it is, of owners, of each the origins, and of each of these the endpoints: three rings, which go on where
the last claim left off."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any

from relay.outbox.queries import statement
from relay.outbox.store import Connection
from relay.policy.fairness import in_turn
from relay.queue.claims import ClaimRequest, Group, OwnersOrigin
from relay.queue.holding import gathered

_OWNERS = statement("owners", __package__)
_ORIGINS = statement("origins", __package__)
_ENDPOINTS = statement("endpoints", __package__)

MORE = 16
"""Groups that one claim looks at beyond those that can be full: what must not go is moved on."""

_LATELY = 256  # origins that are looked at while others are too many: with each claim those that may have more
_QUIET = 32  # and of those that had nothing more, so many with each claim
_REMEMBERED = 10_000

_whose, _where = itemgetter(0), itemgetter(0, 1)  # of what was found: its owner, with its origin


class Turns:
    """Remembers who had the last turn, in each of the rings."""

    def __init__(self) -> None:
        self._owner = ""
        self._origin: dict[str, str] = {}
        self._path: dict[OwnersOrigin, str] = {}
        # Owners and origins, the one that was served last at the end, and whether more of it may be ready.
        self._lately: dict[OwnersOrigin, bool] = {}
        self._quiet_seen = 0

    def place_of(self, group: Sequence[Any]) -> tuple[bool, str, bool, str, bool, str]:
        """In each of the three rings those come first that are behind the one that had the last turn."""
        owner, origin, path, *_ = group
        last, latest = self._origin.get(owner, ""), self._path.get((owner, origin), "")
        return owner <= self._owner, owner, origin <= last, origin, path <= latest, path

    def lately(self) -> list[OwnersOrigin]:
        """Owners and origins that were served a while ago at most, and may have something that is ready: of those that
        had nothing more some, and with the next claim others."""
        more = [pair for pair, may_have in self._lately.items() if may_have]
        quiet = [pair for pair, may_have in self._lately.items() if not may_have]
        first = self._quiet_seen = self._quiet_seen % max(1, len(quiet))
        self._quiet_seen += _QUIET
        return more + quiet[first : first + _QUIET]

    def remember(self, groups: Sequence[Any], picked: Collection[Group], *, reached_all: bool, in_turn: bool) -> None:
        """Whose turn it was. Full ones have had theirs too: they must not hide those behind them from the next one.
        Where they were not looked at in turn, only that of paths."""
        for remembered in (self._origin, self._path):
            if len(remembered) > _REMEMBERED:
                remembered.clear()
        met = [(owner, origin, path) for owner, origin, path, *_ in groups]
        served = {owner for owner, _, _ in picked}
        reached = {pair[:2] for pair in picked}
        endpoints = Counter((owner, origin) for owner, origin, _ in met)
        for owner, origin, path in met:
            if in_turn and (owner in served or reached_all):
                self._owner = owner
            if in_turn and ((owner, origin) in reached or (reached_all and owner not in served)):
                self._origin[owner] = origin
            alone = endpoints[owner, origin] == 1  # it waits for no other
            if not alone and ((owner, origin, path) in picked or (reached_all and (owner, origin) not in reached)):
                self._path[owner, origin] = path

    def note_served(self, origins: Mapping[OwnersOrigin, bool]) -> None:
        """These owners and origins were; and whether more of them may be ready."""
        for origin in origins:
            self._lately.pop(origin, None)
        self._lately |= origins
        for origin in list(self._lately)[: max(0, len(self._lately) - _LATELY)]:
            del self._lately[origin]

    def note_looked(self, origins: Iterable[OwnersOrigin], found: Collection[OwnersOrigin]) -> None:
        """These were looked at, and of some of them something was found."""
        self._lately |= {pair: pair in found for pair in origins if pair in self._lately}

    def owners(self, connection: Connection, room: int) -> list[str]:
        """So many with something ready, round robin."""
        found: list[str] = gathered(connection, _OWNERS, after=self._owner, room=room)
        if self._owner and len(found) < room:
            found += gathered(connection, _OWNERS, after="", room=room)
        return _rotated(found, self._owner, room)

    def origins(self, connection: Connection, owners: Sequence[str], room: int) -> list[OwnersOrigin]:
        """Of each of these owners so many origins with something ready, round robin."""
        after = {owner: self._origin.get(owner, "") for owner in owners}
        found = _several(connection, _ORIGINS, "owners", list(after.items()), room, _whose)
        short = [(owner, "") for owner in owners if after[owner] and len(found[owner]) < room]
        again = _several(connection, _ORIGINS, "owners", short, room, _whose)
        rotated = {
            owner: _rotated([row[1] for row in [*found[owner], *again[owner]]], after[owner], room) for owner in owners
        }
        return [(owner, origin) for owner in owners for origin in rotated[owner]]

    def endpoints(self, connection: Connection, origins: Collection[OwnersOrigin], room: int) -> list[Any]:
        """Of each of these origins so many groups with something ready, round robin."""
        after = {pair: self._path.get(pair, "") for pair in origins}
        found = _several(connection, _ENDPOINTS, "origins", [(*pair, at) for pair, at in after.items()], room, _where)
        short = [(*pair, "") for pair in origins if after[pair] and len(found[pair]) < room]
        again = _several(connection, _ENDPOINTS, "origins", short, room, _where)
        result: list[Any] = []
        for pair in origins:
            several = found[pair] + again[pair] if short else found[pair]
            if len(several) > 1:
                rows = {row[2]: row for row in several}
                result += [rows[path] for path in _rotated(list(rows), after[pair], room)]
            else:  # as nearly all have one endpoint
                result += several
        return result


def pick(
    groups: Sequence[Group],
    request: ClaimRequest,
    room: int,
    heads_of: Callable[[Mapping[Group, int]], Mapping[Group, Sequence[int]]],
    untried: Collection[Group] = (),
) -> list[tuple[Group, int]]:
    """What goes, for all the room there is: one each in turn, of owners, of each the origins, of each of these the
    endpoints. `heads_of` says what stands first in some groups, so deep."""
    of_origin: dict[str, int] = {}
    quota: dict[Group, int] = {}
    others, prompt = request.others, request.prompt
    few = min(request.of_origin, request.few)
    for group in groups:
        _, origin, path = group
        most, share = (few, request.of_untried) if group in untried else (request.of_origin, request.of_endpoint)
        of_origin[origin] = most = request.origins.get(origin, most)
        if most > 0:
            least = room if origin in prompt else min(room, others)
            quota[group] = min(most, request.endpoints.get((origin, path), share), least)
    turn = _within_reach(one_each([group for group, most in quota.items() if most > 0]), request, room)
    if not turn or room <= 0:
        return []
    # Twice an even share each: enough to fill the room although some have less, and no more than that is read.
    tried = [group for group in turn if group not in untried] or turn
    tried_others = [group for group in tried if group[1] not in prompt] or turn
    deepest, deepest_of_others = 2 * -(-room // len(tried)), 2 * -(-min(room, others) // len(tried_others))
    heads = heads_of({group: min(quota[group], deepest if group[1] in prompt else deepest_of_others) for group in turn})
    picked: list[tuple[Group, int]] = []
    for group, seq in _by_turns(heads):
        is_other = group[1] not in prompt
        if of_origin[group[1]] <= 0 or (is_other and others <= 0):
            continue
        of_origin[group[1]] -= 1
        others -= is_other
        picked.append((group, seq))
        if len(picked) == room:
            break
    return picked


def _within_reach(groups: Iterable[Group], request: ClaimRequest, room: int) -> list[Group]:
    """The first in turn that could fill the room, and some more, as each may have less than is hoped for. Of those that
    are not prompt there are no more than could fill theirs."""
    others = min(room, request.others) + MORE
    reached: list[Group] = []
    for group in groups:
        if group[1] not in request.prompt:
            others -= 1
            if others < 0:
                continue
        reached.append(group)
        if len(reached) >= room + MORE:
            break
    return reached


def is_served(origin: str, request: ClaimRequest) -> bool:
    """Whether an origin answers, whatever is written down of it."""
    return request.origins.get(origin, 0) > 0 or origin in request.prompt


def one_each(groups: Collection[Group]) -> Iterator[Group]:
    if _are_of_origins_each(groups):
        return iter(groups)
    return (group for group, _ in _by_turns({group: [0] for group in groups}))


def _are_of_origins_each(groups: Collection[Group]) -> bool:
    """Whether they are of one owner, and no two of one origin, as is common: then they go in turn as they stand."""
    return len({owner for owner, _, _ in groups}) == 1 and len({origin for _, origin, _ in groups}) == len(groups)


def _by_turns(heads: Mapping[Group, Sequence[int]]) -> Iterator[tuple[Group, int]]:
    if _are_of_origins_each(heads):
        return in_turn(zip(repeat(group), seqs) for group, seqs in heads.items())
    owners: dict[str, dict[str, list[list[tuple[Group, int]]]]] = defaultdict(lambda: defaultdict(list))
    for group, seqs in heads.items():
        owners[group[0]][group[1]].append([(group, seq) for seq in seqs])
    return in_turn(in_turn(in_turn(endpoints) for endpoints in origins.values()) for origins in owners.values())


def _several(
    connection: Connection, sql: str, name: str, wanted: Sequence[Any], room: int, key: Callable[[Any], Any]
) -> dict[Any, list[Any]]:
    """What a statement finds for each of several keys, under the key."""
    found: dict[Any, list[Any]] = defaultdict(list)
    if wanted:
        for row in gathered(connection, sql, **{name: json.dumps(wanted), "room": room}):
            found[key(row)].append(row)
    return found


def _rotated(found: Sequence[str], after: str, room: int) -> list[str]:
    """Without what comes twice, and the one that had the last turn at the end."""
    unique = dict.fromkeys(found)
    if after in unique:
        del unique[after]
        return [*unique, after][:room]
    return list(unique)[:room]
