"""The clips are what they say: whole, small, with every line in its place."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cases import cases
from tests.clips import HERE, RATE, Clip, audioeval, clip, clips
from tests.clips.sounds import Recording, joined, music, noise, pieces, samples, silence, tone

FOLDERS = ("real", "en", "noisy", "de", "es", "fr")
ALL = (clip("demo"), clip("stereo"), *(one for folder in FOLDERS for one in clips(folder)))
AUDIOEVAL = ("en", "es", "fr", "hi", "it", "ja", "pl", "pt", "zh")


def names(one: object) -> str | None:
    return one.name if isinstance(one, Clip) else None


def loudness(sound: bytes) -> float:
    """In decibels below full scale."""
    return float(10 * np.log10(np.mean(samples(sound) ** 2) + 1e-12))


@cases("one", ALL)
def test_every_line_is_said_where_it_stands_and_nothing_beside_it(one: Clip) -> None:
    sound = samples(one.pcm())
    said = np.zeros(len(sound), bool)
    for line in one.lines:
        assert 0 <= line.start < line.end <= one.seconds + 0.05
        said[int(line.start * RATE) : int(line.end * RATE)] = True
        assert line.text == line.text.strip() != ""
    if said.all():
        return
    speech, rest = np.mean(sound[said] ** 2), np.mean(sound[~said] ** 2)
    assert speech > (8 if one.name.startswith(("real/", "noisy/")) else 300) * rest


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in HERE.rglob("*") if path.suffix in {".flac", ".ogg"}) < 6_000_000


@cases("language", AUDIOEVAL)
def test_a_package_has_three_clips_in_each_of_nine_languages(language: str) -> None:
    found = audioeval(language)
    assert len(found) == 3
    assert all(one.text and 0.5 < one.seconds < 10 and one.language == language for one in found)


def test_joined_clips_keep_their_lines_and_give_the_length_asked_for() -> None:
    long = joined(clips("real"), seconds=90)
    assert 90 - 11 - 4 < long.seconds <= 90
    starts = [line.start for line in long.lines]
    assert starts == sorted(starts)
    assert long.lines[6].text == long.lines[0].text  # they begin again
    for line in long.lines:
        assert loudness(long.pcm[2 * int(line.start * RATE) : 2 * int(line.end * RATE)]) > -40


def test_a_clip_in_pieces_says_the_same() -> None:
    one = clip("en/meeting")
    parts = list(pieces(one, 10))
    assert " ".join(part.text for part in parts) == one.text
    assert all(part.seconds <= 10.5 or len(part.lines) == 1 for part in parts)
    assert all(0 <= part.lines[0].start < 0.2 and part.lines[-1].end <= part.seconds for part in parts)


def test_noise_is_as_far_below_the_speech_as_was_asked() -> None:
    one = clip("en/dashwood")
    clean = Recording(one.pcm(), one.lines)
    added = samples(clean.noisy(10).pcm) - samples(clean.pcm)
    said = np.concatenate([samples(clean.pcm)[int(line.start * RATE) : int(line.end * RATE)] for line in clean.lines])
    assert 10 * np.log10(np.mean(said**2) / np.mean(added**2)) == pytest.approx(10, abs=0.2)


@cases(
    ("sound", "low", "high"),
    [(silence(3), -121, -119), (tone(3), -16, -14), (noise(3), -27, -25), (music(3), -40, -10)],
)
def test_sounds_that_are_no_speech_have_their_length_and_loudness(sound: bytes, low: float, high: float) -> None:
    assert len(sound) == 3 * RATE * 2
    assert low < loudness(sound) < high
