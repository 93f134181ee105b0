"""What a relay does now and then beside delivering: count, give up what waited too long, forget what is old."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict

import structlog

from relay.admin import overview
from relay.admin.condition import Severity
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.settler import Settler
from relay.delivery.streams import StreamCarrier
from relay.outbox.store import Database, Listener
from relay.queue.deliveries import DeliveryQueue
from relay.queue.retention import DeliveryRetention, Pruned, prune
from relay.telemetry.metrics import Metrics
from relay.telemetry.store import StoreMetrics

STATS_SECONDS = 5.0
LISTEN_SECONDS = 5.0
JUDGE_SECONDS = 30.0  # a score of statements; alerts on it wait for minutes anyway
EXPIRE_SECONDS = 60.0
RETENTION_SECONDS = 3600.0

log = structlog.get_logger()


async def report_stats(
    metrics: Metrics,
    queue: DeliveryQueue,
    dispatcher: Dispatcher,
    settler: Settler,
    carrier: StreamCarrier,
    slots: int,
) -> None:
    """Have the metrics take over what the moving parts and the outbox count. A destination has that many `slots`."""
    metrics.counted(
        stale=settler.take_stale(),
        lapsed=dispatcher.take_lapsed(),
        ended=Counter(queue.take_ended()) + Counter(carrier.take_ended()),
    )
    with metrics.store.watch("stats"):
        metrics.snapshot(await queue.snapshot(slots))


async def listen(listener: Listener) -> None:
    """Raises StoreUnavailable while notifications cannot come, so that it is told what polling stands in for."""
    listener.check()


async def judge(metrics: Metrics, database: Database) -> None:
    """Have the metrics take over the judgement of relay and receivers that pages say in words."""
    condition = await asyncio.to_thread(overview.condition, database, database.now())
    severity = list(Severity).index(condition.severity)
    metrics.judged(severity, [(one.id, one.cause, one.waiting + one.dead) for one in condition.attention])


async def expire(metrics: StoreMetrics, queue: DeliveryQueue, patience: float) -> None:
    """Give up what has been due for longer than `patience` seconds."""
    # Each slice is a transaction of its own, and between two of them claims have their turn.
    with metrics.watch("expire"):
        while await queue.expire(queue.now() - patience):
            continue


async def forget(metrics: Metrics, database: Database, kept: DeliveryRetention) -> None:
    """One pass of retention, counted and logged."""
    with metrics.store.watch("retention"):
        pruned = await prune(database, kept, database.now())
    metrics.forgotten(pruned)
    if pruned != Pruned():
        log.info("retention.finished", **asdict(pruned))
