"""Group commit: the ends of many attempts in one transaction, at once when idle, every 20 ms when busy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from relay.errors import StoreUnavailable
from relay.model import Attempted, Lease

_GATHER_SECONDS = 0.02
_RETRY_SECONDS = 0.5

Waiting = tuple[Attempted, asyncio.Future[bool]]

log = structlog.get_logger()


class Book(Protocol):
    """Where attempts are written down."""

    async def settle(self, attempts: Sequence[Attempted]) -> tuple[Lease, ...]:
        """One transaction; returns the stale leases. Raises StoreUnavailable and changes nothing."""


class Settler:
    """Collects settlements and writes them in batches. A write that fails is kept and tried again until it succeeds."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._waiting: list[Waiting] = []
        self._arrived = asyncio.Event()
        self._stale = 0
        self.failing = False

    @property
    def waiting(self) -> int:
        """Attempts that ended but are not yet durable."""
        return len(self._waiting)

    def take_stale(self) -> int:
        """Settlements that came too late, since the last call."""
        taken, self._stale = self._stale, 0
        return taken

    async def settle(self, attempt: Attempted) -> bool:
        """Returns once the attempt is durable: False when its lease was stale."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((attempt, done))
        self._arrived.set()
        return await done

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            await self._arrived.wait()
            await self.run_once()
            # What arrives while a batch is gathered shares its fsync; the first after a quiet time did not wait.
            await asyncio.sleep(_RETRY_SECONDS if self.failing else _GATHER_SECONDS)

    async def run_once(self) -> None:
        """Write what has arrived, as one transaction."""
        self._arrived.clear()
        batch, self._waiting = self._waiting, []
        try:
            await self._write(batch)
        except StoreUnavailable as error:
            self._keep(batch)
            self._complain(error, len(batch))
        except asyncio.CancelledError:
            self._keep(batch)
            raise

    async def _write(self, batch: list[Waiting]) -> None:
        try:
            stale = set(await self._book.settle([attempt for attempt, _ in batch]))
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001
            await self._isolate(batch, error)  # whatever it is, it belongs to the attempt that caused it
            return
        self.failing = False
        self._stale += len(stale)
        for attempt, done in batch:
            if not done.done():
                done.set_result(attempt.delivery.lease not in stale)

    async def _isolate(self, batch: list[Waiting], error: Exception) -> None:
        """One attempt that cannot be written must not hold up the others: write them one by one."""
        if len(batch) > 1:
            for waiting in batch:
                await self._write([waiting])
        elif not batch[0][1].done():
            batch[0][1].set_exception(error)

    def _keep(self, batch: list[Waiting]) -> None:
        """What is not written yet. A courier that was cancelled no longer waits, but its attempt did happen."""
        self._waiting = [
            waiting for waiting in batch if waiting[1].cancelled() or not waiting[1].done()
        ] + self._waiting
        self._arrived.set()

    def _complain(self, error: StoreUnavailable, held: int) -> None:
        if not self.failing:
            log.error("store.error", operation="settle", kind=str(error), held=held, remedy="free the disk or the lock")
        self.failing = True
