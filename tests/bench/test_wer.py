"""What is counted beside a word error rate: stretches without a word, and loops."""

from __future__ import annotations

import pytest

from tests.bench.hearing import Heard, Words
from tests.bench.wer import loops, score, unheard
from tests.clips import Line
from tests.clips.sounds import Recording

LINES = (Line(1.0, 5.0, "Nothing is lost."), Line(10.0, 12.5, "We try again."))


def spoken(text: str, start: float, pace: float = 0.4) -> Words:
    """The words one after another."""
    return [(word, start + index * pace, start + (index + 1) * pace) for index, word in enumerate(text.split())]


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ([], 2),
        (spoken("nothing is lost", 1.0), 2),  # the words end at 2.2 of 5 seconds
        (spoken("nothing is lost", 1.0, 1.2), 1),
        ([*spoken("nothing is lost", 1.0, 1.2), *spoken("we try again", 10.2, 0.7)], 0),
        ([("nothing", 0.0, 20.0)], 2),  # no word takes that long
        (spoken("somewhere else entirely", 6.0), 2),
    ],
)
def test_a_stretch_of_two_seconds_without_a_word_is_counted(words: Words, count: int) -> None:
    assert unheard(LINES, words) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("It was the best of times, it was the worst of times, it was the age of wisdom.", 0),
        ("and so on " * 25, 1),
        ("and so on " * 60, 3),  # 72 seconds of it
        ("", 0),
    ],
)
def test_a_text_that_repeats_itself_is_counted_once_in_half_a_minute(text: str, count: int) -> None:
    assert loops(spoken(text, 0.0)) == count


def test_spelling_case_and_punctuation_are_no_errors_but_missing_words_are() -> None:
    recording = Recording(b"", (Line(0.0, 3.0, 'Mr. Grey said: "My favourite colour is blue."'),))
    right = Heard(spoken("mister gray said my favorite color is blue", 0.0), 1.0, 1.5)
    missing = Heard(spoken("Mr. Grey said my favourite", 0.0), 1.0, 2.0)
    found = score([recording, recording], [right, missing])
    assert (found.words, found.errors, found.deleted, found.cpu_s) == (16, 3, 3, 3.5)
