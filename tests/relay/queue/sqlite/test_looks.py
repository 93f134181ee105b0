"""How often a claim asks for what may go, where there is too much to look at it all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay import outbox
from relay.outbox.model import NewDelivery
from relay.queue.turns import Turns

ORIGIN = ("", "http://h.example:80")


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(outbox.connect(path)) as opened:
        yield opened


def add(connection: sqlite3.Connection, *paths: str) -> None:
    with connection:
        connection.execute("BEGIN")
        for path in paths:
            outbox.add(connection, NewDelivery(path, f"http://h.example{path}", b"{}"))


def served(turns: Turns, connection: sqlite3.Connection, *paths: str) -> list[str]:
    """The endpoints that are found, in their order, of which these are served."""
    rows = turns.endpoints(connection, [ORIGIN], 4)
    turns.remember(rows, {(*ORIGIN, path) for path in paths}, reached_all=True, in_turn=True)
    return [row[2] for row in rows]


def test_an_origin_with_one_endpoint_is_asked_for_once(connection: sqlite3.Connection) -> None:
    add(connection, "/only")
    turns, asked = Turns(), list[str]()
    served(turns, connection, "/only")
    connection.set_trace_callback(asked.append)
    assert served(turns, connection) == ["/only"]
    assert len(asked) == 1


def test_those_of_an_origin_with_several_go_on_behind_the_one_that_had_its_turn(connection: sqlite3.Connection) -> None:
    add(connection, "/a", "/b", "/c")
    turns = Turns()
    assert served(turns, connection, "/b") == ["/a", "/b", "/c"]
    assert served(turns, connection, "/c") == ["/c", "/a", "/b"]
    assert served(turns, connection) == ["/a", "/b", "/c"]
