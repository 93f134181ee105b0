"""A relay in the process of a program that wants to see its own results arrive: for tests from end to end.

It obeys no signal, and serves neither metrics nor operators; all else is as `relay run` does it. Whoever wants to hear
of each delivery that an attempt brought to its end hands in `on_ended`. It is called in the relay's event loop once the
end is durable: it has to be quick, and must not raise.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from relay.app.relay import Observers, Relay
from relay.app.settings import RelaySettings
from relay.outbox.migrations import OUTBOX
from relay.outbox.model import DeliveryState, DeliveryStatus
from relay.outbox.results import secret
from relay.outbox.store import Database
from relay.policy.attempt import Attempted, Dead, Retry

Stop = Callable[[], object]
OnEnded = Callable[[DeliveryStatus], object]


@asynccontextmanager
async def relay_in_loop(settings: RelaySettings, on_ended: OnEnded | None = None) -> AsyncIterator[None]:
    """One in the running event loop, until the block is left and what is under way has ended.

    The outbox is made, or brought up to date. Raises SchemaError and StoreUnavailable.
    """
    database, options = settings.outbox.database, settings.relay
    relay_secret = await asyncio.to_thread(_made, database)
    observers = Observers(options, partial(_tell, on_ended))
    relay = Relay(settings, database, relay_secret, observers)
    async with relay.running():
        delivering = asyncio.create_task(relay.run(options.drain_seconds))
        try:
            yield
        finally:
            relay.stop()
            await delivering
    await observers.close()


@contextmanager
def relay_in_thread(settings: RelaySettings, on_ended: OnEnded | None = None) -> Iterator[None]:
    """The same in a thread with an event loop of its own."""
    begun: Future[Stop] = Future()
    with ThreadPoolExecutor(1, thread_name_prefix="relay") as thread:
        ended = thread.submit(asyncio.run, _deliver(settings, on_ended, begun))
        stop = begun.result()
        try:
            yield
        finally:
            stop()
            ended.result()


async def _deliver(settings: RelaySettings, on_ended: OnEnded | None, begun: Future[Stop]) -> None:
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    try:
        async with relay_in_loop(settings, on_ended):
            begun.set_result(partial(loop.call_soon_threadsafe, told.set))
            await told.wait()
    except BaseException as error:
        if not begun.done():
            begun.set_exception(error)
        raise


def _made(database: Database) -> bytes:
    database.migrate([OUTBOX])
    with database.reading() as connection:
        return secret(connection)


def _tell(on_ended: OnEnded | None, attempts: Sequence[Attempted]) -> None:
    for attempt in attempts if on_ended else ():
        if on_ended and not isinstance(attempt.verdict, Retry):
            on_ended(_status(attempt))


def _status(attempt: Attempted) -> DeliveryStatus:
    dead = attempt.verdict if isinstance(attempt.verdict, Dead) else None
    return DeliveryStatus(
        attempt.delivery.id,
        DeliveryState.DEAD if dead else DeliveryState.DELIVERED,
        attempt.delivery.attempts + 1,
        attempt.delivery.due_at,
        attempt.finished_at,
        dead.reason.value if dead else None,
        attempt.answer.status,
        attempt.outcome.value,
        attempt.diagnosis,
    )
