"""Forgets what was kept long enough, now and not by and by."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

from relay.admin import audit
from relay.admin.access import acting, reading
from relay.admin.audit import Actor
from relay.outbox.retention import Pruned, Retention, prune, survey


def forget(path: Path, kept: Retention, actor: Actor, now: float, *, dry_run: bool = False) -> Pruned:
    """What was forgotten, or with `dry_run` would be. What is pending or in flight is never touched.

    Turns an event loop of its own: call it where none runs. Raises StoreUnavailable or SchemaError.
    """
    with reading(path):
        pass  # says what is wrong with the file before anything is written
    if dry_run:
        return survey(path, kept, now)
    pruned = asyncio.run(prune(path, kept, now))
    with acting(path) as connection:
        audit.note(connection, actor, "retention", **asdict(pruned))
    return pruned
