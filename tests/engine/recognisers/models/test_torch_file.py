"""Files of PyTorch's, read without it: arrays come out, and nothing that a pickle asks for is done."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from engine.recognisers.models.torch_file import BadFile, read_arrays

NUMBERS = np.arange(6, dtype=np.float32)
STORAGE = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0aX\3\0\0\0cpuK\6NtQ"
HOOKS = b"ccollections\nOrderedDict\n)R"


def tensor(rows: int = 2, columns: int = 3, strides: bytes = b"(K\3K\1t") -> bytes:
    """What a pickle says of an array: PyTorch's function, and what it is to be called with."""
    shape = b"(K" + bytes((rows,)) + b"K" + bytes((columns,)) + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\0" + shape + strides + b"\x89" + HOOKS + b"tR"


def file(value: bytes, numbers: bytes = NUMBERS.tobytes()) -> bytes:
    """A file whose table `state` has one entry, `w`."""
    table = b"\x80\2}X\5\0\0\0state}X\1\0\0\0w" + value + b"ss."
    head = (pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({"type_sizes": {}}, 2))
    return b"".join((*head, table, pickle.dumps(["a"], 2), struct.pack("<q", 6), numbers))


def test_arrays_come_out_as_they_went_in() -> None:
    (found,) = read_arrays(file(tensor()), "state").values()
    assert np.array_equal(found, NUMBERS.reshape(2, 3))


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("builtins", "exec"), ("torch", "load"), ("collections", "Counter")]
)
def test_a_pickle_that_names_anything_else_is_refused_and_does_nothing(tmp_path: Path, module: str, name: str) -> None:
    argument = f"touch {tmp_path}/done".encode()
    evil = f"c{module}\n{name}\n(X".encode() + struct.pack("<I", len(argument)) + argument + b"tR"
    with pytest.raises(BadFile, match=rf"names {module}\.{name}, which no file of arrays needs"):
        read_arrays(file(evil), "state")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"PK\3\4",
        pickle.dumps({"state": {}}),
        file(tensor())[:-1],
        file(tensor())[:100],
        file(tensor(rows=200)),
        file(tensor(strides=b"(K\1K\2t")),
        file(b"X\1\0\0\0x"),
        file(b"(X\6\0\0\0moduletQ"),
    ],
    ids=range(9),
)
def test_a_damaged_file_is_one_error(damaged: bytes) -> None:
    with pytest.raises(BadFile):
        read_arrays(damaged, "state")


def test_whatever_is_done_to_its_bytes_it_is_read_or_refused() -> None:
    whole = file(tensor())
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        try:
            read_arrays(bytes(changed), "state")
        except BadFile:
            continue
