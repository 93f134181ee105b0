"""What every kind of connection has in common: a script is performed on it, statement by statement, in the caller's own
transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, ClassVar, TypeVar

from relay.outbox.connections.refusals import CLOSED, FAILED, IN_AUTOCOMMIT, refused
from relay.outbox.errors import InvalidDelivery
from relay.outbox.producing import POSTGRES, SQLITE, Brought, Script, Scripts

T = TypeVar("T")

_SCRIPTS: Mapping[str, Scripts] = {"sqlite": SQLITE, "postgresql": POSTGRES}

Begin = Callable[[Scripts], Script[T]]
"""What is to be done, in the words of either database."""


class Transaction(Enum):
    """What a statement would be part of."""

    CALLERS = auto()  # it is open, or will be once the driver is given a statement
    NONE = auto()  # each statement is committed by itself
    FAILED = auto()
    CLOSED = auto()


def scripts_for(database: str) -> Scripts:
    """By the name that SQLAlchemy and Django give to a kind of database. Raises InvalidDelivery."""
    if database not in _SCRIPTS:
        raise InvalidDelivery(f"connection: the outbox is on SQLite or PostgreSQL, and not on {database}")
    return _SCRIPTS[database]


class Adapter(ABC):
    """A connection of one kind. `remedy`: how a transaction is begun on it."""

    remedy: ClassVar[str]

    @property
    @abstractmethod
    def scripts(self) -> Scripts:
        """In the words of its database. Raises InvalidDelivery for one that no outbox is on."""

    @abstractmethod
    def transaction(self) -> Transaction:
        """As the driver knows it."""

    def require_transaction(self) -> None:
        """Raise InvalidDelivery where a statement would not be part of a transaction of the caller's: it would stay if
        that is rolled back."""
        match self.transaction():
            case Transaction.NONE:
                raise InvalidDelivery(f"{IN_AUTOCOMMIT}; {self.remedy}")
            case Transaction.FAILED:
                raise InvalidDelivery(FAILED)
            case Transaction.CLOSED:
                raise InvalidDelivery(CLOSED)
            case Transaction.CALLERS:
                return


class SyncAdapter(Adapter):
    """One on which a script is performed at once."""

    @abstractmethod
    def run(self, sql: str, values: Mapping[str, Any]) -> Brought: ...

    def perform(self, begin: Begin[T], *, only_reads: bool = False) -> T:
        """Go through a script to its end. Raises InvalidDelivery for what the caller can mend about the connection."""
        script = begin(self.scripts)
        try:
            sql, values = next(script)
            if not only_reads:
                self.require_transaction()
            while True:
                sql, values = script.send(self._run(sql, values))
        except StopIteration as end:
            result: T = end.value
            return result

    def _run(self, sql: str, values: Mapping[str, Any]) -> Brought:
        try:
            return self.run(sql, values)
        except Exception as error:
            if refusal := refused(error):
                raise refusal from error
            raise


class AsyncAdapter(Adapter):
    """One on which a script is performed once that is awaited."""

    @abstractmethod
    async def run(self, sql: str, values: Mapping[str, Any]) -> Brought: ...

    async def perform(self, begin: Begin[T], *, only_reads: bool = False) -> T:
        """Go through a script to its end. Raises InvalidDelivery for what the caller can mend about the connection."""
        script = begin(self.scripts)
        try:
            sql, values = next(script)
            if not only_reads:
                self.require_transaction()
            while True:
                sql, values = script.send(await self._run(sql, values))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _run(self, sql: str, values: Mapping[str, Any]) -> Brought:
        try:
            return await self.run(sql, values)
        except Exception as error:
            if refusal := refused(error):
                raise refusal from error
            raise
