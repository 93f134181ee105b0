"""What a receiver's Retry-After means: seconds from now, or nothing when it is nonsense (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

LONGEST_SECONDS = 3600.0

_SECONDS = re.compile(r"[0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20}", re.ASCII)
_LONGEST_DATE = 64


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait, 0 to 3600, from a delay or an HTTP date; None without a header or with an unreadable one."""
    if value is None:
        return None
    text = value.strip()
    wait = float(text) if _SECONDS.fullmatch(text) else _until(text, now)
    return None if wait is None else min(max(wait, 0.0), LONGEST_SECONDS)


def _until(text: str, now: float) -> float | None:
    # A bound before the parser: a receiver may send kilobytes.
    if len(text) > _LONGEST_DATE:
        return None
    try:
        date = parsedate_to_datetime(text)
        # The date of C's asctime names no zone: it is UTC, and not the zone of this machine.
        return date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
