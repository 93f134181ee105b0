"""Ports of loopback for servers that a test starts."""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress
from itertools import cycle

_CALLBACK_PORTS = (8080, 8443)
_MOST_WORKERS = 16
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _MOST_WORKERS
_OWN_PORTS = range(10_000 + _WORKER, 30_000, _MOST_WORKERS)
# A generator of its own: Hypothesis sets the common one to the same seed again and again.
_ports = cycle(random.Random().sample(_OWN_PORTS, len(_OWN_PORTS)))


def free_port() -> int:
    """A port that nobody listens on now, and that nobody is given by chance before it is used: it lies below those that
    the system hands out, of several pytest workers each has its own, and none comes again before all have come."""
    return next(filter(_is_free, _ports))


def free_callback_port() -> int:
    """A free port that callbacks may use by default, or else any free one, which has to be opened by setting."""
    own = _CALLBACK_PORTS[_WORKER : _WORKER + 1] if "PYTEST_XDIST_WORKER" in os.environ else _CALLBACK_PORTS
    return next(filter(_is_free, own), None) or free_port()


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
