"""`relay run`: reads what there is to read, and becomes the daemon."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from relay.app.settings import MOST_WORKERS, Workers, read_all
from relay.app.start import Start
from relay.cli.terminal import Config
from relay.service.configfile import config_file
from relay.service.handover import become
from relay.service.section import Invalid, valid

commands = typer.Typer()


def _workers(text: str) -> int:
    try:
        number: int = valid(Workers, text)
    except Invalid:
        raise typer.BadParameter(f"{text} is neither auto nor a number from 1 to {MOST_WORKERS}") from None
    return number


@commands.command()
def run(
    workers: Annotated[
        int | None,
        typer.Option(
            parser=_workers,
            metavar="N|auto",
            help="Processes that deliver; auto: one for each core. [default: relay.workers, 1]",
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Deliver until SIGTERM; then let attempts under way finish, and leave."""
    file = config_file(config)
    settings, in_force = read_all(file, os.environ)
    become("relay.app", Start(settings, workers or settings.relay.workers, file, in_force))
