"""Local agreement: of a guess that is made again and again, what two passes in a row agree on is settled. Pure.

Whisper decodes a growing stretch anew each time, and may change its mind about all of it. What is settled may be told
for good before the stretch is over, and is kept meanwhile; but the pass over all of it knows better.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from engine.transcript import Word


@dataclass(frozen=True, slots=True)
class LocalAgreement:
    """What is settled of a stretch, and what the last pass put after it."""

    settled: tuple[Word, ...] = ()
    open: tuple[Word, ...] = ()
    before: float = 0.0

    @property
    def words(self) -> tuple[Word, ...]:
        """All that seems to be said."""
        return self.settled + self.open

    def update(self, guess: Sequence[Word], until: float) -> LocalAgreement:
        """After another pass. A word that ends after `until` may be half a word, and is not settled yet."""
        rest = self._rest(guess)
        agreed = sum(1 for _ in _agreed(self.open, rest, until))
        return replace(self, settled=self.settled + rest[:agreed], open=rest[agreed:])

    def conclude(self, guess: Sequence[Word]) -> tuple[Word, ...]:
        """The words after those that were told, by the last pass over all of it; the settled ones if it has none."""
        return tuple(_after((word for word in guess if _middle(word) > self.before), self.before)) or self.settled

    def release(self) -> LocalAgreement:
        """What is settled has been told: the stretch begins after it."""
        return LocalAgreement((), self.open, self._end)

    @property
    def _end(self) -> float:
        return self.settled[-1].end if self.settled else self.before

    def _rest(self, guess: Sequence[Word]) -> tuple[Word, ...]:
        """What the guess has after the settled words: by their number where it repeats them, else by the time."""
        count = len(self.settled)
        if count and _texts(guess[:count]) == _texts(self.settled):
            return tuple(_after(guess[count:], self._end))
        return tuple(_after((word for word in guess if _middle(word) > self._end), self._end))


def _agreed(first: Iterable[Word], second: Iterable[Word], until: float) -> Iterator[Word]:
    for one, other in zip(first, second, strict=False):
        if one.text != other.text or other.end > until:
            return
        yield other


def _middle(word: Word) -> float:
    return (word.start + word.end) / 2


def _texts(words: Iterable[Word]) -> list[str]:
    return [word.text for word in words]


def _after(words: Iterable[Word], earliest: float) -> Iterator[Word]:
    """The words, none before the one that it follows."""
    for word in words:
        start = max(word.start, earliest)
        yield replace(word, start=start, end=max(word.end, start))
        earliest = start
