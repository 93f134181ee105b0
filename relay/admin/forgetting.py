"""Forgets what was kept long enough, now and not by and by."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from relay.admin import audit
from relay.admin.access import acting, reading
from relay.admin.audit import Actor
from relay.outbox.store import Database
from relay.queue.retention import Pruned, Retention, prune, survey


def forget(database: Database, kept: Retention, actor: Actor, now: float, *, dry_run: bool = False) -> Pruned:
    """What was forgotten, or with `dry_run` would be. What is pending or in flight is never touched.

    Turns an event loop of its own: call it where none runs. Raises StoreUnavailable or SchemaError.
    """
    with reading(database):
        pass  # says what is wrong with the database before anything is written
    if dry_run:
        return survey(database, kept, now)
    pruned = asyncio.run(prune(database, kept, now))
    with acting(database) as connection:
        audit.note(connection, actor, "retention", now, **asdict(pruned))
    return pruned
