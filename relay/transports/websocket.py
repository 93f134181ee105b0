"""One WebSocket for one stream, by way of aiohttp's client: opened once through the guard, written in order.

What was written counts as received once a ping that was sent after it is answered: TCP alone would take messages for a
receiver that died a minute ago. One ping is under way at a time, so a busy socket needs few of them.

The receiver has nothing to say but pongs, and no reason to be trusted. What it sends besides is read and dropped,
within bounds: a frame too large, or more frames than an echo would bring, and the socket is lost.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from socket import AF_INET, AF_INET6, AddressFamily
from time import perf_counter
from typing import Any, Literal, NoReturn

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from relay.guard.resolver import Addresses, Resolver, Unresolved
from relay.guard.rules import Refusal, Rules
from relay.guard.url import Target
from relay.outbox.model import Method
from relay.policy.attempt import Answer, Envelope, Failure, Timing
from relay.policy.sealing import Headers
from relay.transports import fault
from relay.transports.deadline import Deadlines
from relay.transports.exchange import Reply
from relay.transports.fault import Fault
from relay.transports.request import flaw

_ANYWHERE = Rules(networks=(IPv4Network("0.0.0.0/0"), IPv6Network("::/0")))
_LINE_BYTES = 8 * 1024
_HEADERS = 256
_UNASKED = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
_PING, _PONG = aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG
_CLOSE, _ERROR = aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR
_GOODBYE = (1000).to_bytes(2, "big")
_GONE = (aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED)


@dataclass(frozen=True, slots=True)
class SocketBounds:
    """What the receiver of a stream may cost us. Times are seconds, sizes bytes.

    `open_timeout` spans lookup, TCP, TLS and the upgrade. A ping that is not answered within `pong_timeout` loses the
    socket, and so does a message that cannot be written for as long; an idle socket is pinged every `ping_seconds`.
    Between two answers to our pings, `unasked` frames are taken, each of at most `frame_bytes`.
    """

    open_timeout: float = 10.0
    ping_seconds: float = 20.0
    pong_timeout: float = 20.0
    close_timeout: float = 5.0
    frame_bytes: int = 64 * 1024
    unasked: int = 1000


class Socket:
    """An open WebSocket. `stir` is called whenever `confirmed` has grown, or the socket is lost."""

    def __init__(
        self, handle: _Handle, session: aiohttp.ClientSession, answer: Answer, keeper: _Keeper, stir: Callable[[], None]
    ) -> None:
        self.answer = answer
        self.written = 0
        self.confirmed = 0
        self.lost: Fault | None = None
        self._handle = handle
        self._session = session
        self._keeper = keeper
        self._stir = stir
        self._asked = 0
        self._waiting = False  # for an answer to a ping
        self._closing = False
        self._ears = asyncio.create_task(self._listen())
        self._idle_ping: asyncio.Task[None] | None = None
        keeper.beats.watch(self, perf_counter() + keeper.bounds.ping_seconds)

    async def send(self, text: bytes) -> None:
        """Write one message, waiting while the receiver is behind. Whoever sends on a lost socket sees it in `lost`."""
        self.written += 1
        await self._write(self._handle.send_str, text.decode())
        if not self._waiting:
            await self._ask()

    async def _ask(self) -> None:
        self._waiting, self._asked = True, self.written
        await self._write(self._handle.ping, b"%d" % self._asked)

    async def _write(self, write: Callable[[Any], Any], what: object) -> None:
        self._keeper.expect(self)
        try:
            if self.lost is None:
                await write(what)
        except (OSError, aiohttp.ClientError) as error:
            self.lose(fault.reset(error))

    async def _listen(self) -> None:
        unasked = 0
        while self.lost is None:
            message = await self._handle.receive()
            if message.type is _PONG and self._waiting and message.data == b"%d" % self._asked:
                unasked = 0
                await self._heard()
            elif reason := _last_word(message.type, message.data):
                await self._part(reason)
                return
            else:
                unasked += 1
                await self._bear(message.type, message.data, unasked)

    async def _heard(self) -> None:
        self.confirmed, self._waiting = self._asked, False
        self._keeper.answered(self)
        self._stir()
        if self.written > self.confirmed:
            await self._ask()

    async def _bear(self, kind: aiohttp.WSMsgType, data: object, unasked: int) -> None:
        if unasked > self._keeper.bounds.unasked:
            self.lose(fault.misspoke("it sends more than anybody asked for"))
        elif kind is _PING:
            await self._write(self._handle.pong, data)

    async def _part(self, reason: Fault) -> None:
        """Answer the receiver's goodbye, if it was one; aiohttp would wait for another where it gave no code."""
        if reason.failure is Failure.RESET and not self._closing:
            with suppress(OSError, aiohttp.ClientError):
                await self._handle.send_frame(_GOODBYE, _CLOSE)
        self.lose(reason)

    def beat(self) -> None:
        """Nothing was said for a while: ask whether anybody is there."""
        if not self._waiting and self.lost is None and not self._closing:
            self._idle_ping = asyncio.create_task(self._ask())

    def lose(self, why: Fault) -> None:
        """The end of it, and the first reason counts. Not while it is being closed."""
        if self.lost is None and not self._closing:
            self.lost = why
            self._keeper.forget(self)
            self._handle.abort()
            self._stir()

    async def close(self, code: int) -> None:
        """Say goodbye, wait a little for the answer, and give everything back. A lost socket only gives back."""
        self._closing = True
        self._keeper.forget(self)
        try:
            if self.lost is None:
                with suppress(TimeoutError, OSError, aiohttp.ClientError):
                    async with asyncio.timeout(self._keeper.bounds.close_timeout):
                        await self._handle.close(code=code)
        finally:
            self._handle.abort()
            tasks = [task for task in (self._ears, self._idle_ping) if task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._session.close()


class WebSocketTransport:
    """Opens sockets. Without an `ssl_context`, the system's certificate authorities are trusted.

    `proxy` is the URL of the operator's own forward proxy, which is asked for a tunnel: the guard lets its address
    pass, and judges the receiver's as far as it resolves here.
    """

    def __init__(
        self,
        resolver: Resolver,
        bounds: SocketBounds,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        self._resolver = resolver
        self._bounds = bounds
        self._tls = ssl_context or ssl.create_default_context()
        self._proxy = proxy
        self._keeper = _Keeper(bounds)

    async def open(self, target: Target, headers: Headers, stir: Callable[[], None]) -> Socket | Answer:
        """One handshake; whatever goes wrong is an answer. A redirect is not followed: it is another answer too."""
        started = perf_counter()
        if reason := flaw(Envelope(Method.POST, target, headers, b"")):
            return fault.ours(reason).answer(Timing(0.0), None, reused=False)
        handshake = _Handshake()
        try:
            async with asyncio.timeout(self._bounds.open_timeout):
                opened = await self._open(target, headers, handshake)
        except TimeoutError:
            late = fault.connect_timed_out if handshake.connect is None else fault.exchange_timed_out
            opened = late(self._bounds.open_timeout)
        timing = Timing(perf_counter() - started, handshake.dns, handshake.connect, None, handshake.first_byte)
        if isinstance(opened, Reply | Fault):
            return opened.answer(timing, handshake.peer, reused=False)
        handle, session = opened
        return Socket(handle, session, Answer(timing, 101, peer=handshake.peer), self._keeper, stir)

    async def _open(
        self, target: Target, headers: Headers, handshake: _Handshake
    ) -> tuple[_Handle, aiohttp.ClientSession] | Reply | Fault:
        found = await self._approved(target)
        handshake.dns = perf_counter() - handshake.started
        if isinstance(found, Fault):
            return found
        session = self._session(found, handshake)
        try:
            handle = await self._upgrade(session, target, headers)
        except aiohttp.ClientError as error:
            await session.close()
            return _not_opened(error)
        except BaseException:
            await session.close()
            raise
        handshake.peer = str(handle.get_extra_info("peername", (None,))[0])
        return handle, session

    async def _approved(self, target: Target) -> Addresses | Fault:
        """What may be dialled: the receiver's addresses, or the proxy's once the receiver's have passed."""
        found = await self._resolver.resolve(target.host)
        if self._proxy and not isinstance(found, Refusal):
            found = await Resolver(_ANYWHERE).resolve(URL(self._proxy).host or "")
        match found:
            case Refusal():
                return fault.blocked(found)
            case Unresolved():
                return fault.unresolved(found)
        return found

    def _session(self, addresses: Addresses, handshake: _Handshake) -> aiohttp.ClientSession:
        """One for each socket: nothing of it is ever used again, and closing it closes everything."""
        connector = _Connector(
            resolver=_FixedAddresses(addresses),
            use_dns_cache=False,
            ssl=self._tls,
            force_close=True,
            happy_eyeballs_delay=None,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trust_env=False,
            skip_auto_headers=_UNASKED,
            request_class=_Tunnelled if self._proxy else aiohttp.ClientRequest,
            ws_response_class=_Handle,
            trace_configs=[handshake.traced()],
            max_line_size=_LINE_BYTES,
            max_field_size=_LINE_BYTES,
            max_headers=_HEADERS,
        )

    async def _upgrade(self, session: aiohttp.ClientSession, target: Target, headers: Headers) -> _Handle:
        handle = await session.ws_connect(
            URL(target.origin + target.path, encoded=True),
            headers=headers,
            proxy=self._proxy,
            autoclose=False,
            autoping=False,
            max_msg_size=self._bounds.frame_bytes,
            timeout=aiohttp.ClientWSTimeout(ws_close=self._bounds.close_timeout),
        )
        assert isinstance(handle, _Handle)
        return handle


class _Keeper:
    """The clocks of all sockets: one timer for the pings that are due, one for the answers that are overdue."""

    def __init__(self, bounds: SocketBounds) -> None:
        self.bounds = bounds
        self.beats: Deadlines[Socket] = Deadlines(self._beat)
        self._answers: Deadlines[Socket] = Deadlines(self._give_up)
        self._expecting: set[Socket] = set()

    def expect(self, socket: Socket) -> None:
        """From now on an answer is due; one that is due already stays so."""
        if socket not in self._expecting:
            self._expecting.add(socket)
            self._answers.watch(socket, perf_counter() + self.bounds.pong_timeout)

    def answered(self, socket: Socket) -> None:
        """It came."""
        self._expecting.discard(socket)
        self._answers.forget(socket)

    def forget(self, socket: Socket) -> None:
        """Nothing is expected any more."""
        self.answered(socket)
        self.beats.forget(socket)

    def _beat(self, socket: Socket) -> None:
        self.beats.watch(socket, perf_counter() + self.bounds.ping_seconds)
        socket.beat()

    def _give_up(self, socket: Socket) -> None:
        socket.lose(fault.unanswered(self.bounds.pong_timeout))


class _Handle(aiohttp.ClientWebSocketResponse[Literal[True]]):
    """aiohttp's socket, which can be ended without being flushed to a receiver that reads nothing."""

    def abort(self) -> None:
        """End the connection at once."""
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        self._response.close()


class _Tunnelled(aiohttp.ClientRequest):
    """aiohttp would ask a proxy for ws:// as it does for http://, and proxies do not know how to do that: they have to
    be asked for a tunnel (RFC 6455, 4.1), as for TLS."""

    def is_ssl(self) -> bool:
        """Whether a proxy is asked for a tunnel."""
        return True


class _Connector(aiohttp.TCPConnector):
    """Has a tunnel that is not for TLS stay what it is."""

    async def _start_tls_connection(
        self, underlying_transport: asyncio.Transport, req: aiohttp.ClientRequest, *rest: Any, **named: Any
    ) -> tuple[asyncio.BaseTransport, Any]:
        if req.url.scheme != "ws":
            return await super()._start_tls_connection(underlying_transport, req, *rest, **named)
        protocol = self._factory()
        underlying_transport.set_protocol(protocol)
        protocol.connection_made(underlying_transport)
        return underlying_transport, protocol


class _Redirected(aiohttp.ClientError):
    """Thrown through aiohttp, which would follow."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Handshake:
    """What a handshake tells on its way."""

    def __init__(self) -> None:
        self.started = perf_counter()
        self.dns: float | None = None
        self.connect: float | None = None
        self.first_byte: float | None = None
        self.peer: str | None = None
        self._stood = self.started

    def traced(self) -> aiohttp.TraceConfig:
        """aiohttp's hooks for one handshake."""
        config = aiohttp.TraceConfig()
        config.on_connection_create_end.append(self._connected)
        config.on_request_redirect.append(self._redirected)
        config.on_request_end.append(self._answered)
        return config

    async def _connected(self, *_: object) -> None:
        self._stood = perf_counter()
        self.connect = self._stood - self.started - (self.dns or 0.0)

    async def _answered(self, *_: object) -> None:
        self.first_byte = perf_counter() - self._stood

    async def _redirected(self, _: object, __: object, what: aiohttp.TraceRequestRedirectParams) -> NoReturn:
        raise _Redirected(what.response.status)


class _FixedAddresses(AbstractResolver):
    """Answers aiohttp with the addresses that the guard approved, and with no others."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses.values

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: AddressFamily = AF_INET,  # noqa: ARG002
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=AF_INET6 if ":" in address else AF_INET,
                proto=0,
                flags=0,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Holds nothing."""


def _not_opened(error: aiohttp.ClientError) -> Reply | Fault:
    match error:
        case _Redirected():
            return Reply(error.status, (), b"")
        case aiohttp.WSServerHandshakeError():
            return _refused(error)
        case aiohttp.ClientHttpProxyError():
            return fault.proxy_refused(error.status)
        case aiohttp.ClientResponseError():
            return fault.malformed("it cannot be parsed, or its head is too large")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorError():
            cause = error.__cause__
            return fault.not_connected(cause if isinstance(cause, OSError) else error)
        case _:
            return fault.reset(error)


def _refused(error: aiohttp.WSServerHandshakeError) -> Reply | Fault:
    if error.status < 300:  # to a result that would be a success
        return fault.misspoke(f"it answered {error.status}, and not as a WebSocket does")
    return Reply(error.status, tuple((error.headers or {}).items()), b"")


def _last_word(kind: aiohttp.WSMsgType, data: object) -> Fault | None:
    if kind is _CLOSE:
        return Fault(Failure.RESET, f"The receiver closed the WebSocket ({data}).")
    if kind is _ERROR:
        return fault.misspoke("it broke the protocol, or its frame is too large")
    return Fault(Failure.RESET, "The connection ended without a goodbye.") if kind in _GONE else None
