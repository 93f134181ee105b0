"""Commands that change something: replay, cancel, pause, resume, disable, enable."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from relay.admin import inspection, operations
from relay.admin.access import Refused
from relay.admin.inspection import Filter
from relay.admin.operations import BulkSelection, Plan, Progress
from relay.admin.times import size
from relay.cli.inspection import IdPrefix, OutcomeOption, Owner, Tag
from relay.cli.terminal import (
    Config,
    Destination,
    DestinationArgument,
    EndpointPath,
    Json,
    Since,
    Until,
    Yes,
    database,
    named_destination,
    named_origin,
    operator,
    print_json,
    when,
)
from relay.outbox.model import DeliveryState
from relay.outbox.store import Database
from relay.service.terminal import console, safe, say

commands = typer.Typer()

_MOST_LISTED = 10

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Deliveries, by their id or its beginning.")]
All = Annotated[bool, typer.Option("--all", help="Without any filter.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Limit = Annotated[int | None, typer.Option(min=1, help="The oldest so many.")]


@commands.command()
def replay(
    ids: Ids = None,
    state: Annotated[DeliveryState | None, typer.Option(help="dead (default), delivered or cancelled.")] = None,
    outcome: OutcomeOption = None,
    destination: Destination = None,
    id_prefix: IdPrefix = None,
    tag: Tag = None,
    owner: Owner = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    all_: All = False,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="So many a second; without it, all are due now.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Send deliveries again: the same id and body, a fresh schedule and the keys of now.

    Dead ones, unless --state says otherwise; named by id, whatever is finished. A receiver that has seen the id may
    have kept it from the first time.
    """
    if state is not None and state not in operations.REPLAYABLE:
        raise typer.BadParameter("--state: only what is dead, delivered or cancelled can be replayed")
    outbox = database(config)
    wanted = Filter(
        state,
        outcome,
        named_origin(outbox, destination),
        id_prefix,
        when(since, outbox),
        when(until, outbox),
        tag,
        owner,
    )
    selection = _selection(outbox, ids or (), wanted, limit, all_=all_)
    plan = operations.plan_replay(outbox, selection)
    if _agreed("replay", plan, selection, dry_run=dry_run, yes=yes, as_json=as_json):
        steps = operations.replay(outbox, selection, plan, operator(), rate=rate)
        _carry_out("replayed", plan, steps, as_json=as_json)


