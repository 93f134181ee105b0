"""Whisper by its real code, with the model of spoken digits: words, times, languages, channels, long audio, silence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.audio.decode import decode
from engine.recognisers.base import Options, Progress, Spec, untold
from engine.recognisers.shelf import ModelMissing, is_multilingual
from engine.recognisers.whisper import Whisper, placement
from engine.transcript import Channel, Transcript
from tests.models import DIGITS
from tests.models.speech import RATE, Said
from tests.models.truth import Truth, clip, truth

MONO = ("english", "spanish", "noisy", "stranger")
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


def test_equal_audio_makes_equal_transcripts_whatever_was_heard_before(whisper: Whisper) -> None:
    first = hear(whisper, "english")
    hear(whisper, "spanish")
    assert hear(whisper, "english") == first


def test_no_audio_at_all_is_silence_too(whisper: Whisper) -> None:
    assert only(whisper.transcribe(Sound(np.zeros(0, np.int16)), Options())).segments == ()


def minutes() -> tuple[np.typing.NDArray[np.int16], list[Said]]:
    """More than one stretch of the model above: clips in turn, between pauses, and what is said when."""
    pause, parts, words, at = np.zeros(4 * RATE, np.int16), [], [], 0.0
    while at < SPEC.batch_size * 30 + 40:
        for name in ("english", "stranger", "noisy"):
            sound = samples(name)
            words += [Said(word.text, word.start + at, word.end + at) for word in said(name).words]
            parts += [sound, pause]
            at += (len(sound) + len(pause)) / RATE
    return np.concatenate(parts), words


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
