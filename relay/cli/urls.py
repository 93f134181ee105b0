"""`relay verify-url`: what the guard says of a callback URL, and what a receiver says to a test request."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from relay.admin import probe as probing
from relay.admin.probe import Probed
from relay.admin.times import size, span
from relay.admin.verify_url import Judgement, verify, verify_lines
from relay.cli.terminal import Config, Json, settings
from relay.outbox.model import Method
from relay.service.commands import Exit
from relay.service.terminal import safe

if TYPE_CHECKING:
    from relay.app.settings import RelaySettings

commands = typer.Typer()


@commands.command("verify-url")
def verify_url(
    urls: Annotated[list[str], typer.Argument(metavar="URL...|-", help="`-`: one JSON string a line from stdin.")],
    as_json: Json = False,
    live: Annotated[bool, typer.Option(help="Admit ws:// and wss:// too.")] = False,
    offline: Annotated[bool, typer.Option(help="Judge without resolving names.")] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Send one signed test request where the guard allows it.")
    ] = False,
    method: Annotated[Method, typer.Option(help="Of the probe. A PUT may be stored by who gets it.")] = Method.POST,
    bytes_: Annotated[
        int,
        typer.Option("--bytes", min=probing.SMALLEST, max=probing.LARGEST, help="How large the probe's body is."),
    ] = probing.SMALLEST,
    config: Config = None,
) -> None:
    """Say whether the guard lets callback URLs through, and by which rule. Without --probe nothing is sent to them.

    Exit code 5 when a URL given as an argument is denied, 1 when a delivery like the probe would not have arrived; with
    `-` the verdicts are the output, and the code is 0.
    """
    if probe and (live or offline or urls == ["-"]):
        raise typer.BadParameter("--probe: for http and https URLs given as arguments, whose names are resolved")
    if not probe and (method, bytes_) != (Method.POST, probing.SMALLEST):
        raise typer.BadParameter("--method and --bytes are those of --probe, without which nothing is sent")
    chosen = settings(config)
    if urls == ["-"]:
        asyncio.run(_judge_lines(chosen, live=live, offline=offline, as_json=as_json))
        return
    codes = []
    for url in urls:
        judgement = asyncio.run(verify(url, chosen.outbox.guard.resolver(), live=live, offline=offline))
        probed = asyncio.run(_probe(chosen, url, method, bytes_)) if probe and judgement.allowed else None
        _tell(judgement, probed, as_json=as_json)
        codes.append(_code(judgement, probed))
    raise typer.Exit(max(codes))


async def _judge_lines(chosen: RelaySettings, *, live: bool, offline: bool, as_json: bool) -> None:
    resolver = chosen.outbox.guard.resolver()
    async for judgement in verify_lines(sys.stdin.buffer, resolver, live=live, offline=offline):
        print(judgement.as_json() if as_json else judgement.as_text(), flush=True)


async def _probe(chosen: RelaySettings, url: str, method: Method, bytes_: int) -> Probed:
    from relay.app.admin import probe

    return await probe(chosen, url, method, bytes_)


def _code(judgement: Judgement, probed: Probed | None) -> Exit:
    if not judgement.allowed:
        return Exit.REFUSED
    return Exit.OK if probed is None or probed.delivered else Exit.FAILED


def _tell(judgement: Judgement, probed: Probed | None, *, as_json: bool) -> None:
    if as_json:
        checks = {"checks": [asdict(check) for check in judgement.checks]}
        print(json.dumps(judgement.told() | checks | ({"probe": asdict(probed)} if probed else {})), flush=True)
        return
    print(judgement.as_text())
    for check in judgement.checks:
        # The first refusal is the verdict's, which has said why.
        said = check.rule == judgement.rule and check.message == judgement.message
        print((replace(check, message="") if said else check).as_text())
    for line in _described(probed) if probed else ():
        print(f"       {safe(line)}")


def _described(probed: Probed) -> Iterator[str]:
    signed = "signed" if probed.signed else "not signed"
    yield f"probe     {probed.method}, {size(probed.bytes)}, {signed}, webhook-id {probed.id}"
    if probed.address:
        yield f"dialled   {probed.address}"
    yield "took      " + ", ".join(f"{step} {span(took)}" for step, took in probed.timing.items())
    if probed.status is not None:
        yield f"answered  {probed.status}" + (f" by {probed.server}" if probed.server else "")
    if probed.redirected:
        yield f"redirect  to {probed.redirect or 'the same destination'}; redirects are never followed"
    yield f"delivery  {_verdict(probed)}"


def _verdict(probed: Probed) -> str:
    match probed.verdict:
        case "retried":
            how = "as a link to the result, " if probed.pointer else ""
            return f"would be retried, {how}in {span(probed.retry_in or 0.0)}: {probed.why}"
        case "dead":
            return f"would be dead ({probed.reason}): {probed.why}"
        case _:
            return "would be delivered"
