"""What becomes of words on the caller's wish, and what must not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.dialects.deepgram.numerals import as_digits
from engine.dialects.deepgram.recorded_parameters import DeepgramOptions
from engine.dialects.deepgram.wording import worded
from engine.transcript import Channel, Segment, Word
from tests.cases import cases

UNITS = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
TENS = ["-", "-", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SCALES = ["trillion", "billion", "million", "thousand", ""]
VOCABULARY = [*UNITS, *TENS[2:], "hundred", *SCALES[:4], "and", "twenty-three", "the", "people", "one-sided", "uh"]


def segment(text: str) -> Segment:
    """A word each half second, written as it stands; its text is lower case without punctuation."""
    words = text.split()
    return Segment(
        tuple(
            Word(word.strip(".,!?\"'").lower(), n * 0.5, n * 0.5 + 0.4, 1 / (n + 1), word)
            for n, word in enumerate(words)
        )
    )


def text_of(found: Segment) -> str:
    return " ".join(word.written or word.text for word in found.words)


def spell(number: int, ties: str = " ", conjunction: str = " ") -> str:
    """A cardinal in words, `conjunction` after the hundreds."""
    if number == 0:
        return "zero"
    groups = [number // 1000**power % 1000 for power in range(4, -1, -1)]
    pairs = zip(groups, SCALES, strict=True)
    return " ".join(f"{_small(group, ties, conjunction)} {scale}".strip() for group, scale in pairs if group)


def _small(number: int, ties: str, conjunction: str) -> str:
    hundreds, rest = divmod(number, 100)
    tens, unit = divmod(rest, 10)
    below = UNITS[rest] if rest < 20 else TENS[tens] + (ties + UNITS[unit] if unit else "")
    parts = [f"{UNITS[hundreds]} hundred" if hundreds else "", below if rest else ""]
    return conjunction.join(part for part in parts if part)


@given(
    st.integers(0, 10**15 - 1).filter(lambda number: number != 1),
    st.sampled_from(" -"),
    st.sampled_from([" ", " and "]),
)
def test_every_cardinal_becomes_its_digits_and_spans_its_time(number: int, ties: str, conjunction: str) -> None:
    before = segment(f"about {spell(number, ties, conjunction)} people")
    after = as_digits(before)
    assert [word.text for word in after.words] == ["about", str(number), "people"]
    assert (after.words[1].start, after.words[1].end) == (before.words[1].start, before.words[-2].end)
    confidences = [word.confidence for word in before.words[1:-1]]
    assert after.words[1].confidence == pytest.approx(sum(confidences) / len(confidences))
    assert after.words[0] == before.words[0]
    assert after.words[2] == before.words[-1]


def others(found: Segment) -> list[Word]:
    """What no number is made of."""
    return [word for word in found.words if word.text in {"the", "people", "one-sided", "uh"}]


@given(st.lists(st.sampled_from(VOCABULARY), max_size=12))
def test_any_babble_keeps_its_other_words_its_order_and_its_time(words: list[str]) -> None:
    before = segment(" ".join(words))
    after = as_digits(before)
    others = {"the", "people", "one-sided", "uh"}
    assert [word for word in after.words if word.text in others] == [
        word for word in before.words if word.text in others
    ]
    edges = [(word.start, word.end) for word in after.words]
    assert edges == sorted(edges)
    assert {start for start, _ in edges} <= {word.start for word in before.words}
    assert sum(end - start for start, end in edges) >= sum(word.end - word.start for word in before.words) - 1e-6
    assert as_digits(after) == after


@cases(
    ("heard", "written"),
    [
        ("Two hundred and five.", "205."),
        ("between one hundred and five hundred people", "between 100 and 500 people"),
        ("one hundred and five thousand", "105000"),
        ("one thousand and two thousand", "1000 and 2000"),
        ("twenty five hundred", "2500"),
        ("nineteen ninety nine", "19 99"),
        ("five five five one two", "5 5 5 1 2"),
        ("one two three", "1 2 3"),
        ("No one knows which one, and one of them", "No one knows which one, and one of them"),
        ("One, two, three!", "1, 2, 3!"),
        ("twenty, three", "20, 3"),
        ("one hundred, five", "100, 5"),
        ("a hundred and five", "a hundred and 5"),
        ("hundred thousand and", "hundred thousand and"),
        ("six hundred and nobody", "600 and nobody"),
        ("zero hundred", "0 hundred"),
        ("two thousand thousand", "2000 thousand"),
        ('"Twenty-three"', '"23"'),
        ("a one-sided first twenty-year deal", "a one-sided first twenty-year deal"),
        ("the twenty first of May", "the twenty first of May"),
        ("twenty-first, two first", "twenty-first, 2 first"),
        ("the one hundred and first time", "the one hundred and first time"),
        ("two thousand three hundred twenty-second", "two thousand three hundred twenty-second"),
        ("one hundred and twenty, first of all", "120, first of all"),
        ("one hundred and", "100 and"),
        ("two thirds and three quarters", "two thirds and three quarters"),
        ("five seconds", "5 seconds"),
        ("", ""),
    ],
)
def test_numbers_are_put_together_as_they_are_meant(heard: str, written: str) -> None:
    assert text_of(as_digits(segment(heard))) == written


def shown(text: str, language: str = "en", **options: bool) -> str:
    channel = worded(Channel((segment(text),), language), DeepgramOptions(**options))  # type: ignore[typeddict-item]
    return " ".join(text_of(part) for part in channel.segments)


def test_the_two_commonest_fillers_go_unless_they_are_wanted() -> None:
    text = "Um, uh-huh or, uh, what Uh, we said."
    assert shown(text) == "Uh-huh or, what We said."
    assert shown(text, filler_words=True) == text
    assert shown(text, language="de") == text


def test_a_segment_of_nothing_but_fillers_is_gone() -> None:
    assert worded(Channel((segment("uh"), segment("Yes."))), DeepgramOptions()).segments == (segment("Yes."),)


@cases(
    ("heard", "written"),
    [
        ("Well, damn it! Bullshit.", "Well, **** it! ********."),
        ("Scunthorpe and the shitake cocktail", "Scunthorpe and the shitake cocktail"),
    ],
)
def test_profanity_is_masked_letter_for_letter_where_that_is_wanted(heard: str, written: str) -> None:
    assert shown(heard, profanity_filter=True) == written
    assert shown(heard) == heard
    assert shown(heard, language="fr", profanity_filter=True) == heard


def test_masking_leaves_no_trace_in_the_bare_word() -> None:
    channel = worded(Channel((segment("Damn."),)), DeepgramOptions(profanity_filter=True))
    assert channel.words == (replace(segment("Damn.").words[0], text="****", written="****."),)


def test_digits_are_english_and_follow_replacement() -> None:
    channel = Channel((segment("twelve boxes"),), "en-GB")
    assert text_of(
        worded(channel, DeepgramOptions(numerals=True, replace=[["twelve", "two hundred"]])).segments[0]
    ) == ("two hundred boxes")
    assert text_of(worded(channel, DeepgramOptions(numerals=True)).segments[0]) == "12 boxes"
    assert shown("twelve", language="nl", numerals=True) == "twelve"
