"""Moments and durations as people write and read them. Everything is UTC."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|min|m|h|d|w)", re.ASCII)
_YEARS = range(1971, 9999)  # an offset may move a moment out of the calendar's own years


def duration(text: str) -> float:
    """`90s`, `15m`, `24h`, `7d`, `1h30m` in seconds. Raises ValueError, which says what was expected."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r}: expected a duration such as 90s, 15m, 24h, 7d or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time as it was named: in epoch seconds; or how many seconds ago, by a clock that is yet to be asked."""

    at: float = 0.0
    ago: float | None = None

    def by(self, clock: Callable[[], float]) -> float:
        """Epoch seconds."""
        return self.at if self.ago is None else clock() - self.ago


def moment(text: str) -> Moment:
    """A time in UTC (`2026-03-01`, `2026-03-01T12:30`, `2026-03-01T12:30:00+02:00`), or how long ago (`1h`).

    Raises ValueError, which says what was expected.
    """
    if _DURATION.match(text) and "-" not in text:
        return Moment(ago=duration(text))
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        read = datetime.min
    if read.year not in _YEARS:
        raise ValueError(f"{text!r}: expected how long ago (1h) or a UTC time (2026-03-01T12:30)")
    return Moment((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp())


def iso(at: float) -> str:
    """`2026-03-01T12:30:00.250Z`, for programs."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(at: float) -> str:
    """`2026-03-01 12:30:00Z`, for people."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%SZ}"


def spoken(at: float, now: float) -> str:
    """`2026-03-01 12:30:00Z (3 min ago)`, for people."""
    return f"{clock(at)} ({relative(at, now)})"


def relative(at: float, now: float) -> str:
    """`3 min ago`, `in 12 s`."""
    return f"{span(now - at)} ago" if at <= now else f"in {span(at - now)}"


def span(seconds: float) -> str:
    """A duration in its largest sensible unit: `250 ms`, `12 s`, `3 min`, `5 h`, `2 d`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, size, until in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < until:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def size(count: int) -> str:
    """Bytes: `512 B`, `1.5 KiB`, `20 MiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
