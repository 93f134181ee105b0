"""Puts the relay together and runs it until a signal: the only place that knows every room."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import msgspec
import structlog
from aiohttp import web

from relay.admin import keys
from relay.admin import probe as probing
from relay.admin.auth import Gate, token_of
from relay.admin.context import AdminContext
from relay.admin.probe import Probed
from relay.admin.recent import AttemptBuffer, AttemptGroup, RecentAttempts
from relay.admin.site import application
from relay.app.settings import Configuration, RelaySettings
from relay.delivery.courier import Courier, Transport
from relay.delivery.dispatcher import Dispatcher, Slots
from relay.delivery.fleet import CHECK_SECONDS, Fleet
from relay.delivery.service import Pace, Service
from relay.delivery.settler import Settler
from relay.delivery.stream_session import Gateway
from relay.delivery.streams import StreamCarrier, StreamPace
from relay.guard.resolver import Resolver
from relay.guard.url import LIVE, PRE_RECORDED, Target, read
from relay.outbox.errors import ConfigError, StoreUnavailable
from relay.outbox.migrations import OUTBOX
from relay.outbox.model import KillReason, Method
from relay.outbox.results import secret as secret_of
from relay.outbox.store import Database
from relay.policy import sealing
from relay.policy.attempt import Attempted
from relay.policy.pointer import Pointers
from relay.queue.deliveries import DeliveryQueue
from relay.queue.retention import Pruned, prune
from relay.queue.streams import HeldStream, LiveStreams
from relay.service.configfile import Setting
from relay.service.health import Check, measure_loop_lag, routes
from relay.service.log import count_lines
from relay.service.systemd import Supervisor
from relay.service.traces import Spans
from relay.telemetry.log import AttemptLog
from relay.telemetry.metrics import CurrentGauges, Metrics
from relay.telemetry.store import MeasuredQueue
from relay.telemetry.traces import AttemptSpans
from relay.transports.aiohttp_client import AiohttpTransport
from relay.transports.exchange import Bounds
from relay.transports.http import HttpTransport
from relay.transports.websocket import SocketBounds, WebSocketTransport

_STALLED_SECONDS = 30.0
_STATS_SECONDS = 5.0
_EXPIRE_SECONDS = 60.0
_RETENTION_SECONDS = 3600.0
_GOODBYE_SECONDS = 1.0
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE_BLOCK = 8 * 1024 * 1024
_COLLECT_AFTER = 20_000  # objects that a cycle could hide
_USER_AGENT = f"Outspoken/{version('outspoken')}"
_URLS = 4096  # the guard's readings that are kept: most callers have one callback URL

log = structlog.get_logger()


STATUS_PATH = "/status"
"""Where a worker tells its status, beside what every relay serves."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a worker says when it is asked: turns of its claim loop, attempts under way, and those that ended."""

    turns: int
    in_flight: int
    groups: list[AttemptGroup]


class ClosableTransport(Transport, Protocol):
    """A transport that holds connections until it is closed."""

    async def aclose(self) -> None:
        """Close them, and wait until they are."""


TransportFactory = Callable[[RelaySettings, Resolver], ClosableTransport]
"""Builds the transport of a relay; the resolver is the guard for every address that it dials."""


def build_transport(options: RelaySettings, resolver: Resolver) -> ClosableTransport:
    """Our own client; aiohttp's where a forward proxy is configured."""
    bounds = Bounds(
        connect_timeout=options.http.connect_timeout,
        exchange_timeout=options.http.exchange_timeout,
        idle_per_origin=options.per_destination,
        idle_in_all=2 * options.concurrency,
    )
    if options.http.proxy:
        return AiohttpTransport(resolver, bounds, proxy=options.http.proxy)
    return HttpTransport(resolver, bounds)


async def run(
    settings: Configuration, build: TransportFactory = build_transport, in_force: Sequence[Setting] = ()
) -> None:
    """Deliver until SIGTERM or SIGINT, then drain. A second signal leaves at once. `in_force` is for operators to look
    at."""
    database, options = settings.outbox.database, settings.relay
    announce(settings)
    await prepare(database)
    async with AsyncExitStack() as stack:
        secret = await asyncio.to_thread(load_secret, database)
        recent = RecentAttempts(database.now())
        relay = Relay(settings, database, secret, stack, build, recent)
        await relay.open()
        supervisor = Supervisor(os.environ)
        _obey_signals(relay, supervisor)
        address = await _serve(stack, options, relay)
        operators = operators_site(settings, database, recent, lambda: relay.in_flight, in_force=in_force)
        admin = await listen(stack, operators, options.admin.host, options.admin.port, "relay.admin")
        log.info("relay.ready", metrics=f"http://{address}/metrics", admin=f"http://{admin}/")
        _tune_runtime()
        supervisor.ready()
        stack.callback(asyncio.create_task(supervisor.feed(lambda: relay.service.turns)).cancel)
        await relay.run(options.drain_seconds)
    log.info("relay.stopped")


