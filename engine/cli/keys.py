"""`engine keys`: who may ask."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from engine import keys
from engine.cli.terminal import Config, Json, complain, complaints, print_json, settings
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.store import Database
from relay.service.commands import Subcommands
from relay.service.terminal import print_table

commands = typer.Typer(cls=Subcommands, no_args_is_help=True, help="Make, list and revoke API keys.")

Name = Annotated[str, typer.Argument(help="Whose key it is, or what for.")]
MaxQueued = Annotated[
    int | None, typer.Option(min=1, help="Jobs that it may have waiting. [default: engine.queue.per_key_jobs]")
]
MaxRunning = Annotated[int | None, typer.Option(min=1, help="Jobs of it at work at once. [default: no bound]")]


@commands.command()
def add(name: Name, max_queued: MaxQueued = None, max_running: MaxRunning = None, config: Config = None) -> None:
    """Make a key and print it. This is the only time that it is shown."""
    with complaints():
        database = _database(config)
        print(keys.add(database, name, max_queued=max_queued, max_running=max_running))
        if keys.count(database) == 1:
            complain("this is the first key: from now on every request needs one")


@commands.command("list")
def list_keys(as_json: Json = False, config: Config = None) -> None:
    """Show every key's public id, its name, its bounds (jobs that wait and run, - for none), and when it was made."""
    with complaints():
        database = settings(config).outbox.database
        if isinstance(database, SqliteDatabase) and not database.path.exists():
            complain("no keys: there is no database yet")
            return
        found = keys.all_keys(_database(config))
        if as_json:
            print_json(*map(asdict, found))
        else:
            print_table(("ID", "NAME", "QUEUED", "RUNNING", "MADE"), [_row(key) for key in found])


@commands.command()
def remove(
    name: Annotated[
        str, typer.Argument(metavar="NAME|ID", help="Its name; or of its id as much as no other begins with.")
    ],
    config: Config = None,
) -> None:
    """Revoke a key: from the next request on it opens nothing."""
    with complaints():
        keys.remove(_database(config), name)


def _row(key: keys.Key) -> tuple[str, ...]:
    bounds = ("-" if bound is None else str(bound) for bound in (key.max_queued, key.max_running))
    return key.id, key.name, *bounds, f"{datetime.fromtimestamp(key.created_at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _database(config: Path | None) -> Database:
    from engine.jobs.store import migrate

    database = settings(config).outbox.database
    migrate(database)
    return database
