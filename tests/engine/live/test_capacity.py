"""Who may begin: what can be kept in real time, and no more than that."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.events import LiveOptions
from engine.live.capacity import Admitted, Capacity, Full, Impossible, KeyLimited, Limited, Speech, speech
from engine.recognisers.whisper.passes import Costs, PassRecord
from engine.request import RawFormat
from tests.cases import cases

SPOKEN = Speech("tiny")
COSTS = Costs(final=0.1, interim=0.15)  # a quarter of a core for each session


def capacity(cores: float = 2.0, share: float = 0.5, most: int | None = None, threads: int = 1) -> Capacity:
    """By default, a whole core may be promised."""
    made = Capacity(cores, share, {"tiny": threads, "large": threads}, most)
    made.measured("tiny", COSTS)
    made.measured("large", Costs(final=1.0, interim=3.0))
    return made


@cases(
    ("admitted", "wanted", "decision"),
    [
        (0, SPOKEN, Admitted()),
        (3, SPOKEN, Admitted()),
        (4, SPOKEN, Full(0.25, 0.0)),
        (3, Speech("tiny", channels=2), Full(0.5, 0.25)),
        (2, Speech("tiny", channels=2), Admitted()),
        (3, Speech("tiny", channels=2, interim=False), Admitted()),
        (0, Speech("large"), Impossible(4.0, 1.0)),
        (0, Speech("large", interim=False), Admitted()),
        (1, Speech("large", interim=False), Full(1.0, 0.75)),
        (9, Speech("unmeasured"), Admitted()),
    ],
)
def test_a_session_may_begin_while_all_can_be_kept_in_real_time(
    admitted: int, wanted: Speech, decision: object
) -> None:
    assert capacity().decide(wanted, [SPOKEN] * admitted) == decision


def test_a_bound_holds_whatever_the_machine_could_do() -> None:
    bounded = capacity(cores=100, most=2)
    assert bounded.decide(SPOKEN, [SPOKEN]) == Admitted()
    assert bounded.decide(SPOKEN, [SPOKEN] * 2) == Limited(2)


def test_one_key_holds_no_more_than_its_share_but_for_its_first_session() -> None:
    shared = Capacity(1.0, 1.0, most=4, key_share=0.5)
    others = [Speech("other")] * 2
    assert shared.decide(SPOKEN, [SPOKEN, *others], [SPOKEN]) == Admitted()
    assert shared.decide(SPOKEN, [SPOKEN] * 2, [SPOKEN] * 2) == KeyLimited(0.5)
    assert shared.decide(SPOKEN, [SPOKEN] * 2) == Admitted(), "whoever has no key is nobody in particular"
    shared = Capacity(1.0, 1.0, key_share=0.5)
    shared.measured("tiny", COSTS)
    assert shared.decide(SPOKEN, [SPOKEN], [SPOKEN]) == Admitted()
    assert shared.decide(SPOKEN, [SPOKEN] * 2, [SPOKEN] * 2) == KeyLimited(0.5)
    assert shared.decide(Speech("tiny", channels=3), [], []) == Admitted()


def test_a_pass_that_keeps_two_cores_busy_costs_twice_as_much() -> None:
    assert [capacity(threads=threads).sessions("tiny") for threads in (1, 2)] == [4, 2]


def test_how_many_sessions_fit_is_not_known_before_the_recogniser_was_measured() -> None:
    assert capacity().sessions("unmeasured") == 0
    assert not capacity().knows("unmeasured")


def test_passes_that_take_longer_than_was_measured_leave_room_for_fewer() -> None:
    busy = capacity()
    for _ in range(200):
        busy.passed("tiny", PassRecord(final=True, audio=4.0, took=0.8, due_at=0.0))
        busy.passed("tiny", PassRecord(final=False, audio=4.0, took=0.3, due_at=0.0))
    assert busy.sessions("tiny") == 2
    busy.passed("unmeasured", PassRecord(final=False, audio=4.0, took=0.3, due_at=0.0))
    assert not busy.knows("unmeasured")


@given(st.lists(st.sampled_from([SPOKEN, Speech("tiny", 2), Speech("tiny", 1, interim=False)]), max_size=30))
def test_what_is_admitted_one_after_another_never_needs_more_than_there_is(asking: list[Speech]) -> None:
    deciding, admitted = capacity(), list[Speech]()
    for one in asking:
        if isinstance(deciding.decide(one, admitted), Admitted):
            admitted.append(one)
    assert sum(COSTS.of(one.channels, interim=one.interim) for one in admitted) <= 1.0 + 1e-9


@cases(
    ("options", "channels"),
    [
        (LiveOptions(), 1),
        (LiveOptions(raw=RawFormat("pcm_s16le", 16000, 2)), 1),
        (LiveOptions(raw=RawFormat("pcm_s16le", 16000, 2), multichannel=True), 2),
        (LiveOptions(multichannel=True), 2),
        (LiveOptions(speakers=True), 1),
    ],
)
def test_each_channel_that_is_heard_apart_counts(options: LiveOptions, channels: int) -> None:
    assert speech("tiny", options) == Speech("tiny", channels, interim=False, speakers=options.speakers)
