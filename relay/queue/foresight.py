"""A claim in one statement: where all that is ready may simply go, what the last claim saw says what to take with the
next. That saves a transaction on a server all its round trips but one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from relay.outbox.queries import statement
from relay.queue.choosing import FEW
from relay.queue.claims import ClaimRequest, Group
from relay.queue.holding import Holder
from relay.queue.turns import Turns, is_served, pick

CLAIM_READY = statement("claim_ready", __package__)
"""A whole claim, with what `Foresight.wanted` asks for: a row for each delivery, as the statement `claimed` has them,
with a column more, which has in the first row what was seen."""


class Foresight:
    """Remembers the groups that the last claim saw, where those were all."""

    def __init__(self, turns: Turns, holder: Holder) -> None:
        self._turns = turns
        self._holder = holder
        self._seen: Sequence[Any] = ()

    def __bool__(self) -> bool:
        """Whether something is ready, for all that was seen with the last claim."""
        return bool(self._seen)

    def see(self, groups: Sequence[Any]) -> None:
        """A claim saw these; nothing where the next one has to look closer."""
        self._seen = groups

    def foresee(self, request: ClaimRequest) -> Counter[Group]:
        """How many to take of which groups, if those that were seen with the last claim are all there are, and simply
        may go. Nothing where a claim has to look closer."""
        if not all(
            (known or is_served(origin, request)) and not whole and not part
            for _, origin, _, known, whole, part in self._seen
        ):
            return Counter()
        groups = [(owner, origin, path) for owner, origin, path, *_ in sorted(self._seen, key=self._turns.place_of)]
        chosen = pick(groups, request, request.room, _whatever_there_is)
        return Counter(group for group, _ in chosen)

    @staticmethod
    def wanted(request: ClaimRequest, asked: Counter[Group]) -> dict[str, Any]:
        """What the statement needs that takes what was foreseen, but for lease and time."""
        return {
            "wanted": json.dumps([(*group, count) for group, count in asked.items()]),
            "keys": json.dumps(list(request.ahead)),
            "most": FEW,
        }

    def note(
        self, request: ClaimRequest, asked: Counter[Group], came: Counter[Group], groups: Sequence[Any]
    ) -> tuple[frozenset[str], bool]:
        """So many came of those that were asked for, and these groups were ready when they were; returns the origins
        that may have more, and whether there are any that could not be asked for, as nobody knew of them."""
        met = sorted(self._seen, key=self._turns.place_of)
        self._turns.remember(met, asked.keys(), reached_all=asked.total() < request.room, in_turn=True)
        self._turns.note_served(dict.fromkeys((group[:2] for group in asked), True))
        self._holder.pass_over()
        known = {tuple(row[:3]) for row in met}
        left = [row for row in groups if came[tuple(row[:3])] >= asked[tuple(row[:3])]]
        self._seen = left if len(groups) < FEW else ()
        return frozenset(row[1] for row in left), any(tuple(row[:3]) not in known for row in groups)


def _whatever_there_is(depths: Mapping[Group, int]) -> Mapping[Group, Sequence[int]]:
    """In place of the heads of some groups, before those are known."""
    return {group: range(depth) for group, depth in depths.items()}
