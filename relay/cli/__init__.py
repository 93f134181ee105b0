"""The `relay` command."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from relay.service.commands import Listed, sectioned, version_option, while_read

_OPERATIONS, _INSPECTION, _MAINTENANCE, _RECEIVERS = (
    f"relay.cli.{name}" for name in ("operations", "inspection", "maintenance", "receivers")
)

SECTIONS = {
    "To run": {
        "run": Listed("relay.cli.run", "Deliver until SIGTERM; then let attempts under way finish, and leave."),
        "login": Listed(
            _MAINTENANCE, "Print a link that opens the console without the token: once, within a quarter of an hour."
        ),
        "migrate": Listed(_MAINTENANCE, "Make the outbox, or bring it up to date."),
        "config": Listed("relay.cli.configuration", "The settings, where they come from, and what they mean."),
    },
    "To see": {
        "status": Listed(
            _INSPECTION, "How the queue stands, and what is wrong, if anything: whose fault it is, and what to do."
        ),
        "destinations": Listed(
            _INSPECTION, "Where deliveries go: what waits there, who is left alone, and how large a body may be."
        ),
        "list": Listed(_INSPECTION, "Deliveries, the newest first."),
        "show": Listed(_INSPECTION, "One delivery."),
        "tail": Listed(_INSPECTION, "Attempts: the last ones, and with -f those to come as they happen."),
        "stats": Listed(
            _INSPECTION, "How many attempts there were, by destination and outcome, and how long they took."
        ),
        "audit": Listed(_INSPECTION, "What operators did, the last first."),
    },
    "To act": {
        "replay": Listed(
            _OPERATIONS, "Send deliveries again: the same id and body, a fresh schedule and the keys of now."
        ),
        "cancel": Listed(_OPERATIONS, "Give up deliveries that are pending."),
        "pause": Listed(
            _OPERATIONS, "Call a destination no more until it is resumed; its deliveries wait and lose no attempt."
        ),
        "resume": Listed(_OPERATIONS, "Call a paused destination again."),
        "disable": Listed(_OPERATIONS, "Call a destination no more until it is enabled."),
        "enable": Listed(
            _OPERATIONS,
            "Call a destination again, whatever stood in the way: disabled, paused, left alone, or gone (410).",
        ),
        "keys": Listed("relay.cli.keys", "The keys that sign deliveries."),
    },
    "To keep it well": {
        "doctor": Listed(_MAINTENANCE, "Look the installation over: each line is ok, warn or fail, with a remedy."),
        "backup": Listed(_MAINTENANCE, "Copy the outbox while it is in use, and check the copy."),
        "retention": Listed(_MAINTENANCE, "Forget what was kept long enough, now and not by and by."),
    },
    "For receivers and callers": {
        "listen": Listed(
            _RECEIVERS,
            "Run a receiver on 127.0.0.1 that prints every callback, and fails, delays or refuses on demand.",
        ),
        "sign": Listed(_RECEIVERS, "The headers of a signed callback, for the body on standard input."),
        "verify": Listed(_RECEIVERS, "Say whether a signature holds for the body on standard input, and if not, why."),
        "verify-url": Listed("relay.cli.urls", "Say whether the guard lets callback URLs through, and by which rule."),
        "owner-key": Listed(
            _MAINTENANCE, "Print a key for the admin API by which one owner sees its own deliveries, and nothing else."
        ),
    },
    "For shells": {
        "completion": Listed(__name__, "Print the completion script of a shell: `source <(relay completion bash)`."),
    },
}

application = typer.Typer(
    cls=sectioned(SECTIONS),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
commands = typer.Typer()

Version = Annotated[bool, version_option("relay")]


@application.callback()
def _options(_: Version = False) -> None:
    """Carries speech-to-text results from the outbox to their callback URLs.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 nothing matched, 5 refused, 78 bad configuration.
    """


@commands.command()
def completion(shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument()]) -> None:
    """Print the completion script of a shell: `source <(relay completion bash)`."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    print(get_completion_script(prog_name="relay", complete_var="_RELAY_COMPLETE", shell=shell))


def main() -> None:
    """Run a command; what went wrong is one line and an exit code."""
    try:
        with while_read():
            application(prog_name="relay")
    except Exception as error:
        from relay.cli.terminal import complain, exit_of
        from relay.outbox.errors import RelayError

        if not isinstance(error, RelayError):
            raise
        complain(str(error))
        sys.exit(exit_of(error))
