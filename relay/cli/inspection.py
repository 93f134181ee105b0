"""Commands that only look: status, list, show, tail, stats, destinations, audit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from relay.admin import audit as trail
from relay.admin import destinations as places
from relay.admin import inspection, overview
from relay.admin.access import NothingMatched
from relay.admin.condition import Severity, shortened
from relay.admin.destinations import KnownEndpoint
from relay.admin.diagnosis import Trouble
from relay.admin.inspection import AttemptRecord, DeliveryAttempt, Details, Filter, Summary, Tail, as_curl
from relay.admin.overview import Group
from relay.admin.times import Moment, relative, size, span, spoken
from relay.cli.terminal import (
    Config,
    Destination,
    Json,
    Since,
    Until,
    complain,
    database,
    moment,
    named_origin,
    print_json,
    when,
)
from relay.outbox.errors import RelayError
from relay.outbox.model import DeliveryState
from relay.policy.attempt import Outcome
from relay.service.terminal import BELOW, print_pairs, print_table, print_wrapped, safe, say

commands = typer.Typer()

_POLL_SECONDS = 0.25
_EXCERPT = 400
_FEW = 3
_AN_HOUR_AGO = Moment(ago=3600.0)

StateOption = Annotated[DeliveryState | None, typer.Option(help="Where it stands.")]
OutcomeOption = Annotated[Outcome | None, typer.Option(help="What its last attempt came to.")]
IdPrefix = Annotated[str | None, typer.Option(metavar="TEXT", help="How its id begins.")]
Tag = Annotated[str | None, typer.Option(metavar="TAG", help="One of its tags.")]
Owner = Annotated[str | None, typer.Option(metavar="NAME", help="Whose it is.")]
Reveal = Annotated[bool, typer.Option(help="Show path and query of the URL, and all header values.")]


@commands.command()
def status(
    check: Annotated[
        bool,
        typer.Option("--check", help="One line for a monitor. Exit code 0 when all is well, 1 attention, 2 broken."),
    ] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """How the queue stands, and what is wrong, if anything: whose fault it is, and what to do."""
    if check:
        raise typer.Exit(_check(config, as_json=as_json))
    outbox = database(config)
    seen = overview.overview(outbox, outbox.now())
    if as_json:
        print_json(seen)
        return
    print_wrapped(seen.condition.headline)
    for sentence in seen.condition.ours[1:]:
        print_wrapped(sentence)
    say("")
    print_pairs(_counts(seen))
    for trouble in seen.troubles:
        say("")
        _print_trouble(trouble)
    if more := len(seen.condition.attention) - len(seen.troubles):
        say(f"\nand {more} more: `relay destinations`")


def _check(config: Path | None, *, as_json: bool) -> int:
    """Whatever keeps it from being known is broken too."""
    try:
        outbox = database(config)
        condition = overview.overview(outbox, outbox.now(), history=False, most=1).condition
        told = {"severity": condition.severity, "headline": condition.headline, "attention": len(condition.attention)}
    except RelayError as error:
        told = {"severity": Severity.BROKEN, "headline": str(error), "attention": None}
    if as_json:
        print_json(told)
    else:
        say(f"{told['severity']}: {safe(str(told['headline']))}")
    return list(Severity).index(Severity(str(told["severity"])))


def _counts(seen: overview.Overview) -> dict[str, str | None]:
    late = f"{seen.ready}, the oldest for {span(seen.oldest_due_age)}" if seen.ready else "0"
    places = ", ".join(f"{count} {state}" for state, count in sorted(seen.destinations.items())) or "none"
    return {
        "due now": late,
        "due later": str(seen.scheduled),
        "in line in a stream": str(seen.in_line),
        "in flight": str(seen.in_flight),
        "given up": f"{seen.dead}, {seen.dead_of_late} of them in 24 hours",
        "delivered today": str(seen.delivered_today),
        "destinations": places,
        "relays at work": str(seen.relays),
    }


def _print_trouble(trouble: Trouble) -> None:
    one = trouble.endpoint
    waiting = f"{one.waiting} waiting" if one.waiting else "nothing waits"
    dead = f", {one.dead} given up in 24 hours" if one.dead else ""
    say(safe(f"{one.id}  {shortened(one.place)}"))
    print_wrapped(f"{one.cause.replace('_', ' ')}: {trouble.sentence}", BELOW)
    print_wrapped(f"{waiting}{dead}" + (f"; see {trouble.example}" if trouble.example else ""), BELOW)


@commands.command("list")
def list_(
    state: StateOption = None,
    outcome: OutcomeOption = None,
    destination: Destination = None,
    id_prefix: IdPrefix = None,
    tag: Tag = None,
    owner: Owner = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    older: Annotated[
        int | None, typer.Option(metavar="SEQ", help="Behind this one, the last of a page before.")
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Deliveries, the newest first."""
    outbox = database(config)
    origin = named_origin(outbox, destination)
    wanted = Filter(state, outcome, origin, id_prefix, when(since, outbox), when(until, outbox), tag, owner)
    found = inspection.deliveries(outbox, wanted, limit=limit, older=older)
    if not found:
        raise NothingMatched("no delivery matches")
    if as_json:
        print_json(*found)
        return
    now = outbox.now()
    print_table(("ID", "STATE", "DESTINATION", "ADDED", "ATTEMPTS", "LAST", "NEXT"), [_row(one, now) for one in found])
    if len(found) == limit:
        say(f"\nOlder ones: --older {found[-1].seq}")


