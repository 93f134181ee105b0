"""For the tests of whoever adds deliveries: what is in the outbox, without a relay.

It is read from the database, because that alone knows what was refused and what was rolled back: nothing is patched,
and nothing has to be passed in. An outbox for tests is made as any other, by `outbox.database_at(url).migrate(...)`.
How to have a relay deliver it too is in `relay.app.in_process`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Any, Self, cast, overload

from relay.outbox.connections.known import AsyncConnection, SyncConnection, adapter_of
from relay.outbox.model import Kind, Method, NewDelivery, OnDead, Stream
from relay.outbox.postgres.placeholders import SCHEMA
from relay.outbox.producing import Script, Scripts
from relay.outbox.queries import statement
from relay.outbox.store import Database


@overload
def added(connection: SyncConnection, schema: str = ...) -> list[NewDelivery]: ...
@overload
def added(connection: AsyncConnection, schema: str = ...) -> Coroutine[Any, Any, list[NewDelivery]]: ...
def added(
    connection: SyncConnection | AsyncConnection, schema: str = SCHEMA
) -> list[NewDelivery] | Coroutine[Any, Any, list[NewDelivery]]:
    """What the outbox would hold if this connection's transaction were committed now, in the order in which it was
    added.

    A delivery compares equal to the one that was given to `outbox.add`, unless its stream was changed after it or an
    operator replayed it. Its `due_at` is in epoch seconds, and None where it was added to be tried at once. Raises what
    `outbox.add` does for a connection; autocommit does not matter. On PostgreSQL it is the outbox in that `schema`.
    """
    begin = _read if schema == SCHEMA else lambda scripts: _read(scripts.in_schema(schema))
    found = adapter_of(connection).perform(begin, only_reads=True)
    return cast("list[NewDelivery] | Coroutine[Any, Any, list[NewDelivery]]", found)


class Recording:
    """Records what is committed to an outbox by whoever, from the beginning of a block to its end:

        with Recording(outbox.database_at(url)) as recording:
            client.post("/orders")
        assert [one.id for one in recording.deliveries] == ["order-17"]

    In a coroutine it is `async with`. Raises StoreUnavailable.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._before: frozenset[str] = frozenset()
        self.deliveries: list[NewDelivery] = []

    def __enter__(self) -> Self:
        self._before = frozenset(delivery.id for delivery in self._all())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.deliveries = [delivery for delivery in self._all() if delivery.id not in self._before]

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, at)

    def _all(self) -> list[NewDelivery]:
        with self._database.reading() as connection:
            return added(connection)


def _read(scripts: Scripts) -> Script[list[NewDelivery]]:
    _, rows = yield scripts.placed(statement("added", __package__)), {}
    _, tagged = yield scripts.placed(statement("added_tags", __package__)), {}
    tags: dict[int, set[str]] = {}
    for seq, tag in tagged:
        tags.setdefault(seq, set()).add(tag)
    return [_delivery(tags, *row) for row in rows]


def _delivery(
    tags: Mapping[int, set[str]],
    id_: str,
    url: str,
    body: bytes | memoryview | None,
    method: str,
    kind: str,
    content_type: str,
    headers: Any,
    traceparent: str | None,
    schedule: str | None,
    due_at: float | None,
    idempotency_key: str | None,
    tracked: int,
    owner: str,
    priority: int,
    seq: int,
    *stream: Any,
) -> NewDelivery:
    return NewDelivery(
        id_,
        url,
        bytes(body or b""),  # one that was delivered, and kept long enough, is erased
        Method(method),
        Kind(kind),
        content_type,
        json.loads(headers) if isinstance(headers, str) else headers,  # some drivers read JSON by themselves
        traceparent,
        schedule,
        _stream(*stream),
        due_at,
        idempotency_key,
        frozenset(tags.get(seq, ())),
        bool(tracked),
        owner,
        priority,
    )


def _stream(key: str | None, on_dead: str, live_until: float | None, producer: str | None) -> Stream | None:
    return None if key is None else Stream(key, OnDead(on_dead), live_until, producer)
