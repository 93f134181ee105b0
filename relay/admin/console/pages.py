"""What stands on each page: gathered in a thread, in a few bounded questions to the outbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relay.admin import audit, diagnosis, inspection, keys, operations, overview
from relay.admin import destinations as places
from relay.admin.access import NotFound, NothingMatched, Refused
from relay.admin.api.requests import AuditRequest, ListRequest, ReplayRequest
from relay.admin.console.rendering import Bar
from relay.admin.context import AdminContext
from relay.admin.destinations import Destination, KnownEndpoint
from relay.admin.inspection import Filter
from relay.admin.recent import MINUTE, DestinationHistory
from relay.outbox.model import DeliveryState
from relay.policy.attempt import Outcome
from relay.policy.breaker import Cause, DestinationState

Facts = dict[str, Any]

DESTINATIONS_PER_PAGE = 100
ENDPOINTS_IN_LIST, ENDPOINTS_ON_PAGE, EXPLAINED_IN_LIST = 20, 200, 20
MOST_REPLAYED = 5000
TROUBLES_ON_PAGE = 10
_SLOWED = "It asked for less, or is well again: it is called slowly until it has kept up for a while."
_RECENT_MINUTES = 5
_LEAST_MINUTES, _MOST_MINUTES = 15, 60


def now(context: AdminContext) -> Facts:
    """Now: is anything late, whose fault is it, what to do."""
    at = context.database.now()
    minutes = context.recent.minutes(at, count=_shown_minutes(context.recent.since, at))
    recent = minutes[-_RECENT_MINUTES:]
    delivered, failed = sum(m.delivered for m in recent), sum(m.failed for m in recent)
    seen = overview.overview(context.database, at, history=False, most=TROUBLES_ON_PAGE)
    return {
        "at": at,
        "seen": seen,
        "in_flight": context.in_flight(),
        "limit": context.concurrency,
        "more": len(seen.condition.attention) - len(seen.troubles),
        "dead": inspection.search(context.database, Filter(state=DeliveryState.DEAD), limit=5).found
        if seen.dead
        else (),
        "chart": tuple((minute.at, minute.delivered, minute.failed) for minute in minutes),
        "attempts": delivered + failed,
        "success": delivered / (delivered + failed) if delivered + failed else None,
        "since": context.recent.since,
    }


def _shown_minutes(since: float, at: float) -> int:
    """An hour, or less while there was less."""
    return max(_LEAST_MINUTES, min(_MOST_MINUTES, int(at // MINUTE) - int(since // MINUTE) + 1))


def deliveries(context: AdminContext, asked: ListRequest, given: dict[str, str]) -> Facts:
    """Deliveries: a page of those that pass the filter, the newest first."""
    page = inspection.search(
        context.database, asked.filter(asked.state, context.database.now), limit=asked.limit, older=asked.older
    )
    return {"at": context.database.now(), "page": page, "given": given, "flaws": {}, **choices()}


def choices() -> Facts:
    return {"states": list(DeliveryState), "outcomes": list(Outcome)}


def delivery(context: AdminContext, id_: str, *, reveal: bool = False, body: bytes | None = None) -> Facts:
    """Delivery: all of one, its attempts the newest first."""
    at = context.database.now()
    one = inspection.delivery(context.database, id_, at, reveal=reveal)
    return {
        "at": at,
        "one": one,
        "attempts": tuple(reversed(inspection.history(context.database, id_))),
        "curl": inspection.as_curl(one),
        "revealed": reveal,
        "body": body,
        "replayable": one.state in operations.REPLAYABLE and one.body_kept,
    }


def destinations(context: AdminContext, wanted: str, state: str, start: int) -> Facts:
    """Destinations: those whose origin contains a text, those with most that is due first. One stands as wanted if it,
    or an endpoint of it, does."""
    at = context.database.now()
    shown, count = places.found(context.database, wanted.lower(), state, start, DESTINATIONS_PER_PAGE, at)
    seen = overview.overview(context.database, at, history=False, most=EXPLAINED_IN_LIST)
    sentences = {one.endpoint.id: one.sentence for one in seen.troubles}
    return {
        "at": at,
        "places": [
            (
                place,
                worst(place, ENDPOINTS_IN_LIST),
                context.recent.destination(place.origin, at),
                _said_of(place, sentences),
            )
            for place in shown
        ],
        "count": count,
        "start": start,
        "following": start + DESTINATIONS_PER_PAGE if start + DESTINATIONS_PER_PAGE < count else None,
        "since": context.recent.since,
        "given": {"text": wanted, "state": state},
        "states": list(dict.fromkeys(map(str, (*DestinationState, *Cause)))),
        "spark_of": chart_of,
    }


def _said_of(place: Destination, sentences: Mapping[str, str]) -> str | None:
    """About the whole, or about the only one of its paths that needs attention; where none does, why it is slowed."""
    needy = place.attention
    if not needy and place.state is DestinationState.SLOWED:
        return _SLOWED
    return sentences.get(needy[0].id) if needy and (len(needy) == 1 or not needy[0].path) else None


def destination(context: AdminContext, origin: str) -> Facts:
    """Destination: how one stands, what was sent there of late, and the keys that sign for it."""
    at = context.database.now()
    place = places.destination(context.database, origin, at)
    if place is None:
        raise NotFound(f"no destination {origin}: none of the deliveries kept goes there")
    history = context.recent.destination(place.origin, at)
    own = [key for key in keys.keys(context.database) if key.destination == origin]
    return {
        "at": at,
        "place": place,
        "endpoints": worst(place, ENDPOINTS_ON_PAGE),
        "troubles": diagnosis.troubles_of(context.database, place, at, TROUBLES_ON_PAGE),
        "attention": len(place.attention),
        "history": history,
        "chart": chart_of(history),
        "since": context.recent.since,
        "recent": inspection.search(context.database, Filter(destination=origin), limit=20),
        "keys": own or [key for key in keys.keys(context.database) if key.destination is None],
        "own": bool(own),
    }


def worst(place: Destination, most: int) -> Sequence[KnownEndpoint]:
    """What is known of its endpoints, what is held first."""
    order = list(DestinationState)
    return sorted(
        place.endpoints, key=lambda one: (one.cause is None, -order.index(one.state), not one.gone, one.path)
    )[:most]


def chart_of(history: DestinationHistory) -> tuple[Bar, ...]:
    """A destination's day, hour by hour."""
    return tuple((hour.at, hour.delivered, hour.failed) for hour in history.hours)