@commands.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Or its beginning, as far as no other begins so.")],
    attempts: Annotated[bool, typer.Option("--attempts", help="And every attempt.")] = False,
    body: Annotated[bool, typer.Option("--body", help="And the body: it may be personal.")] = False,
    curl: Annotated[bool, typer.Option("--curl", help="And a curl command that sends the same.")] = False,
    reveal: Reveal = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """One delivery. Credentials are never shown; path and query of its URL only with --reveal: they may be tokens."""
    outbox = database(config)
    now = outbox.now()
    id_ = inspection.whole_id(outbox, id_)
    one = inspection.delivery(outbox, id_, now, reveal=reveal)
    history = inspection.history(outbox, id_) if attempts else ()
    content = inspection.body(outbox, id_) if body else None
    if as_json:
        more = {"attempts_made": [asdict(attempt) for attempt in history]} if attempts else {}
        print_json(
            asdict(one) | more | ({"body": content} if body else {}) | ({"curl": safe(as_curl(one))} if curl else {})
        )
        return
    print_pairs(_described(one, now))
    for attempt in history:
        say("")
        print_pairs(_attempt(attempt, now))
    if curl:
        say(f"\n{safe(as_curl(one))}")
    if content is not None:
        say(f"\n{safe(content.decode(errors='replace'), lines=True)}")


