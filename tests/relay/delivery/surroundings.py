"""What surrounds the moving parts in their tests: receivers that answer as told, and a disk that fills up."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from relay.model import Answer, Attempted, Envelope, Lease
from relay.outbox.sqlite import SqliteOutbox
from tests.relay.deliveries import answer


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow: what SQLite sees is what it sees of a disk that fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Network:
    """A transport whose receivers answer what a test says, in turn, and then 200."""

    def __init__(self, *answers: Answer) -> None:
        self.sent: list[Envelope] = []
        self._answers = list(answers)

    async def send(self, envelope: Envelope) -> Answer:
        self.sent.append(envelope)
        return self._answers.pop(0) if self._answers else answer(200)


class CountedBook:
    """The outbox, and how many attempts each of its transactions ended."""

    def __init__(self, outbox: SqliteOutbox) -> None:
        self.batches: list[int] = []
        self._outbox = outbox

    async def settle(self, attempts: Sequence[Attempted]) -> tuple[Lease, ...]:
        self.batches.append(len(attempts))
        return await self._outbox.settle(attempts)
