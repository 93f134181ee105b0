"""Moments and durations as options of a command."""

from __future__ import annotations

import typer

from relay.admin import times
from relay.admin.times import Moment
from relay.outbox.store import Database


def duration(text: str) -> float:
    """`90s`, `15m`, `24h`, `7d`, `1h30m` in seconds."""
    try:
        return times.duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def moment(text: str) -> Moment:
    """A time in UTC, or how long ago."""
    try:
        return times.moment(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def when(named: Moment | None, outbox: Database) -> float | None:
    """A time that was named, in epoch seconds by the outbox's clock."""
    return None if named is None else named.by(outbox.now)
