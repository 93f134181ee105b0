"""Notifies by NOTIFY: the tables' own triggers do it, at the commit and for every producer, psql included."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from relay.outbox.errors import StoreUnavailable
from relay.outbox.postgres.failures import refusal
from relay.outbox.postgres.sessions import REFUSALS, Session, SessionFactory, is_pooled
from relay.outbox.store import POLL_SECONDS

_AGAIN_SECONDS = 1.0
_UNHEARD_AGAIN_SECONDS = 60.0
_HEARD_SECONDS = 2.0
# One who only listens does not notice that the other side is gone.
_STILL_THERE_SECONDS = 20.0
_ANSWER_SECONDS = 5.0
# The server keeps what is notified for whoever listens; that it is gone is noticed, sooner or later.
_LISTENING_SECONDS = 5.0


class PostgresNotifier:
    """Nothing is left to do: the server notifies at the commit."""

    def notify(self) -> None:
        """Does nothing: a trigger notifies when the transaction commits."""

    def close(self) -> None:
        """Holds nothing."""


class PostgresListener:
    """A session that listens, in the relay's own event loop. While it is lost, the safety poll stands in; so it does
    behind a pooler that gives each transaction to another session of the server, for as long as there is one."""

    def __init__(self, sessions: SessionFactory, channel: str, *heard: asyncio.Event) -> None:
        self._sessions = sessions
        self._channel = channel  # the name of the schema
        self._heard = heard
        self._listening: asyncio.Task[None] | None = None
        self._is_listening = False
        self._refusal: BaseException | None = None
        self.hears = True

    def check(self) -> None:
        if self._refusal is not None:
            raise refusal(self._refusal) from self._refusal

    @property
    def poll_seconds(self) -> float:
        return _LISTENING_SECONDS if self._is_listening else POLL_SECONDS

    async def open(self) -> None:
        opened = asyncio.Event()
        self._listening = asyncio.create_task(self._listen_forever(opened), name="listener")
        await opened.wait()

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening

    async def _listen_forever(self, tried: asyncio.Event) -> None:
        while True:
            try:
                await self._listen(tried)
            except (StoreUnavailable, *REFUSALS) as error:
                self._refusal = error
            tried.set()
            await asyncio.sleep(_AGAIN_SECONDS if self.hears else _UNHEARD_AGAIN_SECONDS)

    async def _listen(self, listening: asyncio.Event) -> None:
        lost = asyncio.Event()
        session = await self._sessions.open(_ANSWER_SECONDS)
        try:
            session.add_termination_listener(lambda _: lost.set())
            await session.add_listener(self._channel, self._hear)
            self.hears = not await is_pooled(session) or await self._is_heard(session)
            self._refusal = None
            listening.set()
            if not self.hears:
                return
            self._is_listening = True
            self._hear()  # whatever was committed while nobody listened
            while not lost.is_set():
                await _still_there(session, lost)
        finally:
            self._is_listening = False
            session.terminate()
            self._hear()  # whoever waits for the next notification has to ask sooner now

    async def _is_heard(self, session: Session) -> bool:
        other = await self._sessions.open(_ANSWER_SECONDS)
        try:
            return await is_heard(session, other, self._channel)
        finally:
            other.terminate()

    def _hear(self, *_: object) -> None:
        for event in self._heard:
            event.set()


async def is_heard(listening: Session, other: Session, channel: str) -> bool:
    """Whether a session hears what another one notifies."""
    heard = asyncio.Event()

    def hear(*_: object) -> None:
        heard.set()

    await listening.add_listener(channel, hear)
    await other.execute(f'NOTIFY "{channel}"')
    with suppress(TimeoutError):
        await asyncio.wait_for(heard.wait(), _HEARD_SECONDS)
    await listening.remove_listener(channel, hear)
    return heard.is_set()


async def _still_there(session: Session, lost: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_STILL_THERE_SECONDS):
            await lost.wait()
    except TimeoutError:
        await session.execute("SELECT 1", timeout=_ANSWER_SECONDS)
