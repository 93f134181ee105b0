"""Commands that keep a relay and its outbox well: login, owner-key, migrate, backup, retention, doctor."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.admin import audit, doctor
from relay.admin import backup as copies
from relay.admin.access import Refused, acting
from relay.admin.auth import OWNER_KEY_SECONDS, TICKET_SECONDS, Authenticator, login_url, token_of
from relay.admin.doctor import Finding, Level
from relay.admin.operations import forget
from relay.admin.times import size, span
from relay.cli.terminal import Config, Json, complain, database, duration, operator, print_json, settings
from relay.outbox import OUTBOX, database_at
from relay.outbox.checks import LONGEST_OWNER
from relay.outbox.errors import ConfigError, MoveRefused
from relay.outbox.moving import MoveProgress, move
from relay.outbox.sqlite.permissions import remedy
from relay.outbox.store import Database
from relay.service.commands import Exit
from relay.service.configfile import ABSENT, config_file
from relay.service.terminal import console, print_table, say

if TYPE_CHECKING:
    from rich.progress import TaskID

commands = typer.Typer()

_WORDS = {"copy": "copying", "compare": "comparing"}


@commands.command()
def login(as_json: Json = False, config: Config = None) -> None:
    """Print a link that opens the console without the token: once, within a quarter of an hour."""
    chosen = settings(config)
    admin = chosen.relay.admin
    if not admin.port:
        raise ConfigError("relay.admin.port: 0 takes any port, which the relay's log names: set one")
    authenticator = Authenticator(token_of(admin.token.value, chosen.token_file))
    now = time.time()
    url = login_url(admin.host, admin.port, authenticator.ticket(operator().name, now))
    if as_json:
        print_json({"url": url, "until": now + TICKET_SECONDS})
    else:
        say(url)


@commands.command("owner-key")
def owner_key(
    owner: Annotated[str, typer.Argument(metavar="NAME", help="Whose deliveries it shows, as producers say it.")],
    valid: Annotated[
        float | None,
        typer.Option("--for", parser=duration, metavar="TIME", help="How long it opens the API. [default: 90d]"),
    ] = None,
    config: Config = None,
) -> None:
    """Print a key for the admin API by which one owner sees its own deliveries, and nothing else. It ends with its
    time, or with the admin token that it was made by."""
    if not 1 <= len(owner) <= LONGEST_OWNER:
        raise typer.BadParameter(f"NAME: expected 1 to {LONGEST_OWNER} characters, got {len(owner)}")
    chosen = settings(config)
    authenticator = Authenticator(token_of(chosen.relay.admin.token.value, chosen.token_file))
    say(authenticator.owner_key(owner, time.time() + (OWNER_KEY_SECONDS if valid is None else valid)))


@commands.command()
def migrate(
    source: Annotated[
        str | None, typer.Option("--from", metavar="URL", help="Move everything from this one ...")
    ] = None,
    target: Annotated[str | None, typer.Option("--to", metavar="URL", help="... to this one, which is empty.")] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Nobody is at work there, although it looks so.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print what makes a new one instead, and do nothing.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Make the outbox, or bring it up to date. `relay run` does it too; the engine brings its own tables.

    With --sql: print the SQL that makes a new one of the kind that outbox.url names, for other tools to run: Alembic,
    Django's migrations, psql, sqlite3. Nothing is connected to.

    With --from and --to: copy one database to another, SQLite to PostgreSQL or back, the engine's tables included, and
    compare them. Both programs have to be stopped. If it is killed, the same command goes on where it was.
    """
    if sql and as_json:
        raise typer.BadParameter("--json: --sql prints SQL")
    if sql:
        say(database(config).migration_script([OUTBOX]))
    elif source is None and target is None:
        _migrate(database(config), as_json=as_json)
    elif source is None or target is None:
        raise typer.BadParameter("--from and --to go together")
    else:
        schema = settings(config).outbox.postgres_schema
        _move(_named("--from", source, schema), _named("--to", target, schema), anyway=anyway, as_json=as_json)


def _migrate(known: Database, *, as_json: bool) -> None:
    applied = [f"{one.number:04}_{one.name}" for one in known.migrate([OUTBOX])]
    if as_json:
        print_json({"applied": applied})
    else:
        say("\n".join(f"applied {name}" for name in applied) or "up to date")
    if files := known.exposed():
        complain(f"others may read the outbox: {remedy(files)}")


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
        say(
            f"{'would forget' if dry_run else 'forgot'} {pruned.deliveries} deliveries, {pruned.bodies} bodies "
            f"({size(pruned.body_bytes)}), {pruned.attempts} attempts, {pruned.streams} streams, "
            f"{pruned.audit} lines of the audit and {pruned.keys} retired keys"
        )


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


def _named(option: str, url: str, schema: str) -> Database:
    try:
        return database_at(url, schema)
    except ConfigError as error:
        raise typer.BadParameter(f"{option}: {str(error).removeprefix('outbox.url: ')}") from None


def _move(source: Database, target: Database, *, anyway: bool, as_json: bool) -> None:
    with _moving_bar() as tell:
        try:
            moved = move(source, target, tell, anyway=anyway)
        except MoveRefused as error:
            raise Refused(str(error)) from None
    with acting(target) as connection:
        audit.note(connection, operator(), "move", target.now(), source=source.name, rows=sum(moved.rows.values()))
    if as_json:
        print_json({"source": source.name, "target": target.name, "rows": moved.rows})
        return
    say(f"{target.name}: {sum(moved.rows.values())} rows in {len(moved.rows)} tables, compared with {source.name}")
    say("now set [outbox] url to it, and start the engine and the relay")


def _findings(config: Path | None, *, egress: bool) -> Iterable[Finding]:
    try:
        chosen = settings(config)
    except ConfigError as error:
        yield Finding("config", Level.FAIL, str(error), "correct it; `relay config check` says when it is right")
        return
    yield Finding("config", Level.OK, str(config_file(config) or ABSENT))
    outbox, guard = chosen.outbox.database, chosen.outbox.guard
    yield from doctor.examine(outbox, guard.rules(), os.environ)
    if egress:
        yield from asyncio.run(_collect(doctor.egress(outbox, guard.resolver())))


async def _collect(findings: AsyncIterator[Finding]) -> list[Finding]:
    return [finding async for finding in findings]


@contextmanager
def _moving_bar() -> Iterator[Callable[[MoveProgress], None]]:
    """How far a move has come, for whoever waits for it: one bar a table on a terminal, nothing for a pipe."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        tasks: dict[tuple[str, str], TaskID] = {}

        def tell(progress: MoveProgress) -> None:
            name = (progress.step, progress.table)
            if name not in tasks:
                tasks[name] = bars.add_task(f"{_WORDS[progress.step]} {progress.table}", total=progress.rows)
            bars.update(tasks[name], completed=progress.done)

        yield tell
