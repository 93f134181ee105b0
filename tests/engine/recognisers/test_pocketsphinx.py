"""Real speech through the real model: the words, when they were said, and on which channel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from engine.audio.decode import decode
from engine.errors import AudioError
from engine.recognisers.base import Options, model_id
from engine.recognisers.pocketsphinx import PocketSphinx, spoken
from engine.transcript import Channel, Transcript
from tests.engine.audio.encoding import CLIPS, DEMO, STEREO


@pytest.fixture(scope="module")
def recogniser() -> PocketSphinx:
    return PocketSphinx()


def hear(recogniser: PocketSphinx, path: Path, *, split: bool = False, max_seconds: float = 60) -> Transcript:
    with decode(path, split=split, max_seconds=max_seconds) as audio:
        return recogniser.transcribe(audio, Options())


def text(channel: Channel) -> str:
    return " ".join(word.text for word in channel.words)


def said(clip: str) -> list[str]:
    """What is said in a clip, line by line, without punctuation."""
    return [re.sub(r"[^a-z' ]", "", line.lower()) for line in (CLIPS / f"{clip}.txt").read_text().splitlines()]


@pytest.fixture(scope="module")
def demo(recogniser: PocketSphinx) -> Transcript:
    return hear(recogniser, DEMO)


@pytest.fixture(scope="module")
def stereo(recogniser: PocketSphinx) -> Transcript:
    return hear(recogniser, STEREO, split=True)


def test_the_demo_clip_is_understood_word_for_word(demo: Transcript) -> None:
    (channel,) = demo.channels
    assert [" ".join(word.text for word in segment.words) for segment in channel.segments] == said("demo")
    assert (demo.duration, demo.source_channels, channel.language) == (11.12, 1, "en")


def test_words_come_one_after_another_inside_the_audio(demo: Transcript) -> None:
    words = demo.channels[0].words
    assert all(0 <= word.start < word.end <= demo.duration for word in words)
    assert all(earlier.end <= later.start for earlier, later in pairwise(words))
    assert all(0 < word.confidence <= 1 for word in words)
    assert all(re.fullmatch(r"[a-z']+", word.text) for word in words)


def test_words_stand_where_they_were_said(demo: Transcript) -> None:
    """The clip is made of three sentences around two pauses of 0.7 s of pure zeros: no word lies in them."""
    with decode(DEMO, split=False) as audio:
        pcm = b"".join(block for (block,) in audio)
    pauses = [match.span() for match in re.finditer(rb"\0{16000,}", pcm)]
    assert len(pauses) == 2
    for (start, end), (before, after) in zip(pauses, pairwise(demo.channels[0].segments), strict=True):
        assert before.words[-1].end <= start / 32000 + 0.15
        assert after.words[0].start >= end / 32000 - 0.15


def test_each_channel_has_its_own_words(stereo: Transcript) -> None:
    assert [text(channel) for channel in stereo.channels] == said("stereo")
    assert stereo.source_channels == 2


class Silence:
    """Four seconds of nothing, mixed from eight channels to two."""

    sample_rate = 16000
    channels = 2
    source_channels = 8
    duration = 4.0

    def __iter__(self) -> Iterator[tuple[bytes, ...]]:
        return iter([(bytes(16000), bytes(16000))] * 8)


def test_silence_has_channels_without_segments(recogniser: PocketSphinx) -> None:
    assert recogniser.transcribe(Silence(), Options()) == Transcript(recogniser.model, 4.0, 8, (Channel(), Channel()))


def test_after_audio_that_broke_off_equal_audio_gives_equal_words(recogniser: PocketSphinx, stereo: Transcript) -> None:
    with pytest.raises(AudioError, match="longer than"):
        hear(recogniser, DEMO, max_seconds=4)
    assert hear(recogniser, STEREO, split=True) == stereo


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("read(2)", "read"),
        ("it's", "it's"),
        ("<sil>", ""),
        ("</s>", ""),
        ("[NOISE]", ""),
        ("++UM++", ""),
        ("a(12)", "a"),
    ],
)
def test_a_dictionary_entry_becomes_a_word_or_nothing(entry: str, word: str) -> None:
    assert spoken(entry) == word


def test_the_model_has_the_same_id_everywhere(recogniser: PocketSphinx) -> None:
    assert model_id("pocketsphinx-en-us", "5.1.1") == "529b163f-fd93-5c98-98fb-c66e182c805a"
    assert recogniser.model.id == model_id(recogniser.model.name, recogniser.model.version)
