"""Waits until a delivery has ended: beside whatever transaction is open, on connections of its own.

Who delivers tells nobody but the database; it is asked at once, then ever more rarely, twice a second at last.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from relay.outbox.model import DeliveryStatus
from relay.outbox.producer import status
from relay.outbox.store import Database

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_LONGER = 1.5


def wait(database: Database, delivery_id: str, timeout: float = 60.0) -> DeliveryStatus:
    """How a delivery ended, once it has; it may be yet to be committed. Blocks: call it where no event loop runs.

    Raises TimeoutError after `timeout` seconds, and StoreUnavailable.
    """
    stands: DeliveryStatus | None = None
    for pause in _pauses(timeout):
        time.sleep(pause)
        with database.reading() as connection:
            stands = status(connection, delivery_id)
        if stands and stands.ended:
            return stands
    raise _too_late(delivery_id, stands, timeout)


async def wait_async(database: Database, delivery_id: str, timeout: float = 60.0) -> DeliveryStatus:  # noqa: ASYNC109
    """The same in an event loop."""
    import asyncio  # for which others need not wait

    stands: DeliveryStatus | None = None
    reader = database.reader()
    try:
        for pause in _pauses(timeout):
            await asyncio.sleep(pause)
            stands = await reader.run(lambda connection: status(connection, delivery_id))
            if stands and stands.ended:
                return stands
    finally:
        await reader.close()
    raise _too_late(delivery_id, stands, timeout)


def _pauses(timeout: float) -> Iterator[float]:
    """How long to wait before each look: the first is at once, the last when the time is over."""
    until, pause = time.monotonic() + timeout, _FIRST_PAUSE
    yield 0.0
    while (left := until - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(pause * _LONGER, _LONGEST_PAUSE)


def _too_late(delivery_id: str, stands: DeliveryStatus | None, timeout: float) -> TimeoutError:
    known = f"is {stands.state.value} after {stands.attempts} attempts" if stands else "is not in the outbox"
    return TimeoutError(f"delivery {delivery_id} {known}, {timeout:g} s on")
