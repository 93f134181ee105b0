"""Opening one WebSocket for one stream: dialled through the guard like any connection, upgraded by aiohttp's client."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from time import perf_counter
from typing import NoReturn

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace
from yarl import URL

from relay.guard.resolver import Resolver
from relay.guard.url import Target
from relay.policy.attempt import Answer, Timing
from relay.policy.request_headers import Headers
from relay.transports import fault
from relay.transports.dial import Dialled, Dialler
from relay.transports.exchange import Reply
from relay.transports.fault import Fault
from relay.transports.request import flaw
from relay.transports.websocket_connection import Keepalive, Upgraded, WebSocketBounds, WebSocketConnection

_LINE_BYTES = 8 * 1024
_HEADERS = 256
_UNASKED = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


class WebSocketTransport:
    """Opens sockets. Without an `ssl_context`, the system's certificate authorities are trusted. `proxy` is the
    operator's forward proxy."""

    def __init__(
        self,
        resolver: Resolver,
        bounds: WebSocketBounds,
        ssl_context: ssl.SSLContext | None = None,
        proxy: Target | None = None,
    ) -> None:
        self._bounds = bounds
        self._dialler = Dialler(
            resolver, bounds.open_timeout, ssl_context or ssl.create_default_context(), proxy, _new_connection
        )
        self._keepalive = Keepalive(bounds)

    async def open(
        self, target: Target, headers: Headers, on_change: Callable[[], None]
    ) -> WebSocketConnection | Answer:
        """One handshake; whatever goes wrong is an answer. A redirect is not followed: it is another answer too."""
        started, until = perf_counter(), asyncio.get_running_loop().time() + self._bounds.open_timeout
        if reason := flaw(target, headers):
            return fault.unsendable(reason).answer(Timing(0.0), None, reused=False)
        dialled, dns = await self._dial(target, until)
        if isinstance(dialled, Fault):
            return dialled.answer(Timing(perf_counter() - started, dns), None, reused=False)
        stood = perf_counter()
        upgraded = await self._upgrade(dialled, target, headers, until)
        now = perf_counter()
        first_byte = None if isinstance(upgraded, Fault) else now - stood
        timing = Timing(now - started, dns, dialled.connect, dialled.tls, first_byte)
        if isinstance(upgraded, Upgraded):
            return WebSocketConnection(upgraded, Answer(timing, 101, peer=dialled.peer), self._keepalive, on_change)
        return upgraded.answer(timing, dialled.peer, reused=False)

    async def _dial(self, target: Target, until: float) -> tuple[Dialled[ResponseHandler] | Fault, float | None]:
        try:
            async with asyncio.timeout_at(until):
                return await self._dialler.dial(target)
        except TimeoutError:
            return fault.connect_timed_out(self._bounds.open_timeout), None

    async def _upgrade(
        self, dialled: Dialled[ResponseHandler], target: Target, headers: Headers, until: float
    ) -> Upgraded | Reply | Fault:
        session = _session(dialled.protocol)
        upgraded: Upgraded | Reply | Fault = fault.exchange_timed_out(self._bounds.open_timeout)
        try:
            async with asyncio.timeout_at(until):
                handle = await session.ws_connect(
                    URL(target.origin + target.path, encoded=True),
                    headers=headers,
                    autoclose=False,
                    autoping=False,
                    max_msg_size=self._bounds.frame_bytes,
                    timeout=aiohttp.ClientWSTimeout(ws_close=self._bounds.close_timeout),
                )
                upgraded = Upgraded(handle, session, dialled.transport)
        except TimeoutError:
            pass
        except aiohttp.ClientError as error:
            upgraded = _not_upgraded(error)
        finally:
            if not isinstance(upgraded, Upgraded):
                dialled.transport.abort()
                await session.close()
        return upgraded


def _new_connection(_: Target, __: str) -> ResponseHandler:
    return ResponseHandler(asyncio.get_running_loop())


def _session(connection: ResponseHandler) -> aiohttp.ClientSession:
    """One for each socket: nothing of it is ever used again, and closing it closes everything."""
    redirects = aiohttp.TraceConfig()
    redirects.on_request_redirect.append(_redirected)
    return aiohttp.ClientSession(
        connector=_DialledConnector(connection),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        trust_env=False,
        skip_auto_headers=_UNASKED,
        trace_configs=[redirects],
        max_line_size=_LINE_BYTES,
        max_field_size=_LINE_BYTES,
        max_headers=_HEADERS,
    )


class _DialledConnector(aiohttp.BaseConnector):
    """Hands aiohttp the one connection that was dialled for it."""

    def __init__(self, connection: ResponseHandler) -> None:
        super().__init__(force_close=True)
        self._connection = connection

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,  # noqa: ARG002
        traces: list[Trace],  # noqa: ARG002
        timeout: aiohttp.ClientTimeout,  # noqa: ARG002, ASYNC109
    ) -> ResponseHandler:
        return self._connection


class _Redirected(aiohttp.ClientError):
    """Thrown through aiohttp, which would follow."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def _redirected(_: object, __: object, what: aiohttp.TraceRequestRedirectParams) -> NoReturn:
    raise _Redirected(what.response.status)


def _not_upgraded(error: aiohttp.ClientError) -> Reply | Fault:
    match error:
        case _Redirected():
            return Reply(error.status, (), b"")
        case aiohttp.WSServerHandshakeError() if error.status < 300:  # to a result that would be a success
            return fault.misspoke(f"it answered {error.status}, and not as a WebSocket does")
        case aiohttp.WSServerHandshakeError():
            return Reply(error.status, tuple((error.headers or {}).items()), b"")
        case aiohttp.ClientResponseError():
            return fault.malformed("it cannot be parsed, or its head is too large")
        case _:
            return fault.reset(error)
