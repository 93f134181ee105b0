"""One connection to a receiver: writes a request, reads its answer meanwhile, and knows whether it may be used again.

    idle -> start() -> [writing and reading] -> a Reply, a Fault or Stale -> idle again, if `reusable`
      |                                                                          |
      +------------------------ abort(), the receiver closes, or it speaks unasked +--> closed

The answer is read from the first byte on, not after the last one written: a receiver that refuses a body early and then
resets has still been heard.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import cast

from relay.transports import fault
from relay.transports.deadline import Deadlines
from relay.transports.exchange import ExchangeBounds, Reply
from relay.transports.fault import Fault
from relay.transports.parser import ReplyParser

SLICE = 256 * 1024
# TLS holds what it has encrypted of a slice twice until it is with the kernel.
_TLS_SLICE = 64 * 1024
# Up to here, copying a body behind its head costs less than handing over two buffers.
_JOINED = 16 * 1024
_NOTHING = memoryview(b"")


Origin = tuple[str, str, int]
"""Scheme, host and port."""


@dataclass(frozen=True, slots=True)
class Stale(Fault):
    """A kept connection ended before a byte of the answer came: the receiver had given it up, and failed at nothing."""


_STALE = Stale(fault.DISCONNECTED.failure, fault.DISCONNECTED.detail)


class HttpConnection(asyncio.Protocol):
    """`origin` is the pool's key, `peer` the address that was dialled. `deadlines` tell it when to wait no longer, and
    `on_lost` hears once that it is closed."""

    def __init__(
        self,
        origin: Origin,
        peer: str,
        bounds: ExchangeBounds,
        deadlines: Deadlines[HttpConnection],
        on_lost: Callable[[HttpConnection], None],
    ) -> None:
        self.origin = origin
        self.peer = peer
        self.born = self.idle_since = perf_counter()
        self.served = 0
        self.open = self.reusable = False
        self.sent_at = self.first_byte_at = 0.0
        self._slice = SLICE if origin[0] == "http" else _TLS_SLICE
        self._undelimited_seconds = bounds.undelimited_seconds
        self._deadlines = deadlines
        self._on_lost = on_lost
        self._parser = ReplyParser(bounds)
        self._ending: asyncio.Future[Reply | Fault] | None = None
        self._held: Reply | None = None
        self._unsent = _NOTHING
        self._paused = False

    def start(self, head: bytes, body: bytes) -> asyncio.Future[Reply | Fault]:
        """Write a request. The future gets its ending; cancelling it leaves a connection that must be aborted."""
        self._parser.begin()
        self.reusable = False
        self.first_byte_at = 0.0
        self.sent_at = perf_counter()
        self._ending = ending = self._loop.create_future()
        if self.open:
            self._write(head, body)
        else:
            self._ended(None)
        return ending

    @property
    def waited(self) -> float | None:
        """Seconds from the start of the last exchange to the first byte of its answer."""
        return self.first_byte_at - self.sent_at if self.first_byte_at else None

    def expire(self, overdue: Fault) -> None:
        """The deadline has passed: an answer that has begun stands, anything less does not."""
        self._conclude(self._held or self._parser.overdue() or overdue)

    def abort(self) -> None:
        """Close at once, without a word to anybody."""
        self._ending = self._held = None
        self._unsent = _NOTHING
        self._transport.abort()

    # writing

    @property
    def writing(self) -> bool:
        """Whether a part of the request has not been taken by the kernel."""
        return self._paused or bool(self._unsent)

    def _write(self, head: bytes, body: bytes) -> None:
        if len(body) <= _JOINED:
            self._transport.write(head + body)
        else:
            whole = memoryview(body)
            self._unsent = whole[self._slice :]
            self._transport.writelines((head, whole[: self._slice]))
            self._push()

    def _push(self) -> None:
        while self._unsent and not self._paused and not self._transport.is_closing():
            part, self._unsent = self._unsent[: self._slice], self._unsent[self._slice :]
            self._transport.write(part)

    def pause_writing(self) -> None:
        """The kernel's buffer is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """The kernel has taken everything."""
        self._paused = False
        self._push()
        if self._held is not None and not self.writing:
            self._conclude(self._held)
        elif self._parser.status:
            self._await_body()

    def _give_up(self) -> None:
        """The receiver has refused before it read the body: what is unsent stays so, and ends the connection's use."""
        self._leave()
        self._unsent = _NOTHING

    # reading

    def data_received(self, data: bytes) -> None:
        """A part of the answer, or something that nobody asked for."""
        if self._ending is None:
            self._leave()
            self.abort()
            return
        if not self.first_byte_at:
            self.first_byte_at = perf_counter()
        ending = self._parser.feed(data)
        if ending is not None:
            self._settle(ending)
        else:
            self._await_body()

    def _await_body(self) -> None:
        refused = self._parser.status >= 300
        if refused and self._unsent:
            self._give_up()
        if (refused or not self.writing) and self._parser.undelimited:
            self._deadlines.hasten(self, perf_counter() + self._undelimited_seconds)

    def _settle(self, ending: Reply | Fault) -> None:
        # A success that came before the whole body was read is a promise to read it; a refusal is not.
        if self.writing and isinstance(ending, Reply) and ending.status < 300:
            self._held = ending
        else:
            self._conclude(ending)

    # ending

    def _conclude(self, ending: Reply | Fault) -> None:
        waiting, self._ending = self._ending, None
        self.reusable = self.open and self._parser.reusable and not self.writing
        self._unsent, self._held = _NOTHING, None
        self.served += 1
        if waiting is not None and not waiting.done():
            waiting.set_result(ending)

    def _hear_last_words(self) -> None:
        """Read what had come before a write failed: often it says why, and neither event loop looks.

        Under TLS the bytes are not an answer yet, and are left alone.
        """
        if self.origin[0] != "http":
            return
        descriptor = self._transport.get_extra_info("socket").fileno()
        with suppress(OSError):
            while self._ending is not None and (data := os.read(descriptor, SLICE)):
                self.data_received(data)

    def _ended(self, error: BaseException | None) -> None:
        self._leave()
        if self._ending is not None:
            self._conclude(self._held or self._parser.cut() or self._loss(error))

    def _loss(self, error: BaseException | None) -> Fault:
        return _STALE if self.served and not self._parser.started else fault.reset(error)

    def _leave(self) -> None:
        self.open = self.reusable = False

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshakes are over."""
        # uvloop's transports are asyncio's in all but their class.
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self.open = True
        # Paused shall mean: not everything is with the kernel. (Zero would pause TLS for ever.)
        self._transport.set_write_buffer_limits(high=1, low=0)

    def eof_received(self) -> None:
        """The receiver will say no more; the transport closes itself."""
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed, by whomever."""
        self._leave()
        if exc is not None and self._ending is not None:
            self._hear_last_words()
        self._ended(exc)
        # Parser and llhttp hold each other: what was read would stay until the cyclic collector comes by.
        self._parser.begin()
        self._on_lost(self)
