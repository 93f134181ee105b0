"""`engine run`: the server."""

from __future__ import annotations

import typer

from engine.cli.terminal import Config, complaints, settings
from relay.telemetry.log import configure

commands = typer.Typer()


@commands.command()
def run(config: Config = None) -> None:
    """Take requests until SIGTERM; then let jobs under way finish, and leave."""
    # Only here: they load FFmpeg and the HTTP server, for which no other command should wait.
    import uvloop

    from engine import app

    with complaints():
        chosen = settings(config)
        configure(chosen.engine.log.level, chosen.engine.log.format, "engine")
        uvloop.run(app.run(chosen))
