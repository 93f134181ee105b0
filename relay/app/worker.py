"""One worker of several, as a process: `python -m relay.app.worker SOCKET`, started by `relay run --workers`.

Its settings come pickled on standard input, so that they are those of its supervisor, secrets and all, and stand in no
list of processes. When that ends, the supervisor has died.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from pathlib import Path

from relay.service.extras import without_rich

with without_rich():
    import structlog
    import uvloop

    from relay.app import daemon as app
    from relay.app.settings import RelaySettings
    from relay.outbox.errors import RelayError
    from relay.service.log import configure

log = structlog.get_logger()


class _StandardInput(asyncio.Protocol):
    """Standard input, whose other end the supervisor holds for as long as it lives."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def eof_received(self) -> None:
        """The supervisor, who took the lines of this process's log, has died: they go where his own errors went."""
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.set()


async def _work(settings: RelaySettings, socket: Path) -> None:
    structlog.contextvars.bind_contextvars(worker=socket.stem)
    transport, stdin = await asyncio.get_running_loop().connect_read_pipe(_StandardInput, sys.stdin)
    try:
        await app.work(settings, socket, orphaned=stdin.ended)
    finally:
        transport.close()


def main() -> None:
    """Read the settings, and work until the supervisor says otherwise."""
    settings: RelaySettings = pickle.load(sys.stdin.buffer)  # noqa: S301 (the supervisor wrote it)
    configure(settings.relay.log.level, settings.relay.log.format, "relay")
    try:
        uvloop.run(_work(settings, Path(sys.argv[1])))
    except (RelayError, OSError) as error:
        log.error("worker.failed", reason=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
