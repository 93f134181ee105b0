"""Voices by hand: points on the sphere about which pieces of their speech lie, as close as those of the encoder."""

from __future__ import annotations

import numpy as np

from engine.recognisers.speakers.clustering import Groups
from engine.recognisers.speakers.encoder import SIZE, Embeddings, unit

_APART, _SCATTER = 0.75, 0.45


def voices(count: int, seed: int = 0) -> Embeddings:
    """Any two of them are about as similar as those of two people: 0.5 to 0.7."""
    dice = np.random.default_rng(seed)
    common, own = dice.standard_normal(SIZE), dice.standard_normal((count, SIZE))
    return unit((common + _APART * own).astype(np.float32))


def said(voice: Embeddings, pieces: int, seed: int = 0, scatter: float = _SCATTER) -> Embeddings:
    """Pieces of one voice, any two of which are 0.83 alike."""
    scattered = np.random.default_rng(seed).standard_normal((pieces, SIZE)) / np.sqrt(SIZE)
    return unit((voice + scatter * scattered).astype(np.float32))


def of(pieces: Embeddings, count: float = 1.0) -> Groups:
    """Pieces that tell so much each."""
    return Groups.of(pieces, np.full(len(pieces), count, np.float32))
