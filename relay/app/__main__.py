"""The daemon as a program: what `relay run` becomes once it has read its configuration (`python -m relay.app FILE`)."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from relay.outbox.errors import RelayError
from relay.service.descriptors import provide_descriptors
from relay.service.extras import extra, without_rich
from relay.service.handover import handed_over

if TYPE_CHECKING:
    from relay.app.start import Start

_OWN_DESCRIPTORS = 64  # log, database, listening sockets, who asks for health and metrics


def main() -> None:
    """Deliver until SIGTERM. What stands in the way at the start is one line, and exit code 1."""
    try:
        _run(handed_over(sys.argv[1]))
    except KeyboardInterrupt:  # it came before the daemon listened to signals
        sys.exit(128 + signal.SIGINT)


def _run(start: Start) -> None:
    try:
        _provide_descriptors(start)
        _deliver(start)
    except (RelayError, OSError) as error:
        print(f"relay: {error}", file=sys.stderr)
        sys.exit(1)


def _provide_descriptors(start: Start) -> None:
    """A few for each worker, or else one for each attempt; twice as many may hang, and as many again wait to be used
    anew. Workers have what their supervisor has."""
    options = start.settings.relay
    least = _OWN_DESCRIPTORS + max(options.concurrency, 4 * start.workers)
    most = least + 4 * options.concurrency + 2 * options.streams.sockets
    provide_descriptors(least, most, "lower relay.concurrency")


def _deliver(start: Start) -> None:
    with extra("relay"), without_rich():
        import uvloop

        from relay.app import daemon, supervisor
        from relay.service.configfile import log_file
        from relay.service.log import configure

    settings, chosen = start.settings, start.settings.relay
    configure(chosen.log.level, chosen.log.format, "relay")
    log_file(start.file)
    count, in_force = start.workers, start.in_force
    uvloop.run(daemon.run(settings, in_force) if count == 1 else supervisor.run(settings, count, in_force))


if __name__ == "__main__":
    main()
