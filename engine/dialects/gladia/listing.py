"""The query that lists jobs: filters, and which page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from engine.dialects.gladia.errors import GladiaProblem, invalid
from engine.record import JobState

MAX_LIMIT = 100
"""Jobs on one page, results included."""

_STATES = {
    "queued": JobState.QUEUED,
    "processing": JobState.PROCESSING,
    "done": JobState.DONE,
    "error": JobState.FAILED,
}
_KINDS = ("pre-recorded", "live")
_METADATA = re.compile(r"custom_metadata\[(?P<key>.{1,2000})\]", re.DOTALL)
_ONCE = ("offset", "limit", "date", "before_date", "after_date", "region")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class Listing:
    """Which jobs: `since` (inclusive) and `before` (exclusive) in epoch seconds, `metadata` as equal texts; `nothing`
    where only jobs of another kind are asked for."""

    offset: int = 0
    limit: int = 20
    since: float | None = None
    before: float | None = None
    states: tuple[JobState, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    nothing: bool = False


def parse_listing(pairs: Sequence[tuple[str, str]], kind: str = "pre-recorded") -> Listing | GladiaProblem:
    """What a decoded query string asks of a list of this kind, or everything that is wrong with it."""
    flaws = [flaw for name in dict.fromkeys(name for name, _ in pairs) if (flaw := _stranger(name, pairs))]
    once = {name: value for name, value in pairs if name in _ONCE}
    statuses = [value for name, value in pairs if name == "status"]
    kinds = [value for name, value in pairs if name == "kind"]
    since, before = _span(once, flaws)
    listing = Listing(
        offset=_whole(once, "offset", 0, 0, 2**53, flaws),
        limit=_whole(once, "limit", 20, 1, MAX_LIMIT, flaws),
        since=since,
        before=before,
        states=tuple(_STATES[status] for status in _chosen("status", statuses, tuple(_STATES), flaws)),
        metadata={found["key"]: value for name, value in pairs if (found := _METADATA.fullmatch(name))},
        nothing=bool(kinds) and kind not in _chosen("kind", kinds, _KINDS, flaws),
    )
    return invalid(*flaws) if flaws else listing


def _stranger(name: str, pairs: Sequence[tuple[str, str]]) -> str | None:
    if name in _ONCE:
        return f"{name} must be sent once" if sum(other == name for other, _ in pairs) > 1 else None
    if name in {"status", "kind"} or _METADATA.fullmatch(name):
        return None
    shown = name if re.fullmatch(r"\w{1,64}", name, re.ASCII) else repr(name[:64])
    return f"{shown} must be left out: this server does not know the parameter"


def _whole(once: Mapping[str, str], name: str, default: int, least: int, most: int, flaws: list[str]) -> int:
    text = once.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 17 and least <= int(text) <= most):
        flaws.append(f"{name} must be a whole number from {least} to {most}")
        return default
    return int(text)


def _chosen(name: str, values: Sequence[str], allowed: tuple[str, ...], flaws: list[str]) -> list[str]:
    """Values that were repeated, or sent with commas between them."""
    found = [part for value in values for part in value.split(",")]
    if not set(found) <= set(allowed):
        flaws.append(f"{name} must be one of {', '.join(allowed)}")
        return []
    return list(dict.fromkeys(found))


def _span(once: Mapping[str, str], flaws: list[str]) -> tuple[float | None, float | None]:
    """The time that all dates together leave."""
    day, after, before = (_moment(once, name, flaws) for name in ("date", "after_date", "before_date"))
    midnight = day.replace(hour=0, minute=0, second=0, microsecond=0) if day else None
    starts = [moment.timestamp() for moment in (midnight, after) if moment]
    ends = [before.timestamp()] if before else []
    ends += [midnight.timestamp() + timedelta(days=1).total_seconds()] if midnight else []
    return max(starts, default=None), min(ends, default=None)


def _moment(once: Mapping[str, str], name: str, flaws: list[str]) -> datetime | None:
    text = once.get(name)
    if text is None:
        return None
    try:
        # A plus sign that was not percent-encoded arrives as a space.
        moment = datetime.fromisoformat(text.replace(" ", "+") if _DAY.match(text) and "T" in text else text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        flaws.append(f"{name} must be a date as in ISO 8601, such as 2024-09-18 or 2024-09-18T15:31:53Z")
        return None
