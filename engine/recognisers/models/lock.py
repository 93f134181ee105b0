"""The digests of a model's files: pinned here for the default model and the voice encoder, and in `model.lock` for
whatever was pulled.

The lock lies in the model's own folder, so that folder and lock come into place at once, and travel together when the
folder is copied to another machine.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.recognisers.models.names import ENCODER, SPEAKERS, VOICE_WHEEL, canonical

LOCK = "model.lock"


class FileDigest(msgspec.Struct, frozen=True):
    """What a file must be: its size in bytes, and its SHA-256 in hex."""

    size: int
    sha256: str


class Lock(msgspec.Struct, frozen=True):
    """A model's files at one revision. `source` is HUB, or the directory or wheel file that they were pulled from; then
    there is no revision."""

    name: str
    source: str
    revision: str | None
    files: dict[str, FileDigest]

    def called(self, name: str, source: str) -> Lock:
        """The lock of the same files under a name; one that is not the hub's has come from `source`."""
        return self if name == self.name else Lock(name, source, None, self.files)


HUB = "hub"

PINNED = {
    "Systran/faster-whisper-tiny.en": Lock(
        name="Systran/faster-whisper-tiny.en",
        source=HUB,
        revision="0d3d19a32d3338f10357c0889762bd8d64bbdeba",
        files={
            "config.json": FileDigest(2317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
            "model.bin": FileDigest(75537502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
            "tokenizer.json": FileDigest(2128466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
            "vocabulary.txt": FileDigest(422309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
        },
    ),
    SPEAKERS: Lock(
        name=SPEAKERS,
        source=VOICE_WHEEL.requirement,
        revision=None,
        files={
            ENCODER: FileDigest(5695632, "6065feaa60b3083618ee29a2e4fbf012a6c02f963c14f18d34c06ef9c356cc1b"),
        },
    ),
}
"""What holds for a model of that name wherever its files came from, the lock in its folder notwithstanding."""


def pinned(name: str) -> Lock | None:
    return PINNED.get(canonical(name) or "")


def read_lock(folder: Path) -> Lock | None:
    """The lock in a model's folder; None where there is none. Raises ValueError for one that cannot be read."""
    try:
        return msgspec.json.decode((folder / LOCK).read_bytes(), type=Lock)
    except FileNotFoundError:
        return None


def write_lock(folder: Path, lock: Lock) -> None:
    (folder / LOCK).write_bytes(msgspec.json.format(msgspec.json.encode(lock), indent=2) + b"\n")
