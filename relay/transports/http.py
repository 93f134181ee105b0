"""One attempt by a client of our own: HTTP/1.1 over asyncio, with llhttp as the parser.

An exchange costs one future and no task: a kept connection is taken from the pool, the head and the body are written,
and the answer is parsed as it comes. Everything that waits is waited for in one place, under one deadline.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from time import perf_counter

from relay.guard.resolver import Resolver
from relay.guard.url import Target
from relay.policy.attempt import Answer, Envelope, Timing
from relay.transports import fault
from relay.transports.connection import HttpConnection, Stale
from relay.transports.deadline import Deadlines, TimeLimits
from relay.transports.dial import Dialler
from relay.transports.exchange import ExchangeBounds, Reply
from relay.transports.fault import Fault
from relay.transports.pool import ConnectionPool
from relay.transports.proxy import head_for_proxy
from relay.transports.request import head

_CLOSING = fault.ours("the relay is closing its connections")


class HttpTransport:
    """Sends envelopes over connections that are kept per origin and dialled to checked addresses only.

    Without an `ssl_context`, the system's certificate authorities are trusted. `proxy` is the operator's forward proxy.
    """

    def __init__(
        self,
        resolver: Resolver,
        bounds: ExchangeBounds,
        ssl_context: ssl.SSLContext | None = None,
        proxy: Target | None = None,
    ) -> None:
        self._bounds = bounds
        self._pool = ConnectionPool(bounds)
        self._head: Callable[[Envelope], bytes | Fault] = head if proxy is None else partial(head_for_proxy, proxy)
        tls = ssl_context or ssl.create_default_context()
        self._dialler = Dialler(resolver, bounds.connect_timeout, tls, proxy, self._new_connection)
        self._overdue = fault.exchange_timed_out(bounds.exchange_timeout)
        self._deadlines: Deadlines[HttpConnection] = Deadlines(self._expire)
        self._limits = TimeLimits()
        self._open: set[HttpConnection] = set()
        self._closing = False
        self._emptied: asyncio.Future[None] | None = None

    async def send(self, envelope: Envelope) -> Answer:
        """Carry one request out and its answer back; whatever goes wrong is an answer too."""
        started = perf_counter()
        opening = self._head(envelope)
        if isinstance(opening, Fault):
            return opening.answer(Timing(perf_counter() - started), None, False)
        target = envelope.target
        connection = self._pool.take((target.scheme, target.host, target.port))
        if connection is not None:
            ending = await self._exchange(connection, opening, envelope.body, started)
            if not isinstance(ending, Stale):
                timing = Timing(perf_counter() - started, None, None, None, connection.waited)
                return ending.answer(timing, connection.peer, True)
        return await self._send_afresh(envelope, opening, started)

    async def aclose(self) -> None:
        """Close every connection and wait until they are. An exchange that is under way ends as our own fault."""
        self._closing = True
        self._pool.close()
        self._deadlines.close()
        for connection in tuple(self._open):
            connection.expire(_CLOSING)
            connection.abort()
        if self._open:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    async def _send_afresh(self, envelope: Envelope, opening: bytes, started: float) -> Answer:
        try:
            left = self._bounds.exchange_timeout - (perf_counter() - started)
            dialled, dns = await self._limits.keep(left, self._dialler.dial(envelope.target))
        except TimeoutError:
            dialled, dns = fault.connect_timed_out(self._bounds.exchange_timeout), None
        if isinstance(dialled, Fault):
            return dialled.answer(Timing(perf_counter() - started, dns), None, False)
        connection = dialled.protocol
        if connection.open:  # a receiver may have hung up already
            self._open.add(connection)
        if self._closing:
            connection.abort()
            return _CLOSING.answer(Timing(perf_counter() - started, dns), connection.peer, False)
        ending = await self._exchange(connection, opening, envelope.body, started)
        timing = Timing(perf_counter() - started, dns, dialled.connect, dialled.tls, connection.waited)
        return ending.answer(timing, connection.peer, False)

    def _new_connection(self, target: Target, address: str) -> HttpConnection:
        return HttpConnection(
            (target.scheme, target.host, target.port), address, self._bounds, self._deadlines, self._lost
        )

    async def _exchange(self, connection: HttpConnection, opening: bytes, body: bytes, started: float) -> Reply | Fault:
        try:
            self._deadlines.watch(connection, started + self._bounds.exchange_timeout)
            return await connection.start(opening, body)
        finally:
            self._release(connection)

    def _release(self, connection: HttpConnection) -> None:
        self._deadlines.forget(connection)
        if connection.reusable:
            self._pool.put(connection)
        else:
            connection.abort()

    def _expire(self, connection: HttpConnection) -> None:
        connection.expire(self._overdue)

    def _lost(self, connection: HttpConnection) -> None:
        self._pool.forget(connection)
        self._open.discard(connection)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)