async def work(settings: Configuration, door: Path, orphaned: asyncio.Event) -> None:
    """The same as one worker of several: what a machine asks, and its status, stand behind the `door`, a
    Unix socket. Any number of signals mean the same, and so does it to be `orphaned`: drain."""
    database, options = settings.outbox.database, settings.relay
    buffer = AttemptBuffer()
    async with AsyncExitStack() as stack:
        secret = await asyncio.to_thread(_secret, database)
        relay = Relay(settings, database, secret, stack, build_transport, buffer)
        await relay.open()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, relay.stop)
        await _open_door(stack, door, relay, buffer)
        _tune_runtime()
        stack.callback(asyncio.create_task(_stop_when(orphaned, relay)).cancel)
        await relay.run(options.drain_seconds)


async def _stop_when(orphaned: asyncio.Event, relay: Relay) -> None:
    await orphaned.wait()
    log.warning("worker.orphaned")
    relay.stop()


async def _open_door(stack: AsyncExitStack, door: Path, relay: Relay, buffer: AttemptBuffer) -> None:
    async def status(_: web.Request) -> web.Response:
        now = WorkerStatus(relay.service.turns, relay.in_flight, buffer.take())
        return web.Response(body=msgspec.json.encode(now), content_type="application/json")

    site = web.Application()
    site.add_routes([*routes(relay.metrics.registry, relay.checks()), web.get(STATUS_PATH, status)])
    runner = web.AppRunner(site, access_log=None, shutdown_timeout=_GOODBYE_SECONDS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.UnixSite(runner, door).start()


class Relay:
    """One relay: its rooms, wired."""

    def __init__(
        self,
        settings: Configuration,
        database: Database,
        secret: bytes,
        stack: AsyncExitStack,
        build: TransportFactory,
        recent: Callable[[Sequence[Attempted]], None],
    ) -> None:
        options, rules = settings.relay, settings.outbox.guard.rules()
        self._stack = stack
        self._database = database
        self._kept = options.retention.kept()
        self._patience = options.retry.patience
        self.metrics = Metrics(options.concurrency)
        self._recent = recent
        self._spans = _spans(options.traces.endpoint, stack)
        lines = count_lines()
        self._log = AttemptLog(options.log.level, options.log.format, "relay", lines)
        self._wake = asyncio.Event()
        self._wake_carrier = asyncio.Event()
        self._outbox = DeliveryQueue(database, options.lease_seconds)
        self._streams = LiveStreams(database, options.streams.hold_seconds)
        self._listener = database.listener(self._wake, self._wake_carrier)
        self._transport = build(options, Resolver(rules))
        watched = MeasuredQueue(self._outbox, self.metrics.store)
        self._settler = Settler(watched, self.attempted, self._wake)
        courier = Courier(
            source=self._outbox,
            transport=self._transport,
            read=lru_cache(_URLS)(partial(read, rules=rules, schemes=PRE_RECORDED)),
            policy=options.retry.policy(),
            pointers=_pointers(settings, secret),
            user_agent=_USER_AGENT,
            dice=random.Random().random,  # noqa: S311 (jitter is no secret)
            clock=database.now,
        )
        slots = Slots(options.concurrency, options.per_destination)
        self._slots = options.per_destination
        self._fleet = Fleet(options.per_destination)
        self._dispatcher = Dispatcher(
            watched, courier.deliver, self._settler, slots, self._wake, share=self._fleet.share
        )
        self.service = Service(
            self._dispatcher,
            self._settler,
            queue=self._outbox,
            wake=self._wake,
            observer=self.metrics,
            chores=[
                ("stats", _STATS_SECONDS, self._report_stats),
                ("expire", _EXPIRE_SECONDS, self._expire),
                ("check_in", CHECK_SECONDS, self._check_in),
                ("retention", _RETENTION_SECONDS, self._forget),
            ],
            pace=Pace(renew=options.lease_seconds / 3),
        )
        self._carrier = self._make_carrier(options, Resolver(rules))
        CurrentGauges(
            self.metrics.registry,
            draining=lambda: self.service.draining,
            in_flight=lambda: self._dispatcher.in_flight,
            held=lambda: self._carrier.held,
            lines=lines,
        )

    def _make_carrier(self, options: RelaySettings, resolver: Resolver) -> StreamCarrier:
        chosen = options.streams
        bounds = SocketBounds(
            open_timeout=chosen.open_timeout, ping_seconds=chosen.ping_seconds, pong_timeout=chosen.pong_timeout
        )
        gateway = Gateway(
            self._streams,
            WebSocketTransport(resolver, bounds, proxy=options.http.proxy or None),
            read=partial(read, rules=resolver.rules, schemes=LIVE - PRE_RECORDED),
            seal=self._seal,
            clock=self._database.now,
        )
        return StreamCarrier(
            gateway,
            observer=self,
            loops=self.metrics,
            wake=self._wake_carrier,
            sockets=chosen.sockets,
            pace=StreamPace(hold=chosen.hold_seconds),
        )

    async def _seal(self, stream: HeldStream, target: Target, now: float) -> sealing.Headers:
        keys = await self._outbox.keys(stream.origin)
        return sealing.handshake(stream.id, stream.key, target, _USER_AGENT, stream.headers, keys, now)

    async def run(self, drain_seconds: float) -> None:
        await asyncio.gather(self.service.run(drain_seconds), self._carrier.run(drain_seconds))
        with suppress(StoreUnavailable):  # it will be missed soon enough
            await self._outbox.leave()

    def stop(self) -> None:
        """Take nothing more; `run` returns when what is under way has ended."""
        self.service.stop()
        self._carrier.stop()

    async def open(self) -> None:
        """Take hold of sockets and files; the stack gives them back in reverse."""
        self._stack.push_async_callback(self._outbox.close)
        self._stack.push_async_callback(self._streams.close)
        self._stack.push_async_callback(self._transport.aclose)
        await self._listener.open()
        self._stack.push_async_callback(self._listener.close)
        lag = asyncio.create_task(measure_loop_lag(self.metrics.loop_lag), name="loop lag")
        self._stack.callback(lag.cancel)

    def attempted(self, attempts: Sequence[Attempted]) -> None:
        """Tell the observers of attempts that are durable."""
        self._log(attempts)
        self.metrics(attempts)
        self._recent(attempts)
        self._spans(attempts)

    def finished(self, reason: KillReason | None) -> None:
        """Tell them of a stream that came to its end."""
        self.metrics.streams.finished(reason)

    async def _expire(self) -> None:
        # Each slice is a transaction of its own, and between two of them claims have their turn.
        with self.metrics.store.watch("expire"):
            while await self._outbox.expire(self._database.now() - self._patience):
                continue

    async def _forget(self) -> None:
        with self.metrics.store.watch("retention"):
            pruned = await prune(self._database, self._kept, self._database.now())
        self.metrics.forgotten(pruned)
        if pruned != Pruned():
            log.info("retention.finished", **asdict(pruned))

    async def _report_stats(self) -> None:
        self.metrics.counted(
            stale=self._settler.take_stale(),
            lapsed=self._dispatcher.take_lapsed(),
            ended=Counter(self._outbox.take_ended()) + Counter(self._carrier.take_ended()),
        )
        with self.metrics.store.watch("stats"):
            self.metrics.snapshot(await self._outbox.snapshot(self._slots))

    async def _check_in(self) -> None:
        asked_at, before = time.monotonic(), self._fleet.share()
        self._fleet.update(await self._outbox.check_in(), asked_at)
        if self._fleet.share() > before:
            self._wake.set()

    @property
    def in_flight(self) -> int:
        return self._dispatcher.in_flight

    def checks(self) -> dict[str, Check]:
        """What readiness depends on. A failing receiver or a long backlog is no reason to be unready."""
        return {"store": self._store_answers, "claims": self._claims_turn, "drain": self._not_draining}

    async def _store_answers(self) -> str | None:
        """By what its loops see of it, which ask all the time: a question of its own would wait with them."""
        return "the outbox cannot be written" if self._settler.failing else self.service.trouble()

    async def _claims_turn(self) -> str | None:
        still = time.monotonic() - self.service.claimed_at
        return f"no claim for {still:.0f} s" if still > _STALLED_SECONDS else None

    async def _not_draining(self) -> str | None:
        return "draining" if self.service.draining else None


def _spans(endpoint: str, stack: AsyncExitStack) -> Callable[[Sequence[Attempted]], None]:
    if not endpoint:
        return lambda _: None
    spans = Spans(endpoint, "relay")
    stack.push_async_callback(asyncio.to_thread, spans.close)
    return AttemptSpans(spans)


def _pointers(settings: Configuration, secret: bytes) -> Pointers | None:
    base = settings.outbox.public_url
    # A link opens for as long as the body behind it is kept.
    return Pointers(base, secret, settings.relay.retention.bodies) if base else None


async def prepare(database: Database) -> None:
    """Bring it up to date, and say so."""
    applied = await asyncio.to_thread(database.migrate, [OUTBOX])
    log.info("store.ready", database=database.name, migrations=[f"{m.number:04}_{m.name}" for m in applied])


def announce(settings: Configuration) -> None:
    """Say what starts here."""
    opened = [str(network) for network in settings.outbox.guard.allow_networks]
    log.info("relay.started", version=version("outspoken"), pid=os.getpid())
    if opened:
        log.warning("guard.networks.opened", networks=opened)


def load_secret(database: Database) -> bytes:
    """The secret under links to results; and a warning where nothing signs."""
    if not keys.active(database, None, database.now()):
        log.warning("signing.off", remedy="make a key and give it to receivers: relay keys add")
    return _secret(database)


def _secret(database: Database) -> bytes:
    with database.reading() as connection:
        return secret_of(connection)


def _tune_runtime() -> None:
    """What stands now stands until the end, and hardly anything after it makes a cycle: the collector need not walk
    through thousands of deliveries in flight every few milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)
    _keep_large_blocks()


def _keep_large_blocks() -> None:
    """Have glibc reuse the memory of bodies: by default it takes each large block from the kernel anew and gives it
    back, which costs more page faults than there are pages in the body. Other C libraries have no such call."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, 8 * _LARGE_BLOCK)


def _obey_signals(relay: Relay, supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()

    def obey(number: signal.Signals) -> None:
        if relay.service.draining:
            log.warning("relay.stopped", reason="second signal")
            os._exit(128 + number)
        supervisor.stopping()
        relay.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, obey, number)


async def _serve(stack: AsyncExitStack, options: RelaySettings, relay: Relay) -> str:
    """Metrics and health; returns the address that is bound."""
    site = web.Application()
    site.add_routes(routes(relay.metrics.registry, relay.checks()))
    return await listen(stack, site, options.host, options.port, "relay")


def operators_site(
    settings: Configuration,
    database: Database,
    recent: RecentAttempts,
    in_flight: Callable[[], int],
    *,
    workers: int = 1,
    in_force: Sequence[Setting],
) -> web.Application:
    """The admin API and the console, of one relay or of all the workers of one."""
    admin = settings.relay.admin
    file = Path(admin.token_file or database.beside(".admin-token"))
    gate = Gate(token_of(admin.token.get_secret_value(), file))
    context = AdminContext(
        database=database,
        rules=settings.outbox.guard.rules(),
        kept=settings.relay.retention.kept(),
        recent=recent,
        version=version("outspoken"),
        concurrency=workers * settings.relay.concurrency,
        in_flight=in_flight,
        environ=os.environ,
        probe=partial(probe, settings),
        settings=in_force,
    )
    if not admin.token.get_secret_value():
        log.info("admin.token", file=str(file))
    return application(context, gate)


async def probe(settings: Configuration, url: str, method: Method, size: int) -> Probed:
    """One signed test request, on a connection of its own, and what a delivery like it would come to."""
    database, rules = settings.outbox.database, settings.outbox.guard.rules()
    transport = build_transport(settings.relay, Resolver(rules))
    try:
        sent = await asyncio.to_thread(probing.prepared, database, url, method, size)
        return await probing.send(
            sent, transport, rules, settings.relay.retry.policy(), f"Outspoken/{version('outspoken')}"
        )
    finally:
        await transport.aclose()


async def listen(stack: AsyncExitStack, site: web.Application, host: str, port: int, section: str) -> str:
    """Serve on an address until the stack is left; returns the one that is bound. Raises ConfigError."""
    # A stream of attempts has no end of its own: it is not waited for.
    runner = web.AppRunner(site, access_log=None, shutdown_timeout=_GOODBYE_SECONDS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        place, reason = _authority(host, port), error.strerror or error
        raise ConfigError(f"{section}.host, {section}.port: cannot listen on {place}: {reason}") from error
    return _authority(*runner.addresses[0][:2])


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
