"""A worker that listens with a recogniser of no cost and known output: `python -m` starts it in place of the real one.

Speech is a word for each second of sound, said again and again until it is over. A recogniser's name says how it fails.
"""

from __future__ import annotations

import os
import signal

from engine.events import LiveOptions
from engine.recognisers.base import Spec
from engine.recognisers.speech.cutting import Piece
from engine.recognisers.whisper.live_channel import Growing, Guess
from engine.recognisers.workers import live_worker as worker
from engine.recognisers.workers.worker import Unloadable
from engine.transcript import Model, Word

MODULE = "tests.engine.recognisers.whisper.standin"
GOOD, DYING, HANGING, MISSING = (Spec(name=name) for name in ("good", "dying", "hanging", "missing"))
MODEL = Model("id", "standin", "1", "none")


class Standin:
    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    @property
    def model(self) -> Model:
        return MODEL

    def hearer(self, options: LiveOptions) -> Hearer:
        return Hearer(self._spec)


class Hearer:
    language = "en"

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def guess(self, growing: Growing, *, behind: bool) -> Guess | None:
        return Guess(_words(growing.start, growing.end))

    def release(self) -> None:
        """Nothing is settled."""

    def conclude(self, piece: Piece) -> tuple[Word, ...]:
        if self._spec == DYING:
            os.abort()
        if self._spec == HANGING:
            signal.pause()
        return _words(piece.start, piece.start + len(piece.pcm) / 32000)

    def close(self) -> None:
        """Holds nothing."""


def _words(start: float, end: float) -> tuple[Word, ...]:
    return tuple(Word(f"word{n}", start + n, min(start + n + 1, end), 1.0) for n in range(int(end - start) + 1))


def load(spec: Spec) -> Standin:
    if spec == MISSING:
        raise Unloadable("it is not there")
    return Standin(spec)


if __name__ == "__main__":
    worker.main(load)
