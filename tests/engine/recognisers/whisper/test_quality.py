"""What of a decoded window is believed, and where speech is that no words came of."""

from __future__ import annotations

import pytest

from engine.recognisers.speech.windows import Span
from engine.recognisers.whisper.quality import DecodingResult, Verdict, believed, filled, judge, trimmed, unheard
from engine.transcript import Word
from tests.cases import cases


def word(text: str, start: float, end: float) -> Word:
    return Word(text, start, end, 0.9)


def texts(words: tuple[Word, ...]) -> list[str]:
    return [one.text for one in words]


@cases(
    ("log_probability", "compression_ratio", "no_speech", "verdict"),
    [
        (-0.2, 1.5, 0.01, Verdict.KEEP),
        (-0.99, 2.4, 0.6, Verdict.KEEP),
        (-0.3, 1.5, 0.95, Verdict.KEEP),
        (-0.69, 0.7, 0.9, Verdict.KEEP),
        (-0.8, 0.6, 0.8, Verdict.SILENT),
        (-1.5, 0.7, 0.61, Verdict.SILENT),
        (-1.5, 0.7, 0.6, Verdict.GUESS),
        (-1.01, 1.2, 0.0, Verdict.GUESS),
        (-0.1, 2.41, 0.0, Verdict.LOOP),
        (-0.1, 33.0, 0.9, Verdict.LOOP),
        (-2.0, 5.0, 0.9, Verdict.LOOP),
    ],
)
def test_the_numbers_of_a_window_tell_speech_from_loops_guesses_and_nothing(
    log_probability: float, compression_ratio: float, no_speech: float, verdict: Verdict
) -> None:
    result = DecodingResult((word("you", 0.0, 0.5),), log_probability, compression_ratio, no_speech)
    assert judge(result) is verdict


SPEECH = [Span(0.0, 4.0), Span(6.0, 9.0)]
EVERY_WORD = [word("a", at / 2, at / 2 + 0.5) for at in range(18)]


@cases(
    ("words", "holes"),
    [
        ([], SPEECH),
        (EVERY_WORD, []),
        ([one for one in EVERY_WORD if one.end <= 4], [Span(6.0, 9.0)]),
        ([one for one in EVERY_WORD if one.end <= 2 or one.start >= 5], [Span(2.2, 4.0)]),
        ([one for one in EVERY_WORD if not 6 < one.start < 8], [Span(6.7, 7.8)]),
        ([one for one in EVERY_WORD if one.start != 1.0], []),
    ],
)
def test_speech_without_words_is_unheard(words: list[Word], holes: list[Span]) -> None:
    found = unheard(SPEECH, words)
    assert len(found) == len(holes)
    assert [hole.start for hole in found] == pytest.approx([hole.start for hole in holes])
    assert [hole.end for hole in found] == pytest.approx([hole.end for hole in holes])


def test_a_little_speech_is_not_worth_another_hearing() -> None:
    assert unheard([Span(0.0, 0.45), Span(3.0, 3.4)], []) == []
    assert unheard([Span(0.0, 0.45), Span(0.7, 1.0)], []) == [Span(0.0, 1.0)]
    assert unheard([Span(0.0, 0.9)], [], least=1.0) == []


def test_a_word_that_is_laid_over_a_lost_sentence_is_not_believed_nor_those_without_time_beside_it() -> None:
    words = (
        word("sound", 0.0, 0.4),
        word("there", 0.4, 9.0),
        *(word(text, 9.0, 9.01) for text in ("nothing", "so")),
        word("alice", 9.1, 9.5),
    )
    stand, doubtful = believed(words)
    assert texts(stand) == ["sound", "alice"]
    assert texts(doubtful) == ["there", "nothing", "so"]


def test_a_long_word_may_take_longer() -> None:
    slow = (word("internationalisation", 0.0, 2.2),)
    assert believed(slow) == (slow, ())


def test_what_is_heard_again_stands_between_what_was_heard_before() -> None:
    before = (word("one", 0.0, 0.5), word("four", 3.0, 3.5))
    again = [word("won", 0.1, 0.5), word("two", 1.0, 1.5), word("three", 2.0, 2.5), word("for", 2.9, 3.3)]
    assert texts(filled(before, again)) == ["one", "two", "three", "four"]


def test_words_lose_the_silence_around_their_speech() -> None:
    speech = [Span(2.0, 3.0), Span(5.0, 6.0)]
    words = [word("a", 0.0, 2.5), word("b", 2.5, 5.5), word("c", 5.5, 9.0), word("d", 20.0, 20.5)]
    assert [(one.start, one.end) for one in trimmed(words, speech)] == [
        (1.8, 2.5),
        (2.5, 5.5),
        (5.5, 6.2),
        (20.0, 20.5),
    ]
