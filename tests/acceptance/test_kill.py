"""Promise 1: from the moment a job is accepted, either process may be killed at any instruction."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
from collections import Counter
from contextlib import AsyncExitStack, closing
from functools import partial
from itertools import count
from pathlib import Path

import aiohttp
import pytest

from tests.acceptance.speech import first_seconds
from tests.acceptance.stage import Line, Process, Stage
from tests.ports import free_callback_port

JOBS = 200 if os.environ.get("TESTS_FULL") else 30
KILLS = 16 if os.environ.get("TESTS_FULL") else 6
SEED = 3

pytestmark = pytest.mark.acceptance


class Chaos:
    """An engine and a relay that are killed and started again while jobs are submitted and delivered."""

    def __init__(self, stage: Stage, receiver: Process) -> None:
        self.stage = stage
        self.receiver = receiver
        self.dice = random.Random(SEED)
        self.accepted: dict[str, str] = {}
        self.submitted: set[str] = set()
        self.running: dict[str, Process] = {}
        self.killed = Counter[str]()

    async def start(self) -> None:
        self.running = {"engine": await self.stage.engine(), "relay": await self.stage.relay()}

    async def submit_all(self, audio: bytes) -> None:
        """Every job is accepted once; a submission that the engine's death broke off is made again, under a new tag.
        After the last there are more, one by one, until the last kill: somebody is killed at work."""
        async with aiohttp.ClientSession() as session:
            for job in count():
                if job >= JOBS:
                    await self.all_delivered()
                    if self.killed.total() >= KILLS:
                        break
                await self._submit(session, audio, job)

    async def _submit(self, session: aiohttp.ClientSession, audio: bytes, job: int) -> None:
        for again in range(1000):
            tag = f"job-{job}-{again}"
            self.submitted.add(tag)
            try:
                query = {"callback": self.stage.callback_url, "tag": tag}
                async with session.post(f"{self.stage.engine_url}/v1/listen", params=query, data=audio) as answer:
                    assert answer.status == 200, await answer.text()
                    self.accepted[(await answer.json())["request_id"]] = tag
                    return
            except aiohttp.ClientConnectionError:
                await self.running["engine"].event("engine.ready")

    async def kill_at_random(self) -> None:
        """Each time after a few more callbacks have come, however many the dice say."""
        for _ in range(KILLS):
            seen = len(self.receiver.lines) + self.dice.randint(1, 8)
            await self.receiver.until(partial(self._seen, seen))
            victim = self.dice.choice(("engine", "relay"))
            await self.running[victim].kill()
            self.killed[victim] += 1
            self.running[victim] = await (self.stage.engine() if victim == "engine" else self.stage.relay())

    async def all_delivered(self) -> None:
        """Until every accepted job was answered with 200."""
        await self.receiver.until(lambda: self.accepted.keys() <= delivered(self.receiver.lines).keys(), within=120)

    def _seen(self, lines: int) -> bool:
        return len(self.receiver.lines) >= lines

    async def stop(self) -> None:
        for process in self.running.values():
            await process.stop()


def delivered(lines: list[Line]) -> dict[str, Line]:
    return {line["headers"]["webhook-id"]: line for line in lines if line.get("status") == 200}


async def test_every_accepted_job_calls_back_though_both_processes_are_killed_again_and_again(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        stage = Stage(
            tmp_path,
            free_callback_port(),
            relay__retry__delay=0.2,
            relay__retry__retries=60,
            relay__lease_seconds=2,
            engine__lease_seconds=2,
            engine__workers=2,  # so that one dies while it has several jobs
        )
        receiver = await stage.receiver("--fail-ratio", "0.333")
        stack.push_async_callback(receiver.stop)
        chaos = Chaos(stage, receiver)
        await chaos.start()
        stack.push_async_callback(chaos.stop)
        await asyncio.gather(chaos.submit_all(first_seconds(0.4)), chaos.kill_at_random())
        await chaos.all_delivered()

        assert chaos.killed["engine"] >= 3
        assert chaos.killed["relay"] >= 3
        _nothing_came_that_was_not_submitted(chaos)
        _ids_and_bodies_never_changed(receiver.lines)
        _the_database_agrees(chaos)


def _nothing_came_that_was_not_submitted(chaos: Chaos) -> None:
    for line in chaos.receiver.lines[1:]:
        document = json.loads(line["body"])
        assert document["metadata"]["request_id"] == line["headers"]["webhook-id"]
        tag = document["metadata"]["tags"][0]
        assert tag in chaos.submitted
        assert chaos.accepted.get(line["headers"]["webhook-id"], tag) == tag


def _ids_and_bodies_never_changed(lines: list[Line]) -> None:
    bodies: dict[str, str] = {}
    for line in lines[1:]:
        assert bodies.setdefault(line["headers"]["webhook-id"], line["body"]) == line["body"]


def _the_database_agrees(chaos: Chaos) -> None:
    with closing(sqlite3.connect(chaos.stage.database)) as connection:
        states = dict(connection.execute("SELECT id, state FROM outspoken_deliveries").fetchall())
    assert chaos.accepted.keys() <= states.keys()
    assert not {id_ for id_, state in states.items() if state in {"dead", "cancelled"}}
