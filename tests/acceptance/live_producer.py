"""A producer of live streams in a process of its own, so that it can be killed.

    python -m tests.acceptance.live_producer DATABASE URL KEY...

Every 20 ms it adds a message to each of its streams, and prints how many it has committed; it promises to live a
minute longer each time. It goes on until it is told to end, by SIGTERM, or until its last stream is gone.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

from relay import outbox
from relay.outbox.errors import StreamEnded, StreamKilled
from relay.outbox.model import NewDelivery, OnDead, Stream, StreamState

_PAUSE_SECONDS = 0.02
_LIVE_SECONDS = 60.0


def say(**line: object) -> None:
    """One JSON line."""
    print(json.dumps(line), flush=True)


async def produce(database: Path, url: str, keys: list[str], told: asyncio.Event) -> None:
    """Until told, or until every stream has come to its end."""
    alive = set(keys)
    with (
        closing(outbox.connect(database)) as connection,
        closing(outbox.Notifier(database)) as notifier,
        closing(outbox.Liveness(database)) as liveness,
    ):
        count = 0
        while alive and not told.is_set():
            add(connection, url, alive, count, liveness.name)
            notifier.notify()
            count += 1
            say(committed=count)
            with suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), _PAUSE_SECONDS)
            for key, status in outbox.watch_streams(connection, alive).items():
                if status.state is not StreamState.OPEN:
                    alive.discard(key)
                    say(gone=key, state=status.state, reason=status.reason)
        connection.execute("BEGIN IMMEDIATE")
        for key in alive:
            outbox.end_stream(connection, key)
        connection.execute("COMMIT")
        notifier.notify()
        say(ended=sorted(alive))


def add(connection: sqlite3.Connection, url: str, keys: set[str], number: int, producer: str) -> None:
    """The n-th message of each, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    for key in sorted(keys):
        stream = Stream(key, OnDead.KILL, time.time() + _LIVE_SECONDS, producer)
        body = b'{"key":"%s","n":%d}' % (key.encode(), number)
        with suppress(StreamKilled, StreamEnded):  # the next look at its stream will say so
            outbox.add(connection, NewDelivery(f"{key}-{number}", url, body, stream=stream))
    connection.execute("COMMIT")


async def main() -> None:
    """Listen for the end beside the work."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    database, url, *keys = sys.argv[1:]
    await produce(Path(database), url, keys, told)


if __name__ == "__main__":
    asyncio.run(main())
