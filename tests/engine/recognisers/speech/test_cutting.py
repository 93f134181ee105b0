"""How a channel is cut into pieces. Speech here is any frame that is not zero."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.recognisers.speech.cutting import LONGEST, PAUSE, Cutter, SpeechPiece
from engine.recognisers.speech.detection import FRAME_SAMPLES, FRAME_SECONDS

FRAME = 2 * FRAME_SAMPLES
LOUD, SOFT, QUIET = b"\x01\x10" * FRAME_SAMPLES, b"\x01\x00" * FRAME_SAMPLES, bytes(FRAME)


def is_speech(pcm: bytes) -> list[bool]:
    return [any(pcm[start : start + FRAME]) for start in range(0, len(pcm), FRAME)]


def cut(pcm: bytes, block: int = 8000) -> list[SpeechPiece]:
    cutter = Cutter(is_speech)
    pieces = [piece for start in range(0, len(pcm), block) for piece in cutter.push(pcm[start : start + block])]
    return pieces + list(cutter.flush())


def frames(piece: SpeechPiece) -> int:
    return len(piece.pcm) // FRAME


def test_silence_gives_no_piece() -> None:
    assert cut(QUIET * 5000) == []


def test_nothing_gives_no_piece() -> None:
    assert cut(b"") == []


def test_a_click_gives_no_piece() -> None:
    assert cut(QUIET * 50 + LOUD * 2 + QUIET * 50) == []


def test_a_pause_parts_two_pieces_and_each_keeps_some_silence() -> None:
    first, second = cut(QUIET * 100 + LOUD * 40 + QUIET * 100 + LOUD * 30)
    assert first.start == pytest.approx(90 * FRAME_SECONDS, abs=PAUSE / 2 * FRAME_SECONDS)
    assert first.pcm.count(LOUD) == 40
    assert frames(first) <= 40 + 1.5 * PAUSE
    assert second.pcm.endswith(LOUD * 30)
    assert second.pcm.startswith(QUIET * (PAUSE // 2))


def test_a_short_pause_parts_nothing() -> None:
    assert len(cut(LOUD * 40 + QUIET * (PAUSE - 1) + LOUD * 40)) == 1


def test_a_pause_that_a_piece_was_cut_in_is_known_after_as_many_frames_and_a_click_does_not_undo_it() -> None:
    cutter = Cutter(is_speech)
    list(cutter.push(LOUD * 40 + QUIET * 10))
    assert len(list(cutter.cut())) == 1
    known = []
    for frame in [QUIET] * (PAUSE - 10) + [LOUD] * 2 + [QUIET] * 3:
        list(cutter.push(frame))
        known.append(cutter.is_paused)
    assert known == [False] * (PAUSE - 11) + [True] * 6
    assert list(cutter.cut()) == []
    assert cutter.is_paused


def test_speech_without_end_is_cut_where_it_is_softest() -> None:
    first, second = cut(LOUD * 600 + SOFT + LOUD * 400)
    assert frames(first) == 600
    assert second.pcm.startswith(SOFT)
    assert first.pcm + second.pcm == LOUD * 600 + SOFT + LOUD * 400


def test_the_last_incomplete_frame_is_kept() -> None:
    (piece,) = cut(LOUD * 10 + b"\x05\x05")
    assert piece.pcm == LOUD * 10 + b"\x05\x05"


runs = st.lists(st.tuples(st.sampled_from([LOUD, SOFT, QUIET]), st.integers(1, 120)), max_size=12)


@given(runs, st.sampled_from([2, 640, 960, 5000, 16000]))
def test_pieces_lie_in_order_where_they_were_whatever_the_blocks(parts: list[tuple[bytes, int]], block: int) -> None:
    pcm = b"".join(frame * count for frame, count in parts)
    pieces = cut(pcm, block if block > 2 or len(pcm) < 40 * FRAME else FRAME)
    end = 0
    for piece in pieces:
        offset = round(piece.start / FRAME_SECONDS) * FRAME
        assert offset >= end
        assert pcm[offset : offset + len(piece.pcm)] == piece.pcm
        assert frames(piece) <= LONGEST
        end = offset + len(piece.pcm)


@given(runs)
def test_no_run_of_speech_is_lost(parts: list[tuple[bytes, int]]) -> None:
    pcm = b"".join(frame * count for frame, count in parts)
    kept = b"".join(piece.pcm for piece in cut(pcm))
    spoken = sum(count for frame, count in parts if frame != QUIET and count > 2)
    assert sum(kept[i : i + FRAME] != QUIET for i in range(0, len(kept), FRAME)) >= spoken
