"""Group commit: the ends of many attempts in one transaction, at once when idle, every 20 ms when busy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from msgspec.structs import replace

from relay.outbox.errors import StoreUnavailable
from relay.policy.attempt import Answer, Attempted, Failure, Lease, Postponed, Retry, Timing

_GATHER_SECONDS = 0.02
_RETRY_SECONDS = 0.5
_SOON_SECONDS = 10.0  # whoever claims looks for what comes later by himself, well before

Observer = Callable[[Sequence[Attempted]], None]

log = structlog.get_logger()


class AttemptStore(Protocol):
    """Where attempts are written down."""

    async def settle(self, attempts: Sequence[Attempted]) -> frozenset[Lease]:
        """One transaction; returns the stale leases. Raises StoreUnavailable and changes nothing."""


class Settler:
    """Collects the ends of attempts and writes them in batches; `tell` hears of each batch once it is durable.

    `wake` is set when a batch has moved a stream on, or says what a destination in trouble allows, or when something is
    tried again soon: whoever claims has to know the time. A write that fails is kept and tried again until it succeeds.
    """

    def __init__(self, store: AttemptStore, tell: Observer, wake: asyncio.Event) -> None:
        self._store = store
        self._tell = tell
        self._wake = wake
        self._waiting: list[Attempted] = []
        self.arrived = asyncio.Event()
        self._turn = asyncio.Lock()
        self._stale = 0
        self._refused: str | None = None  # how the database refused the last write: a StoreUnavailable's kind

    @property
    def failing(self) -> bool:
        """Whether the last write was refused."""
        return self._refused is not None

    @property
    def waiting(self) -> Sequence[Attempted]:
        """Attempts that ended but are not yet durable."""
        return self._waiting

    def take_stale(self) -> int:
        """Settlements that came too late, since the last call."""
        taken, self._stale = self._stale, 0
        return taken

    def add(self, attempt: Attempted) -> None:
        """Take the end of an attempt, to be written with the next batch."""
        self._waiting.append(attempt)
        self.arrived.set()

    async def gather(self, _: object) -> None:
        """Between two batches: what arrives meanwhile shares an fsync; the first after a quiet time does not wait."""
        await asyncio.sleep(_RETRY_SECONDS if self.failing else _GATHER_SECONDS)

    async def run_once(self) -> None:
        """Write what has arrived, as one transaction, and tell of it."""
        # One at a time: the last turn of a relay that stops may come while the loop is writing.
        async with self._turn:
            self.arrived.clear()
            if self._waiting:
                await self._settle(list(self._waiting))

    async def _settle(self, batch: list[Attempted]) -> None:
        try:
            durable = await self._write(batch)
        except StoreUnavailable as error:
            self.arrived.set()
            self._hear(error, len(batch))
            return
        self._hear(None, len(batch))
        # Only now: until they are durable, whoever drains or renews has to see them.
        del self._waiting[: len(batch)]
        if any(map(_changes_what_is_next, durable)):
            self._wake.set()
        self._tell_all(durable)

    async def _write(self, batch: list[Attempted]) -> list[Attempted]:
        try:
            stale = await self._store.settle(batch)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001
            return await self._isolate(batch, error)  # whatever it is, it belongs to the attempt that caused it
        self._stale += len(stale)
        return [attempt for attempt in batch if attempt.delivery.lease not in stale] if stale else batch

    async def _isolate(self, batch: list[Attempted], error: Exception) -> list[Attempted]:
        """One attempt that cannot be written must not hold up the others: write them one by one. Its own end is written
        without the details, or it would be sent again at the end of every lease; if not even that can be, it is."""
        if len(batch) > 1:
            return [attempt for one in batch for attempt in await self._write([one])]
        log.error("delivery.attempt.crashed", **{"delivery.id": batch[0].delivery.id}, exc_info=error)
        bare = _bare(batch[0])
        return batch if batch[0] != bare and await self._write([bare]) else []

    def _tell_all(self, durable: list[Attempted]) -> None:
        try:
            self._tell(durable)
        except Exception as error:
            # An observer is never in the way of a delivery.
            log.error("observer.failed", exc_info=error)

    def _hear(self, error: StoreUnavailable | None, held: int) -> None:
        """The database refused what is held, or did not: told once, as a loop tells it."""
        before, self._refused = self._refused, error.kind if error else None
        if error and error.kind != before:
            log.error("store.error", operation="settle", kind=error.kind, held=held, remedy=error.remedy)
        if before and not error:
            log.info("store.recovered", operation="settle")


def _changes_what_is_next(attempt: Attempted) -> bool:
    in_turn = attempt.delivery.stream_id is not None or attempt.delivery.allowed
    match attempt.verdict:
        case Retry(due_at=due_at):
            return in_turn or due_at < attempt.finished_at + _SOON_SECONDS
        case verdict:
            return in_turn or isinstance(verdict, Postponed)


def _bare(attempt: Attempted) -> Attempted:
    """What became of an attempt, and nothing that a receiver or a clock may have put into its record."""
    answer = Answer(Timing(0.0), failure=Failure.INTERNAL)
    return replace(
        attempt,
        answer=answer,
        diagnosis="the record of this attempt could not be written",
        started_at=attempt.finished_at,
        request_headers=(),
    )
