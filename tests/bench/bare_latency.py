"""The baseline of relay.latency: what the machine needs from a commit to a request.

    python -m tests.bench.bare_latency DATABASE

A process on uvloop that is told of a commit by the same datagram as a relay, reads the newest delivery with one SELECT,
and posts its body with a bare aiohttp client. There is no claim and no lease, no signature, no log and no settlement.
A line on standard output says that it listens.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import aiohttp
import uvloop

from relay.outbox.sqlite.opening import connect_read_only
from tests.bench.bare import HEADERS

_NEWEST = """
SELECT id, url, body FROM outspoken_deliveries JOIN outspoken_bodies USING (seq)
WHERE seq = (SELECT max(seq) FROM outspoken_deliveries)
"""


async def _post(session: aiohttp.ClientSession, id_: str, url: str, body: bytes) -> None:
    headers = HEADERS | {"webhook-id": id_, "webhook-attempt": "1"}
    async with session.post(url, data=body, headers=headers) as response:
        await response.read()


def _forward(connection: sqlite3.Connection, session: aiohttp.ClientSession, told: socket.socket) -> None:
    told.recv(1)
    post = asyncio.create_task(_post(session, *connection.execute(_NEWEST).fetchone()))
    post.add_done_callback(asyncio.Task.result)


async def serve(database: Path) -> None:
    """Until killed."""
    folder = database.with_name(f"{database.name}.bells")  # where a relay's sockets are
    folder.mkdir()
    with (
        closing(connect_read_only(database)) as connection,
        closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as told,
    ):
        told.setblocking(False)
        told.bind(str(folder / "bare.sock"))
        async with aiohttp.ClientSession() as session:
            asyncio.get_running_loop().add_reader(told, _forward, connection, session, told)
            print("ready", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
