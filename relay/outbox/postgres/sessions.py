"""Opens sessions, for all rooms of a process: while the server refuses them, one at a time asks, and not in a storm.

A session may lead to a pooler, such as pgbouncer, which takes none of our settings when it begins, and may give each
transaction to another session of the server. There the settings are those of each transaction, and nothing is prepared
for longer than that.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from relay.outbox.errors import StoreUnavailable
from relay.outbox.postgres.failures import refusal

REFUSALS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a session that cannot be opened, or was lost, is known by."""

_CONNECT_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_SETTINGS = {
    # A relay that freezes in the middle of a transaction must not hold its locks for ever, nor one whose machine is
    # gone its session.
    "idle_in_transaction_session_timeout": "30s",
    "lock_timeout": "5s",
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "jit": "off",  # statements are small, and compiling one takes longer than running it
}

_FLAWED = ("target_session_attrs", "ssl_min_protocol_version", "ssl_max_protocol_version", "sslnegotiation", "gsslib")

Session: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class SessionFactory:
    """Of one database. Shared by the threads of a process."""

    def __init__(self, url: str, application: str) -> None:
        self._url = url
        self._named = {"application_name": application}
        self._only_named = False
        self._asking = threading.Lock()
        self._pause = 0.0  # none while sessions are opened
        self._again_at = 0.0
        self._refusal: BaseException | None = None

    async def open(self, statement_seconds: float) -> Session:
        """A session that can write, whose statements the server gives up after so long. Raises StoreUnavailable, at
        once while the last refusal is fresh, and asyncpg's own errors."""
        with self._turn():
            try:
                return await self._open(statement_seconds)
            except ValueError as error:  # its words may repeat what stands in the URL
                raise StoreUnavailable("unavailable") from ValueError(flaw(error))

    async def _open(self, statement_seconds: float) -> Session:
        if not self._only_named:
            try:
                return await self._connect(statement_seconds, _settings(statement_seconds) | self._named)
            except asyncpg.ProtocolViolationError:  # a pooler that knows none of them
                self._only_named = True
        return await self._connect(statement_seconds, self._named)

    async def _connect(self, statement_seconds: float, settings: dict[str, str]) -> Session:
        return await asyncpg.connect(
            self._url,
            timeout=_CONNECT_SECONDS,
            command_timeout=statement_seconds,
            statement_cache_size=0,
            server_settings=settings,
            # A standby will be the primary, or will be replaced by it.
            target_session_attrs=SessionAttribute.read_write,
        )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The turn of one who asks; after a refusal there is one at a time, and a pause before it."""
        pause = self._pause
        if not pause:
            with self._learning(pause):
                yield
            return
        if time.monotonic() < self._again_at or not self._asking.acquire(blocking=False):
            assert self._refusal is not None
            raise refusal(self._refusal) from self._refusal
        try:
            with self._learning(pause):
                yield
        finally:
            self._asking.release()

    @contextmanager
    def _learning(self, pause: float) -> Iterator[None]:
        try:
            yield
        except REFUSALS as error:
            self._refusal = error
            self._pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            # Apart from each other: all relays on this server lost it at the same moment.
            self._again_at = time.monotonic() + self._pause * random.uniform(0.5, 1.0)  # noqa: S311
            raise
        self._pause, self._refusal = 0.0, None


async def is_pooled(session: Session) -> bool:
    """Whether a pooler stands between, which gives out process numbers of its own."""
    # In one message, which a pooler gives to one session of the server whatever its mode; the answer is how many rows.
    return await session.execute(f"SELECT 1 WHERE pg_backend_pid() = {session.get_server_pid()}") == "SELECT 0"


def set_local(statement_seconds: float) -> str:
    """Statements by which one transaction has the settings that a session of its own would have."""
    return "".join(f"SET LOCAL {name} = '{value}';" for name, value in _settings(statement_seconds).items())


def _settings(statement_seconds: float) -> dict[str, str]:
    return _SETTINGS | {"statement_timeout": f"{statement_seconds * 1000:.0f}ms"}


def flaw(error: ValueError) -> str:
    """What is wrong with the URL's options, in words of ours: asyncpg's repeat their values."""
    words = str(error)
    named = next((f"the option {option}" for option in _FLAWED if option in words), "an option, or the file of one,")
    return f"{named} is not as PostgreSQL's clients expect it"
