"""Whisper by its real code, with the model of spoken digits: words, times, languages, channels, long audio, silence.

What the model itself can and cannot is said in `tests/models`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest

from engine.audio.decode import decode
from engine.recognisers.base import Options, Progress, Spec, untold
from engine.recognisers.models.files import ModelMissing, is_multilingual
from engine.recognisers.whisper.recorded import Whisper, placement
from engine.recognisers.workers.pool import Pool, Transcribe
from engine.transcript import Channel, Transcript
from tests.models import DIGITS
from tests.models.speech import RATE, Said
from tests.models.truth import Truth, clip, truth

KNOWN = ("english", "spanish", "noisy")
MONO = (*KNOWN, "stranger")
SPEC = Spec("whisper", model=str(DIGITS), name="digits", device="cpu", threads=1, batch_size=4)


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return Whisper(SPEC)


class Sound:
    """Audio from memory, each channel a list of s16le samples at 16 kHz, in blocks of half a second."""

    sample_rate = RATE

    def __init__(self, *channels: np.typing.NDArray[np.int16]) -> None:
        self._channels = channels
        self.channels = self.source_channels = len(channels)
        self.duration = 0.0

    def __iter__(self) -> Iterator[tuple[bytes, ...]]:
        for start in range(0, len(self._channels[0]), RATE // 2):
            blocks = [channel[start : start + RATE // 2] for channel in self._channels]
            self.duration += len(blocks[0]) / RATE
            yield tuple(block.tobytes() for block in blocks)


def samples(name: str) -> np.typing.NDArray[np.int16]:
    with decode(clip(name), split=False) as audio:
        return np.frombuffer(b"".join(block for (block,) in audio), np.int16)


def hear(
    whisper: Whisper, name: str, options: Options | None = None, *, split: bool = False, progress: Progress = untold
) -> Transcript:
    with decode(clip(name), split=split) as audio:
        return whisper.transcribe(audio, options or Options(), progress)


def only(transcript: Transcript) -> Channel:
    (channel,) = transcript.channels
    return channel


def said(name: str) -> Truth:
    (channel,) = truth(name)
    return channel


def written(channel: Channel) -> str:
    return " ".join(word.written for word in channel.words)


def spoken(channel: Channel) -> list[str]:
    return [word.text for word in channel.words]


@pytest.mark.parametrize("name", KNOWN)
def test_every_word_is_heard_as_it_is_spoken_and_as_it_is_written(whisper: Whisper, name: str) -> None:
    channel = only(hear(whisper, name))
    assert spoken(channel) == [word.text for word in said(name).words]
    assert written(channel) == said(name).text
    assert all(0 < word.confidence <= 1 for word in channel.words)


def test_of_a_voice_that_was_never_heard_it_hears_all_and_at_most_one_word_too_many(whisper: Whisper) -> None:
    heard, real = spoken(only(hear(whisper, "stranger"))), [word.text for word in said("stranger").words]
    assert sum(block.size for block in SequenceMatcher(None, heard, real).get_matching_blocks()) == len(real)
    assert len(heard) <= len(real) + 1


@pytest.mark.parametrize("name", KNOWN)
def test_a_sentence_is_a_segment(whisper: Whisper, name: str) -> None:
    phrases = [[word.text for word in phrase] for phrase in said(name).phrases]
    assert [[word.text for word in segment.words] for segment in only(hear(whisper, name)).segments] == phrases


@pytest.mark.parametrize("vad", [True, False], ids=["speech only", "whole"])
@pytest.mark.parametrize("name", KNOWN)
def test_words_stand_where_they_were_said(whisper: Whisper, name: str, vad: bool) -> None:
    heard = only(hear(whisper if vad else without_vad(), name)).words
    for word, real in zip(heard, said(name).words, strict=True):
        assert (word.start, word.end) == pytest.approx((real.start, real.end), abs=0.3), real


def without_vad() -> Whisper:
    return Whisper(Spec("whisper", model=str(DIGITS), device="cpu", threads=1, vad=False))


@pytest.mark.parametrize("name", MONO)
def test_the_language_is_detected(whisper: Whisper, name: str) -> None:
    channel = only(hear(whisper, name))
    assert channel.language == said(name).language
    assert 0.5 < channel.language_confidence <= 1


def test_candidates_restrict_the_detection(whisper: Whisper) -> None:
    assert only(hear(whisper, "english", Options(languages=("es", "en-GB")))).language == "en"
    forced = only(hear(whisper, "english", Options(languages=("es-MX",))))
    assert forced.language == "es"
    assert forced.language_confidence < 0.5


def test_a_named_language_is_not_questioned(whisper: Whisper) -> None:
    channel = only(hear(whisper, "spanish", Options(language="es-419")))
    assert (channel.language, channel.language_confidence) == ("es", 1.0)
    assert written(channel) == said("spanish").text


def test_each_channel_is_heard_by_itself_in_its_own_language(whisper: Whisper) -> None:
    transcript = hear(whisper, "stereo", split=True)
    assert transcript.source_channels == 2
    assert [(channel.language, written(channel)) for channel in transcript.channels] == [
        (channel.language, channel.text) for channel in truth("stereo")
    ]


def test_phrases_to_listen_for_do_not_disturb_it(whisper: Whisper) -> None:
    assert written(only(hear(whisper, "english", Options(hotwords=("seven", "Outspoken"))))) == said("english").text


def test_of_many_phrases_to_listen_for_the_first_are_told_which_leave_room_for_what_is_said(whisper: Whisper) -> None:
    phrases = [f"name {number}" for number in range(500)]
    told = list(whisper._fitting(phrases))
    assert told == phrases[: len(told)]
    tokens = len(whisper._whisper.hf_tokenizer.encode(", ".join(told), add_special_tokens=False).ids)
    assert 80 < tokens <= 100


def test_a_prompt_may_come_before_everything() -> None:
    prompted = Whisper(Spec("whisper", model=str(DIGITS), device="cpu", threads=1, prompt="One two three."))
    assert written(only(hear(prompted, "english"))) == said("english").text


def test_equal_audio_makes_equal_transcripts_whatever_was_heard_before(whisper: Whisper) -> None:
    first = hear(whisper, "english")
    hear(whisper, "spanish")
    assert hear(whisper, "english") == first


@pytest.mark.parametrize("vad", [True, False], ids=["speech only", "whole"])
def test_silence_has_no_words_and_no_language(whisper: Whisper, vad: bool) -> None:
    silence = np.zeros(5 * RATE, np.int16)
    transcript = (whisper if vad else without_vad()).transcribe(Sound(silence, silence), Options())
    assert [(channel.segments, channel.language_confidence) for channel in transcript.channels] == [((), 0.0)] * 2
    assert transcript.duration == 5.0


def test_no_audio_at_all_is_silence_too(whisper: Whisper) -> None:
    assert only(whisper.transcribe(Sound(np.zeros(0, np.int16)), Options())).segments == ()


def minutes() -> tuple[np.typing.NDArray[np.int16], list[Said]]:
    """More than one stretch of the model above: clips in turn, and what is said when. The pauses between them are so
    long that the model hears a clip at a time: it loses its place where the same digits come again and again."""
    pause, parts, words, at = np.zeros(24 * RATE, np.int16), [], [], 0.0
    while at < SPEC.batch_size * 30 + 40:
        for name in ("english", "noisy"):
            sound = samples(name)
            words += [Said(word.text, word.start + at, word.end + at) for word in said(name).words]
            parts += [sound, pause]
            at += (len(sound) + len(pause)) / RATE
    return np.concatenate(parts), words


def test_long_audio_is_heard_stretch_by_stretch_and_its_progress_told(whisper: Whisper) -> None:
    sound, words = minutes()
    told: list[float] = []
    transcript = whisper.transcribe(Sound(sound), Options(language="en"), told.append)
    heard = only(transcript).words
    assert [word.text for word in heard] == [word.text for word in words]
    assert [word.start for word in heard] == pytest.approx([word.start for word in words], abs=0.5)
    assert len(set(told)) > 4
    assert told == sorted(told)
    assert told[-1] == pytest.approx(transcript.duration)


def test_the_model_is_named_and_so_is_what_runs_it(whisper: Whisper) -> None:
    assert (whisper.model.name, whisper.model.arch) == ("digits", "whisper")
    assert whisper.model.id == Whisper(SPEC).model.id


def test_the_files_tell_as_much_of_languages_as_the_loaded_model(whisper: Whisper) -> None:
    assert is_multilingual(DIGITS)
    assert whisper._whisper.model.is_multilingual


def test_without_its_tokenizer_it_is_not_loaded_and_none_is_fetched(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DIGITS, tmp_path / "digits"))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelMissing, match=r"has no tokenizer\.json"):
        Whisper(Spec("whisper", model=str(folder)))


async def test_it_hears_in_a_process_of_its_own_beside_another_recogniser() -> None:
    pool = Pool(1, {"digits": SPEC, "pocketsphinx": TINY})
    await pool.start()
    transcript = await pool.transcribe(Transcribe(str(clip("english")), "digits"))
    other = await pool.transcribe(Transcribe(str(clip("english")), "pocketsphinx"))
    await pool.stop()
    assert written(only(transcript)) == said("english").text
    assert [one.model.arch for one in (transcript, other)] == ["whisper", "pocketsphinx"]


@pytest.mark.parametrize(
    ("device", "compute_type", "cuda", "chosen"),
    [
        ("auto", "auto", True, ("cuda", "float16")),
        ("auto", "auto", False, ("cpu", "int8")),
        ("cpu", "auto", True, ("cpu", "int8")),
        ("cuda", "auto", False, ("cuda", "float16")),
        ("cuda", "int8_float16", True, ("cuda", "int8_float16")),
        ("auto", "float32", False, ("cpu", "float32")),
    ],
)
def test_numbers_suit_the_device(device: str, compute_type: str, cuda: bool, chosen: tuple[str, str]) -> None:
    assert placement(device, compute_type, cuda=cuda) == chosen
