"""Work that is written as plain calls, in an event loop: while it waits for the server, others have their turn.

So what is done with statements is the same code for SQLite, where a statement is a call, and for PostgreSQL, where it
is awaited. Such work runs on a stack of its own, a greenlet: a call deep inside is left, and gone on with once the loop
has what it waits for. SQLAlchemy reaches asyncpg in the same way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")


async def run_in_greenlet(work: Callable[[], T]) -> T:
    """Do `work`, which may `wait_in_greenlet`."""
    aside = greenlet(work)
    aside.gr_context = getcurrent().gr_context  # what is logged in it belongs to whoever had it done
    outcome: Any = aside.switch()
    while not aside.dead:
        try:
            came = await outcome
        except BaseException:  # noqa: BLE001 (it is the work's to see to)
            outcome = aside.throw(*sys.exc_info())
        else:
            outcome = aside.switch(came)
    result: T = outcome
    return result


def wait_in_greenlet(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine brings, for work that runs in a greenlet."""
    loop = getcurrent().parent
    assert loop is not None, "nobody awaits what runs here"
    came: T = loop.switch(coroutine)
    return came
