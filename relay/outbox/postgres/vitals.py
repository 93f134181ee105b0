"""How a PostgreSQL server is, by one look on a session of its own: also at one on which no relay could work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import asyncpg

from relay.outbox.errors import StoreUnavailable
from relay.outbox.postgres.notifications import is_heard
from relay.outbox.postgres.placeholders import SCHEMA
from relay.outbox.postgres.sessions import REFUSALS, Session, flaw, is_pooled

_LOOK = """
SELECT CAST(current_setting('server_version_num') AS integer) / 10000 AS version,
       pg_is_in_recovery() AS standby,
       CAST(current_setting('default_transaction_read_only') AS boolean) AS read_only,
       CAST((SELECT sum(numbackends) FROM pg_stat_database) AS bigint) AS sessions,
       CAST(current_setting('max_connections') AS bigint)
           - CAST(current_setting('superuser_reserved_connections') AS bigint)
           - CAST(coalesce(current_setting('reserved_connections', true), '0') AS bigint) AS room,
       ARRAY(SELECT name FROM pg_settings
             WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off' ORDER BY name) AS off
"""
_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Vitals:
    """`version` is the major one; a `standby` can be read and not written, and so can one that was told to be
    `read_only`; `sessions` are open of those that it has `room` for; the settings that are `off` are those by which it
    keeps what it has confirmed. It may be reached through a pooler (`pooled`), which may keep notifications from those
    who listen: then nobody `hears` them."""

    version: int
    standby: bool
    read_only: bool
    sessions: int
    room: int
    off: tuple[str, ...]
    pooled: bool
    hears: bool


def look(url: str) -> Vitals:
    """Ask the server behind a URL. Turns an event loop of its own: for threads without one. Raises StoreUnavailable,
    with the server's words or the socket's."""
    try:
        return asyncio.run(_look(url))
    except ValueError as error:
        raise StoreUnavailable("unavailable", flaw(error)) from error
    except REFUSALS as error:
        raise StoreUnavailable("unavailable", str(error) or f"no answer within {_SECONDS:g} s") from error


async def _look(url: str) -> Vitals:
    session = await _session(url)
    try:
        async with session.transaction():
            row = await session.fetchrow(_LOOK)
        assert row is not None
        pooled = await is_pooled(session)
        hears = not pooled or await _is_heard(url, session)
        return Vitals(**{**row, "off": tuple(row["off"])}, pooled=pooled, hears=hears)
    finally:
        session.terminate()


async def _is_heard(url: str, listening: Session) -> bool:
    other = await _session(url)
    try:
        return await is_heard(listening, other, SCHEMA)
    finally:
        other.terminate()


async def _session(url: str) -> Session:
    return await asyncpg.connect(url, timeout=_SECONDS, command_timeout=_SECONDS, statement_cache_size=0)
