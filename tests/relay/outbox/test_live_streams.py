"""The producer's side of live streams: begun, added to, kept alive, ended and watched."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay import outbox
from relay.errors import InvalidDelivery, StreamEnded, StreamKilled
from relay.model import KillReason, NewDelivery, Stream, StreamState, StreamStatus
from tests.relay.deliveries import new, put, rows

SOCKET = "wss://u:p@receiver.example/live?k=v"
LONG_AGO, FAR_OFF = 1.0, 9e9
ENDS = "UPDATE streams SET state = ?, reason = ?, finished_at = ?"


@pytest.fixture
def connection(database: Path) -> Iterator[sqlite3.Connection]:
    """A producer's, each of whose statements commits by itself."""
    with closing(outbox.connect(database)) as opened:
        yield opened


def message(id_: str = "m1", key: str = "s", url: str = SOCKET, **fields: object) -> NewDelivery:
    return new(id_, url, **{"stream": Stream(key), **fields})


def begin(connection: sqlite3.Connection, stream: Stream, url: str = SOCKET, **fields: dict[str, str]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        outbox.begin_stream(connection, stream, url, **fields)
    finally:
        connection.execute("COMMIT")


def status(database: Path, key: str = "s") -> StreamStatus:
    return outbox.watch_streams(database, [key])[key]


def test_messages_of_a_socket_are_in_their_stream_in_order_and_never_due(database: Path) -> None:
    put(database, message("m1", headers={"dg-token": "t"}, traceparent="00-1-2-03"), message("m2"))
    assert rows(database, "SELECT id, due_at, position FROM deliveries ORDER BY seq") == [
        ("m1", None, 1),
        ("m2", None, 2),
    ]
    assert rows(database, "SELECT transport, url, json(headers), producer_until FROM streams") == [
        ("ws", SOCKET, '{"traceparent":"00-1-2-03","dg-token":"t"}', None)
    ]


def test_a_message_needs_a_stream_and_text(database: Path) -> None:
    with pytest.raises(InvalidDelivery, match=r"^stream: a delivery to a WebSocket is one message of a stream"):
        put(database, message(stream=None))
    with pytest.raises(InvalidDelivery, match=r"^body: .* UTF-8"):
        put(database, message(body=b"\xff"))


@pytest.mark.parametrize("elsewhere", ["wss://receiver.example/other", "https://receiver.example/live"])
def test_one_socket_leads_to_one_place(database: Path, elsewhere: str) -> None:
    put(database, message("m1"))
    with pytest.raises(InvalidDelivery, match=r"^stream: s leads to another URL") as refused:
        put(database, message("m2", url=elsewhere))
    assert "receiver" not in str(refused.value)


def test_requests_of_one_stream_may_go_to_several_places(database: Path) -> None:
    put(database, message("m1", url="https://a.example/"), message("m2", url="https://b.example/"))
    assert rows(database, "SELECT transport, url, position FROM streams") == [("http", None, 2)]


def test_a_stream_may_begin_before_its_first_message(database: Path, connection: sqlite3.Connection) -> None:
    begin(connection, Stream("s", live_until=FAR_OFF), headers={"dg-token": "t"})
    assert status(database) == StreamStatus(StreamState.OPEN, None, 0)
    put(database, message())
    assert rows(database, "SELECT position, headers FROM streams") == [(1, '{"dg-token": "t"}')]
    with pytest.raises(InvalidDelivery, match=r"^stream: expected 1 to 128 characters"):
        begin(connection, Stream(""))


def test_outside_a_transaction_no_stream_begins(connection: sqlite3.Connection) -> None:
    with pytest.raises(InvalidDelivery, match="autocommit"):
        outbox.begin_stream(connection, Stream("s"), SOCKET)


def test_an_ended_socket_is_closed_by_its_holder(database: Path, connection: sqlite3.Connection) -> None:
    put(database, message())
    outbox.end_stream(connection, "s")
    assert status(database) == StreamStatus(StreamState.ENDED, None, 1)
    with pytest.raises(StreamEnded, match="stream s has ended"):
        put(database, message("m2"))
    with pytest.raises(StreamEnded):
        begin(connection, Stream("s"))


@pytest.mark.parametrize(("waiting", "state"), [(1, StreamState.ENDED), (0, StreamState.CLOSED)])
def test_ended_requests_are_closed_once_nothing_waits(
    database: Path, connection: sqlite3.Connection, waiting: int, state: StreamState
) -> None:
    put(database, message(url="https://receiver.example/"))
    if not waiting:
        rows(database, "UPDATE deliveries SET state = 'cancelled', finished_at = 1")
    outbox.end_stream(connection, "s")
    assert status(database) == StreamStatus(state, None, waiting)


def test_what_was_killed_or_never_was_is_not_ended(database: Path, connection: sqlite3.Connection) -> None:
    put(database, message())
    rows(database, ENDS, "killed", "connection_lost", 1.0)
    outbox.end_stream(connection, "s")
    outbox.end_stream(connection, "nobody")
    assert outbox.watch_streams(connection, ["s", "nobody"]) == {
        "s": StreamStatus(StreamState.KILLED, KillReason.DROPPED, 1)
    }
    with pytest.raises(StreamKilled):
        begin(connection, Stream("s"))


def test_a_socket_whose_holder_is_overdue_is_gone(database: Path) -> None:
    put(database, message())
    rows(database, "UPDATE streams SET holder = 'h', holder_until = ?", time.time() + 100)
    assert status(database).state is StreamState.OPEN
    rows(database, "UPDATE streams SET holder_until = ?", LONG_AGO)
    assert status(database) == StreamStatus(StreamState.KILLED, KillReason.RELAY, 1)


def test_every_sign_of_life_pushes_a_producers_end_out(database: Path, connection: sqlite3.Connection) -> None:
    def until() -> float | None:
        return rows(database, "SELECT producer_until FROM streams")[0][0]  # type: ignore[no-any-return]

    put(database, message("m1", stream=Stream("s")))
    outbox.keep_streams(connection, ["s"], 50.0)
    assert until() is None
    put(database, message("m2", stream=Stream("s", live_until=10.0)))
    assert until() == 10.0
    put(database, message("m3", stream=Stream("s", live_until=5.0)), message("m4"))
    assert until() == 10.0
    outbox.keep_streams(connection, ["s", "nobody"], 20.0)
    outbox.keep_streams(connection, ["s"], 15.0)
    assert until() == 20.0


def test_a_hundred_streams_are_watched_in_one_read(database: Path, connection: sqlite3.Connection) -> None:
    put(database, *(message(f"{key}-{number}", f"k{key}") for key in range(100) for number in range(3)))
    seen = outbox.watch_streams(connection, [f"k{key}" for key in range(200)])
    assert seen == {f"k{key}": StreamStatus(StreamState.OPEN, None, 3) for key in range(100)}


IMPOSSIBLE = [
    "state = 'killed'",
    "state = 'killed', finished_at = 1.0",
    "state = 'closed'",
    "reason = 'connection_lost'",
    "finished_at = 1.0",
    "transport = 'http'",
    "transport = 'carrier pigeon'",
    "url = NULL",
    "holder = 'h'",
    "holder_until = 1.0",
    "state = 'closed', finished_at = 1.0, holder = 'h', holder_until = 1.0",
    "headers = '[]'",
    "state = 'paused'",
]


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_the_database_refuses_an_impossible_stream(database: Path, change: str) -> None:
    put(database, message())
    with pytest.raises(sqlite3.IntegrityError):
        rows(database, f"UPDATE streams SET {change}")
