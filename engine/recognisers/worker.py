"""The worker process: tasks come in on its standard input, one at a time, and answers go out on its standard output.

Native code that crashes, leaks or hangs on hostile audio takes only this process with it. `python -m` starts it; the
pool does, and is the only one who should.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import IO

from engine.audio.decode import decode, probe
from engine.errors import AudioError
from engine.recognisers import wire
from engine.recognisers.base import Recogniser, Spec
from engine.transcript import Transcript

NICENESS = 5


class Worker:
    """Does tasks, and keeps the recognisers that they needed."""

    def __init__(self) -> None:
        self._loaded: list[tuple[Spec, Recogniser]] = []

    def answer(self, task: wire.Task) -> wire.Answer:
        """Audio that cannot be used is an answer; anything else that goes wrong ends the process."""
        try:
            match task:
                case wire.Look():
                    return probe(task.path, task.raw)
                case wire.Hear():
                    return self._transcribe(task)
        except AudioError as error:
            return wire.Unusable(str(error))

    def _transcribe(self, task: wire.Hear) -> Transcript:
        with decode(task.path, task.raw, split=task.split, max_seconds=task.max_seconds) as audio:
            return self._recogniser(task.spec).transcribe(audio, task.options)

    def _recogniser(self, spec: Spec) -> Recogniser:
        for known, recogniser in self._loaded:
            if known == spec:
                return recogniser
        recogniser = load(spec)
        self._loaded.append((spec, recogniser))
        return recogniser


def load(spec: Spec) -> Recogniser:
    """Load a recogniser; the imports wait until here because models and their libraries are large."""
    match spec.kind:
        case "pocketsphinx":
            from engine.recognisers.pocketsphinx import PocketSphinx

            return PocketSphinx()


def serve(tasks: IO[bytes], answers: IO[bytes]) -> None:
    """Answer every task until the pool closes its end."""
    worker = Worker()
    while head := tasks.read(wire.HEAD_BYTES):
        task = wire.unpack_task(tasks.read(wire.body_bytes(head)))
        answers.write(wire.pack_answer(worker.answer(task)))
        answers.flush()


def main() -> None:
    die_with_parent()
    # Signals to the whole group (Ctrl-C, a service manager's stop) are for the server, which lets its work end first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "--nice" in sys.argv:
        os.nice(NICENESS)
    serve(sys.stdin.buffer, _private_stdout())


def die_with_parent() -> None:
    """Have the kernel kill this process with its parent, even in the middle of native code.

    Elsewhere than on Linux the worker finds its standard input closed when its task is done, and ends then.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


def _private_stdout() -> IO[bytes]:
    """The real standard output, for frames alone: whatever a library prints goes to standard error instead."""
    private = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return os.fdopen(private, "wb")


if __name__ == "__main__":
    main()
