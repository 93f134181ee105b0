"""What those who add deliveries test with tells what was added, on whatever connection, and nothing that was undone."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from relay import outbox
from relay.outbox.model import Kind, Method, NewDelivery, OnDead, Stream
from relay.outbox.store import Database
from relay.outbox.testing import Recording, added
from tests.relay.deliveries import TRACE, apart, new, put
from tests.relay.outbox.producers import Producer, RolledBack, done, every_kind

EVERYTHING = NewDelivery(
    "all", "https://h.example/x", b"\0\xff", Method.PUT, Kind.ERROR, "text/plain", {"a": "ü"}, TRACE, "fixed",
    Stream("s", OnDead.KILL, 1e10, "me"),
)  # fmt: skip


LATER = new("later", due_at=9e9, idempotency_key="k", tags=frozenset({"a", "b"}), tracked=True)


async def seen_by(connection: Any) -> list[NewDelivery]:
    """At once, or awaited."""
    found: Any = added(connection)
    return found if isinstance(found, list) else await found


@every_kind
def test_a_transaction_sees_what_was_added_in_it_as_it_was_given(producer: Producer) -> None:
    producer.put(new("before"))

    async def add(connection: Any) -> None:
        for delivery in (EVERYTHING, LATER, new("plain")):
            await done(outbox.add(connection, delivery))
        assert await seen_by(connection) == [new("before"), EVERYTHING, LATER, new("plain")]
        raise RolledBack

    with suppress(RolledBack):
        producer.commit(add)
    with Recording(producer.database) as recording:
        producer.put(new("after"))
    assert recording.deliveries == [new("after")]


def test_what_was_committed_by_others_is_recorded(database: Database) -> None:
    put(database, new("before"))

    def record() -> list[NewDelivery]:
        with Recording(database) as recording:
            put(database, new("first"), EVERYTHING)
        return recording.deliveries

    assert apart(record) == [new("first"), EVERYTHING]


async def test_so_it_is_in_a_coroutine(database: Database) -> None:
    async with Recording(database) as recording:
        put(database, new("one"))
    put(database, new("later"))
    assert recording.deliveries == [new("one")]
