"""From the words that Whisper writes to ours."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import merge_punctuations
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFace

from engine.dialects.words import prose
from engine.recognisers.speech.sentences import (
    PAUSE,
    SHORTEST_WORD,
    WordPiece,
    in_order,
    later,
    segments,
    whole_words,
    word,
)
from engine.transcript import Segment, Word
from tests.cases import cases
from tests.services.whisper import base


def said(*words: str, gap: float = 0.0, at: float = 0.0) -> list[Word]:
    """Words of half a second each, with a gap between them."""
    found = [
        word(one, at + index * (0.5 + gap), at + index * (0.5 + gap) + 0.5, 0.9) for index, one in enumerate(words)
    ]
    return [one for one in found if one]


def texts(found: list[Segment]) -> list[str]:
    return [" ".join(one.written for one in segment.words) for segment in found]


@cases(
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


@cases("written", ["", " ", "...", " -", "♪", "。"])
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


def test_another_language_ends_a_segment() -> None:
    words = [
        replace(one, language=code) for one, code in zip(said("hola", "good", "day"), ("es", "en", "en"), strict=True)
    ]
    assert texts(list(segments(words))) == ["hola", "good day"]


def test_no_words_make_no_segment() -> None:
    assert list(segments([])) == []


def test_words_stay_within_bounds_and_in_order() -> None:
    strayed = [Word("a", -1, 0.5, 1), Word("b", 0.2, 0.1, 1), Word("c", 0.1, 0.4, 1), Word("d", 2.9, 3.5, 1)]
    assert [(one.start, one.end) for one in in_order(strayed, 0.0, 3.0)] == [
        (0.0, 0.2),
        (0.2, 0.22),
        (0.22, 0.4),
        (2.9, 3.0),
    ]


def test_words_without_time_get_some_of_their_neighbours() -> None:
    crowded = [Word(text, 1.0, 1.0, 1) for text in "abc"]
    assert [(one.start, one.end) for one in in_order([*crowded, Word("d", 1.0, 1.5, 1)], 0.0, 3.0)] == [
        (1.0, 1.02),
        (1.02, 1.04),
        (1.04, 1.06),
        (1.06, 1.5),
    ]
    assert [(one.start, one.end) for one in in_order(crowded, 0.0, 1.0)] == [(0.94, 0.96), (0.96, 0.98), (0.98, 1.0)]


moments = st.floats(-1, 11)


@given(st.lists(st.tuples(moments, moments), max_size=40))
def test_every_word_has_a_length_and_ends_before_the_next(times: list[tuple[float, float]]) -> None:
    found = in_order([Word("a", start, end, 1) for start, end in sorted(times)], 0.0, 10.0)
    assert all(one.end - one.start > SHORTEST_WORD - 0.0021 for one in found)
    assert all(before.end <= after.start + 0.001 for before, after in pairwise(found))
    assert all(one.start >= 0 and one.end <= 10 for one in found)


def test_a_word_is_moved_and_nothing_else_of_it() -> None:
    assert later(Word("a", 1.0, 1.5, 0.9, "A", language="en"), 2.25) == Word("a", 3.25, 3.75, 0.9, "A", language="en")


@cache
def tokenizer() -> HuggingFace:
    """Whisper's own, of all languages."""
    return HuggingFace.from_file(str(base() / "tokenizer.json"))


def pieces(text: str, language: str) -> list[WordPiece]:
    """The pieces that faster-whisper itself makes of a text, each a second long."""
    whisper = Tokenizer(tokenizer(), multilingual=True, task="transcribe", language=language)
    found, tokens = whisper.split_to_word_tokens(whisper.encode(text))
    cut = [{"word": one, "tokens": its} for one, its in zip(found, tokens, strict=True)]
    merge_punctuations(cut, "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、")  # noqa: RUF001 (its own defaults)
    return [WordPiece(str(one["word"]), at, at + 1, 1.0) for at, one in enumerate(one for one in cut if one["word"])]


@cases(
    ("language", "text", "written"),
    [
        ("en", " Twenty-three of them don't, you said.", ["Twenty-three", "of", "them", "don't,", "you", "said."]),
        ("en", " It's 3.14, 10,000 or 50% at 9:30.", ["It's", "3.14,", "10,000", "or", "50%", "at", "9:30."]),
        ("en", " Mail me@example.com - now!", ["Mail", "me@example.com", "- now!"]),
        ("es", " ¿Veintidós o veintitrés?", ["¿Veintidós", "o", "veintitrés?"]),
        ("fr", " L'eau, c'est aujourd'hui.", ["L'eau,", "c'est", "aujourd'hui."]),
        ("de", " Die E-Mail-Adresse heißt so.", ["Die", "E-Mail-Adresse", "heißt", "so."]),
        ("ko", " 안녕하세요 여러분.", ["안녕하세요", "여러분."]),
        ("zh", "我用iPhone打10,5分。", ["我", "用", "iPhone", "打", "10,5", "分。"]),
        ("ja", "今日は、 晴れ", ["今日は、", "晴", "れ"]),
    ],
)
def test_what_faster_whisper_cuts_within_a_word_is_put_together(language: str, text: str, written: list[str]) -> None:
    assert [one.written for one in whole_words(pieces(text, language))] == written


@cases(
    ("language", "text"),
    [
        ("en", " Twenty-three of them don't, you said."),
        ("fr", " L'eau, c'est aujourd'hui."),
        ("zh", "你好，我是OK的。"),  # noqa: RUF001
        ("zh", "你好 世界"),
        ("ja", "今日は 晴れです。"),
        ("th", "สวัสดี ครับ"),
    ],
)
def test_running_text_is_what_whisper_wrote(language: str, text: str) -> None:
    assert prose(list(whole_words(pieces(text, language))), punctuate=True) == text.strip()


def test_a_word_of_several_pieces_spans_their_time_and_is_as_sure_as_they_are_on_average() -> None:
    twenty, three = WordPiece(" Twenty", 1.0, 1.25, 0.5), WordPiece("-three", 1.25, 2.0, 1.0)
    assert list(whole_words([twenty, three])) == [Word("twenty-three", 1.0, 2.0, 0.75, "Twenty-three")]


def test_a_sign_of_a_script_without_spaces_is_a_word_that_no_space_precedes() -> None:
    signs = [WordPiece("你", 0.0, 0.5, 1.0), WordPiece("好", 0.5, 1.0, 1.0)]
    assert list(whole_words(signs)) == [
        Word("你", 0.0, 0.5, 1.0, "你", spaced=False),
        Word("好", 0.5, 1.0, 1.0, "好", spaced=False),
    ]


def test_a_first_piece_without_a_space_is_a_word_and_none_is_no_word() -> None:
    assert [one.spaced for one in whole_words([WordPiece("Yes", 0.0, 0.0, 1.0)])] == [True]
    assert list(whole_words([])) == []


def test_order_and_bounds_leave_the_rest_of_a_word_as_it_is() -> None:
    sign = Word("好", 0.5, 1.0, 0.9, "好。", spaced=False)
    assert list(in_order([sign], 0.0, 0.75)) == [Word("好", 0.5, 0.75, 0.9, "好。", spaced=False)]
