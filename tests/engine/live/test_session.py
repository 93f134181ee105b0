"""What a live session does with everything that can happen to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from engine.dialects.live import (
    Answered,
    AudioChunk,
    ClientMessage,
    EndOfStream,
    EndReason,
    FinalizeRequest,
    Goodbye,
    KeepAlive,
    Message,
)
from engine.events import Broken, Final, Finished, LiveEvent
from engine.live.session import Action, Conclude, End, Flush, Note, Push, Session, SessionLimits, Tell
from engine.request import FailureCode
from tests.cases import cases

SECOND = bytes(32000)
FINISHED = Finished(1.0, 1, "")
WORDS = Final(0, 0.0, 1.0, ())
LIMITS = SessionLimits(length=100, idle=10, finishing=30, speed=2, burst=5, flaws=3, late=5, too_late=30)


def message(text: str) -> Message:
    return Message({"type": text})


@dataclass
class Plain:
    """A vendor that says what it hears in one word."""

    parted: list[EndReason] = field(default_factory=list)

    def opening(self, now: float) -> Sequence[Message]:
        return (message("opening"),)

    def understand(self, data: bytes | str, now: float) -> ClientMessage:
        if isinstance(data, bytes):
            return AudioChunk(data, (message("ack"),))
        spoken: dict[str, ClientMessage] = {
            "keep": KeepAlive(),
            "flush": FinalizeRequest(1),
            "stop": EndOfStream((message("stopping"),)),
        }
        return spoken.get(data, Answered((message("what?"),), flawed=True))

    def tell(self, event: LiveEvent, channels: int, now: float) -> Sequence[Message]:
        return (message(type(event).__name__),)

    def parting(self, ending: EndReason, detail: str, now: float) -> Sequence[Message]:
        self.parted.append(ending)
        return (message("sorry"),)

    def late(self, lag: float, channels: int, now: float) -> Sequence[Message]:
        return (message("late"),)

    def goodbye(self, ending: EndReason, detail: str) -> Goodbye:
        return Goodbye(1000, ending.value)


def session(byte_rate: float | None = 32000.0) -> Session:
    return Session(Plain(), LIMITS, 0.0, byte_rate)


def said(actions: Sequence[Action]) -> list[object]:
    """What was told, by type, and what was done besides."""
    return [
        action.message.to_caller and action.message.to_caller["type"] if isinstance(action, Tell) else action
        for action in actions
    ]


def ended(ending: EndReason) -> End:
    return End(ending, Goodbye(1000, ending.value))


def finished(live: Session, now: float = 1.0) -> End:
    """How it ends, once the recogniser has finished."""
    last = live.recognised(FINISHED, 1, now)[-1]
    assert isinstance(last, End)
    return last


def test_audio_is_pushed_and_answered_once_it_was_taken() -> None:
    live = session()
    assert said(live.begin(0.0)) == ["opening"]
    assert said(live.receive(SECOND, 0.0)) == [Push(SECOND), "ack"]
    assert live.audio_bytes == len(SECOND)


def test_what_is_heard_is_told_until_the_recogniser_has_finished() -> None:
    live = session()
    assert said(live.recognised(WORDS, 1, 0.5)) == ["Final"]
    assert said(live.receive("stop", 1.0)) == ["stopping", Conclude()]
    assert said(live.recognised(WORDS, 1, 1.0)) == ["Final"]
    assert said(live.recognised(FINISHED, 1, 1.0)) == ["Finished", ended(EndReason.DONE)]


def test_a_channel_is_made_final_on_request() -> None:
    assert said(session().receive("flush", 0.0)) == [Flush(1)]


def test_nothing_is_read_behind_the_last_word() -> None:
    live = session()
    live.receive("stop", 0.0)
    for data in (SECOND, "flush", "stop", "nonsense"):
        assert live.receive(data, 1.0) == ()


def test_a_session_without_audio_or_keep_alive_is_idle() -> None:
    live = session()
    live.receive(SECOND, 0.0)
    live.taken(1.0, 0.0)
    live.receive("keep", 5.0)
    assert live.tick(14.9) == ()
    assert said(live.tick(15.0)) == [Conclude()]
    assert finished(live) == ended(EndReason.IDLE)


def test_a_sign_of_life_keeps_a_session_before_any_audio_too() -> None:
    live = session()
    live.receive("keep", 4.0)
    live.receive("keep", 8.0)
    assert live.tick(17.9) == ()
    assert said(live.tick(18.0)) == [Conclude()]


def test_a_caller_is_not_idle_while_the_recogniser_is_behind() -> None:
    live = session()
    live.receive(SECOND, 0.0)
    assert live.tick(50.0) == ()
    live.taken(1.0, 50.0)
    assert live.tick(59.9) == ()
    assert said(live.tick(60.0)) == [Conclude()]


def test_a_session_lasts_no_longer_than_it_may_even_with_a_recogniser_that_hangs() -> None:
    live = session()
    live.receive(SECOND, 0.0)
    assert said(live.tick(100.0)) == [Conclude()]
    assert said(live.tick(130.0)) == ["sorry", ended(EndReason.FAILED)]


def test_who_ends_a_session_is_told_by_its_ending() -> None:
    for ending in (EndReason.LEFT, EndReason.CALLBACK_BEHIND, EndReason.STOPPING, EndReason.TOO_LARGE):
        live = session()
        assert said(live.end(ending, "", 1.0)) == [Conclude()]
        assert finished(live) == ended(ending)


def test_a_lost_callback_ends_it_at_once_with_nothing_more_to_do() -> None:
    live = session()
    live.receive("stop", 0.0)
    assert said(live.end(EndReason.CALLBACK_LOST, "", 1.0)) == ["sorry", ended(EndReason.CALLBACK_LOST)]
    assert live.recognised(FINISHED, 1, 1.0) == ()
    assert live.end(EndReason.CALLBACK_LOST, "", 1.0) == ()
    assert live.tick(1000.0) == ()


@cases(
    ("code", "ending"),
    [
        (FailureCode.AUDIO, EndReason.UNDECODABLE),
        (FailureCode.TOO_LARGE, EndReason.UNDECODABLE),
        (FailureCode.INTERNAL, EndReason.FAILED),
        (FailureCode.TIMEOUT, EndReason.FAILED),
    ],
)
def test_a_recogniser_that_breaks_ends_it_at_once(code: FailureCode, ending: EndReason) -> None:
    assert said(session().recognised(Broken(code, "why"), 1, 1.0)) == ["sorry", ended(ending)]


def test_nonsense_is_answered_until_there_is_too_much_of_it() -> None:
    live = session()
    assert said(live.receive("?", 0.0)) == ["what?"]
    assert said(live.receive("?", 0.0)) == ["what?"]
    assert said(live.receive("?", 0.0)) == ["what?", Conclude()]
    assert finished(live) == ended(EndReason.NONSENSE)


def test_a_caller_faster_than_speech_is_slowed_down_and_is_not_idle_meanwhile() -> None:
    live = session()
    live.receive(SECOND * 25, 0.0)
    live.taken(0.0, 0.0)
    assert live.pause(0.0) == 10.0  # 25 s came: 5 may at once, the others at twice the speed
    assert live.pause(4.0) == 6.0
    assert live.pause(10.0) == 0.0
    assert live.tick(19.9) == ()
    assert said(live.tick(20.0)) == [Conclude()]


def test_how_fast_a_container_comes_is_known_by_what_was_decoded() -> None:
    live = session(byte_rate=None)
    live.receive(b"tiny", 0.0)
    live.taken(15.0, 0.0)
    assert live.pause(0.0) == 5.0


EVENTS = st.one_of(
    st.tuples(st.just("receive"), st.sampled_from([b"", b"sound", "keep", "flush", "stop", "?"])),
    st.tuples(st.just("hear"), st.sampled_from([WORDS, FINISHED, Broken(FailureCode.AUDIO, "why")])),
    st.tuples(st.just("end"), st.sampled_from(EndReason)),
    st.tuples(st.just("tick"), st.none()),
)


@given(st.lists(st.tuples(st.floats(0, 20), EVENTS), max_size=40))
def test_whatever_happens_it_ends_once_and_is_told_to_conclude_once(
    events: list[tuple[float, tuple[str, object]]],
) -> None:
    live, now = session(), 0.0
    actions: list[Action] = []
    pushing = 0
    for wait, (what, detail) in events:
        now += wait
        match what, detail:
            case "receive", bytes() | str() as data:
                actions += live.receive(data, now)
            case "hear", heard:
                actions += live.recognised(heard, 1, now)  # type: ignore[arg-type]
            case "end", EndReason() as ending:
                actions += live.end(ending, "", now)
            case _:
                actions += live.tick(now)
        if (count := sum(isinstance(action, Push) for action in actions)) > pushing:
            pushing = count
            live.taken(0.0, now)
    for _ in range(2):  # to its last moment, and what finishing may take after it
        now += LIMITS.length
        actions += live.tick(now)
    kinds = [type(action) for action in actions]
    assert kinds.count(End) == 1
    assert kinds[-1] is End
    assert kinds.count(Conclude) <= 1
    if Conclude in kinds:
        assert not {Push, Flush} & set(kinds[kinds.index(Conclude) :])
    assert live.tick(1e9) == ()


def test_who_falls_behind_is_warned_once_and_again_only_after_he_was_in_time() -> None:
    live = session()
    assert live.lag(4.9, 1, 0.0) == ()
    assert said(live.lag(5.0, 1, 0.5)) == [Note(5.0, is_late=True), "late"]
    assert live.lag(20.0, 1, 1.0) == ()
    assert live.lag(2.5, 1, 1.5) == ()
    assert said(live.lag(2.4, 1, 2.0)) == [Note(2.4, is_late=False)]
    assert said(live.lag(6.0, 1, 2.5)) == [Note(6.0, is_late=True), "late"]


def test_who_falls_too_far_behind_is_finished_with_all_that_can_be_heard() -> None:
    live = session()
    assert said(live.lag(30.0, 1, 1.0)) == [Conclude()]
    assert live.lag(31.0, 1, 1.5) == ()
    assert live.receive(SECOND, 1.5) == ()
    assert finished(live) == ended(EndReason.TOO_LATE)
