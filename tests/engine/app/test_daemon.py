"""The engine as a process: it survives being killed, drains when asked, and is open to nobody without a key."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path

import aiohttp
import pytest

from engine.cli import main
from tests.acceptance.stage import Process, Stage
from tests.commands import run_here

CLIP = Path(__file__).parents[2] / "clips" / "demo.flac"
CALLBACK = "http://127.0.0.1:8080/hook?token=canary-in-a-query"
PATIENCE = 60.0
Start = Callable[[], Awaitable[Process]]

pytestmark = pytest.mark.acceptance


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, 8080, engine__workers=1, engine__lease_seconds=1.0)


@pytest.fixture
async def start(stage: Stage) -> AsyncIterator[Start]:
    """Start the engine; what still runs at the end is killed."""
    started: list[Process] = []

    async def start() -> Process:
        started.append(await stage.engine())
        return started[-1]

    yield start
    for process in started:
        if process.returncode is None:
            await process.kill()


@pytest.fixture
def quiet(tmp_path: Path) -> bytes:
    """Half a second of silence: heard in no time."""
    path = tmp_path / "quiet.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(16000))
    return path.read_bytes()


async def test_a_file_that_others_may_read_is_told_of_at_the_start(stage: Stage, start: Start) -> None:
    stage.database.touch()
    stage.database.chmod(0o644)
    told = await (await start()).event("store.exposed")
    assert (told["level"], told["remedy"].split()[:3]) == ("warning", ["chmod", "o=", str(stage.database)])


async def submit(stage: Stage, audio: bytes, **headers: str) -> tuple[int, dict[str, str]]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{stage.engine_url}/v1/listen", params={"callback": CALLBACK}, data=audio, headers=headers
        ) as response,
    ):
        return response.status, await response.json()


def rows(stage: Stage, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(stage.database)) as connection:
        return connection.execute(sql).fetchall()


async def engine(stage: Stage, *command: str) -> tuple[int | None, str]:
    """Run a command to its end: exit code and everything it said."""
    process = await Process.start("engine", *command, env=stage.env)
    try:
        code = await asyncio.wait_for(process.finished(), PATIENCE)
    except TimeoutError:
        await process.kill()
        raise
    return code, "\n".join(process.words)


def here(stage: Stage, *command: str) -> tuple[int, str]:
    """The same in this process, for a command that does not go on."""
    code, out, err = run_here(main, [*command], stage.folder, os.environ | stage.env)
    return code, (out + err).strip()


async def test_a_job_whose_engine_is_killed_is_taken_up_again_and_delivered_once(stage: Stage, start: Start) -> None:
    first = await start()
    status, answer = await submit(stage, CLIP.read_bytes())
    assert status == 200
    await first.event("job.started")
    await first.kill()
    assert rows(stage, "SELECT id, state FROM outspoken_jobs") == [(answer["request_id"], "leased")]
    assert rows(stage, "SELECT id FROM outspoken_deliveries") == []
    second = await start()
    await second.event("job.finished")
    await second.stop()
    assert rows(stage, "SELECT id, kind FROM outspoken_deliveries") == [(answer["request_id"], "final")]
    assert rows(stage, "SELECT state, crashes FROM outspoken_jobs") == [("done", 0)]
    assert [path for path in (stage.folder / "audio").rglob("*") if path.is_file()] == []
    document = json.loads(bytes(rows(stage, "SELECT body FROM outspoken_bodies")[0][0]))  # type: ignore[call-overload]
    transcript = document["results"]["channels"][0]["alternatives"][0]["transcript"]
    assert len(transcript.split()) > 10
    assert not [word for word in second.words if transcript[:20] in word], "what was said stays out of the log"


async def test_sigterm_lets_the_job_under_way_end(stage: Stage, start: Start, quiet: bytes) -> None:
    process = await start()
    await submit(stage, quiet)
    await process.event("job.started")
    assert await process.stop() == 0
    assert rows(stage, "SELECT state FROM outspoken_jobs") == [("done",)]
    assert [line["event"] for line in process.lines][-1] == "engine.stopped"


async def test_while_it_drains_it_is_unready_and_a_second_signal_leaves_at_once(stage: Stage, start: Start) -> None:
    process = await start()
    await submit(stage, CLIP.read_bytes())
    await process.event("job.started")
    os.kill(process.pid, signal.SIGTERM)
    await process.event("engine.draining")
    async with aiohttp.ClientSession() as session, session.get(f"{stage.engine_url}/readyz") as response:
        assert (response.status, (await response.json())["checks"]["drain"]) == (503, "draining")
    assert await process.stop() == 128 + signal.SIGTERM
    assert rows(stage, "SELECT state FROM outspoken_jobs") == [("leased",)]


async def test_it_is_ready_counts_and_keeps_secrets_out_of_its_log(stage: Stage, start: Start, quiet: bytes) -> None:
    process = await start()
    await submit(stage, quiet, Authorization="Token canary-in-a-header")
    line = await process.event("job.finished")
    assert line["destination"] == "http://127.0.0.1:8080"
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{stage.engine_url}/readyz") as response:
            assert (response.status, (await response.json())["status"]) == (200, "ready")
        async with session.get(f"{stage.engine_url}/status") as response:
            told = await response.json()
        async with session.get(f"{stage.engine_url}/metrics") as response:
            metrics = (await response.text()).splitlines()
    assert (told["queued"], told["running"], told["failed"], told["live"], told["draining"]) == (0, 0, 0, [], False)
    assert [(one["recogniser"], one["memory"] > 0) for one in told["models"]] == [("default", True)]
    assert told["speed"] > 0
    assert 'engine_jobs_total{result="done"} 1.0' in metrics
    assert 'engine_jobs_total{result="internal"} 0.0' in metrics
    assert "engine_audio_seconds_total 0.5" in metrics
    assert not [line for line in metrics if "_created" in line]
    await process.stop()
    assert [word for word in process.words if "canary" in word] == []


async def test_an_engine_whose_file_was_removed_says_so_and_ends(stage: Stage, start: Start) -> None:
    told = None
    while told is None:  # once in a while one is gone before it is asked
        process = await start()
        stage.database.unlink()
        with suppress(aiohttp.ClientConnectionError):
            async with aiohttp.ClientSession() as session, session.get(f"{stage.engine_url}/readyz") as response:
                told = response.status, (await response.json())["checks"]["store"]
        await process.event("store.replaced")
        assert await process.finished() == 1
        assert any("the file was replaced or removed; start this program again" in word for word in process.words)
    assert told == (503, "the database: the file was replaced or removed")


async def test_an_engine_whose_log_was_deleted_ends_and_what_it_accepted_is_there(
    stage: Stage, start: Start, quiet: bytes
) -> None:
    process = await start()
    async with aiohttp.ClientSession() as session:
        url = f"{stage.engine_url}/v1/listen?callback={CALLBACK}"
        async with session.post(url, data=quiet, headers={"Content-Type": "audio/wav"}) as response:
            accepted = (await response.json())["request_id"]
    for suffix in ("-wal", "-shm"):
        stage.database.with_name(stage.database.name + suffix).unlink()
    assert (await process.event("store.replaced"))["reason"].startswith("its log (-wal, -shm) was deleted")
    assert await process.finished() == 1
    with closing(sqlite3.connect(stage.database)) as connection:
        assert connection.execute("SELECT count(*) FROM outspoken_jobs WHERE id = ?", (accepted,)).fetchone() == (1,)


async def test_beyond_this_machine_it_does_not_start_without_a_key(stage: Stage) -> None:
    stage.env["OUTSPOKEN_ENGINE__HOST"] = "0.0.0.0"
    code, said = await engine(stage, "run")
    assert code == 78
    assert "engine.host" in said
    assert "engine keys add" in said


async def test_beyond_this_machine_only_keys_open_it_at_once_and_until_they_are_removed(
    stage: Stage, start: Start, quiet: bytes
) -> None:
    assert here(stage, "keys", "list") == (0, "engine: no keys: there is no database yet")
    assert not list(stage.folder.glob("*.db"))
    first, warning = here(stage, "keys", "add", "first")[1].splitlines()
    assert warning.endswith("from now on every request needs one")
    stage.env["OUTSPOKEN_ENGINE__HOST"] = "0.0.0.0"
    await start()
    assert (await submit(stage, quiet))[0] == 401
    status, answer = await submit(stage, quiet, Authorization=f"Token {first}")
    assert status == 200
    _, second = here(stage, "keys", "add", "second")
    assert (await submit(stage, quiet, Authorization=f"Bearer {second}"))[0] == 200
    code, listed = here(stage, "keys", "list")
    assert (code, [line.split()[1] for line in listed.splitlines()]) == (0, ["NAME", "first", "second"])
    key_id = listed.splitlines()[1].split()[0]
    request = json.loads(
        str(rows(stage, f"SELECT request FROM outspoken_jobs WHERE id = '{answer['request_id']}'")[0][0])
    )
    assert request["key_id"] == key_id
    for name in ("first", "second"):
        assert here(stage, "keys", "remove", name)[0] == 0
    assert (await submit(stage, quiet, Authorization=f"Token {first}"))[0] == 401
    assert (await submit(stage, quiet))[0] == 401


def test_a_mistake_in_the_settings_is_named_and_ends_with_78(stage: Stage) -> None:
    stage.env["OUTSPOKEN_ENGINE__WORKRES"] = "2"
    code, said = here(stage, "run")
    assert code == 78
    assert said.startswith("engine: ")
    assert said.endswith("engine.workres: no such setting (misspelt?)")


async def test_a_port_that_is_taken_is_said_in_one_line(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", stage.engine_port)):
        code, said = await engine(stage, "run")
    assert code == 1
    assert str(stage.engine_port) in said.splitlines()[-1]
    assert "Traceback" not in said


def test_the_version_is_told(stage: Stage) -> None:
    assert here(stage, "--version") == (0, f"engine {version('outspoken')}")
