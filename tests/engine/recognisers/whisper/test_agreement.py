"""What passes over a growing stretch agree on, and what becomes of it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.recognisers.whisper.agreement import LocalAgreement
from engine.transcript import Word

NEVER_TOO_LATE = 1e9


def said(text: str, start: float = 0.0) -> tuple[Word, ...]:
    """A word each second."""
    return tuple(Word(word, start + n, start + n + 0.8, 1.0) for n, word in enumerate(text.split()))


def heard(*passes: str, until: float = NEVER_TOO_LATE) -> LocalAgreement:
    agreement = LocalAgreement()
    for text in passes:
        agreement = agreement.update(said(text), until)
    return agreement


def text(words: tuple[Word, ...]) -> str:
    return " ".join(word.text for word in words)


def test_one_pass_settles_nothing() -> None:
    agreement = heard("good morning")
    assert (agreement.settled, text(agreement.words)) == ((), "good morning")


def test_what_two_passes_agree_on_is_settled_up_to_where_they_part() -> None:
    agreement = heard("good morning to who", "good morning to you all")
    assert (text(agreement.settled), text(agreement.open)) == ("good morning to", "you all")


def test_passes_that_differ_from_the_first_word_settle_nothing() -> None:
    assert heard("food morning", "good morning").settled == ()


def test_only_passes_in_a_row_agree() -> None:
    assert heard("good", "food", "good").settled == ()


def test_a_word_at_the_edge_of_the_audio_waits_for_another_pass() -> None:
    assert text(heard("twenty for", "twenty for", until=1.5).settled) == "twenty"


def test_a_settled_word_stays_when_a_later_pass_hears_another() -> None:
    agreement = heard("good morning", "good morning", "food warning to you")
    assert text(agreement.words) == "good morning to you"


def test_the_last_pass_over_all_of_it_knows_better() -> None:
    assert text(heard("wood mourning", "wood mourning").conclude(said("good morning to all"))) == "good morning to all"


def test_a_pass_with_more_words_where_others_are_settled_adds_none_there() -> None:
    agreement = heard("nine nine", "nine nine")
    crowded = (*said("a b", 0.0), Word("c", 0.3, 0.5, 1.0), *said("ten", 2.0))
    assert text(agreement.update(crowded, NEVER_TOO_LATE).words) == "nine nine ten"


def test_what_was_told_is_not_said_again() -> None:
    agreement = heard("one two three", "one two tree").release()
    assert (agreement.settled, text(agreement.words)) == ((), "tree")
    assert text(agreement.conclude(said("one two three four"))) == "three four"


def test_a_last_pass_without_words_leaves_the_settled_ones() -> None:
    assert text(heard("one two", "one two").conclude(())) == "one two"


words = st.builds(Word, st.sampled_from("abc"), st.floats(0, 30), st.floats(0, 3), st.just(1.0)).map(
    lambda word: Word(word.text, word.start, word.start + word.end, 1.0)
)
guesses = st.lists(st.lists(words, max_size=8).map(lambda some: sorted(some, key=lambda one: one.start)), max_size=8)


@given(guesses, guesses, st.floats(0, 40))
def test_nothing_that_comes_changes_a_settled_word(
    before: list[list[Word]], after: list[list[Word]], until: float
) -> None:
    agreement = LocalAgreement()
    for guess in before:
        agreement = agreement.update(guess, until)
    settled = agreement.settled
    for guess in after:
        agreement = agreement.update(guess, until)
        assert agreement.words[: len(settled)] == settled


@given(guesses, st.floats(0, 40))
def test_words_come_in_order_and_none_before_what_was_told(passes: list[list[Word]], until: float) -> None:
    agreement, told = LocalAgreement(), 0.0
    for guess in passes:
        agreement = agreement.update(guess, until)
        starts = [told, *(word.start for word in agreement.words)]
        assert all(earlier <= later for earlier, later in pairwise(starts))
        if agreement.settled:
            told = agreement.settled[-1].end
            agreement = agreement.release()


@given(st.lists(words, max_size=8))
def test_the_same_pass_twice_settles_all_of_it(guess: list[Word]) -> None:
    once = LocalAgreement().update(guess, NEVER_TOO_LATE)
    assert once.update(guess, NEVER_TOO_LATE).settled == once.words
