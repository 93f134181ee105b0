"""The producer's side of live streams: begun, added to, kept alive, ended and watched."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import closing

import pytest

from relay import outbox
from relay.outbox.errors import InvalidDelivery, StreamEnded, StreamKilled
from relay.outbox.model import KillReason, NewDelivery, Stream, StreamState, StreamStatus
from tests.relay.deliveries import TRACE, new, reading, rows
from tests.relay.outbox.producers import Producer, every_way

pytestmark = every_way

SOCKET = "wss://u:p@receiver.example/live?k=v"
LONG_AGO, FAR_OFF = 1.0, 9e9
ENDS = "UPDATE outspoken_streams SET state = ?, reason = ?, finished_at = ?"


def message(id_: str = "m1", key: str = "s", url: str = SOCKET, **fields: object) -> NewDelivery:
    return new(id_, url, **{"stream": Stream(key), **fields})


def watch(producer: Producer, keys: Iterable[str]) -> Mapping[str, StreamStatus]:
    return reading(producer.database, lambda connection: outbox.watch_streams(connection, keys))


def status(producer: Producer, key: str = "s") -> StreamStatus:
    return watch(producer, [key])[key]


def test_messages_of_a_socket_are_in_their_stream_in_order_and_never_due(producer: Producer) -> None:
    producer.put(message("m1", headers={"dg-token": "t"}, traceparent=TRACE), message("m2"))
    assert rows(producer.database, "SELECT id, due_at, position FROM outspoken_deliveries ORDER BY seq") == [
        ("m1", None, 1),
        ("m2", None, 2),
    ]
    ((*fields, headers),) = rows(
        producer.database, "SELECT transport, url, producer_until, headers FROM outspoken_streams"
    )
    assert fields == ["ws", SOCKET, None]
    assert json.loads(headers) == {"traceparent": TRACE, "dg-token": "t"}


def test_a_message_needs_a_stream_and_text(producer: Producer) -> None:
    with pytest.raises(InvalidDelivery, match=r"^stream: a delivery to a WebSocket is one message of a stream"):
        producer.put(message(stream=None))
    with pytest.raises(InvalidDelivery, match=r"^body: .* UTF-8"):
        producer.put(message(body=b"\xff"))


@pytest.mark.parametrize("elsewhere", ["wss://receiver.example/other", "https://receiver.example/live"])
def test_one_socket_leads_to_one_place(producer: Producer, elsewhere: str) -> None:
    producer.put(message("m1"))
    with pytest.raises(InvalidDelivery, match=r"^stream: s leads to another URL") as refused:
        producer.put(message("m2", url=elsewhere))
    assert "receiver" not in str(refused.value)


def test_requests_of_one_stream_may_go_to_several_places(producer: Producer) -> None:
    producer.put(message("m1", url="https://a.example/"), message("m2", url="https://b.example/"))
    assert rows(producer.database, "SELECT transport, url, position FROM outspoken_streams") == [("http", None, 2)]


def test_a_stream_may_begin_before_its_first_message(producer: Producer) -> None:
    producer.begin(Stream("s", live_until=FAR_OFF), SOCKET, headers={"dg-token": "t"})
    assert status(producer) == StreamStatus(StreamState.OPEN, None, 0)
    producer.put(message())
    ((position, headers),) = rows(producer.database, "SELECT position, headers FROM outspoken_streams")
    assert (position, json.loads(headers)) == (1, {"dg-token": "t"})
    with pytest.raises(InvalidDelivery, match=r"^stream: expected 1 to 128 characters"):
        producer.begin(Stream(""), SOCKET)


def test_an_ended_socket_is_closed_by_its_holder(producer: Producer) -> None:
    producer.put(message())
    producer.end("s")
    assert status(producer) == StreamStatus(StreamState.ENDED, None, 1)
    with pytest.raises(StreamEnded, match="stream s has ended"):
        producer.put(message("m2"))
    with pytest.raises(StreamEnded):
        producer.begin(Stream("s"), SOCKET)


@pytest.mark.parametrize(("waiting", "state"), [(1, StreamState.ENDED), (0, StreamState.CLOSED)])
def test_ended_requests_are_closed_once_nothing_waits(producer: Producer, waiting: int, state: StreamState) -> None:
    producer.put(message(url="https://receiver.example/"))
    if not waiting:
        rows(producer.database, "UPDATE outspoken_deliveries SET state = 'cancelled', finished_at = 1")
    producer.end("s")
    assert status(producer) == StreamStatus(state, None, waiting)


def test_what_was_killed_or_never_was_is_not_ended(producer: Producer) -> None:
    producer.put(message())
    rows(producer.database, ENDS, "killed", "connection_lost", 1.0)
    producer.end("s")
    producer.end("nobody")
    assert watch(producer, ["s", "nobody"]) == {"s": StreamStatus(StreamState.KILLED, KillReason.DROPPED, 1)}
    with pytest.raises(StreamKilled):
        producer.begin(Stream("s"), SOCKET)


def test_a_socket_whose_holder_is_overdue_is_gone(producer: Producer) -> None:
    producer.put(message())
    with closing(producer.database.liveness()) as holder:
        rows(
            producer.database,
            "UPDATE outspoken_streams SET holder = ?, holder_until = ?",
            holder.name,
            time.time() + 100,
        )
        assert status(producer).state is StreamState.OPEN
        rows(producer.database, "UPDATE outspoken_streams SET holder_until = ?", LONG_AGO)
        assert status(producer) == StreamStatus(StreamState.KILLED, KillReason.RELAY, 1)


def test_every_sign_of_life_pushes_a_producers_end_out(producer: Producer) -> None:
    def until() -> float | None:
        return rows(producer.database, "SELECT producer_until FROM outspoken_streams")[0][0]  # type: ignore[no-any-return]

    producer.put(message("m1", stream=Stream("s")))
    producer.keep(["s"], 50.0)
    assert until() is None
    producer.put(message("m2", stream=Stream("s", live_until=10.0)))
    assert until() == 10.0
    producer.put(message("m3", stream=Stream("s", live_until=5.0)), message("m4"))
    assert until() == 10.0
    producer.keep(["s", "nobody"], 20.0)
    producer.keep(["s"], 15.0)
    assert until() == 20.0


def test_a_hundred_streams_are_watched_in_one_read(producer: Producer) -> None:
    producer.put(*(message(f"{key}-{number}", f"k{key}") for key in range(100) for number in range(3)))
    seen = watch(producer, [f"k{key}" for key in range(200)])
    assert seen == {f"k{key}": StreamStatus(StreamState.OPEN, None, 3) for key in range(100)}


def test_what_no_database_keeps_names_no_stream(producer: Producer) -> None:
    with pytest.raises(InvalidDelivery, match=r"^stream: U\+0000 and lone surrogates"):
        producer.begin(Stream("a\0b"), SOCKET)
    producer.end("a\ud800b")
    producer.keep(["a\0b"], FAR_OFF)
    assert watch(producer, ["a\0b", "a\ud800b"]) == {}
