"""Words in running text and in searches, whatever their script."""

from __future__ import annotations

from engine.dialects.subtitles import Layout, captions
from engine.dialects.words import matches, prose, substitute
from engine.transcript import Channel, Segment, Word
from tests.cases import cases


def spaced(text: str) -> list[Word]:
    return [_word(written, at, True) for at, written in enumerate(text.split())]


def unspaced(text: str) -> list[Word]:
    """Each sign a word."""
    return [_word(written, at, False) for at, written in enumerate(text)]


def _word(written: str, at: int, spaced: bool) -> Word:
    return Word(written.strip("?,. ").lower(), at, at + 1, 0.5, written, spaced)


def found(words: list[Word], phrase: str) -> list[str]:
    return [prose(words[start:end], punctuate=True) for start, end in matches(words, phrase)]


def test_a_space_stands_between_words_that_have_one() -> None:
    assert prose([*spaced("Das heißt"), *unspaced("你好"), *spaced("auf Chinesisch.")], punctuate=True) == (
        "Das heißt你好 auf Chinesisch."
    )


@cases(
    ("words", "phrase", "said"),
    [
        (spaced("Twenty-three, or twenty three?"), "twenty three", ["Twenty-three,", "twenty three?"]),
        (spaced("Twenty-three, or twenty three?"), "Twenty-Three", ["Twenty-three,", "twenty three?"]),
        (spaced("An e-mail and a mail"), "mail", ["mail"]),
        (spaced("nowhere now here"), "now here", ["now here"]),
        (spaced("no no no"), "no no", ["no no"]),
        (spaced("once upon"), "upon a", []),
        (spaced("once upon"), " ?! ", []),
        (unspaced("你好你好"), "你好", ["你好", "你好"]),
        ([_word("我们", 0, False), _word("好", 1, False)], "我们好", ["我们好"]),
        ([_word("我们", 0, False), _word("好", 1, False)], "们好", []),
    ],
)
def test_a_phrase_is_found_in_whole_words_however_they_are_joined(
    words: list[Word], phrase: str, said: list[str]
) -> None:
    assert found(words, phrase) == said


def test_a_replacement_stands_where_the_phrase_stood() -> None:
    heard = Channel((Segment((*unspaced("我爱北京"),)),))
    replaced = substitute(heard, [["北京", "上海"]])
    assert prose(replaced.words, punctuate=True) == "我爱上海"


def test_a_caption_breaks_between_signs_where_there_are_no_spaces() -> None:
    heard = Channel((Segment((*unspaced("我爱北京天安门"),)),))
    (caption,) = captions([heard], Layout(characters=4, longest=60))
    assert caption.rows == ("我爱北京", "天安门")
