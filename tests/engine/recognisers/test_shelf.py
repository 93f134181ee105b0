"""Models on disk: found by name or by directory, and honest about what is missing."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from faster_whisper import utils

from engine.recognisers import shelf

COMPLETE = ("config.json", "model.bin", "tokenizer.json", "vocabulary.json")


def put(folder: Path, *files: str) -> Path:
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_bytes(b"[]")
    return folder


def test_short_names_mean_what_faster_whisper_means_by_them() -> None:
    assert shelf.REPOSITORIES == utils._MODELS


@pytest.mark.parametrize("name", ["../etc", "a/../b", "/etc", "a/b/c", "unheard-of", "", "a/..", "-a/b"])
def test_what_is_no_repository_is_never_looked_for_in_the_folder(name: str) -> None:
    assert shelf.repository(name) is None


def test_a_model_is_found_by_its_directory(tmp_path: Path) -> None:
    path = put(tmp_path / "mine", *COMPLETE)
    assert shelf.find(str(path), Path("elsewhere")) == shelf.Shelved("mine", path, 8, ())


@pytest.mark.parametrize("name", ["small", "Systran/faster-whisper-small"])
def test_a_model_that_was_pulled_is_found_by_either_name(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / "Systran" / "faster-whisper-small", *COMPLETE)
    assert shelf.find(name, tmp_path) == shelf.Shelved("Systran/faster-whisper-small", path, 8, ())


def test_a_model_that_is_not_there_is_named_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(shelf.ModelMissing, match=r"'large-v3' is not on this machine.*engine models pull large-v3"):
        shelf.find("large-v3", tmp_path)


def test_half_a_model_is_not_one(tmp_path: Path) -> None:
    put(tmp_path / "Systran" / "faster-whisper-tiny", "config.json", "model.bin")
    with pytest.raises(shelf.ModelMissing, match=r"has no tokenizer.json, vocabulary.\*; .*engine models pull tiny"):
        shelf.find("tiny", tmp_path)


def test_a_directory_that_lacks_something_cannot_be_pulled(tmp_path: Path) -> None:
    path = put(tmp_path / "mine", "config.json", "model.bin", "vocabulary.txt")
    with pytest.raises(shelf.ModelMissing, match=r"has no tokenizer.json; convert it again"):
        shelf.find(str(path), tmp_path)


def test_a_name_that_means_nothing_is_met_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(shelf.ModelMissing, match=r"'lage-v3' is neither a directory nor .*large-v3"):
        shelf.find("lage-v3", tmp_path)


def test_all_that_was_pulled_is_listed_with_its_size(tmp_path: Path) -> None:
    put(tmp_path / "b" / "whole", *COMPLETE)
    put(tmp_path / "a" / "half", "model.bin")
    put(tmp_path / "a" / "half" / ".cache" / "download", "model.bin.incomplete")
    found = list(shelf.shelved(tmp_path))
    assert [(one.name, one.size, bool(one.missing)) for one in found] == [("a/half", 4, True), ("b/whole", 8, False)]
    assert list(shelf.shelved(tmp_path / "nowhere")) == []


@pytest.mark.parametrize(
    ("file", "content", "multilingual"),
    [
        ("vocabulary.json", orjson.dumps(["a", "", "b"]), True),
        ("vocabulary.json", orjson.dumps(["a", "b"]), False),
        ("vocabulary.txt", b"a\n\nb\n", True),
        ("vocabulary.txt", b"a\nb\n", False),
    ],
)
def test_an_empty_token_marks_a_multilingual_vocabulary(
    tmp_path: Path, file: str, content: bytes, multilingual: bool
) -> None:
    (tmp_path / file).write_bytes(content)
    assert shelf.is_multilingual(tmp_path) is multilingual


def test_a_vocabulary_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.json").write_bytes(b"[")
    with pytest.raises(shelf.ModelMissing, match=r"vocabulary\.json cannot be read"):
        shelf.is_multilingual(tmp_path)


def test_full_numbers_take_twice_what_lies_on_disk() -> None:
    assert [shelf.expected_memory(100, kind) for kind in ("int8", "auto", "float32")] == [100, 100, 200]
