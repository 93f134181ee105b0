"""What a relay asks for with a claim, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.policy.attempt import Delivery, Lease
from relay.policy.breaker import Standing

DestinationKey = tuple[str, str]
"""An origin, and the path of an endpoint of it; '' for the origin as a whole."""
OwnersOrigin = tuple[str, str]
"""An owner, and an origin."""
Group = tuple[str, str, str]
"""What has one turn: an owner, and an endpoint."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a relay has room for: in all, of one origin and of one endpoint, where `origins` and `endpoints` do not say
    how much more of those that it holds some of.

    `silent` is the room for deliveries to those whose latest attempt was not answered, `untried` for how many more
    origins that never were tried; `few` is how much of either one origin may take, `of_untried` how much of the latter
    one endpoint may. For those in `ahead` something is held that was not started. Origins that are `prompt` answered a
    moment ago, whatever is written down of them so far: `others` is the room for all that are not. Those in `met`
    may not have answered, and have since the last claim: what else waits for them goes while a connection is open.
    `held` is asked only where leases have run out: what this relay has in hand is kept, whatever its clock says.
    Where `others_wait`, enough is held of those that are not prompt: of them, only what came since is looked at.
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
    met: Sequence[OwnersOrigin] = ()
    held: Callable[[], Sequence[Lease]] = tuple
    others_wait: bool = False


@dataclass(frozen=True, slots=True)
class DueLanes:
    """The lanes in which a claim would find something: ready, become due, or held with its turn come."""

    ready: bool = True
    due: bool = True
    held: bool = True


READY_ALONE = DueLanes(ready=True, due=False, held=False)


@dataclass(slots=True)
class ClaimBatch:
    """What one claim took: the seqs, how the destinations among theirs stand that may not answer, and whether there is
    more to see to, as something changed its lane: after a `pause`, in seconds, where that can wait. `groups` are those
    that were found, as rows, where they were all and may simply go on; `left` are the origins that were met and may
    have more that is ready; `newest` is the last of what came that was looked at."""

    seqs: list[int] = field(default_factory=list)
    standing: dict[DestinationKey, Standing] = field(default_factory=dict)
    groups: Sequence[Any] = ()
    left: frozenset[str] = frozenset()
    more: bool = False
    pause: float = 0.0
    newest: int = 0


@dataclass(frozen=True, slots=True)
class Claims:
    """What one claim brought: the deliveries, and how many leases of others (or our past) had expired.

    Of the endpoints that the caller has deliveries ahead for, `blocked` are in trouble: what was claimed of them before
    goes back; and `stopped` are those that an operator paused or disabled. `standing` is that of the destinations of
    what was claimed that may not answer. Origins in `left` may have more that is ready. With `more`, another claim is
    worth while, after a `pause` in seconds.
    """

    deliveries: tuple[Delivery, ...] = ()
    lapsed: int = 0
    blocked: frozenset[DestinationKey] = frozenset()
    stopped: frozenset[DestinationKey] = frozenset()
    standing: Mapping[DestinationKey, Standing] = field(default_factory=dict)
    left: frozenset[str] = frozenset()
    more: bool = False
    pause: float = 0.0
