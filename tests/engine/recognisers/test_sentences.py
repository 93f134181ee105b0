"""From the words that Whisper writes to ours."""

from __future__ import annotations

import pytest

from engine.recognisers.sentences import PAUSE, in_order, segments, word
from engine.transcript import Segment, Word


def said(*words: str, gap: float = 0.0, at: float = 0.0) -> list[Word]:
    """Words of half a second each, with a gap between them."""
    found = [
        word(one, at + index * (0.5 + gap), at + index * (0.5 + gap) + 0.5, 0.9) for index, one in enumerate(words)
    ]
    return [one for one in found if one]


def texts(found: list[Segment]) -> list[str]:
    return [" ".join(one.written for one in segment.words) for segment in found]


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        (" Hello,", "hello"),
        (" it's", "it's"),
        ("“Zürich”", "zürich"),
        (" well-known.", "well-known"),
        (" 3.14", "3.14"),
        (" 50%", "50%"),
        (" $5.", "$5"),
        ("¿Qué?", "qué"),
        ("你", "你"),
    ],
)
def test_what_is_spoken_is_what_is_written_without_punctuation_and_case(written: str, spoken: str) -> None:
    found = word(written, 0, 1, 0.5)
    assert found == Word(spoken, 0, 1, 0.5, written.strip())


@pytest.mark.parametrize("written", ["", " ", "...", " -", "♪", "。"])
def test_punctuation_that_stands_alone_is_no_word(written: str) -> None:
    assert word(written, 0, 1, 0.5) is None


def test_a_confidence_is_between_nothing_and_certainty() -> None:
    assert [one.confidence for one in (word("a", 0, 1, 1.0000001), word("b", 0, 1, -0.1)) if one] == [1.0, 0.0]


def test_a_sentence_ends_a_segment() -> None:
    assert texts(list(segments(said("He", "said", '"No."', "Why?", "I", "know")))) == [
        'He said "No."',
        "Why?",
        "I know",
    ]


def test_a_pause_ends_a_segment_and_a_shorter_one_does_not() -> None:
    assert texts(list(segments(said("one", "two", gap=PAUSE)))) == ["one", "two"]
    assert texts(list(segments(said("one", "two", gap=PAUSE - 0.01)))) == ["one two"]


def test_no_words_make_no_segment() -> None:
    assert list(segments([])) == []


def test_words_stay_within_bounds_and_in_order() -> None:
    strayed = [Word("a", -1, 0.5, 1), Word("b", 0.2, 0.1, 1), Word("c", 0.1, 0.4, 1), Word("d", 2.9, 3.5, 1)]
    assert [(one.start, one.end) for one in in_order(strayed, 0.0, 3.0)] == [
        (0.0, 0.5),
        (0.2, 0.2),
        (0.2, 0.4),
        (2.9, 3.0),
    ]
