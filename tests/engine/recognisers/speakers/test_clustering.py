"""How many voices there are: found, or within the bounds that a caller sets."""

from __future__ import annotations

import numpy as np
import pytest

from engine.recognisers.speakers.clustering import Groups
from engine.recognisers.speakers.clustering import voices as of_groups
from engine.recognisers.speakers.encoder import SIZE, Embeddings, unit
from engine.request import MOST_SPEAKERS, SpeakerBounds
from tests.engine.recognisers.speakers.making import of, said, voices

ANY = SpeakerBounds()


def found(pieces: Embeddings, bounds: SpeakerBounds) -> Embeddings:
    return of_groups(Groups.none().joined(of(pieces)), bounds)


def conversation(people: int, pieces: int, seed: int = 0) -> Embeddings:
    """They take turns."""
    spoken = [said(voice, pieces, seed + number) for number, voice in enumerate(voices(people, seed))]
    return np.stack(spoken, axis=1).reshape(-1, SIZE)


@pytest.mark.parametrize("people", [1, 2, 4, MOST_SPEAKERS])
def test_as_many_voices_are_found_as_there_are(people: int) -> None:
    heard = found(conversation(people, 12), ANY)
    assert len(heard) == people
    nearest = (voices(people) @ heard.T).argmax(axis=1)
    assert sorted(nearest) == list(range(people))


@pytest.mark.parametrize("pieces", [1, 300, 3000])
def test_one_voice_is_never_split_however_long_it_speaks(pieces: int) -> None:
    assert len(found(said(voices(1)[0], pieces), ANY)) == 1


def test_what_is_said_again_and_again_is_no_voice_of_its_own() -> None:
    """As a recorded message is, to the sample."""
    assert len(found(np.repeat(said(voices(1)[0], 12), 10, axis=0), ANY)) == 1


def test_many_short_answers_of_one_voice_are_no_other() -> None:
    """Each is less like the voice, and tells less of it."""
    voice = voices(1)[0]
    groups = Groups.none().joined(of(said(voice, 12))).joined(of(said(voice, 30, 1, scatter=0.9), 0.2))
    assert len(of_groups(groups, ANY)) == 1


def test_hours_are_told_apart_as_minutes_are() -> None:
    """More pieces than are ever compared at once; someone who comes last is heard as well."""
    late = said(voices(4)[3], 5, seed=9)
    assert len(found(np.concatenate((conversation(3, 800), late)), ANY)) == 4


@pytest.mark.parametrize(("bounds", "count"), [((3, 3), 3), ((1, 1), 1), ((1, 2), 2), ((6, 9), 6), ((1, 9), 4)])
def test_what_the_caller_knows_is_kept_to(bounds: tuple[int, int], count: int) -> None:
    assert len(found(conversation(4, 10), SpeakerBounds(*bounds))) == count


def test_there_are_never_more_than_asked_for_even_where_nothing_is_alike() -> None:
    strange = unit(np.abs(np.random.default_rng(3).standard_normal((60, SIZE))).astype(np.float32) ** 4)
    assert len(found(strange, ANY)) == MOST_SPEAKERS


def test_who_says_nothing_has_no_voice_and_one_piece_is_one() -> None:
    nothing = np.zeros((0, SIZE), np.float32)
    assert found(nothing, ANY).shape == (0, SIZE)
    assert len(found(said(voices(1)[0], 1), SpeakerBounds(5, 5))) == 1
