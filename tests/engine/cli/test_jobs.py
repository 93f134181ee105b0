"""`engine jobs` and `engine status`, as they are typed, on a database with jobs in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from engine.api import status
from engine.jobs.folder import AudioFolder
from engine.jobs.intake import Intake
from engine.jobs.operations import CANCELLED
from engine.jobs.store import JobResult, JobStore, migrate
from engine.request import Callback, Failed, FailureCode, Media, Request
from relay.outbox.sqlite.database import SqliteDatabase
from tests.engine.cli.stage import Engine
from tests.schemas import hold

FIRST, SECOND, THIRD = (f"0199c0de-0000-7000-8000-00000000000{digit}" for digit in "123")
ASKED = Request(
    FIRST, "deepgram", "nova-3", "default", callback=Callback("https://user:pass@hooks.example/x?token=s3cret")
)


@pytest.fixture
def database(engine: Engine) -> SqliteDatabase:
    database = SqliteDatabase(engine.folder / "one.db")
    migrate(database)
    engine.set(outbox__url=f"sqlite:///{engine.folder / 'one.db'}", engine__audio_dir=engine.folder / "audio")
    return database


def do(database: SqliteDatabase, work: Callable[[JobStore], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        store = JobStore(database, 60.0)
        await work(store)
        await store.close()

    asyncio.run(run())


@pytest.fixture
def jobs(engine: Engine, database: SqliteDatabase) -> SqliteDatabase:
    """One that waits, one that is under way, and one that failed and whose audio is kept."""
    folder = AudioFolder(engine.folder / "audio")
    folder.create()

    async def make(store: JobStore) -> None:
        intake = Intake(store, folder, lambda: None)
        for id_ in (THIRD, SECOND, FIRST):
            audio = folder.incoming / id_
            audio.write_bytes(b"sound")
            asked = replace(ASKED, id=id_, keeps_audio=id_ == THIRD, callback=None if id_ == THIRD else ASKED.callback)
            await intake.accept(asked, Media("ab", 5, 1.0), audio)
            if id_ != FIRST:
                (job,) = await store.lease(1)
            if id_ == THIRD:
                await store.finish(job, JobResult(job.media, Failed(FailureCode.AUDIO, "no \x9b31m sound")), None)

    do(database, make)
    return database


def told(engine: Engine, *arguments: str) -> list[dict[str, Any]]:
    said = engine.here(*arguments, "--json")
    return [json.loads(line) for line in said.out.splitlines()]


def test_jobs_are_listed_by_their_states(engine: Engine, jobs: SqliteDatabase) -> None:
    listed = told(engine, "jobs", "list")
    assert {one["id"]: one["state"] for one in listed} == {FIRST: "queued", SECOND: "processing", THIRD: "failed"}
    assert [one["id"] for one in told(engine, "jobs", "list", "--state", "failed")] == [THIRD]
    code, seen = engine.in_80_columns("jobs", "list")
    head, *lines = seen.splitlines()
    assert (code, head.split()[:2], [line.split()[0] for line in lines]) == (0, ["ID", "STATE"], [FIRST, SECOND, THIRD])
    assert max(map(len, lines)) <= 80


def test_in_80_columns_nothing_is_cut_and_what_does_not_fit_stands_below(engine: Engine, jobs: SqliteDatabase) -> None:
    long = "/".join([str(engine.folder), *["models"] * 12])
    engine.set(engine__models_dir=long)
    engine.here("keys", "add", "a key " * 10 + "long")
    for command in (["jobs", "show", THIRD], ["keys", "list"], ["models", "list"], ["config", "show"]):
        code, seen = engine.in_80_columns(*command)
        assert (code, [line for line in seen.splitlines() if len(line) > 80 and "/" not in line]) == (0, []), command
    assert long in [line.split()[-1] for line in seen.splitlines() if line]


def test_one_is_shown_by_the_beginning_of_its_id_without_secrets(engine: Engine, jobs: SqliteDatabase) -> None:
    (one,) = told(engine, "jobs", "show", FIRST)
    assert (one["callback"], one["state"], one["attempts"]) == ("https://hooks.example", "queued", [])
    assert "\x9b" not in engine.here("jobs", "show", THIRD, "--json").out + engine.here("jobs", "show", THIRD).out
    ambiguous = engine.here("jobs", "show", FIRST[:-1])
    assert (ambiguous.code, f"{FIRST}, {SECOND}" in ambiguous.err) == (1, True)
    assert "no job's id begins so" in engine.here("jobs", "show", "7").err


@pytest.mark.parametrize("id_", [FIRST, SECOND])
def test_a_cancelled_job_has_failed_and_its_callback_tells(engine: Engine, jobs: SqliteDatabase, id_: str) -> None:
    assert engine.here("jobs", "cancel", id_).out == f"{id_}: cancelled, which its callback tells\n"
    (one,) = told(engine, "jobs", "show", id_)
    assert (one["state"], one["error"], one["delivery"]) == ("failed", f"internal: {CANCELLED}", "pending")
    with jobs.reading() as connection:
        ((body,),) = connection.execute("SELECT body FROM outspoken_bodies").fetchall()
    assert hold("deepgram", body)["err_msg"] == CANCELLED
    assert not (engine.folder / "audio" / id_).exists()
    assert "cannot be cancelled any more" in engine.here("jobs", "cancel", id_).err


def test_what_worked_on_a_cancelled_job_changes_nothing_any_more(engine: Engine, database: SqliteDatabase) -> None:
    async def finish(store: JobStore) -> None:
        await store.accept(ASKED, Media("ab", 5, 1.0))
        (job,) = await store.lease(1)
        assert (await asyncio.to_thread(engine.here, "jobs", "cancel", FIRST)).code == 0
        assert await store.renew([job]) == frozenset()
        assert not await store.finish(job, JobResult(job.media, Failed(FailureCode.AUDIO, "late")), None)

    do(database, finish)


def test_a_failed_job_is_tried_again_as_another_if_its_audio_is_kept(engine: Engine, jobs: SqliteDatabase) -> None:
    said = engine.here("jobs", "retry", THIRD)
    assert said.code == 0, said.err
    again = said.out.partition(":")[0]
    (one,) = told(engine, "jobs", "show", again)
    assert (one["state"], one["bytes"]) == ("queued", 5)
    assert (engine.folder / "audio" / again).read_bytes() == b"sound"
    assert "only what has failed can be tried again" in engine.here("jobs", "retry", FIRST).err
    (engine.folder / "audio" / THIRD).unlink()
    assert "its audio is not kept" in engine.here("jobs", "retry", THIRD).err


def test_without_an_engine_the_status_is_what_the_database_knows(engine: Engine, jobs: SqliteDatabase) -> None:
    said = engine.here("status", "--json")
    known = json.loads(said.out)
    assert (said.code, known["reachable"], known["queued"], known["failed"]) == (1, False, 1, 1)
    assert "1 queued" in engine.here("status").out
    assert engine.here("status", "--check").code == 1


async def test_a_running_engine_is_asked(engine: Engine, jobs: SqliteDatabase) -> None:
    live = [status.LiveState("gladia-live", "default", 7.0, 6.5, 0.4)]
    models = [status.LoadedModel("default", "<tiny>", 2, 300_000_000)]
    now = status.Status("1.0", 3600.0, False, 3, 2, 1, 9, 0.0, 12.5, 8, live, models)

    async def ask() -> status.Status:
        return now

    application = web.Application()
    application.add_routes(status.routes(ask))
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    engine.set(engine__port=runner.addresses[0][1])
    said = await asyncio.to_thread(engine.here, "status")
    assert said.code == 0
    for expected in ("3 queued", "12.5 s of audio", "1 live sessions; there is room for 8", "0.4 s", "300 MB"):
        assert expected in said.out
    assert (await asyncio.to_thread(engine.here, "status", "--check")).code == 0
    page = status.page(now)
    assert "&lt;tiny&gt;" in page
    assert "<tiny>" not in page
    await runner.cleanup()
