"""`engine status`: whether an engine runs here, and what it is at."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.terminal import Config, Json, complaints, print_json, settings, span
from relay.service.commands import Exit
from relay.service.terminal import print_table, print_wrapped

if TYPE_CHECKING:
    from engine.settings import EngineSection, EngineSettings

commands = typer.Typer()

_HERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (where everybody is listened to)
_ANSWER_SECONDS = 2.0
_MOST = 1024 * 1024

Check = Annotated[bool, typer.Option("--check", help="Say nothing; 0 where an engine answers and takes jobs, else 1.")]


@commands.command()
def status(as_json: Json = False, check: Check = False, config: Config = None) -> None:
    """Show what waits, runs and failed, live sessions with their lag, and the models that are loaded.

    Without an engine at work, what the database knows. The exit code is 1 where none answers.
    """
    with complaints():
        chosen = settings(config)
        told = ask(chosen.engine, "/status")
        running = told is not None and "queued" in told
        if check:
            raise typer.Exit(0 if running and told and not told["draining"] else Exit.FAILED)
        known = told if running and told else asyncio.run(_stored(chosen))
        if as_json:
            print_json({"reachable": running, **known})
        else:
            _show(known, address(chosen.engine), running=running)
        if not running:
            raise typer.Exit(Exit.FAILED)


async def _stored(chosen: EngineSettings) -> dict[str, Any]:
    from engine.jobs.retention import DAY
    from engine.jobs.store import JobStore

    store = JobStore(chosen.outbox.database, chosen.engine.lease_seconds)
    try:
        jobs, failed = await store.snapshot(), await store.failed(DAY)
    finally:
        await store.close()
    counted = {"queued": jobs.queued, "running": jobs.leased, "failed": failed, "bytes": jobs.bytes}
    return counted | {"oldest": round(jobs.oldest_due_age, 3)}


def _show(known: dict[str, Any], url: str, *, running: bool) -> None:
    drains = " It lets its jobs finish, and takes no more." if known.get("draining") else ""
    up = f"The engine at {url} has been up for {span(known['uptime'])}.{drains}" if running else f"No engine at {url}."
    print_wrapped(up)
    waiting = f"{known['queued']} queued, the longest for {span(known['oldest'])}; {known['running']} running"
    print_wrapped(f"{waiting}; {known['failed']} failed in 24 hours")
    if not running:
        return
    if known["speed"] is not None:
        print(f"A second of work transcribes {known['speed']:.1f} s of audio")
    print(f"{len(known['live'])} live sessions; there is room for {known['live_capacity']}")
    if known["live"]:
        rows = [
            (one["dialect"], one["recogniser"], span(one["age"]), f"{one['audio']:.1f} s", f"{one['lag']:.1f} s")
            for one in sorted(known["live"], key=lambda one: -one["lag"])
        ]
        print_table(("LIVE", "RECOGNISER", "AGE", "AUDIO", "LAG"), rows)
    if known["models"]:
        loaded = [
            (one["recogniser"], one["model"], str(one["processes"]), f"{one['memory'] / 1e6:.0f} MB")
            for one in known["models"]
        ]
        print_table(("RECOGNISER", "MODEL", "PROCESSES", "MEMORY"), loaded)


def address(engine: EngineSection) -> str:
    """Where the engine of this machine would answer."""
    host = _HERE.get(engine.host, engine.host)
    return f"http://[{host}]:{engine.port}" if ":" in host else f"http://{host}:{engine.port}"


def ask(engine: EngineSection, path: str) -> dict[str, Any] | None:
    """The JSON object that the engine of this machine has at a path; None where none answers."""
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, build_opener

    try:
        with build_opener(ProxyHandler({})).open(address(engine) + path, timeout=_ANSWER_SECONDS) as answer:
            body = answer.read(_MOST)
    except HTTPError as error:
        body = error.read(_MOST)  # not ready, and says so
    except OSError:
        return None
    try:
        told = json.loads(body)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None
