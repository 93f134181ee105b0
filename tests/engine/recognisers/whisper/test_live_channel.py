"""When an utterance begins and ends, and what is said of it. Speech here is any frame that is not zero."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import Final, LiveEvent, LiveOptions, Partial, SpeechStarted, UtteranceEnded
from engine.recognisers.speech.cutting import FRAME_SECONDS, Piece
from engine.recognisers.whisper.live_channel import LONG_SECONDS, LONGEST, PARTIAL_SECONDS, Ear, Growing, Guess
from engine.transcript import Word

FRAME = 960
SECOND = 32000
LOUD, QUIET = b"\x01\x10", bytes(2)
OPTIONS = LiveOptions(interim=True, endpointing=0.01)


class Clock:
    """Hears a word in every second that has sound in it; those that are over are settled."""

    language = "en"

    def __init__(self, *, settles: bool = False) -> None:
        self._settles = settles

    def guess(self, growing: Growing, *, behind: bool) -> Guess | None:
        words = self._words(growing.start, growing.held(growing.start))
        return Guess(words, sum(word.end < growing.end for word in words) if self._settles else 0)

    def release(self) -> None:
        pass

    def conclude(self, piece: Piece) -> tuple[Word, ...]:
        return self._words(piece.start, piece.pcm)

    def close(self) -> None:
        pass

    def _words(self, start: float, pcm: bytes) -> tuple[Word, ...]:
        seconds = (pcm[at : at + SECOND] for at in range(0, len(pcm), SECOND))
        found = (
            Word(f"w{round(start * 10 + n * 10)}", start + n, start + n + len(part) / SECOND, 1.0)
            for n, part in enumerate(seconds)
            if any(part)
        )
        return tuple(found)


def sound(*parts: tuple[bytes, float]) -> bytes:
    return b"".join(sample * int(seconds * SECOND / 2) for sample, seconds in parts)


def listen(pcm: bytes, options: LiveOptions = OPTIONS, *, settles: bool = False) -> list[LiveEvent]:
    return list(steps(Ear(0, Clock(settles=settles), options, any), pcm))


def steps(ear: Ear, pcm: bytes) -> Iterator[LiveEvent]:
    for at in range(0, len(pcm), 3200):
        yield from ear.push(pcm[at : at + 3200], behind=False)
    yield from ear.finish()


def finals(heard: list[LiveEvent]) -> list[Final]:
    return [one for one in heard if isinstance(one, Final)]


def test_silence_says_nothing() -> None:
    assert listen(sound((QUIET, 5)), replace(OPTIONS, vad_events=True, utterance_end=1)) == []


def test_speech_is_announced_guessed_at_and_final_after_a_pause() -> None:
    heard = listen(sound((QUIET, 1), (LOUD, 1), (QUIET, 2)), replace(OPTIONS, vad_events=True))
    kinds = [type(one) for one in heard]
    assert (kinds[0], kinds[-1]) == (SpeechStarted, Final)
    assert set(kinds[1:-1]) == {Partial}
    assert finals(heard)[0].speech_final


def test_the_announcement_names_when_the_speech_began() -> None:
    started = listen(sound((QUIET, 1.2), (LOUD, 1)), replace(OPTIONS, vad_events=True))[0]
    assert isinstance(started, SpeechStarted)
    assert started.at == pytest.approx(1.2, abs=FRAME_SECONDS)


def test_speech_is_announced_only_to_those_who_ask() -> None:
    assert not any(isinstance(one, SpeechStarted) for one in listen(sound((LOUD, 1))))


def test_without_interim_there_are_only_finals() -> None:
    heard = listen(sound((LOUD, 2), (QUIET, 1), (LOUD, 2)), replace(OPTIONS, interim=False))
    assert [type(one) for one in heard] == [Final, Final]


def test_partials_keep_a_distance() -> None:
    partials = [one for one in listen(sound((LOUD, 5))) if isinstance(one, Partial)]
    ends = [one.start + one.duration for one in partials]
    assert len(ends) > 1
    assert all(later - earlier >= PARTIAL_SECONDS - 1e-6 for earlier, later in pairwise(ends))


@pytest.mark.parametrize(("asked", "pause"), [(0.01, 0.3), (0.5, 0.5), (1.2, 1.2), (60.0, 3.0)])
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


def test_settled_words_of_a_long_utterance_are_final_before_its_end() -> None:
    heard = listen(sound((LOUD, LONG_SECONDS + 3), (QUIET, 1)), settles=True)
    early, *_, last = finals(heard)
    assert early.words and not early.speech_final
    assert early.duration <= LONG_SECONDS + 0.2
    assert last.speech_final


def test_silence_that_a_settled_word_reached_into_ends_the_utterance_all_the_same() -> None:
    heard = listen(
        sound((LOUD, LONG_SECONDS - 0.5), (QUIET, 2), (LOUD, 1)), replace(OPTIONS, endpointing=0.8), settles=True
    )
    told = finals(heard)
    assert [one.speech_final for one in told] == [False, True, False]
    assert told[0].start + told[0].duration <= told[1].start
    assert told[1].start + told[1].duration <= told[2].start


def test_the_end_of_an_utterance_is_told_once_when_no_word_follows() -> None:
    heard = listen(sound((LOUD, 1), (QUIET, 4), (LOUD, 1), (QUIET, 4)), replace(OPTIONS, utterance_end=1))
    ended = [one for one in heard if isinstance(one, UtteranceEnded)]
    assert [one.last_word_end for one in ended] == [one.words[-1].end for one in finals(heard)]


def test_speech_in_time_puts_off_the_end_of_the_utterance() -> None:
    heard = listen(sound((LOUD, 1), (QUIET, 0.8), (LOUD, 1), (QUIET, 3)), replace(OPTIONS, utterance_end=1.5))
    assert [type(one) for one in heard if not isinstance(one, Partial)] == [Final, Final, UtteranceEnded]


def test_finalizing_makes_final_what_was_said_so_far() -> None:
    ear = Ear(0, Clock(), OPTIONS, any)
    list(ear.push(sound((LOUD, 0.99)), behind=False))
    (told,) = ear.finalize()
    assert isinstance(told, Final)
    assert (told.from_finalize, told.speech_final, told.duration, len(told.words)) == (True, False, 0.99, 1)


def test_finalizing_is_answered_in_silence_too() -> None:
    ear = Ear(3, Clock(), OPTIONS, any)
    list(ear.push(sound((QUIET, 0.99)), behind=False))
    assert list(ear.finalize()) == [Final(3, 0.99, 0.0, (), from_finalize=True)]


def test_speech_goes_on_after_finalizing() -> None:
    ear = Ear(0, Clock(), OPTIONS, any)
    list(ear.push(sound((LOUD, 0.99)), behind=False))
    list(ear.finalize())
    (told,) = finals(list(steps(ear, sound((LOUD, 0.99)))))
    assert (told.start, told.duration) == (0.99, 0.99)


spoken = st.lists(st.tuples(st.sampled_from([LOUD, QUIET]), st.floats(0.03, 4)), max_size=8)


@settings(max_examples=40, deadline=None)
@given(spoken, st.booleans(), st.sampled_from([None, 0.01, 0.8]))
def test_finals_never_overlap_and_nothing_comes_after_the_audio(
    parts: list[tuple[bytes, float]], settles: bool, endpointing: float | None
) -> None:
    pcm = sound(*parts)
    told = finals(listen(pcm, replace(OPTIONS, endpointing=endpointing), settles=settles))
    edges = [edge for one in told for edge in (one.start, one.start + one.duration)]
    assert all(earlier <= later + 0.002 for earlier, later in pairwise(edges))
    assert all(edge <= len(pcm) / SECOND + 0.002 for edge in edges)
