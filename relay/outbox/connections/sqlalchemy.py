"""SQLAlchemy 2: Session and Connection, AsyncSession and AsyncConnection, on whatever driver they have.

SQLAlchemy begins a transaction with its own first statement, and no earlier: so ours go through SQLAlchemy too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from relay.outbox.connections.adapter import Adapter, Begin, SyncAdapter, Transaction, scripts_for
from relay.outbox.connections.refusals import FAILED, IN_A_SAVEPOINT_ALONE, UNAWAITED
from relay.outbox.errors import InvalidDelivery
from relay.outbox.postgres.placeholders import numbered, pyformat
from relay.outbox.producing import SQLITE, Brought, Scripts
from relay.outbox.sqlite.notifications import notify
from relay.outbox.sqlite.opening import FILE_OF

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session

T = TypeVar("T")

_NOTIFIES, _UNAWAITED = "outspoken.notifies", "outspoken.unawaited"
_LEGACY = -1  # sqlite3.LEGACY_TRANSACTION_CONTROL, which is all there was before Python 3.12


class Sqlalchemy(SyncAdapter):
    """A Connection. `of_driver` tells what kind of connection its driver's own is."""

    remedy = 'its isolation_level is "AUTOCOMMIT": use an engine or a connection that begins transactions'

    def __init__(self, connection: Connection, of_driver: Callable[[object], Adapter]) -> None:
        self._connection = connection
        self._of_driver = of_driver

    @property
    def scripts(self) -> Scripts:
        return scripts_for(self._connection.dialect.name)

    def transaction(self) -> Transaction:
        if self._connection.closed or self._connection.invalidated:
            return Transaction.CLOSED
        driver = self._of_driver(self._connection.connection.driver_connection)
        if driver.transaction() is Transaction.NONE:
            self._connection.exec_driver_sql("SELECT 1")  # which begins one, unless none is wanted
        return driver.transaction()

    def require_transaction(self) -> None:
        super().require_transaction()
        if self._connection.in_nested_transaction() and self._begins_late():
            raise InvalidDelivery(IN_A_SAVEPOINT_ALONE)

    def _begins_late(self) -> bool:
        """Whether Python's sqlite3 begins transactions by itself, which it does for no SAVEPOINT."""
        driver: Any = self._connection.connection.driver_connection
        if self.scripts is not SQLITE or driver.isolation_level is None:
            return False
        return bool(getattr(driver, "autocommit", _LEGACY) == _LEGACY)

    def run(self, sql: str, values: Mapping[str, Any]) -> Brought:
        result = self._connection.exec_driver_sql(*self._written(sql, values))
        return result.rowcount, list(map(tuple, result)) if result.returns_rows else []

    def _written(self, sql: str, values: Mapping[str, Any]) -> tuple[str, Any]:
        """As the driver takes it."""
        if self.scripts is SQLITE:
            return str(sql), dict(values)
        if self._connection.dialect.paramstyle == "pyformat":
            return pyformat(sql), dict(values)
        found = numbered(sql)
        return found.text, tuple(found.arguments(values))


class SqlalchemySession(Sqlalchemy):
    """A Session: on the connection of its transaction, which is begun if there is none. On SQLite relays are notified
    when it commits."""

    def __init__(self, session: Session, of_driver: Callable[[object], Adapter]) -> None:
        from sqlalchemy.exc import PendingRollbackError

        try:
            super().__init__(session.connection(), of_driver)
        except PendingRollbackError as error:
            raise InvalidDelivery(FAILED) from error
        if self.scripts is SQLITE:
            self._notify_after_commits_of(session)

    def _notify_after_commits_of(self, session: Session) -> None:
        from sqlalchemy import event

        if _NOTIFIES in session.info:
            return
        session.info[_NOTIFIES] = True
        file = os.fsdecode(self._connection.exec_driver_sql(FILE_OF).fetchall()[0][0])
        event.listen(session, "after_commit", lambda _: notify(file))


class _Awaited:
    """Whether a call on an async session was awaited, which its commit asks for."""

    def __init__(self, session: Session) -> None:
        from sqlalchemy import event

        if _UNAWAITED not in session.info:
            session.info[_UNAWAITED] = set()
            event.listen(session, "before_commit", _require_awaited)
            event.listen(session, "after_soft_rollback", lambda one, _: one.info[_UNAWAITED].clear())
        self._calls: set[_Awaited] = session.info[_UNAWAITED]
        self._calls.add(self)

    def begin(self) -> None:
        """It is awaited."""
        self._calls.discard(self)


def _require_awaited(session: Session) -> None:
    if session.info[_UNAWAITED]:
        raise InvalidDelivery(UNAWAITED)


class SqlalchemyAsync:
    """AsyncSession or AsyncConnection: what is done on the sync one inside, which `of` tells the kind of."""

    def __init__(self, given: AsyncSession | AsyncConnection, of: Callable[[object], SyncAdapter]) -> None:
        self._given = given
        self._of = of

    def perform(self, begin: Begin[T], *, only_reads: bool = False) -> Coroutine[Any, Any, T]:
        """Go through a script to its end, as `SyncAdapter.perform` does. As long as one that writes was not awaited the
        commit of its session fails: what it was to add would be missing."""
        inside = getattr(self._given, "sync_session", None)
        awaited = _Awaited(inside) if inside is not None and not only_reads else None
        return self._perform(begin, awaited, only_reads=only_reads)

    async def _perform(self, begin: Begin[T], awaited: _Awaited | None, *, only_reads: bool) -> T:
        if awaited:
            awaited.begin()
        return await self._given.run_sync(lambda inside: self._of(inside).perform(begin, only_reads=only_reads))
