"""What stands on each page: gathered in a thread, in a few bounded questions to the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.admin import audit, diagnosis, inspection, keys, operations, overview
from relay.admin.api.asking import AuditAsked, ListAsked, ReplayAsked
from relay.admin.console.rendering import Bar
from relay.admin.desk import Desk
from relay.admin.errors import NotFound, NothingMatched, Refused
from relay.admin.inspection import Filter
from relay.admin.pulse import MINUTE, Beat
from relay.outbox.model import State
from relay.policy.attempt import Outcome

Facts = dict[str, Any]

PER_PAGE = 50
PLACES_PER_PAGE = 100
MOST_REPLAYED = 5000
_RECENT_MINUTES = 5
_LEAST_MINUTES, _MOST_MINUTES = 15, 60


def now(desk: Desk) -> Facts:
    """Now: is anything late, whose fault is it, what to do."""
    at = desk.database.now()
    minutes = desk.pulse.minutes(at, count=_shown_minutes(desk.pulse.since, at))
    recent = minutes[-_RECENT_MINUTES:]
    delivered, failed = sum(m.delivered for m in recent), sum(m.failed for m in recent)
    seen = overview.overview(desk.database, at, history=False)
    return {
        "at": at,
        "seen": seen,
        "in_flight": desk.in_flight(),
        "limit": desk.concurrency,
        "troubles": diagnosis.troubled(desk.database, at),
        "dead": inspection.search(desk.database, Filter(state=State.DEAD), limit=5).found if seen.dead else (),
        "chart": tuple((minute.at, minute.delivered, minute.failed) for minute in minutes),
        "attempts": delivered + failed,
        "success": delivered / (delivered + failed) if delivered + failed else None,
        "since": desk.pulse.since,
    }


def _shown_minutes(since: float, at: float) -> int:
    """An hour, or less while there was less."""
    return max(_LEAST_MINUTES, min(_MOST_MINUTES, int(at // MINUTE) - int(since // MINUTE) + 1))


def deliveries(desk: Desk, asked: ListAsked, given: dict[str, str]) -> Facts:
    """Deliveries: a page of those that pass the filter, the newest first."""
    page = inspection.search(
        desk.database, asked.filter(asked.state, desk.database.now), limit=asked.limit, older=asked.older
    )
    return {"at": desk.database.now(), "page": page, "given": given, "flaws": {}, **choices()}


def choices() -> Facts:
    """What a filter can be set to."""
    return {"states": list(State), "outcomes": list(Outcome)}


def delivery(desk: Desk, id_: str, *, reveal: bool = False, body: bytes | None = None) -> Facts:
    """Delivery: all of one, its attempts the newest first."""
    at = desk.database.now()
    one = inspection.delivery(desk.database, id_, at, reveal=reveal)
    return {
        "at": at,
        "one": one,
        "attempts": tuple(reversed(inspection.history(desk.database, id_))),
        "curl": inspection.as_curl(one),
        "revealed": reveal,
        "body": body,
        "replayable": one.state in operations.REPLAYABLE and one.body_kept,
    }


def destinations(desk: Desk, wanted: str, state: str, start: int) -> Facts:
    """Destinations: those whose origin contains a text, those with most that is due first."""
    at = desk.database.now()
    fit = [
        place
        for place in overview.destinations(desk.database, at)
        if wanted.lower() in place.origin and state in ("", place.state)
    ]
    shown = fit[start : start + PLACES_PER_PAGE]
    sentences = {one.destination.origin: one.sentence for one in diagnosis.troubled(desk.database, at, limit=20)}
    return {
        "at": at,
        "places": [(place, desk.pulse.beat(place.origin, at), sentences.get(place.origin)) for place in shown],
        "count": len(fit),
        "start": start,
        "following": start + PLACES_PER_PAGE if start + PLACES_PER_PAGE < len(fit) else None,
        "since": desk.pulse.since,
        "given": {"text": wanted, "state": state},
        "states": ("active", "open", "paused", "disabled"),
        "spark_of": chart_of,
    }


def destination(desk: Desk, origin: str) -> Facts:
    """Destination: how one stands, what was sent there of late, and the keys that sign for it."""
    at = desk.database.now()
    place = next((one for one in overview.destinations(desk.database, at) if one.origin == origin), None)
    if place is None:
        raise NotFound(f"no destination {origin}: none of the deliveries kept goes there")
    beat = desk.pulse.beat(place.origin, at)
    own = [key for key in keys.keys(desk.database) if key.destination == origin]
    return {
        "at": at,
        "place": place,
        "trouble": diagnosis.trouble(desk.database, place, at),
        "beat": beat,
        "chart": chart_of(beat),
        "since": desk.pulse.since,
        "recent": inspection.search(desk.database, Filter(destination=origin), limit=20),
        "keys": own or [key for key in keys.keys(desk.database) if key.destination is None],
        "own": bool(own),
    }


def chart_of(beat: Beat) -> tuple[Bar, ...]:
    """A destination's day, hour by hour."""
    return tuple((hour.at, hour.delivered, hour.failed) for hour in beat.hours)


def trail(desk: Desk, asked: AuditAsked, given: dict[str, str]) -> Facts:
    """Audit: what operators did; and about this relay."""
    acts = audit.acts(desk.database, act=asked.act, limit=asked.limit, older=asked.older)
    return {
        "at": desk.database.now(),
        "acts": acts,
        "older": acts[-1].id if len(acts) == asked.limit else None,
        "given": given,
        "version": desk.version,
        "settings": desk.settings,
        "keys": [key for key in keys.keys(desk.database) if key.destination is None],
    }


def preview(desk: Desk, asked: ReplayAsked, fields: Sequence[tuple[str, str]]) -> Facts:
    """What a replay would send again. That nothing can be is no error here, but what the page says."""
    facts: Facts = {"at": desk.database.now(), "fields": fields, "asked": asked, "plan": None, "why_not": None}
    try:
        return facts | {"plan": operations.plan_replay(desk.database, asked.selection(desk.database.now, asked.state))}
    except (NothingMatched, Refused) as error:
        return facts | {"why_not": str(error)}
