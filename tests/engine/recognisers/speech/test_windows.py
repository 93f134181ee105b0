"""Long audio in pieces: nothing lost, cut where it is quiet, and no piece too long."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.recognisers.speech.windows import Samples, Stretches, everything, quiet_moment, samples, windows

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


@pytest.mark.parametrize("block", [64, 999, 5000, 100_000])
def test_pieces_in_a_row_are_the_whole_whatever_the_size_of_the_blocks(block: int) -> None:
    data = pcm(noise(30, (7.2, 7.9), (15.5, 16)))
    cutter = Stretches(8, RATE)
    pieces = [piece for start in range(0, len(data), block) for piece in cutter.push(data[start : start + block])]
    pieces += cutter.flush()
    assert np.array_equal(np.concatenate([piece.samples for piece in pieces]), samples(data))
    assert all(len(piece.samples) <= 8 * RATE for piece in pieces)
    ends = np.cumsum([len(piece.samples) for piece in pieces]) / RATE
    assert [piece.start for piece in pieces] == [0, *ends[:-1].tolist()]
    assert 7.2 <= ends[0] <= 7.9


def test_nothing_makes_no_piece() -> None:
    assert list(Stretches(8, RATE).flush()) == []


def test_the_cut_is_in_the_softest_moment_of_the_last_quarter() -> None:
    assert 8000 <= quiet_moment(noise(10, (2, 3), (8, 8.6)), RATE) <= 8600


def test_neighbours_share_a_window_while_it_is_not_too_long() -> None:
    assert windows([(0, 10), (12, 20), (25, 31), (40, 45)], 30) == [(0, 20), (25, 45)]
    assert windows([], 30) == []


@given(st.floats(0.1, 100), st.integers(2, 30))
def test_without_a_judge_of_speech_everything_is_heard(seconds: float, longest: int) -> None:
    sound = noise(seconds)
    found = everything(sound, longest * RATE, RATE)
    assert found[0][0] == 0
    assert found[-1][1] == len(sound)
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert all(0 < end - start <= longest * RATE for start, end in found)
