"""A model comes into its place, and leaves it, in one step: also where the process was killed in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.recognisers.models.staging import at_work
from tests.engine.recognisers.models.making import put

NAME = "some/thing"


def staged(models_dir: Path, note: bytes) -> None:
    with at_work(models_dir) as staging:
        (staging.folder(NAME) / "config.json").write_bytes(note)


def test_a_model_takes_the_place_of_the_one_before_it(tmp_path: Path) -> None:
    put(tmp_path / NAME, {"config.json": b"old", "preprocessor_config.json": b"old"})
    staged(tmp_path, b"new")
    with at_work(tmp_path) as staging:
        assert staging.install(NAME) == tmp_path / NAME
    assert [(file.name, file.read_bytes()) for file in (tmp_path / NAME).iterdir()] == [("config.json", b"new")]
    assert not list((tmp_path / ".staging").glob("*/*"))


def test_a_place_that_is_a_link_to_another_disk_is_replaced_and_what_it_led_to_is_left(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere", {"config.json": b"old"})
    (tmp_path / "models" / "some").mkdir(parents=True)
    (tmp_path / "models" / NAME).symlink_to(elsewhere)
    staged(tmp_path / "models", b"new")
    with at_work(tmp_path / "models") as staging:
        staging.install(NAME)
    assert (tmp_path / "models" / NAME / "config.json").read_bytes() == b"new"
    assert (elsewhere / "config.json").read_bytes() == b"old"


def test_killed_between_the_old_model_and_the_new_one_the_old_is_put_back(tmp_path: Path) -> None:
    place = put(tmp_path / NAME, {"config.json": b"old"})
    staged(tmp_path, b"new")
    place.rename(put(tmp_path / ".staging" / ".removed", {}) / "some%thing")
    with at_work(tmp_path):
        assert (place / "config.json").read_bytes() == b"old"


def test_killed_over_a_removal_the_next_one_at_work_finishes_it(tmp_path: Path) -> None:
    put(tmp_path / ".staging" / ".removed" / "some%thing", {"model.bin": b"old"})
    with at_work(tmp_path):
        assert not list((tmp_path / ".staging" / ".removed").iterdir())
    assert not (tmp_path / NAME).exists()


def test_of_what_is_borrowed_only_the_name_is_given_back(tmp_path: Path) -> None:
    place = put(tmp_path / NAME, {"config.json": b"old"})
    with at_work(tmp_path) as staging:
        (staging.folder(NAME) / "model.bin.part").write_bytes(b"12345")
        staging.borrow(NAME)
        assert (staging.folder(NAME) / "config.json").read_bytes() == b"old"
        assert staging.drop(NAME) == 5
    assert (place / "config.json").read_bytes() == b"old"


def test_one_at_a_time_is_at_work(tmp_path: Path) -> None:
    with at_work(tmp_path), pytest.raises(EngineError, match="another `engine models` command is at work"):
        at_work(tmp_path).__enter__()
