"""The producer's side of live streams: begun, added to, kept alive, ended and watched."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import closing

import pytest

from relay import outbox
from relay.errors import InvalidDelivery, StreamEnded, StreamKilled
from relay.model import KillReason, NewDelivery, Stream, StreamState, StreamStatus
from relay.outbox.store import Database
from tests.relay.deliveries import new, put, reading, rows, writing

SOCKET = "wss://u:p@receiver.example/live?k=v"
LONG_AGO, FAR_OFF = 1.0, 9e9
ENDS = "UPDATE streams SET state = ?, reason = ?, finished_at = ?"


def message(id_: str = "m1", key: str = "s", url: str = SOCKET, **fields: object) -> NewDelivery:
    return new(id_, url, **{"stream": Stream(key), **fields})


def begin(database: Database, stream: Stream, url: str = SOCKET, headers: Mapping[str, str] | None = None) -> None:
    writing(database, lambda connection: outbox.begin_stream(connection, stream, url, headers))


def end(database: Database, key: str) -> None:
    writing(database, lambda connection: outbox.end_stream(connection, key))


def keep(database: Database, keys: Iterable[str], until: float) -> None:
    writing(database, lambda connection: outbox.keep_streams(connection, keys, until))


def watch(database: Database, keys: Iterable[str]) -> Mapping[str, StreamStatus]:
    return reading(database, lambda connection: outbox.watch_streams(connection, keys))


def status(database: Database, key: str = "s") -> StreamStatus:
    return watch(database, [key])[key]


def test_messages_of_a_socket_are_in_their_stream_in_order_and_never_due(database: Database) -> None:
    put(database, message("m1", headers={"dg-token": "t"}, traceparent="00-1-2-03"), message("m2"))
    assert rows(database, "SELECT id, due_at, position FROM deliveries ORDER BY seq") == [
        ("m1", None, 1),
        ("m2", None, 2),
    ]
    ((*fields, headers),) = rows(database, "SELECT transport, url, producer_until, headers FROM streams")
    assert fields == ["ws", SOCKET, None]
    assert json.loads(headers) == {"traceparent": "00-1-2-03", "dg-token": "t"}


def test_a_message_needs_a_stream_and_text(database: Database) -> None:
    with pytest.raises(InvalidDelivery, match=r"^stream: a delivery to a WebSocket is one message of a stream"):
        put(database, message(stream=None))
    with pytest.raises(InvalidDelivery, match=r"^body: .* UTF-8"):
        put(database, message(body=b"\xff"))


@pytest.mark.parametrize("elsewhere", ["wss://receiver.example/other", "https://receiver.example/live"])
def test_one_socket_leads_to_one_place(database: Database, elsewhere: str) -> None:
    put(database, message("m1"))
    with pytest.raises(InvalidDelivery, match=r"^stream: s leads to another URL") as refused:
        put(database, message("m2", url=elsewhere))
    assert "receiver" not in str(refused.value)


def test_requests_of_one_stream_may_go_to_several_places(database: Database) -> None:
    put(database, message("m1", url="https://a.example/"), message("m2", url="https://b.example/"))
    assert rows(database, "SELECT transport, url, position FROM streams") == [("http", None, 2)]


def test_a_stream_may_begin_before_its_first_message(database: Database) -> None:
    begin(database, Stream("s", live_until=FAR_OFF), headers={"dg-token": "t"})
    assert status(database) == StreamStatus(StreamState.OPEN, None, 0)
    put(database, message())
    ((position, headers),) = rows(database, "SELECT position, headers FROM streams")
    assert (position, json.loads(headers)) == (1, {"dg-token": "t"})
    with pytest.raises(InvalidDelivery, match=r"^stream: expected 1 to 128 characters"):
        begin(database, Stream(""))


def test_an_ended_socket_is_closed_by_its_holder(database: Database) -> None:
    put(database, message())
    end(database, "s")
    assert status(database) == StreamStatus(StreamState.ENDED, None, 1)
    with pytest.raises(StreamEnded, match="stream s has ended"):
        put(database, message("m2"))
    with pytest.raises(StreamEnded):
        begin(database, Stream("s"))


@pytest.mark.parametrize(("waiting", "state"), [(1, StreamState.ENDED), (0, StreamState.CLOSED)])
def test_ended_requests_are_closed_once_nothing_waits(database: Database, waiting: int, state: StreamState) -> None:
    put(database, message(url="https://receiver.example/"))
    if not waiting:
        rows(database, "UPDATE deliveries SET state = 'cancelled', finished_at = 1")
    end(database, "s")
    assert status(database) == StreamStatus(state, None, waiting)


def test_what_was_killed_or_never_was_is_not_ended(database: Database) -> None:
    put(database, message())
    rows(database, ENDS, "killed", "connection_lost", 1.0)
    end(database, "s")
    end(database, "nobody")
    assert watch(database, ["s", "nobody"]) == {"s": StreamStatus(StreamState.KILLED, KillReason.DROPPED, 1)}
    with pytest.raises(StreamKilled):
        begin(database, Stream("s"))


def test_a_socket_whose_holder_is_overdue_is_gone(database: Database) -> None:
    put(database, message())
    with closing(database.sign()) as holder:
        rows(database, "UPDATE streams SET holder = ?, holder_until = ?", holder.name, time.time() + 100)
        assert status(database).state is StreamState.OPEN
        rows(database, "UPDATE streams SET holder_until = ?", LONG_AGO)
        assert status(database) == StreamStatus(StreamState.KILLED, KillReason.RELAY, 1)


def test_every_sign_of_life_pushes_a_producers_end_out(database: Database) -> None:
    def until() -> float | None:
        return rows(database, "SELECT producer_until FROM streams")[0][0]  # type: ignore[no-any-return]

    put(database, message("m1", stream=Stream("s")))
    keep(database, ["s"], 50.0)
    assert until() is None
    put(database, message("m2", stream=Stream("s", live_until=10.0)))
    assert until() == 10.0
    put(database, message("m3", stream=Stream("s", live_until=5.0)), message("m4"))
    assert until() == 10.0
    keep(database, ["s", "nobody"], 20.0)
    keep(database, ["s"], 15.0)
    assert until() == 20.0


def test_a_hundred_streams_are_watched_in_one_read(database: Database) -> None:
    put(database, *(message(f"{key}-{number}", f"k{key}") for key in range(100) for number in range(3)))
    seen = watch(database, [f"k{key}" for key in range(200)])
    assert seen == {f"k{key}": StreamStatus(StreamState.OPEN, None, 3) for key in range(100)}
