"""For how long what came for those that answer goes first, and all that is in line beside it waits."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay import outbox
from relay.outbox.model import NewDelivery
from relay.queue.choosing import Chooser
from relay.queue.claims import READY_ALONE, ClaimBatch
from relay.queue.holding import Holder
from relay.queue.turns import Turns
from tests.relay.queue.claims import Clock, want

GOOD = "http://good.example:80"
CROWD = [f"http://host{number}.example:80" for number in range(40)]


class Chosen:
    """What is chosen of a crowd that is known, and of one that answers at once."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.clock = Clock()
        self._connection = connection
        self._chooser = Chooser(Turns(), Holder(), 60.0, self.clock)
        self._numbers = 0
        for origin in (GOOD, *CROWD):
            connection.execute("INSERT INTO outspoken_destinations (origin) VALUES (?)", (origin,))
        self.add(*CROWD * 4)
        self.take(others=1)

    def add(self, *origins: str) -> None:
        with self._connection:
            self._connection.execute("BEGIN")
            for origin in origins:
                self._numbers += 1
                outbox.add(self._connection, NewDelivery(str(self._numbers), f"{origin}/", b"{}"))

    def take(self, others: int = len(CROWD)) -> ClaimBatch:
        request = want(10 * len(CROWD), prompt={GOOD}, others=others)
        batch = self._chooser.lease(self._connection, request, READY_ALONE, "token", self.clock())
        self._chooser.note_committed(batch)
        return batch


@pytest.fixture
def chosen(path: Path) -> Iterator[Chosen]:
    with closing(outbox.connect(path)) as connection:
        yield Chosen(connection)


def test_it_does_until_a_moment_after_the_first_and_no_longer_though_they_come_all_the_time(chosen: Chosen) -> None:
    chosen.add(GOOD)
    first = chosen.take()
    assert (len(first.seqs), first.more, first.pause > 0) == (1, True, True)
    chosen.clock.now += first.pause / 2
    chosen.add(GOOD)
    second = chosen.take()
    assert (len(second.seqs), second.more) == (1, True)
    assert second.pause == pytest.approx(first.pause / 2)
    assert chosen.take().seqs == []
    chosen.clock.now += second.pause
    chosen.add(GOOD)
    assert len(chosen.take().seqs) == 1 + len(CROWD)
    chosen.add(GOOD)
    assert len(chosen.take().seqs) == 1


def test_what_comes_after_nothing_else_could_go_goes_first_too(chosen: Chosen) -> None:
    chosen.add(GOOD)
    first = chosen.take()
    chosen.clock.now += 2 * first.pause
    assert chosen.take(others=0).seqs == []
    chosen.add(GOOD)
    assert len(chosen.take().seqs) == 1


def test_where_nobody_came_that_answers_the_rest_waits_for_nothing(chosen: Chosen) -> None:
    assert len(chosen.take().seqs) == len(CROWD)
