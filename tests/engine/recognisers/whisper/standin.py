"""A live worker with a recogniser of no cost and known output: `python -m` starts it in place of the real one.

Speech is a word for each second of a stretch. A recogniser's name says how it fails; one that is `held` hears what is
over only while nobody else has a lock on the file that is its model.
"""

from __future__ import annotations

import fcntl
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from engine.errors import RecogniserUnavailable
from engine.events import LiveOptions
from engine.recognisers.base import Spec
from engine.recognisers.whisper.passes import Hypothesis, Pass
from engine.recognisers.workers import live_worker as worker
from engine.transcript import Model, Word

MODULE = "tests.engine.recognisers.whisper.standin"
GOOD, DYING, HANGING, MISSING = (Spec(name=name) for name in ("good", "dying", "hanging", "missing"))
MODEL = Model("id", "standin", "1", "none")


def held(lock: Path) -> Spec:
    """A recogniser that waits for this lock."""
    return Spec(name="held", model=str(lock))


@dataclass(frozen=True)
class Standin:
    spec: Spec
    model: Model = MODEL

    def transcribe(self, wanted: Pass, options: LiveOptions) -> Hypothesis:
        if wanted.final:
            self._fail()
        return Hypothesis(words(wanted), "en")

    def _fail(self) -> None:
        match self.spec.name:
            case "dying":
                os.abort()
            case "hanging":
                threading.Event().wait()
            case "held":
                with Path(self.spec.model).open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX)


def words(wanted: Pass) -> tuple[Word, ...]:
    """One for each second."""
    seconds = range(int(wanted.seconds) + 1)
    return tuple(Word(f"word{n}", wanted.start + n, min(wanted.start + n + 1, wanted.end), 1.0) for n in seconds)


def load(spec: Spec, passes: int) -> Standin:
    if spec == MISSING:
        raise RecogniserUnavailable("it is not there")
    return Standin(spec)


if __name__ == "__main__":
    worker.main(load)
