"""The arrays in a file that PyTorch wrote in its old format, read without PyTorch, and without running what it says.

The format is a row of pickles, then the raw numbers. A pickle may name any callable and have it called; here it may
name what stands in a table, of which nothing does anything but describe an array.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_FLOAT = np.dtype("<f4")


_BROKEN = (
    *(pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError, ImportError),
    *(struct.error, MemoryError, OverflowError, RecursionError),
)
"""What broken pickles end in: as various as their bytes."""


class BadFile(ValueError):
    """The file is not what PyTorch writes, or names what no file of arrays needs. The message ends a sentence."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of the numbers that come later in the file under a key, in rows without gaps."""

    storage: str
    offset: int
    shape: tuple[int, ...]


def read_arrays(data: bytes, under: str) -> dict[str, NDArray[np.float32]]:
    """The arrays of 32-bit floats of the table that stands under a key of the file's outermost one. Raises BadFile."""
    file = io.BytesIO(data)
    try:
        _check_head(_load(file), _load(file))
        _load(file)  # about the machine that wrote it
        described, keys = _load(file), _load(file)
        storages = {key: _numbers(file) for key in keys}
        return {str(name): _array(tensor, storages) for name, tensor in described[under].items()}
    except BadFile:
        raise
    except _BROKEN as error:
        raise BadFile(f"is damaged ({type(error).__name__})") from None


def _check_head(magic: object, protocol: object) -> None:
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise BadFile("was not written by PyTorch, or in a format that is not known here")


class _Unpickler(pickle.Unpickler):
    """Knows three names and no more."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch", "FloatStorage"):
            return name
        raise BadFile(f"names {module}.{name}, which no file of arrays needs")

    def persistent_load(self, pid: Any) -> str:
        """The key of some numbers."""
        what, _, key, *_ = pid
        if what != "storage":
            raise BadFile("refers to something that is no array")
        return str(key)


def _load(file: io.BytesIO) -> Any:
    return _Unpickler(file).load()


def _tensor(storage: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> _Tensor:
    """What is called where the file asks for a tensor."""
    if tuple(strides) != tuple(math.prod(shape[n + 1 :]) for n in range(len(shape))):
        raise BadFile("holds an array with gaps")
    return _Tensor(storage, offset, tuple(shape))


def _numbers(file: io.BytesIO) -> bytes:
    """The raw numbers of the next storage. Here they are 32 bits wide each, and what is not is never looked at."""
    (count,) = struct.unpack("<q", file.read(8))
    return file.read(4 * count)


def _array(tensor: _Tensor, storages: Mapping[str, bytes]) -> NDArray[np.float32]:
    count = math.prod(tensor.shape)
    return np.frombuffer(storages[tensor.storage], _FLOAT, count, 4 * tensor.offset).reshape(tensor.shape)
