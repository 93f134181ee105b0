"""The voice encoder at work: windows of sound to embeddings, three LSTM layers in numpy.

Trained by GE2E (generalised end-to-end loss): voices of one person lie close together on the unit sphere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
"""Windows that go through the layers together, and frames for which what comes in is added up at once: more is hardly
quicker, and takes more memory."""

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
        self._weight, self._bias = np.ascontiguousarray(variables["linear.weight"].T), variables["linear.bias"]

    def embed(self, windows: Sequence[Mels]) -> Embeddings:
        """One embedding for each window, all of the same number of frames."""
        batches = [self._batch(np.stack(windows[n : n + _BATCH])) for n in range(0, len(windows), _BATCH)]
        return np.concatenate(batches) if batches else np.zeros((0, SIZE), np.float32)

    def _batch(self, windows: NDArray[np.float32]) -> Embeddings:
        values = np.ascontiguousarray(windows.transpose(1, 0, 2))  # time first
        for layer in self._layers:
            values = layer.run(values)
        return unit(np.maximum(values[-1] @ self._weight + self._bias, 0.0))


class _Layer:
    """One layer; its gates stand in the order i, f, o, g, so that one sigmoid does for three."""

    def __init__(self, variables: Mapping[str, NDArray[np.float32]], number: int) -> None:
        def gates(name: str) -> NDArray[np.float32]:
            i, f, g, o = np.split(variables[f"lstm.{name}_l{number}"], 4)
            return np.concatenate((i, f, o, g))

        self._of_input = np.ascontiguousarray(gates("weight_ih").T)
        self._of_state = np.ascontiguousarray(gates("weight_hh").T)
        self._bias = gates("bias_ih") + gates("bias_hh")

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of shape (frames, windows, width) to the same with SIZE."""
        frames, windows, width = values.shape
        out = np.empty((frames, windows, SIZE), np.float32)
        state, cell = np.zeros((windows, SIZE), np.float32), np.zeros((windows, SIZE), np.float32)
        for number in range(frames):
            if number % _AHEAD == 0:
                inputs = values[number : number + _AHEAD].reshape(-1, width) @ self._of_input + self._bias
                inputs = inputs.reshape(-1, windows, 4 * SIZE)
            gates = inputs[number % _AHEAD]
            gates += state @ self._of_state
            opened = gates[:, : 3 * SIZE]
            np.multiply(np.tanh(opened * 0.5, out=opened), 0.5, out=opened)  # the sigmoid
            opened += 0.5
            i, f, o = np.split(opened, 3, axis=1)
            cell = f * cell + i * np.tanh(gates[:, 3 * SIZE :])
            state = o * np.tanh(cell)
            out[number] = state
        return out


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each of unit length; one of zeros stays what it is."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    found: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-9))
    return found
