"""Commands for the receiver's side: listen, sign, verify.

What takes long to import is imported where it is used: an operator who signs should not wait for an HTTP server.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from relay.admin import keys, signatures
from relay.admin.access import NotFound
from relay.admin.signatures import Verifier
from relay.admin.times import Moment
from relay.cli.terminal import Config, Destination, Json, complain, database, moment, print_json
from relay.policy.signing import SigningKey, parse_key
from relay.service.commands import Exit
from relay.service.terminal import safe, say

commands = typer.Typer()

_NOW = Moment(ago=0.0)


def _written(text: str) -> str:
    """A key as it was given, or out of the file that was named."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is not text"
        raise typer.BadParameter(f"{text[1:]}: {reason}") from None


_KEY_HELP = "The key, or @FILE that holds it (an argument can be read by every user of this machine)."
Key = Annotated[str | None, typer.Option("--key", parser=_written, metavar="KEY|@FILE", help=_KEY_HELP)]


@commands.command()
def listen(
    port: Annotated[int, typer.Option(help="0 takes any free port.")] = 8080,
    status: Annotated[int, typer.Option(min=200, max=599, help="Answer this.")] = 200,
    fail_first: Annotated[int, typer.Option(min=0, help="Answer 500 to so many attempts of each delivery.")] = 0,
    fail_ratio: Annotated[float, typer.Option(min=0, max=1, help="Answer 500 to this share of all.")] = 0.0,
    delay: Annotated[float, typer.Option(min=0, help="Seconds before an answer.")] = 0.0,
    max_body: Annotated[int, typer.Option(min=1, help="Answer 413 to larger bodies, in bytes.")] = 1 << 30,
    verify_key: Annotated[
        list[str] | None,
        typer.Option(parser=_written, metavar="KEY|@FILE", help="Say of each callback whether this key signed it."),
    ] = None,
    by_outbox: Annotated[
        bool, typer.Option("--verify", help="Say it by the keys that sign for it, as the outbox has them by then.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Run a receiver on 127.0.0.1 that prints every callback, and fails, delays or refuses on demand."""
    import uvloop

    from relay.cli import listen as receiver

    if by_outbox and verify_key:
        raise typer.BadParameter("--verify asks the outbox for the keys: leave --verify-key out")
    named = [_verifier("--verify-key", key) for key in verify_key or ()]

    def known(origin: str) -> Sequence[Verifier]:
        return _verifiers(None, origin, config) if by_outbox else named

    signing = known if by_outbox or named else None
    behaviour = receiver.Behaviour(status, fail_first, fail_ratio, delay, max_body, keys=signing)
    try:
        uvloop.run(receiver.serve(behaviour, port, receiver.as_json if as_json else receiver.as_text))
    except OSError as error:
        complain(f"--port {port}: {error.strerror or error}")
        raise typer.Exit(Exit.FAILED) from None


@commands.command()
def sign(
    id_: Annotated[str, typer.Option("--id", help="The webhook-id.")],
    at: Annotated[Moment | None, typer.Option(parser=moment, metavar="TIME", help="[default: now]")] = None,
    key: Key = None,
    destination: Destination = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """The headers of a signed callback, for the body on standard input.

    Without --key: by the keys that sign for the destination, or for all.
    """
    body = sys.stdin.buffer.read()
    if key is None:
        signing = _signing(destination, config)
        if not signing:
            raise NotFound("no key signs there: `relay keys add`, or name one with --key")
    else:
        try:
            signing = (parse_key(key),)
        except ValueError as error:
            raise typer.BadParameter(f"--key: {error}") from None
    headers = signatures.headers_for(signing, id_, int((at or _NOW).by(time.time)), body)
    if as_json:
        print_json(headers)
        return
    for name, value in headers.items():
        say(f"{name}: {value}")


@commands.command()
def verify(
    headers: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A file with the callback's headers, one a line.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="One header.")
    ] = None,
    at: Annotated[
        Moment | None, typer.Option(parser=moment, metavar="TIME", help="When it arrived. [default: now]")
    ] = None,
    key: Key = None,
    destination: Destination = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Say whether a signature holds for the body on standard input, and if not, why. Exit code 1 when it does not."""
    lines = [*(headers.read_text("utf-8", "replace").splitlines() if headers else ()), *(header or ())]
    found = signatures.verify(
        _parsed(lines),
        sys.stdin.buffer.read(),
        _verifiers(key, destination, config),
        (at or _NOW).by(time.time),
    )
    if as_json:
        print_json({"valid": found.valid, "flaw": found.flaw, "message": found.message})
    else:
        say(found.message if found.valid else f"{found.flaw}: {safe(found.message)}")
    raise typer.Exit(Exit.OK if found.valid else Exit.FAILED)


def _verifiers(key: str | None, destination: str | None, config: Path | None) -> Sequence[Verifier]:
    if key is not None:
        return [_verifier("--key", key)]
    return [signatures.verifier(own) for own in _signing(destination, config)]


def _signing(destination: str | None, config: Path | None) -> tuple[SigningKey, ...]:
    outbox = database(config)
    return keys.active(outbox, destination, outbox.now())


def _verifier(option: str, key: str) -> Verifier:
    try:
        return signatures.read_verifier(key)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from None


def _parsed(lines: Sequence[str]) -> dict[str, str]:
    """Header lines; a request line and empty ones have no place in it."""
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon and " " not in name.strip()}
