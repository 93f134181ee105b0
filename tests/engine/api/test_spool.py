"""The folder where uploads wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.api.spool import Spool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "var" / "spool"


def test_a_file_is_gone_afterwards_unless_it_was_moved(folder: Path) -> None:
    spool = Spool(folder)
    spool.open()
    with spool.file("left") as left, spool.file("moved") as moved, spool.file("never-written"):
        left.write_bytes(b"x")
        moved.write_bytes(b"y")
        moved.rename(folder.parent / "moved")
    assert list(folder.iterdir()) == []
    assert (folder.parent / "moved").read_bytes() == b"y"
    spool.close()


def test_what_a_killed_engine_left_is_removed_at_start(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "stale").write_bytes(b"x")
    spool = Spool(folder)
    spool.open()
    assert list(folder.iterdir()) == []
    spool.close()


def test_what_another_engine_is_receiving_is_left_alone(folder: Path) -> None:
    first, second = Spool(folder), Spool(folder)
    first.open()
    with first.file("arriving") as arriving:
        arriving.write_bytes(b"x")
        second.open()
        assert arriving.read_bytes() == b"x"
    second.close()
    first.close()


def test_the_folder_is_private(folder: Path) -> None:
    spool = Spool(folder)
    spool.open()
    assert folder.stat().st_mode & 0o777 == 0o700
    spool.close()
    spool.close()
