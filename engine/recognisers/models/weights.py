"""`model.bin` as CTranslate2 writes it: a header and a table of variables with their numbers, walked without reading
the numbers. Little-endian; strings are a 16-bit length, then bytes that end with NUL.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

WHISPER = "WhisperSpec"
VERSIONS = range(4, 7)
"""The layouts that are read here, which are one and the same; CTranslate2 4 writes the last."""

_ITEM_BYTES = (4, 1, 2, 4, 2, 2)  # float32, int8, int16, int32, float16, bfloat16: by CTranslate2's number for each


class BadWeights(ValueError):
    """The file is not what CTranslate2 writes, or not all of it. The message is the end of a sentence about it."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What a file holds: the architecture's name, and the shape of every variable."""

    architecture: str
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def tokens(self) -> int | None:
        """How many tokens the vocabulary must have; None where no variable tells."""
        shape = self.shapes.get("decoder/embeddings/weight")
        return shape[0] if shape else None


def read_weights(path: Path) -> Weights:
    """Walk the whole file. Raises BadWeights, or OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        walk = _Walk(file, size)
        (version,) = walk.numbers("I")
        if version not in VERSIONS:
            raise BadWeights(f"is no model of CTranslate2 that is known here (binary version {version})")
        architecture, _ = walk.text(), walk.numbers("I")
        shapes = dict(walk.variable() for _ in range(*walk.numbers("I")))
        for _ in range(*walk.numbers("I")):  # other names of the same variables
            walk.text(), walk.text()
        if file.tell() != size:
            raise BadWeights(f"goes on for {size - file.tell()} bytes after its end")
    return Weights(architecture, shapes)


class _Walk:
    """Steps through the file, and never beyond its end."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def numbers(self, form: str) -> tuple[int, ...]:
        layout = struct.Struct(f"<{form}")
        return layout.unpack(self._bytes(layout.size))

    def text(self) -> str:
        raw = self._bytes(*self.numbers("H"))
        if len(raw) < 2 or raw.find(0) != len(raw) - 1:
            raise BadWeights(f"is damaged: no name stands at byte {self._file.tell() - len(raw)}")
        return raw[:-1].decode(errors="replace")

    def variable(self) -> tuple[str, tuple[int, ...]]:
        name = self.text()
        shape = self.numbers(f"{self.numbers('B')[0]}I")
        kind, size = self.numbers("BI")
        if kind >= len(_ITEM_BYTES) or math.prod(shape) * _ITEM_BYTES[kind] != size:
            raise BadWeights(f"is damaged: {name} is no variable of {size} bytes")
        self._need(size)
        self._file.seek(size, 1)
        return name, shape

    def _bytes(self, count: int) -> bytes:
        self._need(count)
        return self._file.read(count)

    def _need(self, count: int) -> None:
        end = self._file.tell() + count
        if end > self._size:
            raise BadWeights(f"is cut off: it has {self._size} bytes, and needs at least {end}")
