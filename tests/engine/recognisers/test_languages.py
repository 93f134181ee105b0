"""Languages: what callers say, and what Whisper says."""

from __future__ import annotations

from faster_whisper import tokenizer

from engine.recognisers.languages import CODES, WHISPER, most_probable, public_code, whisper_code
from tests.cases import cases

HEARD = [("en", 0.5), ("es", 0.3), ("jw", 0.15), ("no", 0.05)]


def test_the_languages_are_those_of_faster_whisper() -> None:
    assert frozenset(tokenizer._LANGUAGE_CODES) == WHISPER


@cases(
    ("said", "code"),
    [
        ("en", "en"),
        ("en-GB", "en"),
        ("EN_us", "en"),
        ("zh-Hant-TW", "zh"),
        ("nb", "no"),
        ("jv", "jw"),
        ("iw", "he"),
        ("haw", "haw"),
        ("multi", None),
        ("tlh", None),
        ("", None),
        (None, None),
    ],
)
def test_a_callers_code_becomes_whispers(said: str | None, code: str | None) -> None:
    assert whisper_code(said) == code


def test_every_code_that_callers_may_send_is_one_that_whisper_knows() -> None:
    assert {whisper_code(code) for code in CODES} == WHISPER


def test_callers_get_the_code_that_they_would_send() -> None:
    assert (public_code("jw"), public_code("en")) == ("jv", "en")


def test_without_candidates_the_likeliest_language_wins() -> None:
    assert most_probable(HEARD, ()) == ("en", 0.5)


def test_candidates_restrict_the_choice_however_unlikely_they_are() -> None:
    assert most_probable(HEARD, ("es-MX", "nb")) == ("es", 0.3)
    assert most_probable(HEARD, ("jv",)) == ("jw", 0.15)


def test_candidates_that_nobody_knows_do_not_restrict_it() -> None:
    assert most_probable(HEARD, ("tlh",)) == ("en", 0.5)
