"""From voices to the speaker of each word."""

from __future__ import annotations

import numpy as np

from engine.recognisers.speakers.turns import Turn, VoiceWindow, named, turns
from engine.transcript import Word

SPAN = 2.0
"""Seconds of speech between two pauses, below: five windows, a fifth of a second of which is anybody's."""


def windows(*speech: int) -> list[VoiceWindow]:
    """So many windows in each piece of speech, half a second apart, the pieces a second."""
    found, start = [], 0.0
    for number, count in enumerate(speech):
        found += [VoiceWindow(start + 0.5 * n, start + 0.5 * n + 1.6, number) for n in range(count)]
        start = found[-1].end + 1.0
    return found


def like(*speakers: int, sure: float = 0.3) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Similarities of windows to two voices; `sure` is by how much they differ."""
    return np.array([[0.8 - sure * (one == 1), 0.8 - sure * (one == 0)] for one in speakers], np.float32)


def word(start: float, end: float) -> Word:
    return Word("so", start, end, 0.9)


def spoken(found: list[Turn]) -> list[int]:
    return [turn.speaker for turn in found]


def test_nobody_says_a_syllable_in_anothers_sentence_but_a_short_answer_between_pauses_stays() -> None:
    assert spoken(turns(windows(5), like(0, 0, 1, 0, 0))) == [0] * 5
    assert spoken(turns(windows(3, 1, 3), like(0, 0, 0, 1, 0, 0, 0))) == [0, 0, 0, 1, 0, 0, 0]
    assert spoken(turns(windows(8), like(0, 0, 0, 0, 1, 1, 1, 1))) == [0] * 4 + [1] * 4  # without a pause


def test_a_turn_reaches_to_the_next_and_not_into_the_pause() -> None:
    found = turns(windows(2, 1), like(0, 1, 1))
    assert [(turn.start, turn.end) for turn in found] == [(0.0, 1.05), (1.05, 2.1), (3.1, 4.7)]


def test_speakers_are_numbered_as_they_come_and_each_word_has_one() -> None:
    heard = [Turn(0.0, 2.0, 7, 0.9), Turn(2.0, 4.0, 3, 0.6), Turn(6.0, 8.0, 7, 0.8)]
    words = [word(0.2, 0.6), word(1.8, 2.5), word(4.2, 4.4), word(5.7, 5.9), word(8.5, 9.0)]
    told = [(one.speaker, one.speaker_confidence) for one in named(words, heard)]
    assert told == [(0, 0.9), (1, 0.6), (1, 0.6), (0, 0.8), (0, 0.8)]


def test_where_no_voice_was_heard_it_is_the_first_speaker_and_nothing_sure() -> None:
    assert turns([], np.zeros((0, 0), np.float32)) == []
    (only,) = named([word(0.0, 0.1)], [])
    assert (only.speaker, only.speaker_confidence) == (0, 0.0)


def test_confidence_falls_between_two_voices_and_far_from_all() -> None:
    (clear,) = turns(windows(1), like(0))
    (between,) = turns(windows(1), like(0, sure=0.01))
    (far,) = turns(windows(1), like(0) - np.float32(0.4))
    assert clear.confidence > 0.95
    assert 0.5 < between.confidence < 0.6
    assert far.confidence < 0.6
