"""One attempt by way of aiohttp: the reference for the transport of our own, and the way through a forward proxy.

Two bounds are looser than that transport's: informational answers are ended by the deadline and not by their count, and
headers are bounded one by one, so a head may reach `header_count` times `LINE_BYTES`. A connection that is opened again
and again for one name never skips the guard: aiohttp's DNS cache is off, and addresses written as such, which aiohttp
would dial unasked, are judged here like any other.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from io import BytesIO
from ipaddress import IPv4Network, IPv6Network
from socket import AF_INET, AF_INET6, AddressFamily
from time import perf_counter

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.payload import BytesPayload
from aiohttp.tracing import Trace
from yarl import URL

from relay.guard.resolver import Addresses, Resolver, Unresolved
from relay.guard.rules import Refusal, Rules
from relay.policy.attempt import Answer, Envelope, Timing
from relay.transports import fault
from relay.transports.deadline import Deadlines
from relay.transports.exchange import Bounds, Reply, excerpt
from relay.transports.fault import Fault
from relay.transports.request import flaw, headers

LINE_BYTES = 8 * 1024
_ANYWHERE = Rules(networks=(IPv4Network("0.0.0.0/0"), IPv6Network("::/0")))
# aiohttp hands bytes to the socket in one go, and warns of it above this size.
_AT_ONCE = 2**20
_UNASKED = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


class AiohttpTransport:
    """Sends envelopes over one shared keep-alive session.

    `proxy` is the URL of a forward proxy. It is the operator's own, so the guard lets its address pass; the receiver's
    is judged as far as it resolves here, and a name that only the proxy can resolve is left to the proxy.
    """

    def __init__(
        self, resolver: Resolver, bounds: Bounds, ssl_context: ssl.SSLContext | None = None, proxy: str | None = None
    ) -> None:
        self._resolver = resolver
        self._bounds = bounds
        self._tls = ssl_context
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None
        self._deadlines: Deadlines[_Exchange] = Deadlines(_Exchange.expire)

    async def send(self, envelope: Envelope) -> Answer:
        """Carry one request out and its answer back; whatever goes wrong is an answer too."""
        started = perf_counter()
        exchange = _Exchange.begin()
        if reason := flaw(envelope):
            outcome: Reply | Fault = fault.ours(reason)
        else:
            outcome = await self._travel(envelope, exchange, started)
        return outcome.answer(exchange.timing(started), exchange.peer, exchange.reused)

    async def aclose(self) -> None:
        self._deadlines.close()
        if self._session is not None:
            await self._session.close()

    async def _travel(self, envelope: Envelope, exchange: _Exchange, started: float) -> Reply | Fault:
        token = _EXCHANGE.set(exchange)
        self._deadlines.watch(exchange, started + self._bounds.exchange_timeout)
        try:
            return await self._fresh_if_stale(envelope, exchange)
        except asyncio.CancelledError:
            if not exchange.ended_by_deadline():
                raise
            late = fault.exchange_timed_out if exchange.connected else fault.connect_timed_out
            return late(self._bounds.exchange_timeout)
        finally:
            self._deadlines.forget(exchange)
            _EXCHANGE.reset(token)

    async def _fresh_if_stale(self, envelope: Envelope, exchange: _Exchange) -> Reply | Fault:
        """A kept connection that the receiver closed meanwhile is no failure of the receiver's: take another."""
        while True:
            try:
                return await self._exchange(envelope, exchange)
            except _Guarded as stopped:
                return stopped.fault
            except aiohttp.ClientError as error:
                if not (exchange.reused and _stale(error)):
                    return self._classify(error)
                exchange.restart()

    async def _exchange(self, envelope: Envelope, exchange: _Exchange) -> Reply | Fault:
        target = envelope.target
        response = await self._open_session().request(
            envelope.method.value,
            URL(target.origin + target.path, encoded=True),
            data=BytesIO(envelope.body) if len(envelope.body) > _AT_ONCE else BytesPayload(envelope.body),
            headers=headers(envelope),
            allow_redirects=False,
            proxy=self._proxy,
        )
        exchange.answered()
        try:
            if response.status == 101:
                return fault.SWITCHED
            body = await _read(response.content, self._bounds.body_bytes)
            coding = response.headers.get("Content-Encoding")
            kept = excerpt(body, coding, self._bounds.excerpt_bytes)
            return Reply(response.status, tuple(response.headers.items()), kept)
        finally:
            # Returns nothing to the pool: a response read to its end has given its connection back by itself.
            response.close()

    def _open_session(self) -> aiohttp.ClientSession:
        """The session, made when a loop runs."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_GuardedConnector(self._resolver, self._bounds, self._tls, self._proxy),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=_UNASKED,
                max_line_size=LINE_BYTES,
                max_field_size=LINE_BYTES,
                max_headers=self._bounds.header_count,
            )
        return self._session

    def _classify(self, error: aiohttp.ClientError) -> Fault:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return fault.connect_timed_out(self._bounds.connect_timeout)
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorError):
            return fault.not_connected(_cause(error))
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return fault.proxy_refused(error.status)
        if isinstance(error, aiohttp.ClientResponseError):
            return fault.malformed("it cannot be parsed, or its head is too large")
        return fault.reset(error)


@dataclass(eq=False, slots=True)
class _Exchange:
    """What one exchange learns on its way about the connection that it uses, and how its deadline ends it."""

    task: asyncio.Task[object]
    cancelled_before: int = 0
    expired: bool = False
    connected: bool = False
    fresh: bool = False
    peer: str | None = None
    addresses: tuple[str, ...] = ()
    dns: float | None = None
    connect: float | None = None
    first_byte: float | None = None
    connected_at: float = 0.0

    @classmethod
    def begin(cls) -> _Exchange:
        task = asyncio.current_task()
        assert task is not None
        return cls(task, task.cancelling())

    @property
    def reused(self) -> bool:
        """Whether the connection had served an exchange before."""
        return self.connected and not self.fresh

    def arrived(self, connection: Connection) -> None:
        self.connected, self.connected_at = True, perf_counter()
        if connection.transport is not None and (name := connection.transport.get_extra_info("peername")):
            self.peer = str(name[0])

    def answered(self) -> None:
        self.first_byte = perf_counter() - self.connected_at

    def expire(self) -> None:
        self.expired = True
        self.task.cancel()

    def ended_by_deadline(self) -> bool:
        """Whether a cancellation was the deadline's, and nobody else's besides."""
        return self.expired and self.task.uncancel() <= self.cancelled_before

    def restart(self) -> None:
        self.connected, self.peer = False, None

    def timing(self, started: float) -> Timing:
        return Timing(perf_counter() - started, self.dns, self.connect, None, self.first_byte)


# aiohttp hands neither its connector nor its resolver anything of the caller's, but runs both in the caller's task.
_EXCHANGE: ContextVar[_Exchange] = ContextVar("exchange")


class _Guarded(Exception):
    """The guard stopped the connection: thrown through aiohttp, and turned back into a value behind it."""

    def __init__(self, stopped: Fault) -> None:
        super().__init__(stopped.detail)
        self.fault = stopped


class _GuardedConnector(aiohttp.TCPConnector):
    """Asks the guard before every new connection, and lets aiohttp dial the addresses that it approved."""

    def __init__(self, guard: Resolver, bounds: Bounds, tls: ssl.SSLContext | None, proxy: str | None) -> None:
        super().__init__(
            resolver=_ApprovedAddresses(),
            use_dns_cache=False,
            ssl=True if tls is None else tls,
            limit=0,
            keepalive_timeout=bounds.idle_seconds,
            happy_eyeballs_delay=None,
        )
        self._guard = guard
        self._seconds = bounds.connect_timeout
        self._unguarded = Resolver(_ANYWHERE)
        self._proxy_host = URL(proxy).host if proxy else None

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        # aiohttp would take what a receiver said while idle for the answer to the next request.
        while connection.protocol is not None and connection.protocol.should_close:
            connection.close()
            connection = await super().connect(req, traces, timeout)
        _EXCHANGE.get().arrived(connection)
        return connection

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> ResponseHandler:
        exchange = _EXCHANGE.get()
        exchange.fresh = True
        await self._approve(req.host, exchange)
        started = perf_counter()
        async with asyncio.timeout(self._seconds):
            handler = await super()._create_connection(req, traces, timeout)
        exchange.connect = perf_counter() - started
        return handler

    async def _approve(self, host: str, exchange: _Exchange) -> None:
        started = perf_counter()
        found = await self._guard.resolve(host)
        if self._proxy_host is not None and not isinstance(found, Refusal):
            found = await self._unguarded.resolve(self._proxy_host)
        exchange.dns = perf_counter() - started
        match found:
            case Addresses():
                exchange.addresses = found.values
            case Refusal():
                raise _Guarded(fault.blocked(found))
            case Unresolved():
                raise _Guarded(fault.unresolved(found))


class _ApprovedAddresses(AbstractResolver):
    """Answers aiohttp with the addresses that the guard approved for this very exchange, and with no others."""

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: AddressFamily = AF_INET,  # noqa: ARG002
    ) -> list[ResolveResult]:
        return [_result(host, port, address) for address in _EXCHANGE.get().addresses]

    async def close(self) -> None:
        """Holds nothing."""


def _stale(error: aiohttp.ClientError) -> bool:
    """Whether a connection ended before any part of an answer, which on a kept one is nobody's failure."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)
    return isinstance(error, aiohttp.ClientOSError) and not isinstance(error, aiohttp.ClientConnectorError)


def _cause(error: aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorError) -> OSError:
    cause = error.__cause__
    return cause if isinstance(cause, OSError) else error


def _result(host: str, port: int, address: str) -> ResolveResult:
    family = AF_INET6 if ":" in address else AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)


async def _read(content: aiohttp.StreamReader, limit: int) -> bytes:
    """The body up to its end, to `limit`, or to where the connection broke: the status has come, and it counts."""
    parts: list[bytes] = []
    left = limit
    with suppress(aiohttp.ClientError):
        while left > 0 and (part := await content.read(left)):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)
