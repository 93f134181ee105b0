"""Who speaks in a live session, of which nobody knows what is still to come."""

from __future__ import annotations

import numpy as np

from engine.recognisers.speakers.encoder import SIZE, Embeddings, unit
from engine.recognisers.speakers.known import KnownSpeakers
from engine.recognisers.speakers.turns import VoiceWindow
from engine.recognisers.speakers.voices import HeardVoices
from engine.request import MOST_SPEAKERS
from engine.transcript import Word
from tests.engine.recognisers.speakers.making import of, said, voices

ADLER, BENNET, AUSTEN = voices(3)
NOBODY = np.zeros((0, SIZE), np.float32)


def utterance(*speech: Embeddings, telling: bool = True) -> HeardVoices:
    """Pieces of speech, a second of pause between them, with a window for each embedding."""
    windows, start = [], 0.0
    for number, embeddings in enumerate(speech):
        windows += [VoiceWindow(start + 0.4 * n, start + 0.4 * n + 1.6, number) for n in range(len(embeddings))]
        start = windows[-1].end + 1.0
    heard = np.concatenate(speech)
    return HeardVoices(windows, heard, of(heard if telling else NOBODY))


def told(known: KnownSpeakers, heard: HeardVoices | None) -> list[int | None]:
    """Who says a word at the beginning of each piece of speech, without a confidence."""
    starts = {one.speech: one.start for one in reversed(heard.windows)} if heard else {0: 0.0}
    words = known.name([Word("so", start, start + 0.3, 0.9) for _, start in sorted(starts.items())], heard)
    assert {word.speaker_confidence for word in words} == {None}
    return [word.speaker for word in words]


def test_one_voice_keeps_its_number_however_often_it_comes() -> None:
    known = KnownSpeakers()
    assert [told(known, utterance(said(ADLER, 4, seed))) for seed in range(40)] == [[0]] * 40


def test_two_who_take_turns_are_numbered_as_they_begin_within_an_utterance_too() -> None:
    known = KnownSpeakers()
    assert told(known, utterance(said(BENNET, 3, 1))) == [0]
    assert told(known, utterance(said(ADLER, 3, 2))) == [1]
    assert told(known, utterance(said(BENNET, 3, 3), said(ADLER, 3, 4), said(AUSTEN, 3, 5))) == [0, 1, 2]


def test_two_who_turn_out_to_be_one_go_on_as_the_earlier_and_its_number_is_not_given_again() -> None:
    """Somebody's voice changes on the way, and what lies between is heard last."""
    low, high = ADLER, BENNET
    between = unit(low + high)
    known = KnownSpeakers()
    assert told(known, utterance(said(low, 3, 1, 0.2))) == [0]
    assert told(known, utterance(said(high, 3, 2, 0.2))) == [1]
    for seed in range(3, 9):
        told(known, utterance(said(between, 9, seed, 0.2)))
    assert told(known, utterance(said(high, 1, 9, 0.2), said(low, 1, 10, 0.2))) == [0, 0]
    assert told(known, utterance(said(AUSTEN, 3, 11))) == [2]


def test_what_is_too_short_to_know_somebody_by_is_who_spoke_last_unless_it_is_like_another() -> None:
    known = KnownSpeakers()
    neither = unit(ADLER + BENNET)[None]
    assert told(known, utterance(neither, telling=False)) == [0]
    for voice, number in ((BENNET, 0), (ADLER, 1), (BENNET, 0)):
        assert told(known, utterance(said(voice, 3))) == [number]
        assert told(known, utterance(neither, telling=False)) == [number]
        assert told(known, None) == [number]
    assert told(known, utterance(said(ADLER, 1, 7), telling=False)) == [1]


def test_there_are_never_more_than_can_be_told_apart() -> None:
    strange = unit(np.abs(np.random.default_rng(3).standard_normal((60, SIZE))).astype(np.float32) ** 4)
    known = KnownSpeakers()
    found = [told(known, utterance(strange[n : n + 1])) for n in range(len(strange))]
    assert {one for (one,) in found} == set(range(MOST_SPEAKERS))
