"""How many voices there are among pieces of speech, and what each is like. Pure.

Agglomerative, by average linkage on cosine similarity: the mean similarity between two groups is the product of their
mean vectors, and that within one follows from the length of its mean. So a group is nothing but its mean and how much
there is of it. How alike the pieces of one voice are depends on the voice and on the line that it comes over: how
similar two groups must be to one another depends on how similar each is within itself. What is much alike is merged as
it comes, and hours take as much memory as minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.recognisers.speakers.encoder import SIZE, Embeddings, unit
from engine.request import SpeakerBounds

Floats = NDArray[np.float32]

_WITHIN, _WITHIN_PAIRS = 0.82, 4.0
"""How similar pieces of a voice are of which nothing is known yet; it counts as so many pairs of them."""

_MOST_PAIRS = 50.0
"""More pairs of pieces tell nothing new of how similar a voice is within itself."""

_ONE, _OWN = 0.765, 0.5
"""How similar two groups must be to one another to be one voice, where each is within itself as voices mostly are; and
the share of what they differ from that by which it differs, too: what is nearest is merged first, and so a group seems
to be more similar within than its voice is."""

_FEW = 0.1
"""By how much less similar they may be where one of them is a single piece; by half of it where that has two, and so
on."""

_LEAST = 0.1
"""Of a piece: no group tells less."""

_SAID_AGAIN = 0.97
"""More similar than that is what is said twice, such as a message that was recorded, and tells nothing new."""

_SURE = 0.85
"""Similarity from which pieces are merged before the others are known."""

_MOST_GROUPS = 400
"""More are never compared with one another at once."""

_REFINEMENTS = 2


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of pieces: the mean of each, of shape (groups, SIZE), how much its pieces tell of a voice, where a long
    one counts as 1, and the sum of the squares of that."""

    means: Floats
    counts: Floats
    squares: Floats

    def __len__(self) -> int:
        return len(self.counts)

    @staticmethod
    def of(pieces: Embeddings, counts: Floats) -> Groups:
        """Each piece by itself."""
        return Groups(pieces, counts, counts**2)

    @staticmethod
    def none() -> Groups:
        return Groups.of(np.zeros((0, SIZE), np.float32), np.zeros(0, np.float32))

    def joined(self, more: Groups) -> Groups:
        """With more of them, but for what was said before. Where that makes too many, those that are surely one voice
        are one group."""
        groups, step = self, _MOST_GROUPS // 2
        for first in range(0, len(more), step):
            groups = groups._and_new(more.part(slice(first, first + step)))
            if len(groups) > _MOST_GROUPS:
                groups, _ = _merged(groups, _surely_one, 1, step)
        return groups

    def within(self) -> Floats:
        """How similar the pieces of each are to one another, as far as they tell."""
        all_pairs = self.counts**2 - self.squares
        alike = self.counts**2 * np.einsum("ij,ij->i", self.means, self.means) - self.squares
        pairs = np.clip(all_pairs / 2, 0, _MOST_PAIRS)
        known = alike * pairs / np.maximum(all_pairs, 1e-6)
        found: Floats = (_WITHIN * _WITHIN_PAIRS + known) / (_WITHIN_PAIRS + pairs)
        return found

    def part(self, which: slice | NDArray[np.bool_]) -> Groups:
        return Groups(self.means[which], self.counts[which], self.squares[which])

    def _and_new(self, more: Groups) -> Groups:
        means = np.concatenate((self.means, more.means))
        before = np.tril(more.means @ means.T, len(self) - 1)
        new = before.max(axis=1) < _SAID_AGAIN
        counts, squares = (self.counts, more.counts[new]), (self.squares, more.squares[new])
        return Groups(np.concatenate((self.means, more.means[new])), np.concatenate(counts), np.concatenate(squares))


Similarity = Callable[[Groups, Groups], Floats]
"""What is asked of each of some groups and each of others to be one voice, of shape (some, others)."""


def voices(groups: Groups, bounds: SpeakerBounds) -> Embeddings:
    """What each voice is like, of shape (voices, SIZE): as many as there seem to be, but within the bounds; never more
    than there are groups."""
    return _refined(unit(merged(groups, bounds)[0].means), groups)


def merged(groups: Groups, bounds: SpeakerBounds) -> tuple[Groups, list[int]]:
    """Those that are one voice as one group, in the place of the first of them; and which one each has become."""
    return _merged(groups, _one_voice, bounds.least, bounds.most)


def _one_voice(some: Groups, others: Groups) -> Floats:
    fewer = np.maximum(np.minimum(some.counts[:, None], others.counts), _LEAST)
    within = (some.within()[:, None] + others.within()) / 2
    needed = _ONE + _OWN * (within - _WITHIN) - _FEW / fewer
    return needed.astype(np.float32)


def _surely_one(some: Groups, others: Groups) -> Floats:
    return np.full((len(some), len(others)), _SURE, np.float32)


def _merged(groups: Groups, needed: Similarity, least: int, most: int) -> tuple[Groups, list[int]]:
    """The nearest two merged again and again, while they are as similar as is needed or there are more than `most`; no
    fewer than `least` are left."""
    means, counts, squares = groups.means.copy(), groups.counts.copy(), groups.squares.copy()
    groups, into = Groups(means, counts, squares), np.arange(len(groups))
    margins = means @ means.T - needed(groups, groups)
    np.fill_diagonal(margins, -np.inf)
    for left in range(len(counts), least, -1):
        one, other = sorted(divmod(int(np.argmax(margins)), len(counts)))
        if margins[one, other] < 0 and left <= most:
            break
        both = counts[one] + counts[other]
        means[one] = (means[one] * counts[one] + means[other] * counts[other]) / both
        counts[one], counts[other] = both, 0
        squares[one], squares[other] = squares[one] + squares[other], 0
        into[into == other] = one
        margins[other] = margins[:, other] = -np.inf
        row = means @ means[one] - needed(groups.part(slice(one, one + 1)), groups)[0]
        row[counts == 0] = row[one] = -np.inf
        margins[one] = margins[:, one] = row
    stay = counts > 0
    return groups.part(stay), (np.cumsum(stay) - 1)[into].tolist()


def _refined(found: Embeddings, groups: Groups) -> Embeddings:
    """Each voice by those groups that are nearest to it."""
    said = groups.means * groups.counts[:, None]
    for _ in range(_REFINEMENTS if len(found) > 1 else 0):
        nearest = (groups.means @ found.T).argmax(axis=1)
        sums = np.stack([said[nearest == number].sum(axis=0) for number in range(len(found))])
        found = np.where(np.linalg.norm(sums, axis=1, keepdims=True) > 0, unit(sums), found)
    return found
