"""Moments and durations as options of a command."""

from __future__ import annotations

import time

import typer

from relay.admin import times


def duration(text: str) -> float:
    """`90s`, `15m`, `24h`, `7d`, `1h30m` in seconds."""
    try:
        return times.duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def moment(text: str) -> float:
    """A time in UTC, or how long ago."""
    try:
        return times.moment(text, time.time())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
