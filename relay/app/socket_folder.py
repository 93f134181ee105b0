"""A folder for the workers' sockets, in whose addresses a long path has no room. It goes with its supervisor; that of
one who was killed is left behind, and the next to start removes it.

A lock says whose supervisor lives, and ends with it. The sockets are of use to nobody else: workers that were orphaned
and drain are asked for nothing any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from relay.outbox.errors import ConfigError

_PREFIX = "outspoken-"
# An address holds 108 bytes on Linux and 104 elsewhere, of which `/outspoken-xxxxxxxx/NN.sock` takes 27.
_LONGEST_PLACE = 72
_SHORT_PLACES = ("/tmp", "/var/tmp")  # noqa: S108 (a folder of our own is made there)


@contextmanager
def socket_folder() -> Iterator[Path]:
    """One that nobody else reaches. Raises ConfigError."""
    folder, lock = _made()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _made() -> tuple[Path, int]:
    for place in (tempfile.gettempdir(), *_SHORT_PLACES):
        if len(os.fsencode(place)) <= _LONGEST_PLACE:
            with suppress(OSError):
                _remove_left_behind(Path(place))
                return _locked(place)
    short = " and ".join(_SHORT_PLACES)
    raise ConfigError(
        f"TMPDIR: {tempfile.gettempdir()} has more than {_LONGEST_PLACE} bytes, no room for the workers' sockets, and "
        f"{short} cannot be written to: name a shorter folder"
    )


def _locked(place: str) -> tuple[Path, int]:
    """A folder that is ours. Whoever found it before it was locked took it for a dead one's, and has removed it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        with suppress(FileNotFoundError):
            lock = _opened(folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_left_behind(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}????????"):
        with suppress(OSError):  # another user's, or that of one who lives
            lock = _opened(folder)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_ours(folder, lock)
            finally:
                os.close(lock)


def _remove_ours(folder: Path, lock: int) -> None:
    """Whatever else stands in there was not made here, and keeps the folder."""
    if os.fstat(lock).st_uid == os.geteuid():
        for name in os.listdir(lock):
            if name.endswith(".sock"):
                os.unlink(name, dir_fd=lock)
        folder.rmdir()


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
