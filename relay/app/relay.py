"""One relay: its parts, wired, and who hears of what they do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import lru_cache, partial
from importlib.metadata import version

import structlog

from relay.app import periodic
from relay.app.settings import RelaySection, RelaySettings
from relay.delivery.courier import Courier
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.service import LoopIntervals, PeriodicTask, Service
from relay.delivery.settler import Settler
from relay.delivery.slot_share import CHECK_SECONDS, SlotShare
from relay.delivery.slots import Slots
from relay.delivery.stream_session import Gateway
from relay.delivery.streams import StreamCarrier, StreamPace
from relay.guard.resolver import Resolver
from relay.guard.url import LIVE, PRE_RECORDED, Target, read
from relay.outbox.errors import StoreUnavailable
from relay.outbox.model import KillReason
from relay.outbox.store import Database, Listener
from relay.policy import request_headers
from relay.policy.attempt import Attempted, HeldStream
from relay.policy.pointer import Pointers
from relay.queue.deliveries import DeliveryQueue
from relay.queue.streams import LiveStreams
from relay.service.health import measure_loop_lag
from relay.service.log import count_lines
from relay.service.tls import tls_context
from relay.service.traces import Spans
from relay.service.watch import FileWatch
from relay.telemetry.log import AttemptLog
from relay.telemetry.metrics import CurrentGauges, Metrics
from relay.telemetry.store import MeasuredQueue
from relay.telemetry.traces import AttemptSpans
from relay.transports.exchange import ExchangeBounds
from relay.transports.http import HttpTransport
from relay.transports.websocket import WebSocketTransport
from relay.transports.websocket_connection import WebSocketBounds

USER_AGENT = f"Outspoken/{version('outspoken')}"

_UNHEARD = (
    "outbox.url leads to a pooler that keeps notifications to itself, and what is added waits for a poll (250 ms): "
    "name the server itself, or a pool whose mode is session"
)
_URLS = 4096  # the guard's readings that are kept: most callers have one callback URL

log = structlog.get_logger()


def build_transport(settings: RelaySettings, resolver: Resolver) -> HttpTransport:
    """What sends requests; the guard judges every address that it dials."""
    options = settings.relay
    bounds = ExchangeBounds(
        connect_timeout=options.http.connect_timeout,
        exchange_timeout=options.http.exchange_timeout,
        idle_per_origin=options.per_destination,
        idle_in_all=2 * options.concurrency,
    )
    return HttpTransport(resolver, bounds, tls_context(options.http.ca_file), options.http.forward_proxy())


class Observers:
    """Who hears what came of attempts and streams once it is durable: metrics, log, spans, and the console's `recent`.

    Raises ConfigError where spans are asked for and their extra is not installed.
    """

    def __init__(self, options: RelaySection, recent: Callable[[Sequence[Attempted]], None]) -> None:
        self.metrics = Metrics(options.concurrency)
        self.lines = count_lines()
        log = AttemptLog(options.log.level, options.log.format, "relay", self.lines)
        self._spans = Spans(options.traces.endpoint, "relay") if options.traces.endpoint else None
        spans = [AttemptSpans(self._spans)] if self._spans else []
        self._of_attempts: tuple[Callable[[Sequence[Attempted]], None], ...] = (log, self.metrics, recent, *spans)

    def attempted(self, attempts: Sequence[Attempted]) -> None:
        """Tell them of attempts that are durable."""
        for observer in self._of_attempts:
            observer(attempts)

    def finished(self, reason: KillReason | None) -> None:
        """Tell them of a stream that was closed, or killed for a reason."""
        self.metrics.streams.finished(reason)

    async def close(self) -> None:
        """Send the spans that wait, within their exporter's own time."""
        if self._spans:
            await asyncio.to_thread(self._spans.close)


