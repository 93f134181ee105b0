"""One sentence for each endpoint that needs attention: what is the matter, whose it is, and what to do.

`diagnose` is arithmetic on evidence; `explained` gathers the evidence, at a cost that does not grow with the outbox.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relay.admin import json_values
from relay.admin.access import reading
from relay.admin.condition import Attention
from relay.admin.destinations import Destination
from relay.admin.times import size
from relay.outbox.queries import statement
from relay.outbox.store import Connection, Database
from relay.policy.attempt import Outcome
from relay.policy.breaker import Cause
from relay.policy.outcome import remedy_for_413

_EVIDENCE = statement("evidence", __package__)

_LOOKED_AT = 20  # the last attempts say what is the matter now
_EFFORT = 500
_FRESH_SECONDS = 3600.0
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
    """An endpoint that needs attention, and why, in a sentence. `failing_since` is the oldest failure looked at,
    `last_error` the newest one's own words; `example` is a delivery to look at."""

    endpoint: Attention
    sentence: str
    failing_since: float | None
    last_error: str
    example: str | None


def explained(connection: Connection, attention: Sequence[Attention], now: float) -> tuple[Trouble, ...]:
    """What is the matter with each of these endpoints."""
    return tuple(_trouble(connection, one, now) for one in attention)


def troubles_of(database: Database, place: Destination, now: float, most: int) -> tuple[Trouble, ...]:
    """What is the matter with one origin and its endpoints, if anything."""
    with reading(database) as connection:
        return explained(connection, place.attention[:most], now)


def diagnose(one: Attention, evidence: Sequence[Evidence]) -> str:
    """The sentence. `evidence` are its last failures, the newest first."""
    if one.cause in _HELD_SENTENCES:
        return _HELD_SENTENCES[one.cause]
    if not evidence:
        return "It fails, and no attempt of it is kept: send one again to see why."
    limit = _size_limit(one, evidence)
    if limit:
        return limit
    outcome, _ = Counter(failure.outcome for failure in evidence).most_common(1)[0]
    return _sentence(Outcome(outcome), next(failure for failure in evidence if failure.outcome == outcome))


def _trouble(connection: Connection, one: Attention, now: float) -> Trouble:
    values = {"origin": one.origin, "path": one.path, "effort": _EFFORT, "limit": _LOOKED_AT}
    rows = connection.execute(_EVIDENCE, values).fetchall()
    evidence = [found for found in map(_read, rows) if found.outcome != Outcome.SUCCESS]
    fresh = [found for found in evidence if found.started_at > now - _FRESH_SECONDS]
    newest = evidence[0] if evidence else None
    return Trouble(
        endpoint=one,
        sentence=diagnose(one, evidence),
        failing_since=fresh[-1].started_at if fresh else None,
        last_error=newest.detail if newest else "",
        example=newest.id if newest else None,
    )


def _read(row: Any) -> Evidence:
    headers = {name.lower(): value for name, value in json_values.pairs(row["answer_headers"])}
    return Evidence(
        row["id"],
        row["started_at"],
        row["outcome"],
        row["status"],
        row["detail"],
        headers.get("server"),
        row["body_bytes"],
    )


def _size_limit(one: Attention, evidence: Sequence[Evidence]) -> str | None:
    """413 says so itself. A proxy that stops reading says 502, or nothing at all: then only what large bodies have in
    common gives it away."""
    plain = [failure for failure in evidence if failure.outcome == Outcome.HTTP_413]
    if plain:
        least = min(failure.body_bytes for failure in plain)
        return f"It refuses bodies from {size(least)} on as too large; {remedy_for_413(plain[0].server)}."
    accepted = one.largest_accepted
    if accepted is None or not all(_may_hide_a_limit(failure, accepted) for failure in evidence):
        return None
    least = min(failure.body_bytes for failure in evidence)
    return (
        f"Bodies from {size(least)} on fail and those up to {size(accepted)} arrive: probably a size limit; "
        f"{remedy_for_413(evidence[0].server)}."
    )


def _may_hide_a_limit(one: Evidence, accepted: int) -> bool:
    return (one.status == 502 or one.outcome == Outcome.RESET) and one.body_bytes > max(accepted, _LARGE)


_HELD_SENTENCES = {
    Cause.PAUSED: "An operator paused it: nothing goes out until somebody resumes it.",
    Cause.DISABLED: "It is disabled: nothing goes out until somebody enables it.",
    Cause.BEHIND: "It takes less than comes for it: it is slow, or asked for a slow pace.",
}
_SENTENCES = {
    Outcome.HTTP_410: "It answered 410 Gone, and that URL is called no more: ask whether it moved, then enable it.",
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
