"""What the admin API and the console have before them: the outbox, the rules in force, and the relay's recent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.admin.probe import Probed
    from relay.admin.recent import RecentAttempts
    from relay.guard.resolver import Resolver
    from relay.guard.rules import Rules
    from relay.outbox.model import Method
    from relay.outbox.store import Database
    from relay.queue.retention import DeliveryRetention
    from relay.service.effective import Setting


@dataclass(frozen=True, slots=True)
class AdminContext:
    """Values, and nothing that could be changed. `in_flight` asks the dispatcher, of `concurrency` at most;
    `probe` sends a test request to a URL, in the event loop of whoever awaits it; `resolver` makes what
    looks hosts up in one event loop; `grafana` is where Grafana has the dashboards, without a slash at its end, or
    empty."""

    database: Database
    rules: Rules
    resolver: Callable[[], Resolver]
    kept: DeliveryRetention
    recent: RecentAttempts
    version: str
    concurrency: int
    in_flight: Callable[[], int]
    environ: Mapping[str, str]
    probe: Callable[[str, Method, int], Awaitable[Probed]]
    settings: Sequence[Setting] = ()
    grafana: str = ""
