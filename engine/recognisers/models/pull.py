"""Pulling a model into the models directory: from the hub, from a directory, or from a wheel file; the voice encoder
from the package index.

Whichever it is, its files are held against the digests that are pinned or locked for its name, and what has none gets
a lock.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Protocol

from engine.errors import EngineError
from engine.recognisers.models.files import (
    FILES,
    NEEDED,
    ModelDamaged,
    ModelFiles,
    ModelMissing,
    ModelUnusable,
    Origin,
    files_in,
    model_files,
)
from engine.recognisers.models.hub import Repository, Unreachable
from engine.recognisers.models.integrity import BROKEN_ZIP, Whole, check, check_files, check_structure, sha256
from engine.recognisers.models.lock import FileDigest, Lock, pinned, read_lock, write_lock
from engine.recognisers.models.names import REPOSITORIES, SPEAKERS, WHEELS, canonical, repository
from engine.recognisers.models.staging import Counted, Meter, PullProgress, at_work, full_disk_named, need_room
from engine.recognisers.models.voices import VoiceEncoderWheel, is_voice_wheel

_BLOCK = 1024 * 1024


class ModelSource(Protocol):
    """Somewhere a model can be pulled from. `path` is how it is called in an error, `name` what the model is called
    unless the operator says otherwise."""

    @property
    def path(self) -> Path: ...
    @property
    def name(self) -> str: ...
    def fetch(self, folder: Path, known: Lock | None, progress: PullProgress) -> Lock:
        """Bring the model's files into the folder, and say what came. `known` is what it must be, if anything is."""
        ...


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that now lies in the models directory, whole; and whether anything had to be brought."""

    model: ModelFiles
    brought: bool


def pull(what: str, models_dir: Path, name: str | None, *, update: bool, progress: PullProgress) -> Pulled:
    """Pull a model: `what` is a name of the hub, a directory, or a wheel file; `name` is what to call it.

    A name that was pulled before keeps to its lock, unless `update` is set. Raises EngineError or OSError; the model
    that was there before is there still.
    """
    source = source_of(what)
    if name and isinstance(source, Repository | VoiceEncoderWheel):
        raise EngineError(f"{what} has a name that stays: --name is for directories and wheel files of Whisper models")
    called = canonical(name or source.name)
    if called is None:
        raise EngineError(
            f"{name or source.name!r} can be no model's name: say --name NAME or --name ORGANISATION/NAME"
        )
    with full_disk_named(models_dir), at_work(models_dir) as staging:
        known = pinned(called) or (None if update else _locked(models_dir / called))
        if (
            known
            and isinstance(source, Repository | VoiceEncoderWheel)
            and (model := _whole(models_dir / called, called))
        ):
            return Pulled(model, brought=False)
        folder = staging.folder(called)
        if isinstance(source, Repository):
            staging.borrow(called)
        try:
            lock = source.fetch(folder, known, progress)
            _check(folder, known or lock, source)
            write_lock(folder, lock.called(called, str(source.path)))
            place = staging.install(called)
        except (Unreachable, KeyboardInterrupt):
            if not any(folder.iterdir()):
                staging.drop(called)
            raise  # the next pull goes on from there
        except BaseException:
            staging.drop(called)
            raise
        return Pulled(files_in(place, called, Origin.MODELS_DIR), brought=True)


def source_of(what: str) -> ModelSource:
    """Where to pull from. Raises EngineError for what is neither on disk nor a name of the hub."""
    if Path(what).is_dir():
        return Directory(Path(what))
    if Path(what).is_file():
        return VoiceEncoderWheel(Path(what)) if is_voice_wheel(Path(what)) else WheelFile(Path(what))
    if what == SPEAKERS:
        return VoiceEncoderWheel()
    known = repository(what)
    if known is None or what.endswith(".whl"):
        raise EngineError(
            f"{what!r} is no directory, no wheel file, and no model of the hub; say {', '.join(REPOSITORIES)}, "
            f"ORGANISATION/NAME, or {SPEAKERS}"
        )
    return Repository(known)


class Directory:
    """A directory that holds a model, as something to pull: a copied folder of another models directory, or files that
    the operator has converted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _locked(path)
        self.name = self._lock.name if self._lock else path.resolve().name

    def fetch(self, folder: Path, known: Lock | None, progress: PullProgress) -> Lock:
        """Copy it. Raises ModelMissing and ModelDamaged before a byte is copied."""
        check(files_in(self.path, self.name, Origin.DIRECTORY))
        if known:
            _check(self.path, known, self)
        names = model_files(self.path)
        sizes = {name: (self.path / name).stat().st_size for name in names}
        meter = Meter(sum(sizes.values()), progress)
        need_room(folder, meter.total)
        _clear(folder)
        for name in names:
            with (self.path / name).open("rb") as file, Counted(folder / name, meter) as target:
                shutil.copyfileobj(file, target, _BLOCK)
        return self._lock or Lock(self.name, str(self.path.resolve()), None, _digests(folder))


