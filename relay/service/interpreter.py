"""Another interpreter, for a module of ours that is a program of its own."""

from __future__ import annotations

import sys


def module_command(module: str, *arguments: str) -> tuple[str, ...]:
    """The command line of one that runs a module.

    What lies in the folder in which a daemon happens to be started is none of its modules (-P): a `relay.py` or a
    `queue.py` of somebody else would be taken for ours, or for the standard library's.
    """
    return (sys.executable, "-P", "-m", module, *arguments)
