"""A real Whisper model, loaded as any other is: the words it hears in speech it was not trained on, and when.

It is small, and miscounts digits that are said twice in a row: so it is held to nine words in ten of each clip.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import pairwise

import pytest
from faster_whisper import WhisperModel, decode_audio
from faster_whisper.transcribe import TranscriptionInfo, Word

from tests.models import DIGITS
from tests.models.speech import RATE, Said, Samples
from tests.models.truth import Truth, clip, truth

MONO = ("english", "spanish", "noisy", "stranger")


@pytest.fixture(scope="module")
def model() -> WhisperModel:
    return WhisperModel(str(DIGITS), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)


def hear(model: WhisperModel, samples: Samples, **options: object) -> tuple[TranscriptionInfo, list[Word]]:
    segments, info = model.transcribe(samples, word_timestamps=True, **options)
    return info, [word for segment in segments for word in segment.words or []]


def samples(name: str) -> Samples:
    sound: Samples = decode_audio(str(clip(name)))
    return sound


def matched(heard: list[Word], said: tuple[Said, ...]) -> list[tuple[Word, Said]]:
    """The words that were heard as they were said, beside each other."""
    spelt = [str(word.word).strip(" .").lower() for word in heard]
    blocks = SequenceMatcher(None, spelt, [word.text for word in said], autojunk=False).get_matching_blocks()
    return [(heard[block.a + n], said[block.b + n]) for block in blocks for n in range(block.size)]


def said(name: str) -> Truth:
    (channel,) = truth(name)
    return channel


@pytest.mark.parametrize("vad", [False, True], ids=["whole", "speech only"])
@pytest.mark.parametrize("name", MONO)
def test_nine_words_in_ten_are_heard_in_their_language(model: WhisperModel, name: str, vad: bool) -> None:
    info, heard = hear(model, samples(name), vad_filter=vad)
    assert (info.language, info.language_probability > 0.9) == (said(name).language, True)
    assert len(matched(heard, said(name).words)) >= 0.9 * len(said(name).words)
    assert len(heard) <= len(said(name).words) + 1


@pytest.mark.parametrize("name", MONO)
def test_words_come_one_after_another_inside_the_clip(model: WhisperModel, name: str) -> None:
    sound = samples(name)
    _, words = hear(model, sound)
    assert all(0 <= word.start < word.end <= len(sound) / RATE for word in words)
    assert all(earlier.end <= later.start for earlier, later in pairwise(words))


@pytest.mark.parametrize("name", MONO)
def test_words_stand_where_they_were_said(model: WhisperModel, name: str) -> None:
    _, heard = hear(model, samples(name))
    for word, spoken in matched(heard, said(name).words):
        assert (word.start, word.end) == pytest.approx((spoken.start, spoken.end), abs=0.6), spoken


def test_each_channel_is_heard_in_its_own_language(model: WhisperModel) -> None:
    channels = decode_audio(str(clip("stereo")), split_stereo=True)
    for sound, spoken in zip(channels, truth("stereo"), strict=True):
        info, heard = hear(model, sound)
        assert info.language == spoken.language
        assert len(matched(heard, spoken.words)) >= 0.8 * len(spoken.words)