class WheelFile:
    """A wheel that holds a model, as something to pull. It is unpacked, never installed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The repository whose files the wheel is known to bring, else what the distribution is called."""
        called = self.path.name.partition("-")[0].replace("_", "-")
        return next((name for name, wheel in WHEELS.items() if wheel.distribution == called), called)

    def fetch(self, folder: Path, known: Lock | None, progress: PullProgress) -> Lock:
        """Unpack the one model in it. Raises ModelMissing and ModelDamaged."""
        _clear(folder)
        with self._intact(self.path), zipfile.ZipFile(self.path) as wheel:
            members = self._members(wheel)
            meter = Meter(sum(member.file_size for member in members.values()), progress)
            need_room(folder, meter.total)
            for name, member in members.items():
                with (
                    self._intact(self.path / name, known),
                    wheel.open(member) as file,
                    Counted(folder / name, meter) as target,
                ):
                    shutil.copyfileobj(file, target, _BLOCK)
        return Lock(self.name, str(self.path.resolve()), None, _digests(folder))

    def _members(self, wheel: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
        """A model's files in the wheel, by name: those that lie beside its only `model.bin`."""
        paths = {PurePosixPath(member.filename): member for member in wheel.infolist()}
        folders = [path.parent for path in paths if path.name == "model.bin"]
        if len(folders) != 1:
            raise ModelMissing(f"{self.path} holds {len(folders) or 'no'} models: a model.bin and what belongs to it")
        members = {
            path.name: member
            for path, member in paths.items()
            if path.parent == folders[0] and any(fnmatch(path.name, form) for form in FILES)
        }
        if lacking := [form for form in NEEDED if not any(fnmatch(name, form) for name in members)]:
            raise ModelMissing(f"{self.path} has no {', '.join(lacking)} beside model.bin")
        return members

    @contextmanager
    def _intact(self, file: Path, known: Lock | None = None) -> Iterator[None]:
        try:
            yield
        except BROKEN_ZIP as error:
            expected = known and known.files.get(file.name)
            problem = f"cannot be unpacked ({error})" + (f"; expected SHA-256 {expected.sha256}" if expected else "")
            raise ModelDamaged(file, problem, "get the wheel again") from None


def _check(folder: Path, expected: Lock, source: ModelSource) -> None:
    """Whether what was brought is what it must be. Raises ModelDamaged, which names files as the source has them."""
    try:
        check_files(folder, expected.files)
        check_structure(folder)
    except ModelDamaged as error:
        remedy = "get it again"
        if pinned(expected.name) is None:
            remedy += ", or say --update if it is to be another one from now on"
        raise ModelDamaged(source.path / error.file.name, error.problem, f"nothing of it was kept: {remedy}") from None


def _whole(place: Path, name: str) -> ModelFiles | None:
    """The model in its place, if every file is proved to be what it must be."""
    model = files_in(place, name, Origin.MODELS_DIR)
    try:
        return model if check(model) is Whole.BY_DIGEST else None
    except ModelUnusable:
        return None


def _locked(folder: Path) -> Lock | None:
    """The lock in a folder; one that is damaged locks nothing."""
    try:
        return read_lock(folder)
    except ValueError:
        return None


def _digests(folder: Path) -> dict[str, FileDigest]:
    return {name: FileDigest((folder / name).stat().st_size, sha256(folder / name)) for name in model_files(folder)}


def _clear(folder: Path) -> None:
    """What an earlier pull has left is of no use."""
    for path in folder.iterdir():
        path.unlink()