def audit_page(context: AdminContext, asked: AuditRequest, given: dict[str, str]) -> Facts:
    """Audit: what operators did."""
    acts = audit.acts(context.database, act=asked.act, limit=asked.limit, older=asked.older)
    return {
        "at": context.database.now(),
        "acts": acts,
        "older": acts[-1].id if len(acts) == asked.limit else None,
        "given": given,
    }


def settings(context: AdminContext) -> Facts:
    """Settings: the keys that sign wherever there are no others, and the settings in force."""
    return {
        "at": context.database.now(),
        "version": context.version,
        "settings": context.settings,
        "keys": [key for key in keys.keys(context.database) if key.destination is None],
    }


def preview(context: AdminContext, asked: ReplayRequest, fields: Sequence[tuple[str, str]]) -> Facts:
    """What a replay would send again. That nothing can be is no error here, but what the page says."""
    facts: Facts = {"at": context.database.now(), "fields": fields, "asked": asked, "plan": None, "why_not": None}
    if not [name for name, _ in fields if name != "limit"]:
        return facts | {
            "why_not": "nothing is selected, and that does not mean all: select some deliveries, or filter them"
        }
    try:
        return facts | {
            "plan": operations.plan_replay(context.database, asked.selection(context.database.now, asked.state))
        }
    except (NothingMatched, Refused) as error:
        return facts | {"why_not": str(error)}
