"""The `engine` command."""

from __future__ import annotations

from typing import Annotated

import typer

from relay.service.commands import Listed, sectioned, version_option, while_read

SECTIONS = {
    "To run": {
        "run": Listed("engine.cli.run", "Take requests until SIGTERM; then let jobs under way finish, and leave."),
        "migrate": Listed(
            "engine.cli.run", "Make the database, or bring it up to date: the engine's tables and the outbox's."
        ),
        "config": Listed("engine.cli.configuration", "The settings, where they come from, and what they mean."),
    },
    "To see and act": {
        "status": Listed(
            "engine.cli.status",
            "Show what waits, runs and failed, live sessions with their lag, and the models that are loaded.",
        ),
        "jobs": Listed("engine.cli.jobs", "List and show jobs, cancel one, try one again."),
    },
    "To keep": {
        "keys": Listed("engine.cli.keys", "Make, list and revoke API keys."),
        "models": Listed("engine.cli.models", "List, pull and remove Whisper models, and what tells speakers apart."),
    },
    "Without a server": {
        "transcribe": Listed("engine.cli.transcribe", "Write down what is said in files."),
    },
}

application = typer.Typer(
    cls=sectioned(SECTIONS),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Version = Annotated[bool, version_option("engine")]


@application.callback()
def _options(_: Version = False) -> None:
    """Turns speech into text and leaves each result in the outbox.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 78 bad configuration.
    """


def main() -> None:
    """Run a command; what went wrong is one line and an exit code."""
    with while_read():
        application(prog_name="engine")
