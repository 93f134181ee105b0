"""The voice encoder at work: windows of sound to embeddings, three LSTM layers in numpy.

Trained by GE2E (generalised end-to-end loss): voices of one person lie close together on the unit sphere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.recognisers.speakers.features import BANDS, FRAMES_PER_SECOND, Mels

Embeddings = NDArray[np.float32]
"""Of shape (windows, SIZE), each of unit length."""

SIZE = 256
LAYERS = 3
WINDOW_FRAMES = 160
WINDOW_SECONDS = WINDOW_FRAMES / FRAMES_PER_SECOND
"""What one embedding is made of."""

_BATCH, _AHEAD = 64, 20
"""Windows that go through the layers together, and frames that do: more is hardly quicker, and takes more memory."""

SHAPES: Mapping[str, tuple[int, ...]] = {
    **{
        f"lstm.{name}_l{layer}": shape
        for layer in range(LAYERS)
        for name, shape in (
            ("weight_ih", (4 * SIZE, SIZE if layer else BANDS)),
            ("weight_hh", (4 * SIZE, SIZE)),
            ("bias_ih", (4 * SIZE,)),
            ("bias_hh", (4 * SIZE,)),
        )
    },
    "linear.weight": (SIZE, SIZE),
    "linear.bias": (SIZE,),
}
"""Every variable, by the name under which it was trained."""


class VoiceEncoder:
    """`variables` are those of SHAPES."""

    def __init__(self, variables: Mapping[str, NDArray[np.float32]]) -> None:
        self._layers = [_Layer(variables, number) for number in range(LAYERS)]
        self._weight = np.ascontiguousarray(variables["linear.weight"].T)
        self._bias = variables["linear.bias"].copy()  # a view would keep the whole file

    def embed(self, windows: Sequence[Mels]) -> Embeddings:
        """One embedding for each window, all of the same number of frames."""
        batches = [self._batch(np.stack(windows[n : n + _BATCH])) for n in range(0, len(windows), _BATCH)]
        return np.concatenate(batches) if batches else np.zeros((0, SIZE), np.float32)

    def _batch(self, windows: NDArray[np.float32]) -> Embeddings:
        count, frames, _ = windows.shape
        states = [_LayerState.at_rest(count) for _ in self._layers]
        for first in range(0, frames, _AHEAD):
            values = np.ascontiguousarray(windows[:, first : first + _AHEAD].transpose(1, 0, 2))  # time first
            for layer, state in zip(self._layers, states, strict=True):
                values = layer.run(values, state)
        return unit(np.maximum(values[-1] @ self._weight + self._bias, 0.0))


@dataclass(slots=True)
class _LayerState:
    """Of one layer, after some frames: what it says, and what it remembers, of shape (windows, SIZE)."""

    said: NDArray[np.float32]
    cell: NDArray[np.float32]

    @staticmethod
    def at_rest(windows: int) -> _LayerState:
        return _LayerState(np.zeros((windows, SIZE), np.float32), np.zeros((windows, SIZE), np.float32))


class _Layer:
    """One layer; its gates stand in the order i, f, o, g, so that one sigmoid does for three."""

    def __init__(self, variables: Mapping[str, NDArray[np.float32]], number: int) -> None:
        def gates(name: str) -> NDArray[np.float32]:
            i, f, g, o = np.split(variables[f"lstm.{name}_l{number}"], 4)
            return np.concatenate((i, f, o, g))

        self._of_input = np.ascontiguousarray(gates("weight_ih").T)
        self._of_state = np.ascontiguousarray(gates("weight_hh").T)
        self._bias = gates("bias_ih") + gates("bias_hh")

    def run(self, values: NDArray[np.float32], state: _LayerState) -> NDArray[np.float32]:
        """Of shape (frames, windows, width) to the same with SIZE; the state moves on."""
        frames, windows, width = values.shape
        inputs = values.reshape(-1, width) @ self._of_input
        inputs += self._bias
        out = np.empty((frames, windows, SIZE), np.float32)
        for number, gates in enumerate(inputs.reshape(frames, windows, 4 * SIZE)):
            gates += state.said @ self._of_state
            opened = gates[:, : 3 * SIZE]
            np.multiply(np.tanh(opened * 0.5, out=opened), 0.5, out=opened)  # the sigmoid
            opened += 0.5
            i, f, o = np.split(opened, 3, axis=1)
            state.cell = f * state.cell + i * np.tanh(gates[:, 3 * SIZE :])
            state.said = out[number] = o * np.tanh(state.cell)
        return out


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each of unit length; one of zeros stays what it is."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    found: NDArray[np.float32] = np.divide(vectors, np.maximum(lengths, 1e-9), dtype=np.float32)
    return found
