"""One worker of several, as a process: `python -m relay.app.worker DOOR`, started by `relay run --workers`.

Its settings come pickled on standard input, so that they are those of its parent, secrets and all, and stand in no list
of processes. When that ends, the parent has died.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from pathlib import Path

import structlog
import uvloop

from relay.app import daemon as app
from relay.app.settings import Configuration
from relay.outbox.errors import RelayError
from relay.service.log import configure

log = structlog.get_logger()


class _Cord(asyncio.Protocol):
    """Standard input, as long as somebody holds its other end."""

    def __init__(self) -> None:
        self.cut = asyncio.Event()

    def connection_lost(self, _: Exception | None) -> None:
        """Nobody does any more."""
        self.cut.set()


async def _work(settings: Configuration, door: Path) -> None:
    structlog.contextvars.bind_contextvars(worker=door.stem)
    transport, cord = await asyncio.get_running_loop().connect_read_pipe(_Cord, sys.stdin)
    try:
        await app.work(settings, door, cord.cut)
    finally:
        transport.close()


def main() -> None:
    """Read the settings, and work until the parent says otherwise."""
    settings: Configuration = pickle.load(sys.stdin.buffer)  # noqa: S301 (the parent wrote it)
    configure(settings.relay.log.level, settings.relay.log.format, "relay")
    try:
        uvloop.run(_work(settings, Path(sys.argv[1])))
    except (RelayError, OSError) as error:
        log.error("worker.failed", reason=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
