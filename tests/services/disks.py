"""A disk of a test's own that can fail, as one does whose cable is pulled. It takes root, and ext4."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


class FailingDisk:
    """What `folder` holds is on it."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.folder = folder
        self._image = image
        self._mount()

    def _mount(self) -> None:
        if subprocess.run(
            ["mount", "-o", "loop", self._image, self.folder], capture_output=True, check=False
        ).returncode:
            pytest.skip("no file system can be mounted here")

    def fail(self) -> None:
        """Write nothing more, also of what was written and has not reached it."""
        device = subprocess.run(
            ["findmnt", "-no", "SOURCE", self.folder], capture_output=True, check=True, text=True
        ).stdout.strip()
        trigger = Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error")
        if not trigger.exists():
            pytest.skip("the kernel lets no file system fail on demand")
        trigger.write_text("1")

    def leave(self) -> None:
        """Let go of it."""
        subprocess.run(["umount", "--lazy", self.folder], check=True)

    def come_back(self) -> None:
        """With what had reached it."""
        self.leave()
        self._mount()


@contextmanager
def failing_disk() -> Iterator[FailingDisk]:
    """For the length of a block."""
    program = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin")
    if program is None:
        pytest.skip("there is no mkfs.ext4")
    with TemporaryDirectory(prefix="outspoken-disk-") as made:
        image, folder = Path(made, "image"), Path(made, "disk")
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(16 << 20)
        subprocess.run([program, "-q", "-F", "-e", "remount-ro", image], check=True)
        disk = FailingDisk(image, folder)
        try:
            yield disk
        finally:
            disk.leave()
