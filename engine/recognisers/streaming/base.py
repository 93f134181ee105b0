"""What listens: the protocol that recognisers of growing audio fulfil, one hearer for each channel of each session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from engine.heard import LiveOptions
from engine.recognisers.cutting import Piece
from engine.transcript import Model, Word


class Growing(Protocol):
    """A stretch of speech that is not over. Times are seconds from the start of the channel, PCM is s16le at 16 kHz."""

    @property
    def start(self) -> float: ...
    @property
    def speech_start(self) -> float | None: ...
    @property
    def end(self) -> float: ...
    def held(self, since: float) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Guess:
    """What the stretch seems to say. The first `settled` words will stay, whatever comes."""

    words: tuple[Word, ...]
    settled: int = 0


class Hearer(Protocol):
    """Hears one channel, a stretch at a time: any number of guesses, then its end."""

    @property
    def language(self) -> str: ...
    def guess(self, growing: Growing, *, behind: bool) -> Guess | None:
        """What is said so far; None where it is not worth the work yet. `behind`: more audio is waiting already."""
        ...

    def release(self) -> None:
        """The settled words of the last guess were told: they are not part of the stretch any more."""
        ...

    def conclude(self, piece: Piece) -> tuple[Word, ...]:
        """The stretch is over: what it says, after what was released."""
        ...

    def close(self) -> None:
        """The session is over."""
        ...


class Listener(Protocol):
    """A recogniser that hears many channels at once."""

    @property
    def model(self) -> Model: ...
    def hearer(self, options: LiveOptions) -> Hearer: ...
