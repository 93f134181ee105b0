"""A real Whisper model, loaded as any other is: the words it hears in speech it was not trained on, and when.

It hears voices that it knows without an error, and a little more than is said in one that it does not. What it cannot,
`tests/models` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

import numpy as np
import pytest
from faster_whisper import WhisperModel, decode_audio
from faster_whisper.transcribe import Segment, TranscriptionInfo, Word

from tests.models import DIGITS
from tests.models.speech import RATE, Said, Samples
from tests.models.truth import Truth, clip, truth

KNOWN = ("english", "spanish", "noisy")
MONO = (*KNOWN, "stranger")
SILENCE = np.zeros(5 * RATE, np.float32)


@dataclass(frozen=True, slots=True)
class Heard:
    info: TranscriptionInfo
    segments: list[Segment]

    @property
    def words(self) -> list[Word]:
        return [word for segment in self.segments for word in segment.words or []]

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments).strip()


@pytest.fixture(scope="module")
def model() -> WhisperModel:
    return WhisperModel(str(DIGITS), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)


def hear(model: WhisperModel, samples: Samples, **options: object) -> Heard:
    segments, info = model.transcribe(samples, word_timestamps=True, **options)
    return Heard(info, list(segments))


def samples(name: str) -> Samples:
    sound: Samples = decode_audio(str(clip(name)))
    return sound


def spelling(word: Word) -> str:
    return str(word.word).strip(" .").lower()


def said(name: str) -> Truth:
    (channel,) = truth(name)
    return channel


@pytest.mark.parametrize("name", KNOWN)
def test_every_word_of_a_clip_is_heard_and_its_language(model: WhisperModel, name: str) -> None:
    heard = hear(model, samples(name))
    assert (heard.text, heard.info.language) == (said(name).text, said(name).language)
    assert heard.info.language_probability > 0.9
    assert len(heard.segments) == len(said(name).phrases)


def test_of_a_voice_that_was_never_heard_it_hears_all_and_at_most_one_word_too_many(model: WhisperModel) -> None:
    heard, spoken = hear(model, samples("stranger")), said("stranger")
    words, real = [spelling(word) for word in heard.words], [word.text for word in spoken.words]
    assert heard.info.language == "en"
    assert sum(block.size for block in SequenceMatcher(None, words, real).get_matching_blocks()) == len(real)
    assert len(words) <= len(real) + 1


@pytest.mark.parametrize("name", MONO)
def test_words_come_one_after_another_inside_the_clip(model: WhisperModel, name: str) -> None:
    sound = samples(name)
    words = hear(model, sound).words
    assert all(0 <= word.start < word.end <= len(sound) / RATE for word in words)
    assert all(earlier.end <= later.start for earlier, later in pairwise(words))
    assert all(0 < word.probability <= 1 for word in words)


@pytest.mark.parametrize("vad", [False, True], ids=["whole", "speech only"])
@pytest.mark.parametrize("name", KNOWN)
def test_words_stand_where_they_were_said(model: WhisperModel, name: str, vad: bool) -> None:
    heard = hear(model, samples(name), vad_filter=vad).words
    for word, spoken in zip(heard, said(name).words, strict=True):
        assert (word.start, word.end) == pytest.approx((spoken.start, spoken.end), abs=0.3), spoken


def test_each_channel_is_heard_in_its_own_language(model: WhisperModel) -> None:
    channels = decode_audio(str(clip("stereo")), split_stereo=True)
    for sound, spoken in zip(channels, truth("stereo"), strict=True):
        heard = hear(model, sound)
        assert (heard.info.language, heard.text) == (spoken.language, spoken.text)


def a_minute() -> tuple[Samples, list[Said]]:
    """More than two windows of thirty seconds, a clip in each; and what is said when."""
    pause, parts, spoken, at = np.zeros(24 * RATE, np.float32), [], [], 0.0
    for _ in range(3):
        sound = samples("english")
        spoken += [Said(word.text, word.start + at, word.end + at) for word in said("english").words]
        parts += [sound, pause]
        at += (len(sound) + len(pause)) / RATE
    return np.concatenate(parts), spoken


@pytest.mark.parametrize("options", [{}, {"condition_on_previous_text": False}])
def test_a_minute_is_heard_window_after_window(model: WhisperModel, options: dict[str, object]) -> None:
    sound, spoken = a_minute()
    assert len(sound) > 60 * RATE
    heard = hear(model, sound, **options).words
    assert [spelling(word) for word in heard] == [word.text for word in spoken]
    assert [word.end for word in heard] == pytest.approx([word.end for word in spoken], abs=0.5)


@pytest.mark.parametrize("vad", [False, True], ids=["whole", "speech only"])
def test_silence_has_no_words(model: WhisperModel, vad: bool) -> None:
    assert hear(model, SILENCE, vad_filter=vad).segments == []


def test_a_named_language_is_not_questioned(model: WhisperModel) -> None:
    heard = hear(model, samples("spanish"), language="es")
    assert (heard.text, heard.info.language_probability) == (said("spanish").text, 1)


def test_words_to_listen_for_do_not_disturb_it(model: WhisperModel) -> None:
    assert hear(model, samples("english"), hotwords="Outspoken, seven").text == said("english").text
    assert hear(model, samples("english"), initial_prompt="Nine nine nine.").text == said("english").text


def test_it_hears_the_same_without_timestamps(model: WhisperModel) -> None:
    assert hear(model, samples("english"), without_timestamps=True).text == said("english").text
