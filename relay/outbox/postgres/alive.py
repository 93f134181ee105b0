"""Who is at work on this database: that a process on another machine has ended is known when it is overdue.

A lock that the server keeps for a session would be lost with the connection, and a server that restarts would look like
the end of every relay.
"""

from __future__ import annotations

import secrets


class Unsigned:
    """A name, and no sign of life."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)

    def close(self) -> None:
        """Holds nothing."""
