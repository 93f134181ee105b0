"""The state of a stream under way, without a socket: what is read next, what is confirmed, and every way to end."""

from __future__ import annotations

from msgspec.structs import replace

from relay.delivery.stream_state import DONE, GOING_AWAY, NOWHERE, WINDOW, CarriedStream
from relay.outbox.model import KillReason
from relay.policy.attempt import Answer, Dead, Delivered, Failure, HeldStream, Message, Outcome, Reason, Timing
from tests.cases import cases
from tests.relay.deliveries import claimed

STREAM = HeldStream(7, "s", "ws://receiver.example:80", "ws://receiver.example/live", {})
UPGRADED = Answer(Timing(0.1), 101)
HEADERS = (("Authorization", "Basic c2VjcmV0"),)
NOW = 1000.0


def messages(*positions: int) -> list[Message]:
    return [(replace(claimed(), id=f"s-{n}", position=n, due_at=NOW - 5), b"%d" % n) for n in positions]


def carried(*positions: int) -> CarriedStream:
    """One whose socket stands and that has these messages."""
    state = CarriedStream(STREAM)
    state.opened(NOW)
    state.take(messages(*positions), WINDOW, positions[-1] if positions else 0)
    return state


def lost(failure: Failure) -> Answer:
    return Answer(Timing(0.0), failure=failure, detail="It broke.")


def write_all(state: CarriedStream) -> list[bytes]:
    return list(iter(lambda: state.next_body(NOW + 1), None))


@cases(
    ("positions", "room", "grown_to", "read_up_to"),
    [
        ((1, 2, 3), 128, 3, 3),
        ((1, 3), 128, 5, 5),  # 2, 4 and 5 were cancelled, or never added
        ((), 128, 4, 4),
        ((1, 2), 2, 9, 2),  # there may be more behind them
    ],
)
def test_what_was_read_is_not_read_again(positions: tuple[int, ...], room: int, grown_to: int, read_up_to: int) -> None:
    state = CarriedStream(STREAM)
    state.take(messages(*positions), room, grown_to)
    assert state.read_up_to == state.reads_from == read_up_to


def test_what_is_not_confirmed_takes_up_room_until_nothing_more_is_read() -> None:
    state = carried(*range(1, WINDOW + 1))
    assert (state.room, state.reads_from) == (0, NOWHERE)
    write_all(state)
    assert state.room == 0
    state.confirm(3, UPGRADED, (), NOW + 2)
    assert (state.room, state.reads_from) == (3, WINDOW)


def test_a_message_is_delivered_once_it_is_confirmed() -> None:
    state = carried(1, 2, 3)
    assert write_all(state) == [b"1", b"2", b"3"]
    first, second = state.confirm(2, UPGRADED, HEADERS, NOW + 3)
    assert [type(one.verdict) for one in (first, second)] == [Delivered, Delivered]
    assert [one.delivery.id for one in (first, second)] == ["s-1", "s-2"]
    assert first.delivery.due_at == NOW  # it was not due before the socket stood
    assert (first.started_at, first.answer.timing.total) == (NOW + 1, 2.0)
    assert (first.answer.reused, second.answer.reused) == (False, True)
    assert first.request_headers
    assert second.request_headers == ()
    assert state.confirm(2, UPGRADED, HEADERS, NOW + 4) == []


@cases(("abandoned", "code"), [(False, DONE), (True, GOING_AWAY)])
def test_a_stream_is_closed_once_it_has_ended_and_everything_is_confirmed(abandoned: bool, code: int) -> None:
    state = carried(1)
    state.end(abandoned=abandoned)
    assert state.ending(None, (), NOW) is None
    write_all(state)
    assert state.ending(None, (), NOW) is None
    state.confirm(1, UPGRADED, (), NOW)
    ending = state.ending(None, (), NOW)
    assert ending is not None
    assert (ending.finish.reason, ending.attempts, state.close_code) == (None, (), code)


@cases(
    ("failure", "reason"),
    [
        (Failure.RESET, KillReason.DROPPED),
        (Failure.READ_TIMEOUT, KillReason.SILENT),
        (Failure.PROTOCOL, KillReason.MISBEHAVED),
    ],
)
def test_what_was_written_and_not_confirmed_dies_with_its_socket(failure: Failure, reason: KillReason) -> None:
    state = carried(1, 2, 3)
    write_all(state)
    state.confirm(1, UPGRADED, (), NOW + 2)
    ending = state.ending(lost(failure), (), NOW + 3)
    assert ending is not None
    assert (ending.finish.reason, ending.diagnosis) == (reason, "It broke.")
    assert [(one.delivery.id, one.verdict) for one in ending.attempts] == [
        ("s-2", Dead(Reason.STREAM_KILLED)),
        ("s-3", Dead(Reason.STREAM_KILLED)),
    ]


def test_everything_confirmed_is_a_good_end_although_the_socket_is_lost() -> None:
    state = carried(1)
    write_all(state)
    state.confirm(1, UPGRADED, (), NOW)
    state.end(abandoned=False)
    ending = state.ending(lost(Failure.RESET), (), NOW)
    assert ending is not None
    assert ending.finish.reason is None


def test_a_relay_that_stops_kills_what_has_not_ended() -> None:
    state = carried(1)
    assert state.ending(None, (), NOW) is None
    state.leave()
    ending = state.ending(None, (), NOW)
    assert ending is not None
    assert ending.finish.reason is KillReason.RELAY


@cases(
    ("failure", "reason", "verdict"),
    [
        (Failure.CONNECT, KillReason.REFUSED, Dead(Reason.STREAM_KILLED)),
        (Failure.UNSENDABLE, KillReason.INTERNAL, Dead(Reason.STREAM_KILLED)),
        (Failure.INTERNAL, KillReason.INTERNAL, Dead(Reason.STREAM_KILLED)),
        (Failure.BLOCKED, KillReason.FORBIDDEN, Dead(Reason.FORBIDDEN)),
    ],
)
def test_the_first_message_bears_why_a_socket_was_not_opened(
    failure: Failure, reason: KillReason, verdict: Dead
) -> None:
    state = CarriedStream(STREAM)
    state.take(messages(1, 2), WINDOW, 2)
    ending = state.not_opened(state.first(), lost(failure), (), NOW, NOW + 1)
    assert [(one.delivery.id, one.verdict) for one in ending.attempts] == [("s-1", verdict)]
    assert (ending.finish.reason, ending.finish.failed_opening) == (reason, None)


def test_without_a_message_the_failed_opening_itself_counts_for_the_breaker() -> None:
    ending = CarriedStream(STREAM).not_opened(None, lost(Failure.CONNECT), (), NOW, NOW + 1)
    assert ending.attempts == ()
    assert ending.finish.failed_opening is not None
    assert ending.finish.failed_opening.outcome is Outcome.CONNECT
    assert ending.finish.failed_opening.delivery.destination == STREAM.origin
