"""Django's `connection`, or one of `connections`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from relay.outbox.connections.adapter import Begin, SyncAdapter, Transaction, scripts_for
from relay.outbox.postgres.placeholders import named, pyformat
from relay.outbox.producing import POSTGRES, SQLITE, Brought, Scripts
from relay.outbox.sqlite.notifications import notify

T = TypeVar("T")


class Django(SyncAdapter):
    """A BaseDatabaseWrapper. On SQLite relays are notified when its transaction commits."""

    remedy = "call this within `with transaction.atomic():`"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def scripts(self) -> Scripts:
        return scripts_for(self._connection.vendor)

    def transaction(self) -> Transaction:
        if self._connection.needs_rollback:
            return Transaction.FAILED
        begins = self._connection.in_atomic_block or not self._connection.get_autocommit()
        return Transaction.CALLERS if begins else Transaction.NONE

    def perform(self, begin: Begin[T], *, only_reads: bool = False) -> T:
        result = super().perform(begin, only_reads=only_reads)
        if self.scripts is SQLITE and not only_reads:
            self._connection.on_commit(lambda: notify(str(self._connection.settings_dict["NAME"])))
        return result

    def run(self, sql: str, values: Mapping[str, Any]) -> Brought:
        with self._connection.cursor() as cursor:
            cursor.execute(pyformat(sql) if self.scripts is POSTGRES else named(str(sql)), dict(values))
            return cursor.rowcount, cursor.fetchall() if cursor.description else []
