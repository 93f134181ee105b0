"""How a model comes into the models directory, and leaves it: in one step, so that half of one is never seen.

What a pull brings lies in a staging folder of the same file system until it is whole and on the disk; then it is
renamed. One pull or removal at a time works in a models directory.
"""

from __future__ import annotations

import errno
import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO
from pathlib import Path

from engine.errors import EngineError
from engine.recognisers.models.files import STAGING, kept_name, model_files, staging_folder
from engine.recognisers.models.lock import LOCK
from relay.service.disk import sync

PullProgress = Callable[[int, int], None]
"""Who wants to know how far a pull has come: bytes done, and bytes in all."""

_REMOVED = ".removed"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class NoRoom(EngineError):
    """The disk cannot hold the model."""


class Staging:
    """Where models are put together; whoever has it is the only one at work in the models directory."""

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir
        self._removed = models_dir / STAGING / _REMOVED

    def folder(self, name: str) -> Path:
        """Where a model of that name is put together; what a pull that was cut off has left lies there still."""
        self._check_place(self._models_dir / name)
        path = staging_folder(self._models_dir, name)
        path.mkdir(exist_ok=True)
        return path

    def borrow(self, name: str) -> None:
        """Put what lies in the model's place into its staging folder too: what is right of it need not come again."""
        folder = staging_folder(self._models_dir, name)
        for file in model_files(self._models_dir / name):
            with suppress(OSError):  # it is there from an earlier pull, or the file system has no hard links
                (folder / file).hardlink_to(self._models_dir / name / file)

    def drop(self, name: str) -> int:
        """Forget what was put together under that name. Returns the bytes freed: none for what was borrowed."""
        path = staging_folder(self._models_dir, name)
        size = sum(file.stat().st_size for file in path.glob("*") if file.stat().st_nlink == 1)
        shutil.rmtree(path, ignore_errors=True)
        return size

    def install(self, name: str) -> Path:
        """Put the staged model, which must be whole, in its place; what stood there before is gone afterwards."""
        path, place = staging_folder(self._models_dir, name), self._models_dir / name
        _sync_all(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        self._take_away(name)
        path.rename(place)
        for folder in {place.parent, self._models_dir}:
            sync(folder)
        self.tidy()
        return place

    def remove(self, name: str) -> None:
        """Remove a model from its place, so that it is there as a whole or not at all."""
        place = self._models_dir / name
        self._take_away(name)
        if place.parent != self._models_dir and not any(place.parent.iterdir()):
            place.parent.rmdir()
        self.tidy()

    def tidy(self) -> None:
        """Free the disk of what was taken away, also by a process that was killed over it. But put a model back that a
        staged one was to replace and has not."""
        for path in self._removed.glob("*"):
            name = kept_name(path)
            if staging_folder(self._models_dir, name).exists() and not (self._models_dir / name).exists():
                path.rename(self._models_dir / name)
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _take_away(self, name: str) -> None:
        self._removed.mkdir(exist_ok=True)
        place = self._models_dir / name
        if place.exists() or place.is_symlink():
            place.rename(self._removed / staging_folder(self._models_dir, name).name)

    def _check_place(self, place: Path) -> None:
        """A model lies in no other's folder, and takes the place of nothing else."""
        if place.parent != self._models_dir and model_files(place.parent):
            raise EngineError(f"{place.parent} is a model itself: name this one otherwise, with --name")
        if place.exists() and any(place.iterdir()) and not ((place / LOCK).exists() or model_files(place)):
            raise EngineError(f"{place} holds no model, and is left as it is: remove it, or choose another --name")


class Meter:
    """Adds up what is done of a pull, and tells it."""

    def __init__(self, total: int, tell: PullProgress) -> None:
        self.total = total
        self._done = 0
        self._tell = tell
        self.add(0)

    def add(self, count: int) -> None:
        self._done = min(self._done + count, self.total)
        self._tell(self._done, self.total)


class Counted(BufferedWriter):
    """A file of the staging folder, written from byte `start` on while a meter counts."""

    def __init__(self, path: Path, meter: Meter, start: int = 0) -> None:
        super().__init__(FileIO(path, "r+" if start else "w"))
        self.seek(start)
        self._meter = meter

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        self._meter.add(len(data))
        return super().write(data)


@contextmanager
def at_work(models_dir: Path) -> Iterator[Staging]:
    """The right to change the models directory. Raises EngineError while another process has it."""
    root = models_dir / STAGING
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EngineError(f"another `engine models` command is at work in {models_dir}; wait for it") from None
        staging = Staging(models_dir)
        staging.tidy()
        yield staging


@contextmanager
def full_disk_named(models_dir: Path) -> Iterator[None]:
    """A write that fails for want of room raises NoRoom."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _no_room(models_dir, f"{error.strerror}; nothing of the model was kept") from None


def need_room(folder: Path, size: int) -> None:
    """Raises NoRoom, before anything is brought, where a staging folder cannot take so many bytes in all."""
    free, more = shutil.disk_usage(folder).free, size - sum(file.stat().st_size for file in folder.iterdir())
    if more > free:
        raise _no_room(folder.parents[1], f"the model takes {more} bytes more, and {free} are free")


def _no_room(models_dir: Path, reason: str) -> NoRoom:
    return NoRoom(
        f"no room in {models_dir} ({reason}): free some (`engine models list`, `engine models remove`), or set "
        "engine.models_dir to a folder on another disk"
    )


def _sync_all(folder: Path) -> None:
    for path in folder.iterdir():
        sync(path)
    sync(folder)
