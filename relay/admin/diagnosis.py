"""One sentence for each destination that fails: what is the matter, whose it is, and what to do.

`diagnose` is arithmetic on evidence; `troubled` gathers the evidence, at a cost that does not grow with the outbox.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relay.admin import stored
from relay.admin.access import reading
from relay.admin.overview import Destination, destinations
from relay.admin.times import size
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database
from relay.policy.attempt import Outcome
from relay.policy.outcome import remedy_for_413

_EVIDENCE = statement("evidence", __package__)
_RETRIED = statement("retried", __package__)
_ID = "SELECT id FROM outspoken_destinations WHERE origin = ?"

_LOOKED_AT = 20  # the last attempts say what is the matter now
_EFFORT = 500
_FRESH_SECONDS = 3600.0
_OFTEN = 3  # a failure or two are nobody's business: the schedule is there for them
_LARGE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the last attempt of one delivery came to. `server` is the receiver's own header."""

    id: str
    started_at: float
    outcome: str
    status: int | None
    detail: str
    server: str | None
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """A destination that needs attention, and why, in a sentence. `failing_since` is the oldest failure looked at,
    `last_error` the newest one's own words; `example` is a delivery to look at."""

    destination: Destination
    sentence: str
    failing_since: float | None
    last_error: str
    example: str | None


def troubled(database: Database, now: float, limit: int = 5) -> tuple[Trouble, ...]:
    """The destinations that need attention, the worst first."""
    places = destinations(database, now)
    with reading(database) as connection:
        retried = dict(map(tuple, connection.execute(_RETRIED, {"effort": 4 * _EFFORT})))
        suspects = [place for place in places if _is_suspect(place, retried.get(place.origin, 0))]
        suspects.sort(key=_badness, reverse=True)
        return tuple(_trouble(connection, place, now) for place in suspects[:limit])


def trouble(database: Database, place: Destination, now: float) -> Trouble | None:
    """What is the matter with one destination, if anything."""
    with reading(database) as connection:
        found = _trouble(connection, place, now)
    recent = found.failing_since is not None
    return found if _is_suspect(place, 0) or recent else None


def diagnose(place: Destination, evidence: Sequence[Evidence]) -> str:
    """The sentence. `evidence` are its last failures, the newest first."""
    held = {
        "paused": "An operator paused it: nothing goes out until somebody resumes it.",
        "disabled": "It is disabled: nothing goes out until somebody enables it.",
    }.get(place.state)
    if held and place.state == "disabled" and any(one.outcome == Outcome.HTTP_410 for one in evidence):
        return "It answered 410 Gone and was disabled: ask whether the callback moved, then enable it."
    if held:
        return held
    if not evidence:
        return "It fails, and no attempt of it is kept: send one again to see why."
    limit = _size_limit(place, evidence)
    if limit:
        return limit
    outcome, _ = Counter(one.outcome for one in evidence).most_common(1)[0]
    return _sentence(Outcome(outcome), next(one for one in evidence if one.outcome == outcome))


def _is_suspect(place: Destination, retried: int) -> bool:
    """A destination that fails for some bodies only has a breaker that stays closed: its retries tell."""
    held = place.state != "active" and place.waiting > 0
    return held or place.open_until is not None or max(place.failures, retried) >= _OFTEN


def _badness(place: Destination) -> tuple[bool, int, int]:
    return place.state != "active", place.ready, place.failures


def _trouble(connection: Connection, place: Destination, now: float) -> Trouble:
    id_ = connection.execute(_ID, (place.origin,)).fetchone()[0]
    rows = connection.execute(_EVIDENCE, {"destination_id": id_, "effort": _EFFORT, "limit": _LOOKED_AT}).fetchall()
    evidence = [one for one in map(_read, rows) if one.outcome != Outcome.SUCCESS]
    fresh = [one for one in evidence if one.started_at > now - _FRESH_SECONDS]
    newest = evidence[0] if evidence else None
    return Trouble(
        destination=place,
        sentence=diagnose(place, evidence),
        failing_since=fresh[-1].started_at if fresh else None,
        last_error=newest.detail if newest else "",
        example=newest.id if newest else None,
    )


def _read(row: Any) -> Evidence:
    headers = {name.lower(): value for name, value in stored.pairs(row["answer_headers"])}
    return Evidence(
        row["id"],
        row["started_at"],
        row["outcome"],
        row["status"],
        row["detail"],
        headers.get("server"),
        row["body_bytes"],
    )


def _size_limit(place: Destination, evidence: Sequence[Evidence]) -> str | None:
    """413 says so itself. A proxy that stops reading says 502, or nothing at all: then only what large bodies have in
    common gives it away."""
    plain = [one for one in evidence if one.outcome == Outcome.HTTP_413]
    if plain:
        least = min(one.body_bytes for one in plain)
        return f"It refuses bodies from {size(least)} on as too large; {remedy_for_413(plain[0].server)}."
    accepted = place.largest_accepted
    if accepted is None or not all(_may_hide_a_limit(one, accepted) for one in evidence):
        return None
    least = min(one.body_bytes for one in evidence)
    return (
        f"Bodies from {size(least)} on fail and those up to {size(accepted)} arrive: probably a size limit; "
        f"{remedy_for_413(evidence[0].server)}."
    )


def _may_hide_a_limit(one: Evidence, accepted: int) -> bool:
    return (one.status == 502 or one.outcome == Outcome.RESET) and one.body_bytes > max(accepted, _LARGE)


_SENTENCES = {
    Outcome.HTTP_3XX: "It answers with a redirect, which is never followed: callers should name the final URL.",
    Outcome.HTTP_429: "It asks us to slow down: its own rate limit is lower than what we send.",
    Outcome.BLOCKED: "The guard forbids its address: look where the name leads now before you open anything.",
    Outcome.DNS: "Its host name does not resolve: misspelt, expired, or our resolver is at fault.",
    Outcome.SHORTAGE: "Its host name could not be looked up: our name servers are out of reach, or too busy.",
    Outcome.CONNECT: "Nothing accepts connections there: the receiver is down, or a firewall refuses us.",
    Outcome.CONNECT_TIMEOUT: "No answer to our connections: the machine is off, or a firewall drops them.",
    Outcome.TLS: "The TLS handshake fails: look at its certificate, its name and its date.",
    Outcome.READ_TIMEOUT: "It takes our request and does not answer in time: it should answer first and work later.",
    Outcome.RESET: "It hangs up before it answers: a crash, a restart, or a limit in front of it.",
    Outcome.PROTOCOL: "What it answers is not acceptable HTTP: perhaps another service has its port.",
    Outcome.UNSENDABLE: "What its producers ask to be sent is no request: see the attempt for the header.",
    Outcome.INTERNAL: "The fault is ours: the log of the relay has the error.",
}
_STATUSES = {
    401: "It answers 401: it does not accept the caller's credentials; they have to be put right in the callback URL.",
    403: "It answers 403: something in front of it forbids us, such as a firewall or an allow list.",
    404: "It answers 404: the path of the callback is not there; the route was renamed, or never deployed.",
    502: "It answers 502: the proxy is up and the application behind it is not.",
    503: "It answers 503: it calls itself overloaded or under maintenance.",
    504: "It answers 504: the application behind its proxy is too slow.",
}


def _sentence(outcome: Outcome, one: Evidence) -> str:
    if outcome in _SENTENCES:
        return _SENTENCES[outcome]
    if one.status in _STATUSES:
        return _STATUSES[one.status]
    whose = "the fault is the receiver's, and its log knows more" if outcome is Outcome.HTTP_5XX else "it refuses them"
    return f"It answers {one.status}: {whose}."
