"""Live streams as relays share them: held by one, read in order, ended once, whoever dies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from msgspec.structs import replace

from relay import outbox
from relay.outbox.model import KillReason, NewDelivery, OnDead, Stream, StreamState
from relay.outbox.store import Database
from relay.policy.attempt import (
    DELIVERED,
    Answer,
    Attempted,
    Dead,
    Delivery,
    Failure,
    Finish,
    HeldStream,
    Outcome,
    Reason,
    Timing,
)
from relay.queue.streams import LiveStreams, ReapedStreams, SettledMessages, StreamChanges, Tasks
from tests.relay.deliveries import new, put, reading, rows, stand, states, writing
from tests.relay.queue.claims import START, Clock, Open, claim, end, ids

SOCKET = "ws://receiver.example/live"
Relays = Callable[[], LiveStreams]


@pytest.fixture
async def holders(timed: Database) -> AsyncIterator[Relays]:
    """Opens the live streams as one more relay would, which is taken for dead after 10 s."""
    opened: list[LiveStreams] = []

    def open_one() -> LiveStreams:
        opened.append(LiveStreams(timed, 10.0))
        return opened[-1]

    yield open_one
    for one in opened:
        await one.close()


def messages(*names: str, key: str = "s", live_until: float | None = None, url: str = SOCKET) -> list[NewDelivery]:
    return [new(name, url, stream=Stream(key, OnDead.KILL, live_until), kind=new().kind) for name in names]


def attempt(delivery: Delivery, failure: Failure | None = None) -> Attempted:
    answer = Answer(Timing(0.1), None if failure else 101, failure)
    outcome = Outcome(failure.value) if failure else Outcome.SUCCESS
    verdict = Dead(Reason.STREAM_KILLED) if failure else DELIVERED
    return Attempted(delivery, answer, outcome, verdict, "", START, START)


async def take(relay: LiveStreams) -> HeldStream:
    """The one stream that can be taken."""
    (stream,) = await relay.take(10)
    return stream


async def read(relay: LiveStreams, stream: HeldStream, after: int = 0, room: int = 100) -> list[Delivery]:
    return [delivery for delivery, _ in await relay.messages(stream, after, room)]


def state(database: Database, key: str = "s") -> tuple[StreamState, KillReason | None]:
    seen = reading(database, lambda connection: outbox.watch_streams(connection, [key]))[key]
    return seen.state, seen.reason


def end_stream(database: Database, key: str = "s") -> None:
    writing(database, lambda connection: outbox.end_stream(connection, key))


async def test_messages_of_a_socket_are_never_claimed(database: Database, holders: Relays, relays: Open) -> None:
    put(database, *messages("m1", "m2"), new("alone"))
    claimer = relays()
    rows(database, "UPDATE outspoken_deliveries SET due_at = ? WHERE due_at IS NOT NULL", START)
    assert ids(await claim(claimer)) == ["alone"]
    assert await claimer.next_due() == START + 60  # when the lease of the other runs out


async def test_a_stream_is_held_by_one_relay_and_read_in_order(database: Database, holders: Relays) -> None:
    put(database, *messages("m1", "m2", "m3"))
    first, second = holders(), holders()
    assert await second.tasks() == Tasks(1, waiting=True, overdue=False)
    stream = await take(first)
    assert (stream.key, stream.origin, stream.url) == ("s", "ws://receiver.example:80", SOCKET)
    assert await second.take(10) == ()
    assert await second.tasks() == Tasks(1, waiting=False, overdue=False)
    assert [one.id for one in await read(first, stream, room=2)] == ["m1", "m2"]
    assert [one.id for one in await read(first, stream, after=2)] == ["m3"]
    assert (await first.messages(stream, 0, 1))[0][1] == new().body


async def test_news_are_of_what_was_not_read_yet(database: Database, holders: Relays) -> None:
    put(database, *messages("m1"), *messages("k1", key="k"))
    relay = holders()
    s, k = sorted(await relay.take(10), key=lambda stream: stream.id)
    assert await relay.news({s.id: 0, k.id: 1}) == StreamChanges({s.id: 1}, {}, frozenset())
    assert await relay.news({s.id: 1, k.id: 1}) == await relay.news({}) == StreamChanges({}, {}, frozenset())
    put(database, *messages("k2", key="k"))
    assert await relay.news({s.id: 1, k.id: 1}) == StreamChanges({k.id: 2}, {}, frozenset())


async def test_room_is_for_the_oldest(database: Database, holders: Relays) -> None:
    put(database, *(message for key in "abc" for message in messages(key + "1", key=key)))
    relay = holders()
    assert [stream.key for stream in await relay.take(2)] == ["a", "b"]
    assert [stream.key for stream in await relay.take(2)] == ["c"]


async def test_ends_of_messages_are_written_with_their_attempts(database: Database, holders: Relays) -> None:
    put(database, *messages("m1", "m2", "m3"))
    relay = holders()
    stream = await take(relay)
    one, two, three = await read(relay, stream)
    assert (await relay.write([attempt(one), attempt(two)], [])).stale == frozenset()
    written = await relay.write([attempt(three, Failure.RESET)], [Finish(stream.id, KillReason.DROPPED)])
    assert (written.stale, written.killed) == (frozenset(), 0)
    assert rows(database, "SELECT id, state, reason, attempts FROM outspoken_deliveries ORDER BY seq") == [
        ("m1", "delivered", None, 1),
        ("m2", "delivered", None, 1),
        ("m3", "dead", "stream_killed", 1),
    ]
    assert rows(database, "SELECT seq, number, outcome, status FROM outspoken_attempts ORDER BY seq") == [
        (one.lease.seq, 1, "success", 101),
        (two.lease.seq, 1, "success", 101),
        (three.lease.seq, 1, "reset", None),
    ]
    assert state(database) == (StreamState.KILLED, KillReason.DROPPED)


async def test_what_was_not_sent_dies_with_its_stream(database: Database, holders: Relays) -> None:
    put(database, *messages("m1", "m2"), *messages("k1", key="k"))
    relay = holders()
    s, _ = sorted(await relay.take(2), key=lambda stream: stream.id)
    assert (await relay.write([], [Finish(s.id, KillReason.REFUSED)])).killed == 2
    assert states(database) == {"m1": "dead", "m2": "dead", "k1": "pending"}
    assert await relay.take(5) == ()


async def test_an_ended_stream_is_closed_by_its_holder(database: Database, holders: Relays) -> None:
    put(database, *messages("m1", live_until=START + 60))
    end_stream(database)
    relay = holders()
    stream = await take(relay)
    assert await relay.news({stream.id: 0}) == StreamChanges({stream.id: 1}, {stream.id: False}, frozenset())
    await relay.write([attempt(one) for one in await read(relay, stream)], [Finish(stream.id)])
    assert state(database) == (StreamState.CLOSED, None)
    assert await relay.tasks() == Tasks(0, waiting=False, overdue=False)


async def test_a_producer_that_is_overdue_has_ended_its_stream(
    database: Database, holders: Relays, clock: Clock
) -> None:
    put(database, *messages("m1", live_until=START + 5))
    put(database, *messages("h1", key="http", live_until=START + 5, url="http://receiver.example/"))
    relay = holders()
    stream = await take(relay)
    assert not (await relay.tasks()).overdue
    clock.now = START + 5
    assert (await relay.tasks()).overdue
    await relay.tend([stream.id])
    assert (await relay.news({stream.id: 1})).ended == {stream.id: True}
    assert state(database, "http") == (StreamState.ENDED, None)
    assert await relay.tasks() == Tasks(2, waiting=False, overdue=False)


async def test_requests_of_an_ended_stream_close_it_once_the_last_was_answered(
    database: Database, holders: Relays, relays: Open
) -> None:
    put(database, *messages("h1", "h2", url="http://receiver.example/", live_until=START + 60))
    rows(database, "UPDATE outspoken_deliveries SET due_at = ? WHERE due_at IS NOT NULL", START)
    end_stream(database)
    relay, claimer = holders(), relays()
    for _ in range(2):
        await relay.tend([])
        assert state(database) == (StreamState.ENDED, None)
        (delivery,) = await claim(claimer)
        await end(claimer, delivery)
    assert (await relay.tasks()).overdue
    await relay.tend([])
    assert state(database) == (StreamState.CLOSED, None)


async def test_a_relay_that_died_took_its_sockets_with_it(database: Database, holders: Relays, clock: Clock) -> None:
    put(database, *messages("m1", "m2"), *messages("k1", key="k"))
    dead, survivor = holders(), holders()
    (s,) = await dead.take(1)
    k = await take(survivor)
    clock.now = START + 9
    await survivor.tend([k.id])
    clock.now = START + 10
    assert (await survivor.tasks()).overdue
    assert await survivor.tend([k.id]) == ReapedStreams(("s",), 2)
    assert state(database) == (StreamState.KILLED, KillReason.RELAY)
    assert rows(database, "SELECT state, holder IS NULL FROM outspoken_streams ORDER BY id") == [
        ("killed", 1),
        ("open", 0),
    ]
    assert await dead.news({s.id: 0}) == StreamChanges({}, {}, frozenset({s.id}))


async def test_a_relay_that_was_taken_for_dead_changes_nothing_any_more(
    database: Database, holders: Relays, clock: Clock
) -> None:
    put(database, *messages("m1", "m2"))
    slow, other = holders(), holders()
    stream = await take(slow)
    one, _ = await read(slow, stream)
    clock.now = START + 10
    await other.tend([])
    written = await slow.write([attempt(one)], [Finish(stream.id)])
    assert written == SettledMessages(frozenset({one.lease}), 0)
    assert state(database) == (StreamState.KILLED, KillReason.RELAY)
    assert rows(database, "SELECT count(*) FROM outspoken_attempts") == [(0,)]


async def test_whoever_says_that_it_lives_keeps_what_it_holds(
    database: Database, holders: Relays, clock: Clock
) -> None:
    put(database, *messages("m1"))
    relay, other = holders(), holders()
    stream = await take(relay)
    for _ in range(5):
        clock.now += 9
        await relay.tend([stream.id])
        await other.tend([])
    assert rows(database, "SELECT state FROM outspoken_streams") == [("open",)]


async def test_a_message_that_an_operator_cancelled_stays_cancelled(database: Database, holders: Relays) -> None:
    put(database, *messages("m1", "m2"))
    relay = holders()
    stream = await take(relay)
    one, two = await read(relay, stream)
    rows(database, "UPDATE outspoken_deliveries SET state = 'cancelled', finished_at = 1 WHERE id = 'm1'")
    assert (await relay.write([attempt(one), attempt(two)], [])).stale == {one.lease}
    assert states(database) == {"m1": "cancelled", "m2": "delivered"}


async def test_sockets_that_cannot_be_opened_open_the_breaker(database: Database, holders: Relays) -> None:
    relay = holders()
    for number in range(5):
        put(database, *messages(f"m{number}", key=f"k{number}"))
        stream = await take(relay)
        (first,) = await read(relay, stream)
        failed = attempt(first, Failure.CONNECT)
        assert await relay.may_be_called(stream.origin, stream.path)
        if number % 2:  # a failure counts whether or not there is a message to hold it against
            await relay.write([failed], [Finish(stream.id, KillReason.REFUSED)])
        else:
            failed_opening = replace(failed, delivery=replace(first, lease=replace(first.lease, seq=0)))
            await relay.write([], [Finish(stream.id, KillReason.REFUSED, failed_opening)])
    assert not await relay.may_be_called("ws://receiver.example:80", "/")
    assert await relay.may_be_called("ws://nobody.example:80", "/")


@pytest.mark.parametrize("standing", ["paused", "disabled"])
async def test_a_destination_that_is_left_alone_may_not_be_called(
    database: Database, holders: Relays, standing: str
) -> None:
    put(database, *messages("m1"))
    stand(database, standing, "ws://receiver.example:80")
    assert not await holders().may_be_called("ws://receiver.example:80", "/")
