"""Long audio in pieces: nothing lost, cut where it is quiet, and no piece too long."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.recognisers.speech.windows import (
    PADDING,
    Samples,
    Span,
    Stretches,
    pieces,
    quiet_moment,
    samples,
    spoken,
    windows,
)
from tests.cases import cases

RATE = 1000


def noise(seconds: float, *quiet: tuple[float, float]) -> Samples:
    """Loud noise, silent between the given seconds."""
    sound = np.random.default_rng(1).uniform(-0.9, 0.9, int(seconds * RATE)).astype(np.float32)
    for start, end in quiet:
        sound[int(start * RATE) : int(end * RATE)] = 0
    return sound


def pcm(sound: Samples) -> bytes:
    return (sound * 32768).astype("<i2").tobytes()


def test_numbers_are_the_samples_between_one_and_minus_one() -> None:
    assert samples(b"\x00\x80\x00\x00\xff\x7f").tolist() == [-1.0, 0.0, 32767 / 32768]


@cases("block", [64, 999, 5000, 100_000])
def test_pieces_in_a_row_are_the_whole_whatever_the_size_of_the_blocks(block: int) -> None:
    data = pcm(noise(30, (7.2, 7.9), (15.5, 16)))
    cutter = Stretches(8, RATE)
    cut = [piece for start in range(0, len(data), block) for piece in cutter.push(data[start : start + block])]
    cut += cutter.flush()
    assert np.array_equal(np.concatenate([piece.samples for piece in cut]), samples(data))
    assert all(len(piece.samples) <= 8 * RATE for piece in cut)
    ends = np.cumsum([len(piece.samples) for piece in cut]) / RATE
    assert [piece.start for piece in cut] == [0, *ends[:-1].tolist()]
    assert 7.2 <= ends[0] <= 7.9


def test_nothing_makes_no_piece() -> None:
    assert list(Stretches(8, RATE).flush()) == []


def test_the_cut_is_in_the_softest_moment_of_the_last_quarter() -> None:
    assert 8000 <= quiet_moment(noise(10, (2, 3), (8, 8.6)), RATE) <= 8600


def test_speech_is_where_frames_have_it_without_breaths_and_clicks() -> None:
    frames = [False] * 4 + [True] * 6 + [False] * 5 + [True] * 2 + [False] * 6 + [True] * 2 + [False] * 6 + [True] * 3
    assert spoken(frames, 0.5) == [Span(2.0, 8.5), Span(15.5, 17.0)]
    assert spoken([], 0.5) == []


def test_neighbours_share_a_window_while_it_is_not_too_long() -> None:
    speech = [Span(1, 3), Span(3.5, 5), Span(5.5, 8), Span(9, 14)]
    assert windows(speech, 20, 15) == [Span(1 - PADDING, 14 + PADDING)]
    assert windows([], 20, 15) == []


@cases(
    ("speech", "ends"),
    [
        ([(0, 4), (4.2, 6), (6.8, 9), (9.2, 12)], [1, 3]),  # at the widest pause
        ([(0, 1), (2, 6), (6.2, 9), (9.3, 12)], [2, 3]),  # which in the first half would make a short one
        ([(0, 1), (3, 6), (6.2, 9), (9.3, 12)], [0, 3]),  # unless it is very wide
        ([(0, 9), (9.5, 18)], [0, 1]),
    ],
)
def test_a_window_ends_at_the_widest_pause(speech: list[tuple[float, float]], ends: list[int]) -> None:
    found = windows([Span(*one) for one in speech], 10.8, 100)
    assert len(found) == len(ends)
    for window, last in zip(found, ends, strict=True):
        assert speech[last][1] < window.end <= speech[last][1] + PADDING


def test_a_pause_that_may_part_languages_ends_a_window() -> None:
    speech = [Span(0, 2), Span(2.4, 4), Span(5, 7)]
    assert windows(speech, 20, 7, apart=0.5) == [Span(0, 4 + PADDING), Span(5 - PADDING, 7)]


spans = st.lists(st.tuples(st.floats(0.17, 4), st.floats(0.1, 19.2)), max_size=30)


@given(spans)
def test_every_word_that_may_be_said_is_in_one_window(lengths: list[tuple[float, float]]) -> None:
    speech, at = [], 0.0
    for pause, length in lengths:
        speech.append(Span(at + pause, at + pause + length))
        at = speech[-1].end
    found = windows(speech, 20, at)
    assert all(0 < one.seconds <= 20 + 1e-6 for one in found)
    assert all(before.end <= after.start + 1e-9 for before, after in pairwise(found))
    assert all(sum(one.start <= piece.start and piece.end <= one.end for one in found) == 1 for piece in speech)


@given(st.floats(0.1, 100), st.integers(2, 30))
def test_speech_without_a_pause_is_cut_and_nothing_of_it_lost(seconds: float, longest: int) -> None:
    found = list(pieces(Span(0.0, seconds), noise(seconds), RATE, longest))
    assert (found[0].start, found[-1].end) == (0.0, seconds)
    assert all(before.end == after.start for before, after in pairwise(found))
    assert all(0 < one.seconds <= longest for one in found)