@commands.command()
def tail(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=10_000, help="Begin with the last so many.")] = 10,
    outcome: Annotated[Outcome | None, typer.Option(help="Only attempts that came to this.")] = None,
    destination: Destination = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Attempts: the last ones, and with -f those to come as they happen."""
    outbox = database(config)
    watched = Tail(outbox, outcome, named_origin(outbox, destination))

    def tell(found: tuple[DeliveryAttempt, ...]) -> None:
        for one in found:
            if as_json:
                print_json(one)
            else:
                print(_line(one), flush=True)

    tell(watched.recent(lines))
    with suppress(KeyboardInterrupt):
        gap = None
        while follow:
            time.sleep(_POLL_SECONDS)
            tell(watched.news())
            if watched.gap and watched.gap != gap:
                complain(f"tail: {watched.gap}")
            gap = watched.gap


@commands.command()
def stats(
    by: Annotated[
        str, typer.Option(metavar="GROUPS", help="Any of destination,outcome,status.")
    ] = "destination,outcome",
    since: Annotated[Moment | None, typer.Option(parser=moment, metavar="TIME", help="[default: 1h]")] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """How many attempts there were, by destination and outcome, and how long they took."""
    groups, outbox = _groups(by), database(config)
    found = overview.stats(outbox, (since or _AN_HOUR_AGO).by(outbox.now), groups)
    if not found:
        raise NothingMatched("no attempt since then")
    if as_json:
        print_json(*found)
        return
    headings = (*(group.upper() for group in groups), "ATTEMPTS", "DELIVERED", "P50", "P95", "LAG P95")
    print_table(
        headings,
        [
            (
                *one.group.values(),
                str(one.attempts),
                str(one.delivered),
                span(one.p50),
                span(one.p95),
                span(one.lag_p95),
            )
            for one in found
        ],
    )


@commands.command()
def destinations(
    reveal: Annotated[bool, typer.Option(help="Show long paths whole: they may be secrets.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Where deliveries go: what waits there, who is left alone, and how large a body may be. Of a long path the table
    shows the ends, JSON the whole, as `--path` wants it."""
    outbox = database(config)
    found = places.destinations(outbox, outbox.now())
    if not found:
        raise NothingMatched("no destination yet")
    if as_json:
        print_json(*found)
        return
    headings = ("ID", "STATE", "DESTINATION", "DUE", "LATER", "IN FLIGHT", "OLDEST DUE", "ACCEPTED", "REFUSED")
    rows = [
        (
            one.id,
            one.shown,
            one.origin,
            str(one.ready),
            str(one.waiting - one.ready),
            str(one.in_flight),
            span(one.oldest_due_age) if one.ready else "-",
            "-" if one.largest_accepted is None else size(one.largest_accepted),
            "-" if one.smallest_refused is None else size(one.smallest_refused),
        )
        for one in found
    ]
    print_table(headings, rows)
    parts = [(place, one) for place in found for one in place.endpoints]
    if parts:
        say("")
        print_table(
            ("ID", "STATE", "ENDPOINT", "FAILURES", "NEXT", "GIVEN UP", "ACCEPTED", "REFUSED", "GONE"),
            [_endpoint(place.origin, one, outbox.now(), reveal=reveal) for place, one in parts],
        )


def _endpoint(origin: str, one: KnownEndpoint, now: float, *, reveal: bool) -> tuple[str, ...]:
    return (
        one.id,
        one.shown,
        origin + one.path if reveal else shortened(origin + one.path),
        str(one.failures),
        "-" if one.allowed_at is None else span(max(0.0, one.allowed_at - now)),
        str(one.dead),
        "-" if one.largest_accepted is None else size(one.largest_accepted),
        "-" if one.smallest_refused is None else size(one.smallest_refused),
        str(one.gone),
    )


