"""The voice encoder's numbers as a file in the format of safetensors, which nothing in it can make a program of.

Eight bytes with the length of a JSON header, the header, and the numbers, little-endian, one array after another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from engine.recognisers.speakers.encoder import SHAPES, VoiceEncoder

Variables = Mapping[str, NDArray[np.float32]]

_FLOAT = np.dtype("<f4")
_LENGTH_BYTES = 8


class BadEncoder(ValueError):
    """The file is no voice encoder, or not all of one. The message is the end of a sentence about it."""


def write(path: Path, variables: Variables) -> None:
    """The variables of SHAPES; the same numbers make the same bytes."""
    header, start = dict[str, Any](), 0
    for name, shape in sorted(SHAPES.items()):
        end = start + _FLOAT.itemsize * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
        start = end
    head = orjson.dumps(header, option=orjson.OPT_SORT_KEYS)
    head += b" " * (-len(head) % _LENGTH_BYTES)
    numbers = (np.ascontiguousarray(variables[name], _FLOAT).tobytes() for name in sorted(SHAPES))
    path.write_bytes(b"".join((len(head).to_bytes(_LENGTH_BYTES, "little"), head, *numbers)))


def read(path: Path) -> Variables:
    """The variables. Raises BadEncoder, or OSError."""
    data = path.read_bytes()
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    try:
        header = orjson.loads(data[_LENGTH_BYTES:start])
        return {name: _variable(memoryview(data)[start:], header[name], shape) for name, shape in SHAPES.items()}
    except (ValueError, LookupError, TypeError) as error:
        raise BadEncoder(f"is no voice encoder, or not all of one ({error})") from None


def load_encoder(path: str) -> VoiceEncoder:
    """The encoder in a file. Raises BadEncoder, or OSError."""
    return VoiceEncoder(read(Path(path)))


def check_shapes(variables: Variables) -> None:
    """Whether all are there, each as large as it must be. Raises BadEncoder."""
    for name, shape in SHAPES.items():
        if name not in variables or variables[name].shape != shape:
            raise BadEncoder(f"has no {name} of the shape {shape}")


def _variable(numbers: memoryview, described: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if (described["dtype"], tuple(described["shape"])) != ("F32", shape):
        raise ValueError("an array is of another shape")
    first, last = described["data_offsets"]
    return np.frombuffer(numbers[first:last], _FLOAT).reshape(shape)
