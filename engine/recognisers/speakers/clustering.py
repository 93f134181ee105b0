"""How many voices there are among pieces of speech, and what each is like. Pure.

Agglomerative, by average linkage on cosine similarity: the mean similarity between two groups is the product of their
mean vectors, so that a group is nothing but its mean and its count. What is much alike is merged as it comes, and hours
take as much memory as minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.recognisers.speakers.encoder import SIZE, Embeddings, unit
from engine.request import SpeakerBounds

Floats = NDArray[np.float32]

SAME = 0.755
"""Mean similarity from which two groups are one voice. Of one voice it is 0.76 and more, however its pieces are parted;
of two voices that are much alike up to 0.75, and mostly 0.45 to 0.65."""

SAME_FEW = 0.7
"""The same where one of them has fewer than FEW pieces, which tell less."""

FEW = 3

_SURE = 0.85
"""Similarity from which pieces are merged before the others are known."""

_MOST_GROUPS = 400
"""More are never compared with one another at once."""

_REFINEMENTS = 2


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of pieces: the mean of each, of shape (groups, SIZE), and how many pieces it has."""

    means: Floats
    counts: Floats

    def __len__(self) -> int:
        return len(self.counts)

    @staticmethod
    def none() -> Groups:
        return Groups(np.zeros((0, SIZE), np.float32), np.zeros(0, np.float32))

    def joined(self, pieces: Embeddings) -> Groups:
        """With more pieces, each a group of its own."""
        counts = np.ones(len(pieces), np.float32)
        return Groups(np.concatenate((self.means, pieces)), np.concatenate((self.counts, counts)))


def voices(pieces: Embeddings, bounds: SpeakerBounds) -> Embeddings:
    """What each voice is like, of shape (voices, SIZE): as many as there seem to be, but within the bounds; never more
    than there are pieces."""
    groups = Groups.none()
    step = _MOST_GROUPS // 2
    for first in range(0, len(pieces), step):
        groups = groups.joined(pieces[first : first + step])
        if first + step < len(pieces):
            groups, _ = _merged(groups, lambda fewer: np.full_like(fewer, _SURE), 1, step)
    return _refined(unit(merged(groups, bounds)[0].means), pieces)


def merged(groups: Groups, bounds: SpeakerBounds) -> tuple[Groups, list[int]]:
    """Those that are one voice as one group, in the place of the first of them; and which one each has become."""
    return _merged(groups, _needed, bounds.least, bounds.most)


def _needed(fewer: Floats) -> Floats:
    """The similarity that is asked of two groups to be one voice, by how many pieces the smaller one has."""
    return np.where(fewer < FEW, np.float32(SAME_FEW), np.float32(SAME))


def _merged(groups: Groups, needed: Callable[[Floats], Floats], least: int, most: int) -> tuple[Groups, list[int]]:
    """The nearest two merged again and again, while they are as similar as is needed or there are more than `most`; no
    fewer than `least` are left."""
    means, counts, into = groups.means.copy(), groups.counts.copy(), np.arange(len(groups))
    margins = means @ means.T - needed(np.minimum(counts[:, None], counts))
    np.fill_diagonal(margins, -np.inf)
    for left in range(len(counts), least, -1):
        one, other = sorted(divmod(int(margins.argmax()), len(counts)))
        if margins[one, other] < 0 and left <= most:
            break
        both = counts[one] + counts[other]
        means[one] = (means[one] * counts[one] + means[other] * counts[other]) / both
        counts[one], counts[other] = both, 0
        into[into == other] = one
        margins[other] = margins[:, other] = -np.inf
        row = np.where(counts > 0, means @ means[one] - needed(np.minimum(counts, both)), -np.inf)
        row[one] = -np.inf
        margins[one] = margins[:, one] = row
    stay = counts > 0
    return Groups(means[stay], counts[stay]), (np.cumsum(stay) - 1)[into].tolist()


def _refined(found: Embeddings, pieces: Embeddings) -> Embeddings:
    """Each voice by those pieces that are nearest to it."""
    for _ in range(_REFINEMENTS if len(found) > 1 else 0):
        nearest = (pieces @ found.T).argmax(axis=1)
        sums = np.stack([pieces[nearest == number].sum(axis=0) for number in range(len(found))])
        found = np.where(np.linalg.norm(sums, axis=1, keepdims=True) > 0, unit(sums), found)
    return found
