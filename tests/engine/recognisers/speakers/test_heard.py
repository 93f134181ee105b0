"""Who speaks, in real sound: as it should be, and as it comes over bad lines and in loud places."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from engine.recognisers.models.names import ENCODER, SPEAKERS
from engine.recognisers.speakers.encoder import VoiceEncoder
from engine.recognisers.speakers.turns import Turn
from engine.recognisers.speakers.voices import ChannelVoices
from engine.recognisers.speakers.weights import load_encoder
from engine.recognisers.whisper.stretch import Sound
from engine.request import MOST_SPEAKERS, SpeakerBounds
from engine.transcript import Word
from tests.cases import cases
from tests.clips import RATE, clips
from tests.clips.dialogues import conversation, dialogue
from tests.clips.sounds import music, noise, pcm, samples, silence, tone, with_noise
from tests.services import voices

pytestmark = pytest.mark.recognition


# Sounds are made when somebody hears them: every process of a run reads this file, and one of them runs it.


@cache
def adler() -> bytes:
    return dialogue(("en/adler", 2), ("en/adler", 3)).pcm


@cache
def bennet() -> bytes:
    return dialogue(("en/bennet", 3), ("en/bennet", 4)).pcm


@cache
def both() -> bytes:
    return dialogue(("en/adler", 2), ("en/bennet", 3), ("en/adler", 3), ("en/bennet", 4)).pcm


def laughter() -> bytes:
    """As far as a tone can laugh."""
    return b"".join(tone(0.12, 180 + 20 * (number % 3)) + silence(0.08) for number in range(30))


@cache
def encoder() -> VoiceEncoder:
    voices.skip_without()
    with TemporaryDirectory() as folder:
        return load_encoder(str(voices.models_dir(Path(folder)) / SPEAKERS / ENCODER))


@cache
def listened(sound: bytes) -> ChannelVoices:
    told, listener = Sound(sound), ChannelVoices(encoder())
    listener.hear(0.0, told.samples, told.speech)
    return listener


def heard(sound: bytes, bounds: SpeakerBounds | None = None) -> list[Turn]:
    return listened(sound).turns(bounds or SpeakerBounds())


def speakers(turns: list[Turn]) -> int:
    return len({turn.speaker for turn in turns})


def sure(turns: list[Turn]) -> float:
    return float(np.mean([turn.confidence for turn in turns]))


def over(one: bytes, other: bytes) -> bytes:
    """Both at once."""
    length = min(len(one), len(other))
    return pcm(samples(one[:length]) + samples(other[:length]))


def noisy(sound: bytes, decibels: float) -> bytes:
    clean = samples(sound)
    return pcm(with_noise(clean, clean[clean != 0], decibels))


def telephone(sound: bytes) -> bytes:
    """What is left between 300 and 3400 Hz."""
    spectrum = np.fft.rfft(samples(sound))
    hertz = np.fft.rfftfreq(len(sound) // 2, 1 / RATE)
    return pcm(np.fft.irfft(np.where((hertz < 300) | (hertz > 3400), 0, spectrum), len(sound) // 2))


@cases(
    ("sound", "least", "most"),
    [
        (bytes, 0, 0),
        (lambda: noise(4), 0, 0),
        (lambda: noise(4, decibels=-6), 0, 0),
        (lambda: music(4), 0, 0),
        (lambda: tone(4), 0, 0),
        (laughter, 0, 1),
        (lambda: adler()[: 2 * RATE], 1, 1),  # a word
        (adler, 1, 1),
        (lambda: noisy(adler(), 0), 1, 1),
        (lambda: over(adler(), music(9)), 1, 1),
        (lambda: over(adler(), bennet()), 1, 2),
        (both, 2, 2),
        (lambda: telephone(both()), 1, 2),
        (lambda: noisy(both(), 10), 2, 2),
        (lambda: noisy(both(), 0), 1, 2),
        (lambda: pcm(0.01 * samples(both())), 2, 2),
        (lambda: pcm(20 * samples(both())), 2, 2),  # clipped
        (lambda: both() + over(adler(), bennet()), 2, 3),  # both at once may be like nobody
    ],
)
def test_nobody_is_made_up_by_noise_bad_lines_and_overlap(sound: Callable[[], bytes], least: int, most: int) -> None:
    assert least <= speakers(heard(sound())) <= most


def test_a_crowd_is_told_apart_as_far_as_may_be_and_no_further() -> None:
    """Each of seventeen says a sentence, some of them twice."""
    said = conversation([*(one.name for one in clips("en")), "real/austen", "real/jfk", "fr/gare"], 20, 3).pcm
    assert 10 <= speakers(heard(said)) <= 17
    assert speakers(heard(said, SpeakerBounds(MOST_SPEAKERS, MOST_SPEAKERS))) <= MOST_SPEAKERS
    assert speakers(heard(said, SpeakerBounds(1, 3))) <= 3


def test_confidence_falls_with_noise_and_on_bad_lines() -> None:
    clear = sure(heard(both()))
    assert clear > 0.95
    assert sure(heard(telephone(both()))) < clear
    assert sure(heard(noisy(both(), 5), SpeakerBounds(2, 2))) < clear


def test_words_where_nobody_was_heard_have_a_speaker_who_is_not_sure() -> None:
    listener = ChannelVoices(encoder())
    (word,) = listener.name([Word("so", 0.0, 0.3, 0.9)], SpeakerBounds())
    assert (word.speaker, word.speaker_confidence) == (0, 0.0)
