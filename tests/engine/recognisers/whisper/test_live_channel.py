"""When an utterance begins and ends, which passes it wants, and what is said of it.

Speech here is any frame that is not zero, and a word is said in every second of it that is not only a hum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.events import Final, LiveEvent, LiveOptions, Partial, SpeechStarted, UtteranceEnded
from engine.recognisers.speech.detection import FRAME_SAMPLES, FRAME_SECONDS
from engine.recognisers.whisper.live_channel import LONG_SECONDS, LONGEST, LiveChannel
from engine.recognisers.whisper.passes import Hypothesis, Pass, PassRecord
from engine.transcript import Word
from tests.cases import cases

SECOND = 32000
STEP = 3200
LOUD, HUM, QUIET = b"\x01\x10", b"\x02\x02", bytes(2)
OPTIONS = LiveOptions(interim=True, endpointing=0.01)


def is_speech(pcm: bytes) -> list[bool]:
    size = 2 * FRAME_SAMPLES
    return [any(pcm[at : at + size]) for at in range(0, len(pcm), size)]


@dataclass
class Listener:
    """A channel and who makes its passes: at once, or only at the end; with words that settle, or never the same; or
    none, while it is deaf."""

    channel: LiveChannel
    settles: bool = False
    in_time: bool = True
    took: float = 0.0
    deaf: bool = False

    def __post_init__(self) -> None:
        self.records: list[PassRecord] = []
        self._now = 0.0
        self._passes = count()

    def push(self, pcm: bytes) -> Iterator[LiveEvent]:
        for at in range(0, len(pcm), STEP):
            self._now += 0.1
            yield from self.channel.push(pcm[at : at + STEP], self._now, self._now)
            if self.in_time:
                yield from self.make_passes()

    def finalize(self) -> Iterator[LiveEvent]:
        yield from self.channel.finalize(self._now)
        if self.in_time:
            yield from self.make_passes()

    def finish(self) -> Iterator[LiveEvent]:
        yield from self.channel.finish()
        yield from self.make_passes()

    def make_passes(self) -> Iterator[LiveEvent]:
        while self.channel.wants():
            wanted = self.channel.begin()
            record, told = self.channel.complete(wanted, self._hypothesis(wanted), self.took, self._now)
            self.records.append(record)
            yield from told

    def _hypothesis(self, wanted: Pass) -> Hypothesis:
        number = next(self._passes)
        mark = "" if self.settles or wanted.final else f"/{number}"
        seconds = (wanted.pcm[at : at + SECOND] for at in range(0, len(wanted.pcm), SECOND))
        found = (
            Word(
                f"w{round(wanted.start * 10 + n * 10)}{mark}",
                wanted.start + n,
                wanted.start + n + len(part) / SECOND,
                1,
            )
            for n, part in enumerate(seconds)
            if LOUD in part and not self.deaf
        )
        return Hypothesis(tuple(found), "en")


def listener(options: LiveOptions = OPTIONS, **behaviour: bool | float) -> Listener:
    return Listener(LiveChannel(0, options, is_speech), **behaviour)  # type: ignore[arg-type]


def sound(*parts: tuple[bytes, float]) -> bytes:
    return b"".join(sample * int(seconds * SECOND / 2) for sample, seconds in parts)


def listen(pcm: bytes, options: LiveOptions = OPTIONS, **behaviour: bool | float) -> list[LiveEvent]:
    one = listener(options, **behaviour)
    return [*one.push(pcm), *one.finish()]


def listen_and_finalize(
    parts: list[tuple[bytes, float]], finalized: set[int], options: LiveOptions, **behaviour: bool | float
) -> list[LiveEvent]:
    """The caller wants a final result after some of the parts."""
    one = listener(options, **behaviour)
    told: list[LiveEvent] = []
    for number, part in enumerate(parts):
        told += one.push(sound(part))
        told += one.finalize() if number in finalized else ()
    return [*told, *one.finish()]


def finals(told: list[LiveEvent]) -> list[Final]:
    return [one for one in told if isinstance(one, Final)]


def test_silence_says_nothing() -> None:
    assert listen(sound((QUIET, 5)), replace(OPTIONS, vad_events=True, utterance_end=1)) == []


def test_speech_is_announced_guessed_at_and_final_after_a_pause() -> None:
    told = listen(sound((QUIET, 1), (LOUD, 1), (QUIET, 2)), replace(OPTIONS, vad_events=True))
    kinds = [type(one) for one in told]
    assert (kinds[0], kinds[-1]) == (SpeechStarted, Final)
    assert set(kinds[1:-1]) == {Partial}
    assert finals(told)[0].speech_final


def test_the_announcement_names_when_the_speech_began() -> None:
    started = listen(sound((QUIET, 1.2), (LOUD, 1)), replace(OPTIONS, vad_events=True))[0]
    assert isinstance(started, SpeechStarted)
    assert started.at == pytest.approx(1.2, abs=FRAME_SECONDS)


def test_speech_is_announced_only_to_those_who_ask() -> None:
    assert not any(isinstance(one, SpeechStarted) for one in listen(sound((LOUD, 1))))


def test_where_it_is_told_who_speaks_interim_results_tell_nothing_of_it_and_final_ones_wait_for_the_end() -> None:
    told = listen(sound((LOUD, 11), (QUIET, 1)), replace(OPTIONS, speakers=True), settles=True)
    speakers = {type(one): {word.speaker for word in one.words} for one in told if isinstance(one, (Partial, Final))}
    assert speakers == {Partial: {None}, Final: {0}}
    assert [final.speech_final for final in finals(told)] == [True]


def test_without_interim_there_are_only_finals() -> None:
    told = listen(sound((LOUD, 2), (QUIET, 1), (LOUD, 2)), replace(OPTIONS, interim=False))
    assert [type(one) for one in told] == [Final, Final]


def test_interim_passes_keep_a_distance() -> None:
    one = listener()
    ends = [told.start + told.duration for told in one.push(sound((LOUD, 5))) if isinstance(told, Partial)]
    assert len(ends) >= 5
    assert all(later - earlier >= 0.5 - 1e-6 for earlier, later in pairwise(ends))


def test_a_slow_model_is_asked_for_interim_results_half_of_the_time_at_most() -> None:
    one = listener(took=1.0)
    ends = [told.start + told.duration for told in one.push(sound((LOUD, 10))) if isinstance(told, Partial)]
    assert len(ends) >= 3
    assert all(later - earlier >= 2.0 - 1e-6 for earlier, later in pairwise(ends))


def test_silence_after_speech_is_not_heard_again_and_again() -> None:
    one = listener(replace(OPTIONS, endpointing=3.0))
    told = list(one.push(sound((LOUD, 1.2), (QUIET, 2.5))))
    assert 2 <= sum(isinstance(event, Partial) for event in told) <= 3


@cases(("took", "wants"), [(0.01, True), (0.25, False)])
def test_no_interim_pass_begins_that_would_end_after_the_stretch(took: float, wants: bool) -> None:
    one = listener(took=took)
    list(one.push(sound((LOUD, 1.2))))
    one.in_time = False
    list(one.push(sound((LOUD, 0.6), (QUIET, 0.2))))
    assert (one.channel.wants() is not None) is wants


def test_interim_results_that_were_promised_and_not_made_are_counted_and_pauses_are_not() -> None:
    late, prompt = listener(in_time=False), listener()
    for one in (late, prompt):
        list(one.push(sound((LOUD, 5), (QUIET, 5))))
        list(one.finish())
    assert sum(record.missed for record in late.records) == 4
    assert sum(record.missed for record in prompt.records) == 0


@cases(("asked", "pause"), [(0.01, 0.3), (0.5, 0.5), (1.2, 1.2), (60.0, 3.0)])
def test_an_utterance_ends_after_the_silence_that_was_asked_for(asked: float, pause: float) -> None:
    options = replace(OPTIONS, endpointing=asked)
    shorter = sound((LOUD, 1), (QUIET, pause - 0.1), (LOUD, 1))
    longer = sound((LOUD, 1), (QUIET, pause + 0.1), (LOUD, 1))
    assert [len(finals(listen(pcm, options))) for pcm in (shorter, longer)] == [1, 2]


def test_without_endpointing_a_long_pause_makes_final_but_never_speech_final() -> None:
    told = finals(listen(sound((LOUD, 1), (QUIET, 1), (LOUD, 1), (QUIET, 1)), replace(OPTIONS, endpointing=None)))
    assert [one.speech_final for one in told] == [False, False]


def test_an_utterance_without_end_is_told_in_parts_and_its_last_part_ends_it() -> None:
    told = finals(listen(sound((LOUD, LONGEST * FRAME_SECONDS + 2), (QUIET, 1))))
    assert [one.speech_final for one in told] == [False, True]


def test_a_part_that_was_the_last_one_is_ended_by_the_silence_after_it() -> None:
    told = finals(listen(sound((LOUD, LONGEST * FRAME_SECONDS), (QUIET, 1))))
    assert [one.speech_final for one in told][-1:] == [True]
    assert sum(one.speech_final for one in told) == 1


def test_a_long_utterance_that_hums_on_where_it_is_cut_is_not_over() -> None:
    softest = (b"\x01\x01", FRAME_SECONDS)  # the last frame that fits
    parts = (LOUD, 10), (HUM, (LONGEST - 1) * FRAME_SECONDS - 10), softest, (HUM, 2), (LOUD, 1), (QUIET, 1)
    told = listen(sound(*parts), replace(OPTIONS, vad_events=True))
    assert sum(isinstance(one, SpeechStarted) for one in told) == 1
    assert [one.speech_final for one in finals(told)] == [False, True]


def test_speech_after_a_pause_that_a_long_utterance_was_cut_in_is_announced() -> None:
    told = listen(sound((LOUD, 11.5), (QUIET, 1), (LOUD, 1)), replace(OPTIONS, endpointing=0.6, vad_events=True))
    assert [type(one) for one in told if isinstance(one, (SpeechStarted, Final))] == [
        *(SpeechStarted, Final, Final),
        *(SpeechStarted, Final),
    ]
    assert [one.speech_final for one in finals(told)] == [False, True, False]


def test_a_pause_longer_than_what_ends_the_utterance_is_told_all_the_same() -> None:
    options = replace(OPTIONS, endpointing=2.0, utterance_end=1.0)
    told = listen(sound((LOUD, 11.5), (QUIET, 5)), options)
    assert [type(one) for one in told if not isinstance(one, Partial)] == [Final, Final, UtteranceEnded]
    assert [one.speech_final for one in finals(told)] == [False, True]


def test_settled_words_of_a_long_utterance_are_final_before_its_end() -> None:
    told = listen(sound((LOUD, LONG_SECONDS + 3), (QUIET, 1)), settles=True)
    early, *_, last = finals(told)
    assert early.words and not early.speech_final
    assert early.duration <= LONG_SECONDS + 0.2
    assert last.speech_final


def test_silence_that_a_settled_word_reached_into_ends_the_utterance_all_the_same() -> None:
    pcm = sound((LOUD, LONG_SECONDS - 0.5), (QUIET, 2), (LOUD, 1))
    told = finals(listen(pcm, replace(OPTIONS, endpointing=1.2), settles=True))
    assert any(one.speech_final for one in told)
    for earlier, later in pairwise(told):
        assert earlier.start + earlier.duration <= later.start


def test_the_end_of_an_utterance_is_told_once_when_no_word_follows() -> None:
    told = listen(sound((LOUD, 1), (QUIET, 4), (LOUD, 1), (QUIET, 4)), replace(OPTIONS, utterance_end=1))
    ended = [one for one in told if isinstance(one, UtteranceEnded)]
    assert [one.last_word_end for one in ended] == [one.words[-1].end for one in finals(told)]


def test_speech_in_time_puts_off_the_end_of_the_utterance() -> None:
    told = listen(sound((LOUD, 1), (QUIET, 0.8), (LOUD, 1), (QUIET, 3)), replace(OPTIONS, utterance_end=1.5))
    assert [type(one) for one in told if not isinstance(one, Partial)] == [Final, Final, UtteranceEnded]


def test_finalizing_makes_final_what_was_said_so_far() -> None:
    one = listener()
    list(one.push(sound((LOUD, 0.96))))
    (told,) = one.finalize()
    assert isinstance(told, Final)
    assert (told.from_finalize, told.speech_final, told.duration, len(told.words)) == (True, False, 0.96, 1)


def test_finalizing_is_answered_in_silence_too() -> None:
    one = listener()
    list(one.push(sound((QUIET, 0.96))))
    assert list(one.finalize()) == [Final(0, 0.96, 0.0, (), from_finalize=True)]


def test_speech_goes_on_after_finalizing() -> None:
    one = listener()
    list(one.push(sound((LOUD, 0.96))))
    list(one.finalize())
    (told,) = finals([*one.push(sound((LOUD, 0.96))), *one.finish()])
    assert (told.start, told.duration) == (0.96, 0.96)


def test_speech_that_begins_after_finalizing_and_a_pause_is_announced_and_missed_nothing_meanwhile() -> None:
    one = listener(replace(OPTIONS, vad_events=True))
    list(one.push(sound((LOUD, 0.96))))
    list(one.finalize())
    told = list(one.push(sound((QUIET, 10), (LOUD, 1))))
    assert [type(event) for event in told if not isinstance(event, Partial)] == [SpeechStarted]
    assert sum(record.missed for record in one.records) == 0


def test_what_is_over_waits_since_its_audio_was_complete_and_is_told_in_order() -> None:
    options = replace(OPTIONS, vad_events=True, utterance_end=1.0)
    one = listener(options, in_time=False)
    assert [type(event) for event in one.push(sound((LOUD, 1), (QUIET, 2), (LOUD, 1), (QUIET, 2)))] == [SpeechStarted]
    assert one.channel.waiting_since == pytest.approx(1.3, abs=0.11)
    assert one.channel.waiting_seconds == pytest.approx(2.5, abs=0.5)
    told = [type(event) for event in one.make_passes()]
    assert told == [Final, UtteranceEnded, SpeechStarted, Final, UtteranceEnded]
    assert (one.channel.waiting_since, one.channel.is_idle) == (None, True)


def test_a_stretch_that_is_over_before_its_interim_pass_is_told_once_as_final() -> None:
    one = listener(in_time=False)
    list(one.push(sound((LOUD, 0.7))))
    early = one.channel.begin()
    list(one.push(sound((QUIET, 0.5))))
    late = one.channel.begin()  # without waiting for the other
    assert (early.final, late.final) == (False, True)
    assert one.channel.wants() is None
    assert one.channel.complete(early, Hypothesis((Word("early", 0.0, 0.6, 1.0),), "en"), 0.1, 1.2)[1] == []
    ((told),) = one.channel.complete(late, Hypothesis((Word("late", 0.0, 0.6, 1.0),), "en"), 0.1, 1.3)[1]
    assert isinstance(told, Final)
    assert [word.text for word in told.words] == ["late"]
    assert one.channel.is_idle


@cases("interim, told", [(True, [Partial, Final]), (False, [])])
def test_words_that_were_guessed_and_not_found_in_the_end_are_taken_back(
    interim: bool, told: list[type[LiveEvent]]
) -> None:
    one = listener(replace(OPTIONS, interim=interim))
    events = [*one.push(sound((LOUD, 0.9)))]
    one.deaf = True
    events += [*one.push(sound((QUIET, 1))), *one.finish()]
    assert [type(event) for event in events] == told
    assert [(final.words, final.speech_final) for final in finals(events)] == [((), False)] * interim


spoken = st.lists(st.tuples(st.sampled_from([LOUD, QUIET]), st.floats(0.03, 4)), max_size=8)


@given(spoken, st.booleans(), st.booleans(), st.sampled_from([None, 0.01, 0.8]))
def test_finals_never_overlap_and_nothing_comes_after_the_audio(
    parts: list[tuple[bytes, float]], settles: bool, in_time: bool, endpointing: float | None
) -> None:
    pcm = sound(*parts)
    told = finals(listen(pcm, replace(OPTIONS, endpointing=endpointing), settles=settles, in_time=in_time))
    edges = [edge for one in told for edge in (one.start, one.start + one.duration)]
    assert all(earlier <= later + 0.002 for earlier, later in pairwise(edges))
    assert all(edge <= len(pcm) / SECOND + 0.002 for edge in edges)


heard = st.lists(st.tuples(st.sampled_from([LOUD, HUM, QUIET]), st.floats(0.03, 4) | st.floats(10, 12)), max_size=8)


def beside_guesses(told: list[LiveEvent]) -> list[LiveEvent]:
    """What is told besides interim results, and besides what takes these back and moves where the last final ended."""
    kept: list[LiveEvent] = []
    for one in told:
        if isinstance(one, Final) and not (one.words or one.from_finalize):
            kept += [replace(one, start=0.0)] if one.speech_final else []
        elif not isinstance(one, Partial):
            kept.append(one)
    return kept


@example([(LOUD, 1.0), (LOUD, 3.0), (HUM, 12.0), (LOUD, 10.0)], set(), None)
@example([(LOUD, 11.5), (QUIET, 1.0), (LOUD, 1.0)], set(), None)
@example([(LOUD, 0.96), (QUIET, 1.5), (LOUD, 1.0)], {0}, 2.0)
@given(heard, st.sets(st.integers(0, 7), max_size=2), st.sampled_from([None, 0.01, 0.8, 2.0]))
def test_who_is_late_is_told_the_same_as_who_is_in_time(
    parts: list[tuple[bytes, float]], finalized: set[int], endpointing: float | None
) -> None:
    options = replace(OPTIONS, endpointing=endpointing, utterance_end=1.0, vad_events=True)
    in_time, late = (listen_and_finalize(parts, finalized, options, in_time=prompt) for prompt in (True, False))
    assert beside_guesses(late) == beside_guesses(in_time)
