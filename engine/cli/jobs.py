"""`engine jobs`: which there are, why one failed, and what to do about it. An id is told by its beginning."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import urlsplit

import typer

from engine.cli.terminal import Config, Json, complaints, print_json, settings, span
from relay.service.commands import Subcommands
from relay.service.terminal import print_pairs, print_table, say

if TYPE_CHECKING:
    from engine.jobs.operations import JobOperations
    from engine.record import Record
    from relay.outbox.results import PastAttempt

commands = typer.Typer(cls=Subcommands, no_args_is_help=True, help="List and show jobs, cancel one, try one again.")

_STATES = ("queued", "processing", "done", "failed")


def _state(text: str) -> str:
    if text not in _STATES:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(_STATES)}")
    return text


Id = Annotated[str, typer.Argument(metavar="ID", help="Of its id as much as no other begins with.")]
StateOption = Annotated[
    list[str] | None,
    typer.Option("--state", parser=_state, metavar="|".join(_STATES), help="Where they stand; it may be repeated."),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many, the newest first.")]

Done = TypeVar("Done")


def _with(config: Path | None, work: Callable[[JobOperations], Awaitable[Done]]) -> Done:
    from engine.jobs.operations import JobOperations
    from engine.jobs.store import migrate

    chosen = settings(config)
    database, engine = chosen.outbox.database, chosen.engine

    async def run() -> Done:
        async with JobOperations(database, engine.audio.store(engine.audio_dir), engine.lease_seconds) as jobs:
            return await work(jobs)

    migrate(database)
    return asyncio.run(run())


@commands.command("list")
def list_jobs(state: StateOption = None, limit: Limit = 20, as_json: Json = False, config: Config = None) -> None:
    """Show jobs, the newest first: where each stands, how old it is, and how long its audio, once that is known."""
    with complaints():
        found = _with(config, lambda jobs: _listed(jobs, state or (), limit))
        if as_json:
            for record in found:
                print_json(_told(record))
        else:
            rows = [_row(record) for record in found]
            print_table(("ID", "STATE", "API", "AGE", "AUDIO"), rows)


@commands.command()
def show(job: Id, as_json: Json = False, config: Config = None) -> None:
    """Show one job: what was asked, what came of it, each attempt at its callback. No URL, and no word of its text."""
    from engine.record import timestamp

    with complaints():
        record, attempts = _with(config, lambda jobs: _shown(jobs, job))
        told = _told(record) | {"attempts": [_attempt(one) for one in attempts]}
        if as_json:
            print_json(told)
            return
        del told["attempts"]
        print_pairs({name.replace("_", " "): None if value is None else str(value) for name, value in told.items()})
        if attempts:
            print()
            tried = [(str(one.number), timestamp(one.started_at), str(one.status or one.outcome)) for one in attempts]
            print_table(("ATTEMPT", "STARTED", "OUTCOME"), tried)


@commands.command()
def cancel(job: Id, config: Config = None) -> None:
    """End a job that is not finished. It has failed then, which its callback tells; work under way is abandoned."""
    with complaints():
        record = _with(config, lambda jobs: jobs.cancel(job))
        say(f"{record.request.id}: cancelled{', which its callback tells' if record.request.callback else ''}")


@commands.command()
def retry(job: Id, config: Config = None) -> None:
    """Try a failed job again, as a new one with a callback of its own, if its audio is kept or behind a URL."""
    with complaints():
        say(f"{_with(config, lambda jobs: jobs.retry(job))}: queued")


async def _listed(jobs: JobOperations, states: Sequence[str], limit: int) -> list[Record]:
    from engine.record import JobState

    return await jobs.list([JobState(name) for name in states], limit)


async def _shown(jobs: JobOperations, beginning: str) -> tuple[Record, tuple[PastAttempt, ...]]:
    record = await jobs.find(beginning)
    return record, await jobs.attempts(record)


def _row(record: Record) -> tuple[str, ...]:
    audio = "-" if record.duration is None else f"{record.duration:.0f} s"
    return record.request.id, record.state.value, record.request.dialect, span(time.time() - record.created_at), audio


def _told(record: Record) -> dict[str, Any]:
    """What is no secret: of the callback its origin, of the result why there is none."""
    from engine.record import timestamp
    from engine.request import Failed

    request, result, delivery = record.request, record.result, record.delivery
    return {
        "id": request.id,
        "state": record.state.value,
        "dialect": request.dialect,
        "model": request.model,
        "recogniser": request.recogniser,
        "key": request.key_id,
        "created_at": timestamp(record.created_at),
        "started_at": None if record.started_at is None else timestamp(record.started_at),
        "finished_at": None if record.finished_at is None else timestamp(record.finished_at),
        "bytes": record.media.size or None,
        "duration": record.duration,
        "error": f"{result.code}: {result.message}" if isinstance(result, Failed) else None,
        "callback": _origin(request.callback.url) if request.callback else None,
        "delivery": delivery.state if delivery else None,
    }


def _origin(url: str) -> str:
    """Its path, query and userinfo may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


def _attempt(one: PastAttempt) -> dict[str, Any]:
    from engine.record import timestamp

    return {
        "number": one.number,
        "started_at": timestamp(one.started_at),
        "outcome": one.outcome,
        "status": one.status,
        "detail": one.detail,
    }
