"""Pulling the voice encoder, by which speakers are told apart: out of the wheel that ships it as a file of PyTorch's,
into one that holds nothing but numbers.

The wheel is never imported, and what it would itself need, PyTorch among it, is not wanted.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from engine.errors import EngineError
from engine.recognisers.models.files import ModelDamaged
from engine.recognisers.models.integrity import BROKEN_ZIP, sha256
from engine.recognisers.models.lock import FileDigest, Lock
from engine.recognisers.models.names import ENCODER, SPEAKERS, VOICE_WHEEL
from engine.recognisers.models.staging import Meter, PullProgress, need_room
from relay.service.interpreter import module_command

_TRAINED = f"{VOICE_WHEEL.folder}/pretrained.pt"
_DIGEST = FileDigest(17090379, "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e")
"""Of that file: looked at before a byte of it is read as anything else."""

_VARIABLES = "model_state"
_ROOM = 40 * 1024**2
"""Bytes that a pull takes on the disk."""

_ELSEWHERE = (
    f"or run `pip download --no-deps {VOICE_WHEEL.requirement}` on another machine, copy the wheel here, and say "
    "`engine models pull FILE.whl`"
)


class VoiceEncoderWheel:
    """The wheel, as something to pull: a file, the one that is installed, or else the package index's."""

    def __init__(self, path: Path | None = None) -> None:
        self._file = path
        self.path = path or Path(VOICE_WHEEL.requirement)
        self.name = SPEAKERS

    def fetch(self, folder: Path, known: Lock | None, progress: PullProgress) -> Lock:  # noqa: ARG002 (it is pinned)
        """Convert it. Raises ModelDamaged, NoRoom, and EngineError where there is no wheel to be had."""
        from engine.recognisers.models.torch_file import BadFile, read_arrays
        from engine.recognisers.speakers.weights import BadEncoder, check_shapes, write

        shutil.rmtree(folder)
        folder.mkdir()
        need_room(folder, _ROOM)
        meter = Meter(_DIGEST.size, progress)
        trained = self._trained(folder)
        _check(self.path / _TRAINED, trained)
        try:
            variables = read_arrays(trained, _VARIABLES)
            check_shapes(variables)
        except (BadFile, BadEncoder) as error:
            raise ModelDamaged(self.path / _TRAINED, str(error), "get the wheel again") from None
        write(folder / ENCODER, variables)
        meter.add(_DIGEST.size)
        size = (folder / ENCODER).stat().st_size
        return Lock(SPEAKERS, str(self.path), None, {ENCODER: FileDigest(size, sha256(folder / ENCODER))})

    def _trained(self, folder: Path) -> bytes:
        """The bytes of the trained file, at most one more than it has."""
        installed = None if self._file else _installed()
        if installed:
            self.path = installed
            with (installed / _TRAINED).open("rb") as file:
                return file.read(_DIGEST.size + 1)
        if self._file:
            return _unpacked(self._file)
        try:
            return _unpacked(_downloaded(folder / "wheel"))
        finally:
            shutil.rmtree(folder / "wheel", ignore_errors=True)


def is_voice_wheel(path: Path) -> bool:
    """Whether a file is called as that wheel is."""
    return path.name.partition("-")[0].lower() == VOICE_WHEEL.distribution.lower()


def _installed() -> Path | None:
    """The folder that the wheel's files were installed in."""
    try:
        root = Path(str(distribution(VOICE_WHEEL.distribution).locate_file("")))
    except PackageNotFoundError:
        return None
    return root if (root / _TRAINED).is_file() else None


def _downloaded(folder: Path) -> Path:
    """The wheel, fetched by pip, which knows where the index is."""
    if find_spec("pip") is None:
        raise EngineError(f"there is no pip here to fetch the voice encoder with: install it, {_ELSEWHERE}")
    asked = ("download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary", ":all:")
    command = module_command("pip", *asked, "--dest", str(folder), VOICE_WHEEL.requirement)
    ended = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    wheel = next(folder.glob("*.whl"), None) if folder.is_dir() else None
    if ended.returncode or wheel is None:
        said = [line for line in ended.stderr.splitlines() if line.startswith("ERROR:")]
        reason = f" ({said[-1]})" if said else ""
        raise EngineError(f"pip could not fetch {VOICE_WHEEL.requirement}{reason}: try again, {_ELSEWHERE}")
    return wheel


def _unpacked(wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_TRAINED) as file:
            return file.read(_DIGEST.size + 1)
    except (*BROKEN_ZIP, KeyError) as error:
        raise ModelDamaged(wheel, f"cannot be unpacked ({error})", "get the wheel again") from None


def _check(file: Path, data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    if digest != _DIGEST.sha256:
        raise ModelDamaged(
            file,
            f"is not what it must be: its SHA-256 is {digest}, expected {_DIGEST.sha256}",
            f"nothing of it was kept: say `engine models pull {SPEAKERS}` again, {_ELSEWHERE}",
        )
