"""Which deliveries go next, inside one write transaction: by turns of owner, origin and endpoint, at a cost that does
not grow with how many there are of any of these.

What is pending stands in one of three lanes. *Scheduled* it is not due; *ready* it goes when its turn comes; *held* it
waits for its destination to be asked what it allows (`relay.queue.holding`). Whoever walks past something in the wrong
lane puts it into the right one, a slice at a time: so nothing that may not go stands for long before what may.

Statements gather what they find into one JSON value, which costs less than a row for each of it. What was claimed is
read row by row once that is committed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from relay.outbox.model import Kind, Method
from relay.outbox.queries import statement
from relay.outbox.store import Connection
from relay.policy.attempt import Delivery, Lease
from relay.policy.breaker import Standing
from relay.policy.fairness import in_turn
from relay.queue.holding import HELD, READY, Holder, arm, gathered, set_lane

_FALLEN_DUE = statement("fallen_due", __package__)
_ALL_GROUPS = statement("groups", __package__)
_OWNERS = statement("owners", __package__)
_ORIGINS = statement("origins", __package__)
_ENDPOINTS = statement("endpoints", __package__)
_ARRIVED = statement("arrived", __package__)
_HEADS = statement("heads", __package__)
_BLOCKED = statement("blocked", __package__)
_LEASE = statement("lease", __package__)
CLAIM_READY = statement("claim_ready", __package__)
"""A whole claim, with what `Claimer.foresee` asks for: a row for each delivery, as `Claimer.claimed` reads them, with a
column more, which has in the first row what was seen."""
_CLAIMED = statement("claimed", __package__)
_GONE = statement("gone", __package__)

_SMALL = 8 * 1024
_SLICE = 500  # deliveries that have become due with one claim
_MOVED = 128  # that leave the lane of what is ready with one claim: for these milliseconds nothing else is done
_EACH_MOVED = 16  # of one endpoint, where there are many
_RESTS = 19.0  # times as long as that took, until the next slice: what is in the way has a twentieth of the time
_NEWEST = 64  # deliveries that are looked at, of what came since the last claim
_MORE = 16  # groups that one claim looks at beyond those that can be full: what must not go is moved on
_GROUPS = 64  # that are set aside with one claim, at the most
_FEW = 384  # groups: so many are looked at all at once
_EACH = 4  # endpoints of each of them
_MANY = 32  # where there are more, twice so many are, besides those that were served lately
_LATELY = 256  # origins that are looked at with each claim while others are too many
_CROWD = 128  # groups that were never tried and have no room: more of them are set aside, as each claim meets them all
_REMEMBERED = 10_000
# A string is looked up for every row otherwise.
_METHODS = {method.value: method for method in Method}
_KINDS = {kind.value: kind for kind in Kind}

Claimed = tuple[Delivery, bytes | None]
"""A delivery, and its body where that is small."""
DestinationKey = tuple[str, str]
"""An origin, and the path of an endpoint of it; '' for the origin as a whole."""
Group = tuple[str, str, str]
"""What has one turn: an owner, and an endpoint."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a relay has room for: in all, of one origin and of one endpoint, where `origins` and `endpoints` do not say
    how much more of those that it holds some of.

    `silent` is the room for deliveries to those whose latest attempt was not answered, `untried` for how many more
    origins that never were tried; `few` is how much of either one origin may take, `of_untried` how much of the latter
    one endpoint may. For those in `ahead` something is held that was not started. Origins that are `prompt` answered a
    moment ago, whatever is written down of them so far: `others` is the room for all that are not.
    """

    room: int
    of_origin: int = 16
    of_endpoint: int = 16
    silent: int = 64
    untried: int = 192
    few: int = 4
    of_untried: int = 16
    origins: Mapping[str, int] = field(default_factory=dict)
    endpoints: Mapping[DestinationKey, int] = field(default_factory=dict)
    ahead: Collection[DestinationKey] = ()
    prompt: Container[str] = ()
    others: int = 10_000


@dataclass(frozen=True, slots=True)
class DueLanes:
    """The lanes in which a claim would find something: ready, become due, or held with its turn come."""

    ready: bool = True
    due: bool = True
    held: bool = True


@dataclass(slots=True)
class ClaimBatch:
    """What one claim took: the seqs, how the destinations among theirs stand that may not answer, and whether there is
    more to see to, as something changed its lane: after a `pause`, in seconds, where that can wait."""

    seqs: list[int] = field(default_factory=list)
    standing: dict[DestinationKey, Standing] = field(default_factory=dict)
    more: bool = False
    pause: float = 0.0


class Claimer:
    """Remembers whose turn it is."""

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._holder = Holder()
        self._owner = ""
        self._origin: dict[str, str] = {}
        self._path: dict[tuple[str, str], str] = {}
        self._many = False
        self._rests_until = 0.0  # monotonic; until then nothing is set aside, and of many only some are looked at
        self._several = False  # groups were found when all were looked for last
        self._moves = False  # there was something to set aside when it was looked for last
        self._seen: Sequence[Any] = ()  # groups that were found with the last claim, where those were all
        self._unseen = False  # of many, not all were looked at, and there was room for more
        self._newest = 0
        self._lately: dict[tuple[str, str], None] = {}  # owners and origins, the one that was served last at the end

    def lease(
        self, connection: Connection, request: ClaimRequest, lanes: DueLanes, token: str, now: float
    ) -> ClaimBatch:
        """Choose, and claim what was chosen under a token."""
        batch, self._seen = ClaimBatch(), ()
        if lanes.due:
            batch.more |= self._promote(connection, now)
        freed = False
        if lanes.held or lanes.due:
            freed = self._holder.ask(connection, request, batch, now)
            batch.more |= freed
        else:
            self._holder.crowded = False
        if lanes.ready or lanes.due or freed:
            self._choose(connection, request, batch, now)
        if batch.seqs:
            values = {"token": token, "until": now + self._lease, "seqs": json.dumps(batch.seqs)}
            connection.execute(_LEASE, values)
        return batch

    def foresee(self, request: ClaimRequest) -> Counter[Group]:
        """How many to take of which groups, if those that were seen with the last claim are all there are, and simply
        may go. Nothing where a claim has to look closer."""
        if self._moves or not all(
            (known or _is_served(origin, request)) and not whole and not part
            for _, origin, _, known, whole, part in self._seen
        ):
            return Counter()
        groups = [(owner, origin, path) for owner, origin, path, *_ in sorted(self._seen, key=self._turn_of)]
        chosen = self._pick(groups, request, request.room, _whatever_there_is)
        return Counter(group for group, _ in chosen)

    def ready_claim(self, request: ClaimRequest, asked: Counter[Group]) -> dict[str, Any]:
        """What the statement needs that takes what was foreseen, but for lease and time."""
        return {
            "wanted": json.dumps([(*group, count) for group, count in asked.items()]),
            "keys": json.dumps(list(request.ahead)),
            "most": _FEW,
            "small": _SMALL,
        }

    def note_foreseen(
        self, request: ClaimRequest, asked: Counter[Group], came: Counter[Group], groups: Sequence[Any]
    ) -> bool:
        """So many came of those that were asked for, and these groups were ready when they were; returns whether there
        are any that could not be asked for, as nobody knew of them."""
        met = sorted(self._seen, key=self._turn_of)
        self._remember(met, asked.keys(), reached_all=asked.total() < request.room, in_turn=True)
        self._note_served(dict.fromkeys(group[:2] for group in asked))
        self._holder.crowded = False
        known = {tuple(row[:3]) for row in met}
        few = groups if len(groups) < _FEW else ()
        self._seen = [row for row in few if came[tuple(row[:3])] >= asked[tuple(row[:3])]]
        return any(tuple(row[:3]) not in known for row in groups)

    @property
    def foresees(self) -> bool:
        """Whether something is ready, for all that was seen with the last claim."""
        return bool(self._seen)

    def _promote(self, connection: Connection, now: float) -> bool:
        """What has become due goes to its lane; returns whether there may be more."""
        due = gathered(connection, _FALLEN_DUE, now=now, slice=_SLICE)
        held = [row for row in due if row[4] or row[5]]
        set_lane(connection, READY, [row[0] for row in due if not (row[4] or row[5])])
        set_lane(connection, HELD, [row[0] for row in held])
        arm(connection, {(origin, path if part else ""): owner for _, owner, origin, path, _, part in held}, now)
        return len(due) == _SLICE

    def _choose(self, connection: Connection, request: ClaimRequest, batch: ClaimBatch, now: float) -> None:
        """Take what is ready, in turn; what must not go now leaves the lane."""
        began = time.monotonic()
        rests = began < self._rests_until
        in_part = rests and self._several
        groups = self._groups(connection, request, in_part=in_part)
        self._seen = () if in_part or self._many else groups
        self._several = in_part or len(groups) > 2 * _MANY
        free: list[Group] = []
        untried: dict[Group, None] = {}
        held: dict[Group, DestinationKey] = {}
        for owner, origin, path, known, whole, part in groups:
            group = (owner, origin, path)
            if whole or part:
                held[group] = (origin, path if part else "")
            elif known or _is_served(origin, request):
                free.append(group)
            else:
                untried[group] = None
        room, asked = request.room - len(batch.seqs), [*batch.standing.values()].count(Standing.UNTRIED)
        newcomers = request.untried - min(asked, request.untried // 2)
        strangers = dict.fromkeys(origin for _, origin, _ in _one_each(untried) if origin not in request.origins)
        begun = set(islice(strangers, newcomers))
        going = {group: None for group in untried if group[1] in begun}
        chosen = self._pick([*free, *going], request, room, partial(_heads, connection), going)
        picked = {group for group, _ in chosen}
        batch.seqs += [seq for _, seq in chosen]
        batch.standing |= {(origin, ""): Standing.UNTRIED for _, origin, _ in picked & going.keys()}
        self._remember(groups, picked, reached_all=room > len(chosen), in_turn=not in_part)
        self._note_served(dict.fromkeys(group[:2] for group, _ in chosen if group not in going))
        crowd = {group: (group[1], "") for group in untried if group not in going}
        if not (self._many or self._holder.crowded or len(crowd) > _CROWD):
            crowd = {}
        if not rests:
            self._holder.crowded |= bool(crowd)
            self._moves = _set_aside(connection, held, now) or _set_aside(connection, crowd, now, tried=False)
            self._unseen = self._many and room > len(chosen)
            if self._moves or (self._unseen and not chosen) or _in_the_way(groups, request) > _MANY:
                self._rests_until = time.monotonic() + _RESTS * (time.monotonic() - began)
        if self._moves or self._unseen:
            batch.more, batch.pause = True, max(0.0, self._rests_until - time.monotonic())

    @staticmethod
    def _pick(
        groups: Sequence[Group],
        request: ClaimRequest,
        room: int,
        heads_of: Callable[[Mapping[Group, int]], Mapping[Group, Sequence[int]]],
        untried: Collection[Group] = (),
    ) -> list[tuple[Group, int]]:
        """One each in turn: of owners, of each the origins, of each of these the endpoints."""
        of_origin: dict[str, int] = {}
        quota: dict[Group, int] = {}
        others = request.others
        for group in groups:
            _, origin, path = group
            most = request.of_origin if group not in untried else min(request.of_origin, request.few)
            of_origin[origin] = request.origins.get(origin, most)
            share = request.of_untried if group in untried else request.of_endpoint
            least = room if origin in request.prompt else min(room, others)
            quota[group] = min(of_origin[origin], request.endpoints.get((origin, path), share), least)
        turn = list(islice(_one_each(group for group in groups if quota[group] > 0), room + _MORE))
        if not turn or room <= 0:
            return []
        # Twice an even share each: enough to fill the room although some have less, and no more than that is read.
        deepest = 2 * -(-room // (len([group for group in turn if group not in untried]) or len(turn)))
        heads = heads_of({group: min(quota[group], deepest) for group in turn})
        picked: list[tuple[Group, int]] = []
        for group, seq in _by_turns(heads):
            is_other = group[1] not in request.prompt
            if of_origin[group[1]] <= 0 or (is_other and others <= 0):
                continue
            of_origin[group[1]] -= 1
            others -= is_other
            picked.append((group, seq))
            if len(picked) == room:
                break
        return picked

    def _groups(self, connection: Connection, request: ClaimRequest, *, in_part: bool) -> list[Any]:
        """Groups with something ready, round robin after those that had their turn: all while they are few, or else as
        many as could fill the room, and as many more as may be full. `in_part`: only those that answered a moment ago,
        and what came since the last claim."""
        if in_part:
            prompt = [pair for pair in self._lately if pair[1] in request.prompt]
            return self._endpoints(connection, list(dict.fromkeys([*prompt, *self._arrived(connection)])), _EACH)
        if not self._many:
            found: list[Any] = gathered(connection, _ALL_GROUPS, most=_FEW)
            if len(found) < _FEW:
                return sorted(found, key=self._turn_of)
        arrived = self._arrived(connection)
        found = self._several_groups(connection, request, arrived)
        self._many = len(found) >= 2 * _MANY
        return found

    def _arrived(self, connection: Connection) -> list[tuple[str, str]]:
        """Owners and origins of what came since the last claim: a new one does not wait behind a crowd either."""
        newest, found = gathered(connection, _ARRIVED, after=self._newest, room=_NEWEST)
        self._newest = max(self._newest, newest)
        return [(owner, origin) for owner, origin in found]

    def _turn_of(self, group: Sequence[Any]) -> tuple[bool, str, bool, str, bool, str]:
        """In each of the three rings those come first that are behind the one that had the last turn."""
        owner, origin, path, *_ = group
        last, latest = self._origin.get(owner, ""), self._path.get((owner, origin), "")
        return owner <= self._owner, owner, origin <= last, origin, path <= latest, path

    def _several_groups(
        self, connection: Connection, request: ClaimRequest, arrived: Iterable[tuple[str, str]]
    ) -> list[Any]:
        room = min(request.room + len(request.endpoints) + _MORE, _MANY)
        owners = self._owners(connection, room)
        origins = self._origins(connection, owners, max(1, 2 * room // max(1, len(owners))))
        # Whoever is served all the time does not wait until the ring has come to it through a crowd.
        origins = list(dict.fromkeys([*self._lately, *arrived, *origins]))
        return self._endpoints(connection, origins, max(1, 2 * room // max(1, len(origins))))

    def _remember(self, groups: Sequence[Any], picked: Collection[Group], *, reached_all: bool, in_turn: bool) -> None:
        """Whose turn it was. Full ones have had theirs too: they must not hide those behind them from the next one.
        Where they were not looked at in turn, only that of paths."""
        for remembered in (self._origin, self._path):
            if len(remembered) > _REMEMBERED:
                remembered.clear()
        met = [(owner, origin, path) for owner, origin, path, *_ in groups]
        served = {owner for owner, _, _ in picked}
        reached = {pair[:2] for pair in picked}
        for owner, origin, path in met:
            if in_turn and (owner in served or reached_all):
                self._owner = owner
            if in_turn and ((owner, origin) in reached or (reached_all and owner not in served)):
                self._origin[owner] = origin
            if (owner, origin, path) in picked or (reached_all and (owner, origin) not in reached):
                self._path[owner, origin] = path

    def _note_served(self, origins: Mapping[tuple[str, str], None]) -> None:
        for origin in origins:
            self._lately.pop(origin, None)
        self._lately |= origins
        for origin in list(self._lately)[: max(0, len(self._lately) - _LATELY)]:
            del self._lately[origin]

    def _owners(self, connection: Connection, room: int) -> list[str]:
        found: list[str] = gathered(connection, _OWNERS, after=self._owner, room=room)
        if self._owner and len(found) < room:
            found += gathered(connection, _OWNERS, after="", room=room)
        return _rotated(found, self._owner, room)

    def _origins(self, connection: Connection, owners: Sequence[str], room: int) -> list[tuple[str, str]]:
        after = {owner: self._origin.get(owner, "") for owner in owners}
        found = _several(connection, _ORIGINS, "owners", list(after.items()), room)
        short = [(owner, "") for owner in owners if after[owner] and len(found[(owner,)]) < room]
        again = _several(connection, _ORIGINS, "owners", short, room) if short else {}
        rotated = {
            owner: _rotated([row[1] for row in [*found[(owner,)], *again.get((owner,), ())]], after[owner], room)
            for owner in owners
        }
        return [(owner, origin) for owner in owners for origin in rotated[owner]]

    def _endpoints(self, connection: Connection, origins: Sequence[tuple[str, str]], room: int) -> list[Any]:
        after = {pair: self._path.get(pair, "") for pair in origins}
        found = _several(connection, _ENDPOINTS, "origins", [(*pair, at) for pair, at in after.items()], room)
        short = [(*pair, "") for pair in origins if after[pair] and len(found[pair]) < room]
        again = _several(connection, _ENDPOINTS, "origins", short, room) if short else {}
        result: list[Any] = []
        for pair in origins:
            rows = {row[2]: row for row in [*found[pair], *again.get(pair, ())]}
            result += [rows[path] for path in _rotated(list(rows), after[pair], room)]
        return result

    def claimed(self, connection: Connection, seqs: Sequence[int], token: str) -> list[Claimed]:
        """What was leased under a token, in the order in which it was due."""
        if not seqs:
            return []
        rows = connection.execute(_CLAIMED, {"seqs": json.dumps(seqs), "small": _SMALL}).fetchall()
        return claimed_of(rows, token, gone_of(connection, rows))

    def blocked(
        self, connection: Connection, keys: Iterable[DestinationKey]
    ) -> tuple[frozenset[DestinationKey], frozenset[DestinationKey]]:
        """Which of these endpoints are held, and which of those because an operator said so."""
        wanted = list(keys)
        return blocked_of(connection.execute(_BLOCKED, {"keys": json.dumps(wanted)}).fetchall() if wanted else ())


def blocked_of(rows: Iterable[Sequence[Any]]) -> tuple[frozenset[DestinationKey], frozenset[DestinationKey]]:
    """Which endpoints are held, by rows that name these, and which of those because an operator said so."""
    found = {(origin, path): bool(stopped) for origin, path, stopped in rows}
    return frozenset(found), frozenset(key for key, stopped in found.items() if stopped)


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


def gone_of(connection: Connection, rows: Iterable[Sequence[Any]]) -> frozenset[str]:
    """Which URLs among claimed rows answered 410."""
    urls = [row[3] for row in rows if row[-2]]
    known = {url: connection.execute(_GONE, {"sha256": fingerprint(url)}).fetchone() for url in urls}
    return frozenset(url for url, since in known.items() if since is not None)


def claimed_of(rows: Iterable[Sequence[Any]], token: str, gone: Container[str]) -> list[Claimed]:
    """What claimed rows say, of which these URLs answered 410."""
    return [_claimed(row, token, gone) for row in rows]


def _claimed(row: Sequence[Any], token: str, gone: Container[str]) -> Claimed:
    seq, id_, origin, url, method, kind, content_type, headers, *rest, lane, _, body = row
    rest += (lane == HELD, url in gone)
    delivery = Delivery(
        Lease(seq, token),
        id_,
        origin,
        url,
        _METHODS[method],
        _KINDS[kind],
        content_type,
        json.loads(headers) if headers != "{}" else {},
        *rest,
    )
    return delivery, body


def fingerprint(url: str) -> str:
    """By which a URL that answered 410 is known: it may hold secrets."""
    return hashlib.sha256(url.encode()).hexdigest()


def _is_served(origin: str, request: ClaimRequest) -> bool:
    """Whether an origin answers, whatever is written down of it."""
    return request.origins.get(origin, 0) > 0 or origin in request.prompt


def _whatever_there_is(depths: Mapping[Group, int]) -> Mapping[Group, Sequence[int]]:
    """In place of the heads of some groups, before those are known."""
    return {group: range(depth) for group, depth in depths.items()}


def _several(connection: Connection, sql: str, name: str, wanted: Sequence[Any], room: int) -> dict[Any, list[Any]]:
    """What a statement finds for each of several keys, under the key."""
    found: dict[Any, list[Any]] = defaultdict(list)
    if wanted:
        for row in gathered(connection, sql, **{name: json.dumps(wanted), "room": room}):
            found[tuple(row[: len(wanted[0]) - 1])].append(row)
    return found


def _rotated(found: Sequence[str], after: str, room: int) -> list[str]:
    """Without what comes twice, and the one that had the last turn at the end."""
    unique = dict.fromkeys(found)
    if after in unique:
        del unique[after]
        return [*unique, after][:room]
    return list(unique)[:room]


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


def _one_each(groups: Iterable[Group]) -> Iterator[Group]:
    return (group for group, _ in _by_turns({group: [0] for group in groups}))


def _by_turns(heads: Mapping[Group, Sequence[int]]) -> Iterator[tuple[Group, int]]:
    owners: dict[str, dict[str, list[list[tuple[Group, int]]]]] = defaultdict(lambda: defaultdict(list))
    for group, seqs in heads.items():
        owners[group[0]][group[1]].append([(group, seq) for seq in seqs])
    return in_turn(in_turn(in_turn(endpoints) for endpoints in origins.values()) for origins in owners.values())
