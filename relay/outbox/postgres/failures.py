"""What asyncpg raises, in the outbox's own words."""

from __future__ import annotations

import asyncpg

from relay.outbox.errors import StoreUnavailable

_KINDS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("53100",), "full"),
    (("58",), "io"),
    (("XX001", "XX002"), "corrupt"),
    (("55P03", "57014", "40001", "40P01"), "busy"),
    (("53300",), "connections"),
    (("28",), "login"),
    (("3D",), "missing"),
    (("57P",), "restarting"),
    # A standby, which will be the primary or will be replaced by it, or a primary that was told to be like one.
    (("25006",), "read_only"),
    (("08", "53", "57", "25P03"), "unavailable"),  # 25P03: this process froze meanwhile
    (("42501",), "forbidden"),  # a role without a right that it needs
    (("XX",), "other"),
)
BUSY_AGAIN = ("40001", "40P01")
"""Two transactions stood in each other's way: the one that was given up may be tried again at once."""


def refusal(error: BaseException) -> StoreUnavailable:
    """Why there is no session: it could not be opened, or was lost."""
    if isinstance(error, StoreUnavailable):
        return error
    if isinstance(error, asyncpg.exceptions.TargetServerAttributeNotMatched):
        return StoreUnavailable("read_only")
    sqlstate = error.sqlstate if isinstance(error, asyncpg.PostgresError) else None
    return StoreUnavailable(error_kind(sqlstate or "") or "unavailable")


def error_kind(sqlstate: str) -> str | None:
    """busy, full, io, corrupt, unavailable or forbidden; None for what the statement did, and not the server."""
    return next((kind for states, kind in _KINDS if sqlstate.startswith(states)), None)
