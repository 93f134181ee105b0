# mypy: disable-error-code="import-not-found, misc, no-any-return"
"""Whisper's architecture, very small, under the parameter names of CTranslate2, so that converting it is to copy it.

Differs from a large one in size alone, and in what it returns beside the logits: where its layers looked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ctranslate2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

MELS = 80
POSITIONS = 1500
MOST_TOKENS = 448


@dataclass(frozen=True, slots=True)
class Size:
    tokens: int
    width: int = 96
    heads: int = 2
    encoder_layers: int = 2
    decoder_layers: int = 4


class LayerNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.gamma.shape, self.gamma, self.beta)


class Attention(nn.Module):
    """Self-attention has one matrix for query, key and value; attention to other states has one for key and value."""

    def __init__(self, size: Size, to_self: bool) -> None:
        super().__init__()
        width = size.width
        self.heads = size.heads
        self.layer_norm = LayerNorm(width)
        first = [nn.Linear(width, 3 * width)] if to_self else [nn.Linear(width, width), nn.Linear(width, 2 * width)]
        self.linear = nn.ModuleList([*first, nn.Linear(width, width)])

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        query, key, value = self.linear[0](self.layer_norm(x)).chunk(3, dim=-1)
        parts = (self._split(part) for part in (query, key, value))
        return x + self.linear[-1](_merge(functional.scaled_dot_product_attention(*parts, is_causal=causal)))

    def look(self, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """`x` with what it saw in `states`, and log weights (batch, heads, tokens, positions)."""
        query = self._split(self.linear[0](self.layer_norm(x)))
        key, value = (self._split(part) for part in self.linear[1](states).chunk(2, dim=-1))
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).log_softmax(dim=-1)
        return x + self.linear[-1](_merge(weights.exp() @ value)), weights

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _merge(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer_norm = LayerNorm(width)
        self.linear_0 = nn.Linear(width, 4 * width)
        self.linear_1 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear_1(functional.gelu(self.linear_0(self.layer_norm(x))))


class EncoderLayer(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.self_attention = Attention(size, to_self=True)
        self.ffn = FeedForward(size.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.ffn(self.self_attention(x))


class DecoderLayer(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.self_attention = Attention(size, to_self=True)
        self.attention = Attention(size, to_self=False)
        self.ffn = FeedForward(size.width)

    def forward(self, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        x, weights = self.attention.look(self.self_attention(x, causal=True), states)
        return self.ffn(x), weights


class Positions(nn.Module):
    def __init__(self, encodings: Tensor, learnt: bool) -> None:
        super().__init__()
        self.encodings = nn.Parameter(encodings, requires_grad=learnt)


class Embeddings(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)


class Encoder(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(MELS, size.width, 3, padding=1)
        self.conv2 = nn.Conv1d(size.width, size.width, 3, stride=2, padding=1)
        self.position_encodings = Positions(sinusoids(POSITIONS, size.width), learnt=False)
        self.layer = nn.ModuleList(EncoderLayer(size) for _ in range(size.encoder_layers))
        self.layer_norm = LayerNorm(size.width)

    def forward(self, features: Tensor, at: int = 0) -> Tensor:
        """States (batch, positions, width) of `features` (batch, mels, frames) that stand `at` this position."""
        x = functional.gelu(self.conv2(functional.gelu(self.conv1(features)))).transpose(1, 2)
        x = x + self.position_encodings.encodings[at : at + x.shape[1]]
        for layer in self.layer:
            x = layer(x)
        return self.layer_norm(x)


class Decoder(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.embeddings = Embeddings(torch.randn(size.tokens, size.width) * size.width**-0.5)
        self.position_encodings = Positions(0.1 * sinusoids(MOST_TOKENS, size.width), learnt=True)
        self.layer = nn.ModuleList(DecoderLayer(size) for _ in range(size.decoder_layers))
        self.layer_norm = LayerNorm(size.width)

    def forward(self, tokens: Tensor, states: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (batch, tokens, vocabulary) of what follows each token, and where each layer looked, as logs."""
        x = self.embeddings.weight[tokens] + self.position_encodings.encodings[: tokens.shape[1]]
        looked = []
        for layer in self.layer:
            x, weights = layer(x, states)
            looked.append(weights)
        return self.layer_norm(x) @ self.embeddings.weight.T, looked


class Whisper(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.encoder = Encoder(size)
        self.decoder = Decoder(size)

    def forward(self, features: Tensor, tokens: Tensor, at: int = 0) -> tuple[Tensor, list[Tensor]]:
        return self.decoder(tokens, self.encoder(features, at))

    def know_time(self, first_timestamp: int) -> None:
        """Begin with timestamps that resemble the positions they stand for: telling the time is then to point at it."""
        times = self.encoder.position_encodings.encodings
        weight = self.decoder.embeddings.weight.data
        weight[first_timestamp : first_timestamp + len(times)] = times * self.size.width**-0.5


def sinusoids(length: int, width: int) -> Tensor:
    scales = torch.exp(-np.log(10000.0) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * scales[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def convert(network: Whisper, config: dict[str, object], vocabulary: list[str], folder: Path) -> None:
    """Writes `network` as CTranslate2 reads it: model.bin (8-bit weights), config.json and vocabulary.json."""
    size = network.size
    spec = ctranslate2.specs.WhisperSpec(size.encoder_layers, size.heads, size.decoder_layers, size.heads)
    for name, parameter in network.state_dict().items():
        _place(spec, name, parameter.numpy().copy())  # quantization works in place
    spec.decoder.projection.weight = spec.decoder.embeddings.weight
    for key, value in config.items():
        setattr(spec.config, key, value)
    spec.register_vocabulary(vocabulary)
    spec.validate()
    spec.optimize(quantization="int8_float16")
    spec.save(str(folder))


def _place(spec: object, name: str, value: object) -> None:
    *path, leaf = name.split(".")
    for part in path:
        spec = spec[int(part)] if part.isdigit() else getattr(spec, part)  # type: ignore[index]
    setattr(spec, leaf, value)
