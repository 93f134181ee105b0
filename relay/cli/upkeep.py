"""Commands that run the relay and keep its outbox well: run, migrate, backup, retention, doctor.

The daemon is imported by the command that runs it: the others should not wait for it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from relay.admin import backup as copies
from relay.admin import doctor
from relay.admin.doctor import Finding, Level
from relay.admin.forgetting import forget
from relay.admin.times import size, span
from relay.cli.terminal import (
    Config,
    Exit,
    Json,
    complain,
    config_file,
    database,
    operator,
    print_json,
    print_table,
    say,
    settings,
)
from relay.errors import ConfigError, RelayError
from relay.outbox import OUTBOX
from relay.outbox.retention import Pruned
from relay.outbox.store import Database
from relay.policy.destination import Rules

commands = typer.Typer()


@commands.command()
def run(config: Config = None) -> None:
    """Deliver until SIGTERM; then let attempts under way finish, and leave."""
    chosen = settings(config)  # what is wrong with them is said before anything large is imported
    import uvloop

    from relay import app
    from relay.settings import in_force
    from relay.telemetry.log import configure

    configure(chosen.relay.log.level, chosen.relay.log.format, "relay")
    try:
        uvloop.run(app.run(chosen, in_force=in_force(chosen, config_file(config), os.environ)))
    except (RelayError, OSError) as error:
        complain(str(error))
        raise typer.Exit(Exit.FAILED) from None


@commands.command()
def migrate(config: Config = None) -> None:
    """Make the outbox, or bring it up to date. `relay run` does it too; the engine brings its own tables."""
    applied = database(config).migrate([OUTBOX])
    say("\n".join(f"applied {one.number:04}_{one.name}" for one in applied) or "up to date")


@commands.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="PATH", help="Replaced at the end, all at once or not at all.")],
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Copy the outbox while it is in use, and check the copy. Bodies are in it: keep it as safe as the outbox."""
    done = copies.backup(database(config), target, operator())
    if as_json:
        print_json(done)
    else:
        say(f"{done.path}: {size(done.bytes)} in {span(done.took)}, checked")


@commands.command()
def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be forgotten.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Forget what was kept long enough, now and not by and by. What is pending or in flight is never touched."""
    chosen = settings(config)
    outbox, kept = chosen.outbox.database, chosen.relay.retention.kept()
    pruned = forget(outbox, kept, operator(), outbox.now(), dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, **asdict(pruned)})
    else:
        say(_forgotten(pruned, "would forget" if dry_run else "forgot"))


@commands.command("doctor")
def examine(
    egress: Annotated[
        bool, typer.Option("--egress", help="Resolve and connect to waiting destinations too; nothing is sent.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Look the installation over: each line is ok, warn or fail, with a remedy. Exit code 1 when something fails."""
    findings = list(_findings(config, egress=egress))
    if as_json:
        print_json(*findings)
    else:
        print_table(("", "CHECK", "FOUND", "REMEDY"), [(f.level, f.check, f.message, f.remedy) for f in findings])
    raise typer.Exit(Exit.FAILED if any(finding.level is Level.FAIL for finding in findings) else Exit.OK)


def _findings(config: Path | None, *, egress: bool) -> Iterable[Finding]:
    try:
        chosen = settings(config)
    except ConfigError as error:
        yield Finding("config", Level.FAIL, str(error), "correct it; `relay config check` says when it is right")
        return
    yield Finding("config", Level.OK, str(config_file(config) or "defaults, no file"))
    outbox, rules = chosen.outbox.database, chosen.outbox.guard.rules()
    now = outbox.now()
    yield from doctor.examine(outbox, rules, os.environ, now)
    if egress:
        yield from asyncio.run(_collect(outbox, rules, now))


async def _collect(outbox: Database, rules: Rules, now: float) -> list[Finding]:
    return [finding async for finding in doctor.egress(outbox, rules, now)]


def _forgotten(pruned: Pruned, verb: str) -> str:
    return (
        f"{verb} {pruned.deliveries} deliveries, {pruned.bodies} bodies ({size(pruned.body_bytes)}), "
        f"{pruned.attempts} attempts, {pruned.streams} streams, {pruned.audit} lines of the audit "
        f"and {pruned.keys} retired keys"
    )
