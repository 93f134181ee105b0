"""The `relay` command."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from enum import IntEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import uvloop

from relay import app as relay_app
from relay import receiver
from relay.admin.verify_url import Judgement, verify, verify_lines
from relay.configfile import CONFIG_VARIABLE
from relay.errors import ConfigError, RelayError
from relay.policy.destination import Rules
from relay.receiver import Behaviour
from relay.settings import Settings, read
from relay.telemetry.log import configure
from relay.transports.resolver import Resolver

DEFAULT_CONFIG = Path("config/outspoken.toml")


class Exit(IntEnum):
    """What the exit code says; the same for every command."""

    FAILED = 1
    REFUSED = 5
    CONFIG = 78  # sysexits' EX_CONFIG: systemd is told not to restart after it


main = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help=__doc__)

Config = Annotated[
    Path | None,
    typer.Option("--config", envvar=CONFIG_VARIABLE, help=f"The configuration file. [default: {DEFAULT_CONFIG}]"),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"relay {version('outspoken')}")
        raise typer.Exit


@main.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Carries speech-to-text results from the outbox to their callback URLs."""


@main.command()
def run(config: Config = None) -> None:
    """Deliver until SIGTERM; then let attempts under way finish, and leave."""
    settings = _settings(config)
    configure(settings.relay.log.level, settings.relay.log.format, "relay")
    try:
        uvloop.run(relay_app.run(settings))
    except (RelayError, OSError) as error:
        _fail(str(error), Exit.FAILED)


@main.command("verify-url")
def verify_url(
    urls: Annotated[list[str], typer.Argument(metavar="URL...|-", help="`-`: one JSON string a line from stdin.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    live: Annotated[bool, typer.Option(help="Admit ws:// and wss:// too.")] = False,
    offline: Annotated[bool, typer.Option(help="Judge without resolving names.")] = False,
    config: Config = None,
) -> None:
    """Say whether the guard lets callback URLs through, and by which rule. Nothing is sent to them.

    Exit code 5 when a URL given as an argument is denied; with `-` the verdicts are the output, and the code is 0.
    """
    rules = _settings(config).outbox.guard.rules()
    judge = partial(_judgements, urls, rules=rules, resolver=None if offline else Resolver(rules), live=live)
    allowed = asyncio.run(_print_judgements(judge(), as_json))
    raise typer.Exit(0 if allowed or urls == ["-"] else Exit.REFUSED)


@main.command()
def listen(
    port: Annotated[int, typer.Option(help="0 takes any free port.")] = 8080,
    status: Annotated[int, typer.Option(min=200, max=599, help="Answer this.")] = 200,
    fail_first: Annotated[int, typer.Option(min=0, help="Answer 500 to so many attempts of each delivery.")] = 0,
    fail_ratio: Annotated[float, typer.Option(min=0, max=1, help="Answer 500 to this share of all.")] = 0.0,
    delay: Annotated[float, typer.Option(min=0, help="Seconds before an answer.")] = 0.0,
    max_body: Annotated[int, typer.Option(min=1, help="Answer 413 to larger bodies, in bytes.")] = 1 << 30,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Run a receiver on 127.0.0.1 that prints every callback, and fails, delays or refuses on demand."""
    behaviour = Behaviour(status, fail_first, fail_ratio, delay, max_body)
    try:
        uvloop.run(receiver.serve(behaviour, port, receiver.as_json if as_json else receiver.as_text))
    except OSError as error:
        _fail(f"--port {port}: {error.strerror or error}", Exit.FAILED)


async def _judgements(
    urls: list[str], *, rules: Rules, resolver: Resolver | None, live: bool
) -> AsyncIterator[Judgement]:
    if urls == ["-"]:
        async for judgement in verify_lines(sys.stdin.buffer, rules=rules, resolver=resolver, live=live):
            yield judgement
        return
    for url in urls:
        yield await verify(url, rules=rules, resolver=resolver, live=live)


async def _print_judgements(judgements: AsyncIterator[Judgement], as_json: bool) -> bool:
    allowed = True
    async for judgement in judgements:
        print(judgement.as_json() if as_json else judgement.as_text(), flush=True)
        allowed = allowed and judgement.allowed
    return allowed


def _settings(config: Path | None) -> Settings:
    try:
        return read(config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None), os.environ)
    except ConfigError as error:
        _fail(str(error), Exit.CONFIG)


def _fail(message: str, code: Exit) -> NoReturn:
    print(f"relay: {message}", file=sys.stderr)
    raise typer.Exit(code)
