"""The bodies of what was claimed. Small ones came with the claim, and are held until they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from relay.outbox.queries import statement
from relay.outbox.store import BodyReader, Reader
from relay.policy.attempt import Delivery

T = TypeVar("T")

_BODY = statement("body", __package__)
_LARGE = 128 * 1024

Claimed = tuple[Delivery, bytes | None]
"""A delivery, and its body where that is small."""


class ClaimedBodies:
    """By the numbers of their deliveries."""

    def __init__(self, reader: Reader, body_reader: BodyReader) -> None:
        self._reader = reader
        self._body_reader = body_reader
        self._held: dict[int, bytes] = {}

    def keep(self, claimed: Iterable[Claimed]) -> tuple[Delivery, ...]:
        """Hold what came with these deliveries; returns the deliveries."""
        self._held.update((delivery.lease.seq, body) for delivery, body in claimed if body is not None)
        return tuple(delivery for delivery, _ in claimed)

    def drop(self, seq: int) -> None:
        """Nobody will ask for it."""
        self._held.pop(seq, None)

    async def use(self, delivery: Delivery, use: Callable[[bytes], T]) -> T:
        """What `use` makes of the body's bytes, the same on every attempt. A large one is read only now, held by
        nobody who waits, and used where it was read: in a thread, because both take milliseconds."""
        body = self._held.pop(delivery.lease.seq, None)
        if body is not None:
            return use(body)
        if delivery.body_bytes > _LARGE:
            return await self._body_reader.read(_BODY, {"seq": delivery.lease.seq}, use)
        values = {"seq": delivery.lease.seq}
        rows = await self._reader.run(lambda connection: connection.execute(_BODY, values).fetchall())
        return use(rows[0][0])
