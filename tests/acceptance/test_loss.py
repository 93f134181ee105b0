"""Promise 4: nothing is lost, though the relay is killed -9 again and again between a claim and its settlement.

`TESTS_FULL=1` runs 20,000 deliveries and twenty kills instead of 1,000 and five.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

import pytest

from relay import outbox
from relay.outbox.model import NewDelivery
from relay.outbox.sqlite.database import SqliteDatabase
from relay.outbox.sqlite.opening import connect_read_only
from tests.acceptance.receiver import Arrival, Reply, callback, receiving
from tests.acceptance.stage import Process, Stage

FULL = bool(os.environ.get("TESTS_FULL"))
DELIVERIES, KILLS = (20_000, 20) if FULL else (1_000, 5)
DESTINATIONS = 50
# At a kill: 256 under way, and about as many that ended within the 20 ms that a group commit gathers.
UNSETTLED = 512
SEED = 7

# 30 % errors, to many destinations. Few errors are of the kind that opens a breaker, so that five of those in a row are
# too rare to leave a destination alone for half a minute: that would try the patience of this test and nothing else.
FAILING = 0.30
ERRORS = (404, 404, 404, 409, 422, 422, 413, 302, 500)

pytestmark = pytest.mark.acceptance


class Moment(StrEnum):
    """When the relay is killed."""

    CLAIMED = "after a claim, before the request"
    SENT = "after the request, before its answer"
    ANSWERED = "after an answer, before its commit"
    COMMITTED = "after a commit"


class Assassin:
    """Kills one process: at the first `moment` after `left` more requests."""

    def __init__(self, database: Path) -> None:
        self._reader = connect_read_only(database)
        self._version = 0
        self._victim: Process | None = None
        self._moment = Moment.SENT
        self._left = 0
        self.struck = asyncio.Event()

    def aim(self, victim: Process, moment: Moment, left: int) -> None:
        self._victim, self._moment, self._left = victim, moment, left
        self.struck.clear()

    def notice(self, moment: Moment) -> None:
        """Something happened at the receiver, just now."""
        if self._victim is None:
            return
        self._left -= moment is Moment.SENT
        if self._left <= 0 and (self._moment is moment or (self._moment is Moment.COMMITTED and self._committed())):
            os.kill(self._victim.pid, signal.SIGKILL)
            self._victim = None
            self.struck.set()

    def _committed(self) -> bool:
        """Whether somebody committed since this was asked last."""
        before, self._version = self._version, self._reader.execute("PRAGMA data_version").fetchone()[0]
        return 0 < before < self._version

    def close(self) -> None:
        self._reader.close()


@dataclass
class Record:
    """What the receiver was sent for one id, and said to it."""

    bodies: set[bytes] = field(default_factory=set)
    numbers: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """How many times it was taken."""
        return self.statuses.count(200)


class Fickle:
    """A receiver that refuses some requests. The dice are cast for each id's n-th request by itself, so that what is
    refused does not depend on the order in which requests come."""

    def __init__(self, assassin: Assassin) -> None:
        self._assassin = assassin
        self.records: dict[str, Record] = {}

    def connected(self) -> None:
        self._assassin.notice(Moment.CLAIMED)

    def handle(self, arrival: Arrival, reply: Reply) -> None:
        record = self.records.setdefault(arrival.id, Record())
        dice = random.Random(f"{SEED} {arrival.id} {len(record.statuses)}")
        self._assassin.notice(Moment.SENT)
        record.bodies.add(arrival.body)
        record.numbers.append(arrival.number)
        record.statuses.append(dice.choice(ERRORS) if dice.random() < FAILING else 200)
        reply(record.statuses[-1])
        self._assassin.notice(Moment.ANSWERED)


async def test_nothing_is_lost_though_the_relay_is_killed_again_and_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        database = _migrated(tmp_path / "outspoken.db")
        assassin = Assassin(database)
        stack.callback(assassin.close)
        fickle = Fickle(assassin)
        port = await stack.enter_async_context(receiving(fickle.handle, fickle.connected))
        stage = Stage(tmp_path, port, relay__retry__delay=0.2, relay__retry__retries=100, relay__lease_seconds=1)
        bodies = _fill(database, [callback(port, number) for number in range(DESTINATIONS)])

        killed = await _kill_again_and_again(stage, assassin)
        relay = await stage.relay()
        stack.push_async_callback(relay.stop)
        await _all_delivered(database)

        assert sum(killed.values()) == KILLS
        assert set(killed) == set(Moment)
        assert {id_: record.bodies for id_, record in fickle.records.items()} == {
            id_: {body} for id_, body in bodies.items()
        }
        assert all(record.accepted for record in fickle.records.values())
        assert all(_rises(record.numbers) for record in fickle.records.values())
        duplicates = sum(record.accepted - 1 for record in fickle.records.values())
        requests = sum(len(record.statuses) for record in fickle.records.values())
        with capsys.disabled():
            print(
                f"\n{DELIVERIES} deliveries, {requests} requests, {KILLS} kills ({_told(killed)}): "
                f"0 lost, {duplicates} duplicates, {time.monotonic() - began:.0f} s"
            )
        assert duplicates <= UNSETTLED * KILLS


def _migrated(database: Path) -> Path:
    SqliteDatabase(database).migrate([outbox.OUTBOX])
    return database


def _fill(database: Path, urls: Sequence[str]) -> dict[str, bytes]:
    bodies = {f"delivery-{number:05}": b'{"number":%d}' % number for number in range(DELIVERIES)}
    with closing(outbox.connect(database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for number, (id_, body) in enumerate(bodies.items()):
            outbox.add(connection, NewDelivery(id_, urls[number % len(urls)], body))
        connection.execute("COMMIT")
    return bodies


async def _kill_again_and_again(stage: Stage, assassin: Assassin) -> Counter[Moment]:
    """Over four fifths of the requests that there will be: every moment in turn, after as many as the dice say."""
    dice = random.Random(SEED)
    spread = int(2 * 0.8 * DELIVERIES / (1 - FAILING) / KILLS)
    killed = Counter[Moment]()
    for number in range(KILLS):
        moment = list(Moment)[number % len(Moment)]
        relay = await stage.relay()
        assassin.aim(relay, moment, dice.randint(1, spread))
        async with asyncio.timeout(60):
            await assassin.struck.wait()
        assert await relay.kill() == -signal.SIGKILL
        killed[moment] += 1
    return killed


async def _all_delivered(database: Path) -> None:
    """Until the last settlement is committed: another process does that, and only the file tells."""
    question = "SELECT count(*) FROM outspoken_deliveries WHERE state <> 'delivered'"
    async with asyncio.timeout(120):
        with closing(sqlite3.connect(database)) as connection:
            while connection.execute(question).fetchone()[0]:
                await asyncio.sleep(0.1)


def _rises(numbers: Sequence[int]) -> bool:
    """No two requests for one id had the same attempt number, and none came out of turn."""
    return all(earlier < later for earlier, later in pairwise(numbers))


def _told(killed: Counter[Moment]) -> str:
    return ", ".join(f"{count} {moment.value}" for moment, count in killed.items())
