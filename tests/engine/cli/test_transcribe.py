"""`engine transcribe`: what is written where, for good files and bad ones."""

from __future__ import annotations

import json
import re
import shutil
import wave
from pathlib import Path

import pytest
from deepgram.types import ListenV1Response

from tests.engine.audio.encoding import STEREO
from tests.engine.cli.stage import Engine

pytestmark = pytest.mark.acceptance

LEFT = "He asked her to call him back in the morning."
RIGHT = "I would like to send this letter to my brother in the city."


@pytest.fixture(autouse=True)
def one_thread(engine: Engine) -> None:
    """Two wait for one another, and take more of a processor in all."""
    engine.set(engine__recognisers__default__threads=1)


@pytest.fixture
def clip(engine: Engine) -> Path:
    """Two people on two channels."""
    return Path(shutil.copy(STEREO, engine.folder / "talk.flac"))


@pytest.fixture
def quiet(engine: Engine) -> Path:
    """Half a second of silence."""
    path = engine.folder / "quiet.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(16000))
    return path


def test_the_document_is_the_one_that_the_api_answers_with(engine: Engine, clip: Path) -> None:
    said = engine.here("transcribe", clip.name, "--multichannel")
    assert (said.code, said.out, said.err) == (0, "", "")
    document = ListenV1Response.model_validate(json.loads((engine.folder / "talk.json").read_text()))
    assert [channel.alternatives[0].transcript for channel in document.results.channels if channel.alternatives] == [
        LEFT,
        RIGHT,
    ]
    assert document.metadata.channels == 2


def test_text_names_the_channel_and_goes_to_the_folder_that_was_named(engine: Engine, clip: Path) -> None:
    said = engine.here("transcribe", clip.name, "--multichannel", "--format", "txt", "--output-dir", "out/here")
    assert said.code == 0
    assert (engine.folder / "out" / "here" / "talk.txt").read_text() == f"[0] {LEFT}\n[1] {RIGHT}\n"


def test_subtitles_go_to_standard_output(engine: Engine, clip: Path) -> None:
    said = engine.here("transcribe", clip.name, "--multichannel", "--format", "srt", "--output-dir", "-")
    assert said.code == 0
    assert said.out.startswith("1\n00:00:0")
    assert "call him back in the morning" in " ".join(said.out.split())
    assert [path.name for path in engine.folder.glob("talk.*")] == ["talk.flac"]


def test_a_bad_file_does_not_stop_the_others_and_is_told(engine: Engine, quiet: Path) -> None:
    (engine.folder / "letter.wav").write_text("Dear sir or madam")
    said = engine.here("transcribe", "letter.wav", "nowhere.mp3", ".", quiet.name, "--format", "vtt")
    assert said.code == 1
    complaints = said.err.splitlines()
    assert complaints[0].startswith("engine: letter.wav: the audio is corrupt, or in a format that is not supported")
    assert complaints[1:] == ["engine: nowhere.mp3: No such file or directory", "engine: .: Is a directory"]
    assert (engine.folder / "quiet.vtt").read_text().startswith("WEBVTT")


def test_a_file_that_ends_too_early_is_written_down_as_far_as_it_goes_and_told(engine: Engine, clip: Path) -> None:
    (engine.folder / "half.flac").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    said = engine.here("transcribe", "half.flac", "--format", "txt")
    assert said.code == 0
    assert said.err.startswith("engine: half.flac: The file announces 3.1 seconds of audio, of which 1.")
    assert (engine.folder / "half.txt").is_file()


def test_nothing_is_written_over_unless_it_is_wished(engine: Engine, quiet: Path) -> None:
    there = engine.folder / "quiet.txt"
    there.write_text("precious")
    refused = engine.here("transcribe", quiet.name, "--format", "txt")
    assert refused.code == 1
    assert "quiet.txt is there already; say --force" in refused.err
    assert there.read_text() == "precious"
    assert engine.here("transcribe", quiet.name, "--format", "txt", "--force").code == 0
    assert there.read_text() == ""


async def test_on_a_terminal_a_bar_follows_the_seconds(engine: Engine, quiet: Path) -> None:
    said = await engine("transcribe", quiet.name, "--output-dir", "-", terminal=True)
    assert said.code == 0
    assert "quiet.wav" in said.err
    assert "100%" in said.err
    assert re.search(r"of \S+ s .*\d\.\dx", said.err), "how much is done, and how fast"
    assert json.loads(said.out)["metadata"]["duration"] == 0.5


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--model", "nova-9", "model: 'nova-9' is not known here"),
        ("--language", "de", "language: model general does not know 'de', only en."),
    ],
)
def test_what_the_api_would_refuse_is_refused_here(
    engine: Engine, quiet: Path, option: str, value: str, complaint: str
) -> None:
    said = engine.here("transcribe", quiet.name, option, value)
    assert said.code == 1
    assert complaint in said.err
