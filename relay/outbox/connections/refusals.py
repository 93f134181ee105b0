"""What stands in the way on the caller's side, with the remedy. None of it adds anything."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from relay.outbox.errors import InvalidDelivery

CLOSED = "connection: closed, or back in its pool; pass an open one, in the transaction that the delivery belongs to"
FAILED = "connection: its transaction has failed; roll it back, to a savepoint at least, and begin again"
IN_AUTOCOMMIT = "connection: in autocommit mode"
IN_A_SAVEPOINT_ALONE = (
    "connection: in a savepoint, around which Python's sqlite3 may have begun no transaction: what is released would"
    " stay if the session is rolled back; have SQLAlchemy begin transactions itself, as its documentation of the driver"
    " shows"
)
UNAWAITED = "connection: a call on this session was not awaited, and would be missing from what is committed: await it"
_NO_OUTBOX = (
    "connection: its database has no outbox, or one of another version than this library's; pass a connection to the"
    " outbox's database, install a newer library if the outbox is newer, or bring it up to date with `relay migrate`"
)
_NO_RIGHT = "connection: its role may not use the outbox; grant it what the documentation lists for producers"

_UNFIT = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT_CHECK})
_BY_STATE = {
    "25P02": FAILED,
    "42883": _NO_OUTBOX,  # no such function
    "42P01": _NO_OUTBOX,  # no such table
    "3F000": _NO_OUTBOX,  # no such schema
    "42501": _NO_RIGHT,
}


def refused(error: BaseException) -> InvalidDelivery | None:
    """What the caller can mend about an error of its driver; None for any other."""
    for one in _wrapped(error):
        # The statement is ours, and what it holds fits our schema: so it is not our schema.
        if isinstance(one, sqlite3.Error) and one.sqlite_errorcode in _UNFIT:
            return InvalidDelivery(_NO_OUTBOX)
        state = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
        if state in _BY_STATE:
            return InvalidDelivery(_BY_STATE[state])
    return None


def _wrapped(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that SQLAlchemy and Django put around it."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = getattr(found, "orig", None) or found.__cause__
