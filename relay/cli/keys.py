"""`relay keys`: the keys that sign deliveries."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from relay.admin import keys
from relay.admin.access import NothingMatched
from relay.admin.keys import KeyInfo, NewKey
from relay.admin.times import relative, spoken
from relay.cli.terminal import Config, Destination, Json, Yes, database, duration, operator, print_json
from relay.service.commands import Subcommands
from relay.service.terminal import print_table, say

commands = typer.Typer(cls=Subcommands, no_args_is_help=True, help="The keys that sign deliveries.")

Ed25519 = Annotated[bool, typer.Option("--ed25519", help="A key pair (v1a) instead of a shared secret (v1).")]
Stdin = Annotated[bool, typer.Option("--stdin", help="Take a key that exists (whsec_, whsk_) from standard input.")]


@commands.command()
def add(
    destination: Destination = None,
    ed25519: Ed25519 = False,
    stdin: Stdin = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Sign with one more key: for one destination, or for all that have none of their own."""
    outbox, key = database(config), _key(ed25519=ed25519, stdin=stdin)
    _hand_over(keys.add(outbox, key, destination, operator(), outbox.now()), as_json=as_json)


@commands.command()
def rotate(
    destination: Destination = None,
    overlap: Annotated[
        float | None,
        typer.Option(parser=duration, metavar="TIME", help="How long the old ones sign too. [default: 24h]"),
    ] = None,
    ed25519: Ed25519 = False,
    stdin: Stdin = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Sign with a new key from now on, and with the old ones too until receivers have had time to change."""
    outbox, key = database(config), _key(ed25519=ed25519, stdin=stdin)
    kept = keys.OVERLAP if overlap is None else overlap
    _hand_over(keys.rotate(outbox, key, destination, operator(), outbox.now(), kept), as_json=as_json)


@commands.command("list")
def list_(as_json: Json = False, config: Config = None) -> None:
    """The keys, without their secrets."""
    outbox = database(config)
    found, now = keys.keys(outbox), outbox.now()
    if not found:
        raise NothingMatched("no keys: callbacks go out unsigned")
    if as_json:
        print_json(*found)
        return
    headings = ("KEY", "SIGNS FOR", "KIND", "FINGERPRINT", "MADE", "STATE", "PUBLIC KEY")
    print_table(headings, [_row(info, now) for info in found])


@commands.command()
def retire(
    key: Annotated[int, typer.Argument(metavar="KEY", help="Its number in `relay keys list`.")],
    after: Annotated[
        float | None, typer.Option(parser=duration, metavar="TIME", help="When, from now. [default: at once]")
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Sign with a key no more. The last one of its scope needs --yes."""
    outbox = database(config)
    info = keys.retire(outbox, key, operator(), outbox.now(), after=after or 0.0, force=yes)
    if as_json:
        print_json(info)
    else:
        say(f"key {info.id} signs until {spoken(info.retires_at or 0.0, outbox.now())}")


def _key(*, ed25519: bool, stdin: bool) -> str:
    if stdin and ed25519:
        raise typer.BadParameter("--stdin: what is read says itself which kind it is; leave --ed25519 out")
    # Never an argument: every user of the machine can read those.
    return sys.stdin.readline().strip() if stdin else keys.generate(ed25519=ed25519)


def _hand_over(new: NewKey, *, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(new.info), "handover": new.handover, "retiring": new.retiring})
        return
    whose = new.info.destination or "every destination without keys of its own"
    what = "public key" if new.info.public else "secret, which is not shown again"
    say(f"key {new.info.id} signs for {whose} from now on")
    say(f"\n{new.handover}\n\nis what receivers verify with: the {what}.")
    if new.retiring:
        say(f"Until they all have it, key {', '.join(map(str, new.retiring))} signs too.")


def _row(info: KeyInfo, now: float) -> tuple[str, ...]:
    if info.retires_at is None:
        state = "signs"
    else:
        state = f"{'signs, ends' if info.signs(now) else 'retired'} {relative(info.retires_at, now)}"
    made = relative(info.created_at, now)
    return str(info.id), info.destination or "all", info.kind, info.fingerprint, made, state, info.public or "-"
