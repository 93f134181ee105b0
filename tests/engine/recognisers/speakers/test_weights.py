"""The voice encoder's file: what goes in comes out, and what is no encoder is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.recognisers.speakers.encoder import LAYERS, SHAPES, SIZE, VoiceEncoder
from engine.recognisers.speakers.features import BANDS
from engine.recognisers.speakers.weights import BadEncoder, read, write

Arrays = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    dice = np.random.default_rng(1)
    return {name: dice.normal(0, 0.2, shape).astype(np.float32) for name, shape in SHAPES.items()}


def test_what_goes_in_comes_out(tmp_path: Path, arrays: Arrays) -> None:
    write(tmp_path / "e", arrays)
    found = read(tmp_path / "e")
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)


@pytest.mark.parametrize(
    ("old", "new"), [(b"F32", b"F64"), (b"[1024,40]", b"[40,1024]"), (b"linear.bias", b"linear_bias")]
)
def test_another_header_is_no_encoder(tmp_path: Path, arrays: Arrays, old: bytes, new: bytes) -> None:
    write(tmp_path / "e", arrays)
    whole = (tmp_path / "e").read_bytes()
    for damaged in (whole.replace(old, new, 1), whole[:-4], whole[:20], b""):
        (tmp_path / "e").write_bytes(damaged)
        with pytest.raises(BadEncoder, match="is no voice encoder"):
            read(tmp_path / "e")


def test_many_windows_at_once_are_as_one_by_one_by_the_book(arrays: Arrays) -> None:
    windows = np.abs(np.random.default_rng(2).normal(0, 1, (66, 22, BANDS))).astype(np.float32)
    found = VoiceEncoder(arrays).embed(list(windows))
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.allclose(found[65], _by_the_book(windows[65], arrays), atol=1e-5)


def _by_the_book(seen: NDArray[np.float32], arrays: Arrays) -> NDArray[np.float32]:
    """As the equations of an LSTM stand in PyTorch's documentation."""
    for layer in range(LAYERS):
        state, cell, out = np.zeros(SIZE), np.zeros(SIZE), []
        for frame in seen:
            from_input = arrays[f"lstm.weight_ih_l{layer}"] @ frame + arrays[f"lstm.bias_ih_l{layer}"]
            from_state = arrays[f"lstm.weight_hh_l{layer}"] @ state + arrays[f"lstm.bias_hh_l{layer}"]
            i, f, g, o = np.split(from_input + from_state, 4)
            cell = cell / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
            state = np.tanh(cell) / (1 + np.exp(-o))
            out.append(state)
        seen = np.array(out)
    raw = np.maximum(arrays["linear.weight"] @ seen[-1] + arrays["linear.bias"], 0)
    found: NDArray[np.float32] = raw / np.linalg.norm(raw)
    return found