class Relay:
    """What delivers requests, what carries streams, and what is done beside both. `secret` signs links to results."""

    def __init__(self, settings: RelaySettings, database: Database, secret: bytes, observers: Observers) -> None:
        options, metrics = settings.relay, observers.metrics
        wake, wake_carrier = asyncio.Event(), asyncio.Event()
        self.watch = FileWatch(database)
        self._queue = queue = DeliveryQueue(database, options.lease_seconds)
        self._streams = LiveStreams(database, options.streams.hold_seconds)
        self._listener = database.listener(wake, wake_carrier)
        resolver = settings.outbox.guard.resolver()
        self._transport = build_transport(settings, resolver)
        self._loop_lag = metrics.loops.lag
        measured = MeasuredQueue(queue, metrics.store)
        self.settler = Settler(measured, observers.attempted, wake)
        courier = _courier(settings, database, secret, queue, self._transport)
        slots = Slots(options.concurrency, options.per_destination, timeout=options.http.exchange_timeout)
        slot_share = SlotShare(options.per_destination)
        self.dispatcher = Dispatcher(
            measured, courier.deliver, self.settler, slots, wake, slot_share.share, options.lease_seconds
        )
        self.carrier = _carrier(
            settings, database, resolver, self._streams, queue, observers, wake_carrier, self._listener
        )
        self.service = Service(
            self.dispatcher,
            self.settler,
            queue=queue,
            wake=wake,
            observer=metrics.loops,
            periodic=[
                ("check_in", CHECK_SECONDS, partial(slot_share.check_in, queue.group, wake)),
                *self._periodic(options, database, metrics),
            ],
            pace=LoopIntervals(poll=lambda: self._listener.poll_seconds, renew=options.lease_seconds / 3),
        )
        CurrentGauges(
            metrics.registry,
            draining=lambda: self.service.draining,
            in_flight=lambda: self.dispatcher.in_flight,
            held=lambda: self.carrier.held,
            lines=observers.lines,
        )

    def _periodic(self, options: RelaySection, database: Database, metrics: Metrics) -> list[PeriodicTask]:
        counted = (self._queue, self.dispatcher, self.settler, self.carrier)
        stats = partial(periodic.report_stats, metrics, *counted, options.per_destination)
        expire = partial(periodic.expire, metrics.store, self._queue, options.retry.patience)
        retention = partial(periodic.forget, metrics, database, options.retention.kept())
        return [
            ("stats", periodic.STATS_SECONDS, stats),
            ("listen", periodic.LISTEN_SECONDS, partial(periodic.listen, self._listener)),
            ("judge", periodic.JUDGE_SECONDS, partial(periodic.judge, metrics, database)),
            ("expire", periodic.EXPIRE_SECONDS, expire),
            ("retention", periodic.RETENTION_SECONDS, retention),
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sockets and files are held inside of the block, and given back in reverse. `run` in there."""
        async with AsyncExitStack() as stack:
            stack.callback(self.watch.close)
            for close in (self._queue.close, self._streams.close, self._transport.aclose):
                stack.push_async_callback(close)
            await self._listener.open()
            stack.push_async_callback(self._listener.close)
            if not self._listener.hears:
                log.warning("store.unheard", remedy=_UNHEARD)
            lag = asyncio.create_task(measure_loop_lag(self._loop_lag), name="loop lag")
            stack.callback(lag.cancel)
            watching = asyncio.create_task(self.watch.until_replaced(self.stop), name="watch")
            stack.callback(watching.cancel)
            yield

    async def run(self, drain_seconds: float) -> None:
        """Deliver until `stop`; then let what is under way end, for `drain_seconds`. Raises StoreUnavailable where the
        database's file was replaced, which stops it too."""
        await asyncio.gather(self.service.run(drain_seconds), self.carrier.run(drain_seconds))
        with suppress(StoreUnavailable):  # it will be missed soon enough
            await self._queue.group.leave()
        self.watch.complain()

    def stop(self) -> None:
        """Take nothing more; `run` returns when what is under way has ended."""
        self.service.stop()
        self.carrier.stop()


def _courier(
    settings: RelaySettings, database: Database, secret: bytes, queue: DeliveryQueue, transport: HttpTransport
) -> Courier:
    options, rules = settings.relay, settings.outbox.guard.rules()
    base = settings.outbox.public_url
    return Courier(
        source=queue,
        transport=transport,
        read=lru_cache(_URLS)(partial(read, rules=rules, schemes=PRE_RECORDED)),
        policy=options.retry.policy(),
        # A link opens for as long as the body behind it is kept.
        pointers=Pointers(base, secret, options.retention.bodies) if base else None,
        user_agent=USER_AGENT,
        dice=random.Random().random,  # noqa: S311 (jitter is no secret)
        clock=database.now,
    )


def _carrier(
    settings: RelaySettings,
    database: Database,
    resolver: Resolver,
    streams: LiveStreams,
    queue: DeliveryQueue,
    observers: Observers,
    wake: asyncio.Event,
    listener: Listener,
) -> StreamCarrier:
    chosen, http = settings.relay.streams, settings.relay.http
    bounds = WebSocketBounds(
        open_timeout=chosen.open_timeout, ping_seconds=chosen.ping_seconds, pong_timeout=chosen.pong_timeout
    )

    async def seal(stream: HeldStream, target: Target, now: float) -> request_headers.Headers:
        keys = await queue.keys(stream.origin)
        return request_headers.handshake(stream.id, stream.key, target, USER_AGENT, stream.headers, keys, now)

    gateway = Gateway(
        streams,
        WebSocketTransport(resolver, bounds, tls_context(http.ca_file), http.forward_proxy()),
        read=partial(read, rules=resolver.rules, schemes=LIVE - PRE_RECORDED),
        seal=seal,
        clock=database.now,
    )
    return StreamCarrier(
        gateway,
        observer=observers,
        loops=observers.metrics.loops,
        wake=wake,
        sockets=chosen.sockets,
        pace=StreamPace(poll=lambda: listener.poll_seconds, hold=chosen.hold_seconds),
    )
