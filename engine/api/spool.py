"""Where uploads wait until they are accepted: files beside the audio folder, gone again unless somebody moved them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Spool:
    """A folder on the audio folder's own file system, so that accepting an upload is a rename and not a copy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: int | None = None

    def open(self) -> None:
        """Make the folder, and empty it of what a killed engine left, unless another engine is at work in it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        if self._alone(self._lock):
            for stale in self._folder.iterdir():
                stale.unlink()
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def close(self) -> None:
        """Let another engine empty the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def path(self, name: str) -> Path:
        """Of a file whose writer takes it away himself."""
        return self._folder / name

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """The path of a file yet to be written; afterwards nothing is there."""
        path = self.path(name)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @staticmethod
    def _alone(lock: int) -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