@commands.command()
def audit(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """What operators did, the last first."""
    outbox = database(config)
    found = trail.acts(outbox, limit=limit)
    if not found:
        raise NothingMatched("nobody did anything yet")
    if as_json:
        print_json(*found)
        return
    now = outbox.now()
    rows = [(spoken(one.at, now), one.actor, one.source, one.act, _in_words(one.detail)) for one in found]
    print_table(("WHEN", "WHO", "BY", "ACT", "DETAIL"), rows)


def _in_words(detail: Mapping[str, Any]) -> str:
    """What a line of the audit tells of an act, as the console writes it: names and values."""
    told = {name: shortened(str(value)) if name == "destination" and value else value for name, value in detail.items()}
    words = [f"{name.replace('_', ' ')} {_value(value)}" for name, value in told.items() if value is not None]
    return ", ".join(words) or "-"


def _value(value: object) -> str:
    match value:
        case Mapping():
            return " ".join(f"{str(name).replace('_', ' ')} {one}" for name, one in value.items()) or "none"
        case Sequence() if not isinstance(value, str):
            more = f" and {len(value) - _FEW} more" if len(value) > _FEW else ""
            return ", ".join(map(str, value[:_FEW])) + more
        case bool():
            return "yes" if value else "no"
    return str(value)


def _groups(text: str) -> tuple[Group, ...]:
    try:
        return tuple(dict.fromkeys(Group(name.strip()) for name in text.split(",")))
    except ValueError:
        raise typer.BadParameter(f"--by {text}: expected any of {', '.join(Group)}, with commas") from None


def _row(one: Summary, now: float) -> tuple[str, ...]:
    return (
        one.id,
        str(one.state),
        one.destination,
        spoken(one.created_at, now),
        str(one.last_number or 0),
        _came(one.last_outcome, one.last_status) if one.last_outcome else "-",
        _next(one, now),
    )


def _came(outcome: str, status: int | None) -> str:
    """What an attempt came to: a status says more than its class does."""
    return f"answered {status}" if status and outcome.startswith("http_") else outcome


def _next(one: Summary, now: float) -> str:
    if one.held:
        return "held by its destination"
    if one.state is DeliveryState.PENDING:
        return "in line" if one.due_at is None else relative(one.due_at, now)
    return one.reason or "-"


def _described(one: Details, now: float) -> dict[str, str | None]:
    settled = f"{one.attempts} since it was added or replayed"
    stream = f"{one.stream}, number {one.position}" if one.stream else None
    headers = ", ".join(f"{name}: {value}" for name, value in one.headers.items())
    return {
        "id": one.id,
        "state": str(one.state),
        "reason": one.reason,
        "waits for": one.waits_for,
        "due": spoken(one.due_at, now) if one.state is DeliveryState.PENDING and one.due_at is not None else None,
        "added": spoken(one.created_at, now),
        "finished": None if one.finished_at is None else spoken(one.finished_at, now),
        "attempts": settled + (f", {one.lapses} before or cut short" if one.lapses else ""),
        "request": f"{one.method} {one.url}",
        "destination": one.destination,
        "carries": f"{one.kind}, {one.content_type}, {size(one.body_bytes)}"
        + ("" if one.body_kept else ", no longer kept"),
        "sent as": "a link, because the body was too large" if one.pointer else None,
        "headers": headers or None,
        "traceparent": one.traceparent,
        "schedule": one.schedule,
        "stream": stream,
        "stream killed": one.stream_reason,
        "tags": ", ".join(one.tags) or None,
        "idempotency key": one.idempotency_key,
        "owner": one.owner or None,
        "priority": str(one.priority) if one.priority else None,
        "its end": "is told to its producer" if one.tracked else None,
    }


def _attempt(one: AttemptRecord, now: float) -> dict[str, str | None]:
    excerpt = one.excerpt.decode(errors="replace")
    return {
        f"attempt {one.number}": spoken(one.started_at, now),
        "  outcome": _came(one.outcome, one.status),
        "  why": one.detail or None,
        "  took": ", ".join(
            [span(one.duration), *(f"{step} {span(took)}" for step, took in one.timing.items() if took)]
        ),
        "  late by": span(one.lag),
        "  address": one.peer,
        "  sent": ", ".join(f"{name}: {value}" for name, value in one.request_headers) or None,
        "  answered": ", ".join(f"{name}: {value}" for name, value in one.answer_headers) or None,
        "  body": (excerpt[:_EXCERPT] + ("..." if len(excerpt) > _EXCERPT else "")) or None,
    }


def _line(one: DeliveryAttempt) -> str:
    answer = _came(one.outcome, one.status)
    end = f"  {one.state}" + (f" ({one.reason})" if one.reason else "")
    why = f"  {one.detail}" if one.detail else ""
    when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(one.started_at))
    return safe(f"{when}  {one.id}  #{one.number}  {one.destination}  {answer}  {span(one.duration)}{end}{why}")