@commands.command()
def cancel(
    ids: Ids = None,
    outcome: OutcomeOption = None,
    destination: Destination = None,
    id_prefix: IdPrefix = None,
    tag: Tag = None,
    owner: Owner = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    all_: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Give up deliveries that are pending. In a stream the next one goes; `relay replay` brings them back."""
    outbox = database(config)
    wanted = Filter(
        None,
        outcome,
        named_origin(outbox, destination),
        id_prefix,
        when(since, outbox),
        when(until, outbox),
        tag,
        owner,
    )
    selection = _selection(outbox, ids or (), wanted, limit, all_=all_)
    plan = operations.plan_cancel(outbox, selection)
    if _agreed("cancel", plan, selection, dry_run=dry_run, yes=yes, as_json=as_json):
        _carry_out("cancelled", plan, operations.cancel(outbox, selection, plan, operator()), as_json=as_json)


@commands.command()
def pause(
    destination: DestinationArgument, path: EndpointPath = "", as_json: Json = False, config: Config = None
) -> None:
    """Call a destination no more until it is resumed; its deliveries wait and lose no attempt."""
    outbox = database(config)
    place = named_destination(outbox, destination, path)
    changed = operations.pause(outbox, place, operator())
    _tell(place, "is paused", "was paused already", changed=changed, as_json=as_json)


@commands.command()
def resume(
    destination: DestinationArgument, path: EndpointPath = "", as_json: Json = False, config: Config = None
) -> None:
    """Call a paused destination again."""
    outbox = database(config)
    place = named_destination(outbox, destination, path)
    changed = operations.resume(outbox, place, operator())
    _tell(place, "is called again", "was not paused", changed=changed, as_json=as_json)


@commands.command()
def disable(
    destination: DestinationArgument, path: EndpointPath = "", as_json: Json = False, config: Config = None
) -> None:
    """Call a destination no more until it is enabled."""
    outbox = database(config)
    place = named_destination(outbox, destination, path)
    changed = operations.disable(outbox, place, operator())
    _tell(place, "is disabled", "was disabled already", changed=changed, as_json=as_json)


@commands.command()
def enable(
    destination: DestinationArgument, path: EndpointPath = "", as_json: Json = False, config: Config = None
) -> None:
    """Call a destination again, whatever stood in the way: disabled, paused, left alone, or gone (410)."""
    outbox = database(config)
    place = named_destination(outbox, destination, path)
    changed = operations.enable(outbox, place, operator())
    _tell(
        place,
        "is called again, whatever stood in the way",
        "was called already, and nothing stood in the way",
        changed=changed,
        as_json=as_json,
    )


def _tell(place: str, done: str, already: str, *, changed: bool, as_json: bool) -> None:
    if as_json:
        print_json({"destination": place, "changed": changed})
    else:
        say(safe(f"{place} {done if changed else already}"))


def _selection(outbox: Database, ids: Sequence[str], wanted: Filter, limit: int | None, *, all_: bool) -> BulkSelection:
    """Ids may be the beginnings of ids."""
    named = [inspection.whole_id(outbox, id_) for id_ in ids]
    try:
        return operations.select(named, wanted, limit, everything=all_)
    except ValueError as error:
        raise typer.BadParameter(str(error).replace("all says", "--all says")) from None
    except Refused as error:
        raise Refused(str(error).replace("say all", "say --all")) from None


def _agreed(verb: str, plan: Plan, selection: BulkSelection, *, dry_run: bool, yes: bool, as_json: bool) -> bool:
    """Whether to go on. Deliveries named by id need no further word."""
    if dry_run and as_json:
        print_json({"dry_run": True, "confirm": _confirmation(), **plan.said()})
    elif dry_run:
        _describe(verb, plan)
        say(f"\nTo do it:  {_confirmation()}")
    if dry_run or yes or selection.ids:
        return not dry_run
    if not sys.stdin.isatty():
        raise Refused(f"{plan.count} deliveries: look first with --dry-run, then confirm:  {_confirmation()}")
    _describe(verb, plan)
    return typer.confirm("Go on?")


def _confirmation() -> str:
    """The command as it was typed, made the one that acts."""
    return shlex.join(["relay", *(word for word in sys.argv[1:] if word != "--dry-run"), "--yes"])


def _describe(verb: str, plan: Plan) -> None:
    say(f"Would {verb} {plan.count} deliveries, {size(plan.bytes)}:")
    for origin, count in list(plan.destinations.items())[:_MOST_LISTED]:
        note = f", which is {plan.held[origin]}: they wait" if origin in plan.held else ""
        say(f"  {count:>7}  {origin}{note}")
    if len(plan.destinations) > _MOST_LISTED:
        say(f"           and {len(plan.destinations) - _MOST_LISTED} more destinations")
    for reason, count in plan.refused.items():
        say(f"Not {count}: {reason}.")


def _carry_out(done: str, plan: Plan, steps: Iterator[Progress], *, as_json: bool) -> None:
    from rich.progress import Progress as ProgressBar

    bar = ProgressBar(console=console(stderr=True), disable=not sys.stderr.isatty() or as_json, transient=True)
    last = Progress("", 0, plan.count)
    with bar:
        task = bar.add_task(done, total=plan.count)
        for last in steps:
            bar.update(task, completed=last.done)
    if as_json:
        print_json({**asdict(last), **plan.said()})
        return
    say(f"{last.done} of {plan.count} {done}, {size(plan.bytes)} in all (run {last.run})")
    for origin, state in plan.held.items():
        say(f"{origin} is {state}: what goes there waits")
    for reason, count in plan.refused.items():
        say(f"not {count}: {reason}")
