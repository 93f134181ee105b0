"""`engine run`, the server, and `engine migrate`, its tables."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli.terminal import Config, Json, complain, complaints, print_json, settings
from relay.outbox.sqlite.permissions import remedy
from relay.service.configfile import log_file
from relay.service.descriptors import provide_descriptors
from relay.service.extras import without_rich
from relay.service.terminal import say

_LEAST_DESCRIPTORS, _MOST_DESCRIPTORS = 128, 4096  # callers, their uploads, audio that is fetched, workers

commands = typer.Typer()


@commands.command()
def run(config: Config = None) -> None:
    """Take requests until SIGTERM; then let jobs under way finish, and leave."""
    # Only here: they load FFmpeg and the HTTP server, for which no other command should wait.
    with without_rich():
        import uvloop

        from engine.app import daemon
        from relay.service.log import configure

    with complaints():
        chosen = settings(config)
        provide_descriptors(_LEAST_DESCRIPTORS, _MOST_DESCRIPTORS)
        configure(chosen.engine.log.level, chosen.engine.log.format, "engine")
        log_file(config)
        uvloop.run(daemon.run(chosen))


@commands.command()
def migrate(
    sql: Annotated[bool, typer.Option("--sql", help="Print what makes a new one instead, and do nothing.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Make the database, or bring it up to date: the engine's tables and the outbox's. `engine run` does it too."""
    from engine.jobs import store

    if sql and as_json:
        raise typer.BadParameter("--json: --sql prints SQL")
    with complaints():
        database = settings(config).outbox.database
        if sql:
            say(database.migration_script(store.MIGRATION_SETS))
            return
        applied = [f"{one.number:04}_{one.name}" for one in database.migrate(store.MIGRATION_SETS)]
        if as_json:
            print_json({"applied": applied})
        else:
            say("\n".join(f"applied {name}" for name in applied) or "up to date")
        if files := database.exposed():
            complain(f"others may read the database: {remedy(files)}")
