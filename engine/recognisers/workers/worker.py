"""The worker process: tasks come in on its standard input, one at a time, and answers go out on its standard output.

Native code that crashes, leaks or hangs on hostile audio takes only this process with it. `python -m` starts it; the
pool does, and is the only one who should.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import IO, Protocol

from engine.audio.decode import decode, probe
from engine.errors import AudioError, EngineError, RecogniserUnavailable
from engine.recognisers.base import DecodedAudio, Progress, RecognitionOptions, Spec
from engine.recognisers.workers import wire
from engine.transcript import Transcript, Word

NICENESS = 15
"""Of whoever transcribes recordings: nobody notices a second, where a second makes live speech late."""

_PROGRESS_SECONDS = 1.0
"""Seconds of audio that are worth a word."""

Say = Callable[[wire.Answer | wire.ProgressReport], None]


class RecordedRecogniser(Protocol):
    """What transcribes recordings: Whisper; the tests have one that costs nothing."""

    def transcribe(
        self, audio: DecodedAudio, options: RecognitionOptions, progress: Progress | None = None
    ) -> Transcript: ...


Load = Callable[[Spec], RecordedRecogniser]
"""Raises RecogniserUnavailable."""


class Worker:
    """Does tasks, and keeps the recogniser that the first of them needed: the pool starts a process for each."""

    def __init__(self, say: Say, load: Load) -> None:
        self._say = say
        self._load = load
        self._held: tuple[Spec, RecordedRecogniser] | None = None

    def answer(self, task: wire.Task) -> wire.Answer:
        """Audio that cannot be used is an answer; anything else that goes wrong ends the process."""
        try:
            match task:
                case wire.ProbeTask():
                    return probe(task.path, task.raw, task.max_seconds)
                case wire.LoadTask(spec):
                    self._recogniser(spec)
                    return wire.Loaded()
                case wire.TranscribeTask():
                    return self._transcribe(task)
        except AudioError as error:
            return wire.Unusable(str(error))
        except RecogniserUnavailable as error:
            # Paths and devices are the operator's business: they go to the log, and not to the caller.
            print(f"engine: recogniser not loaded: {error}", file=sys.stderr, flush=True)
            return wire.Unloadable()

    def _transcribe(self, task: wire.TranscribeTask) -> Transcript:
        with decode(task.path, task.raw, split=task.split, max_seconds=task.max_seconds) as audio:
            progress = self._progress() if task.progress else None
            transcript = self._recogniser(task.spec).transcribe(audio, task.options, progress)
            return replace(transcript, flaw=audio.flaw)

    def _recogniser(self, spec: Spec) -> RecordedRecogniser:
        if self._held is None or self._held[0] != spec:
            self._held = None
            self._held = spec, self._load(spec)
        return self._held[1]

    def _progress(self) -> Progress:
        said = 0.0

        def progress(seconds: float, words: Sequence[Word]) -> None:
            nonlocal said
            if words or seconds - said >= _PROGRESS_SECONDS:
                said = seconds
                self._say(wire.ProgressReport(seconds, words))

        return progress


def load(spec: Spec) -> RecordedRecogniser:
    """Load a recogniser; the import waits until here because models and their libraries are large.

    Raises RecogniserUnavailable.
    """
    from engine.recognisers.whisper.recorded import Whisper

    try:
        return Whisper(spec)
    # What CTranslate2 and the tokenizer raise for broken files, a device that is not there, or numbers that it
    # cannot compute with: no second try mends that.
    except (EngineError, OSError, RuntimeError, ValueError) as error:
        raise RecogniserUnavailable(f"{spec.name}: {error}") from error


def serve(tasks: IO[bytes], answers: IO[bytes], load: Load = load) -> None:
    """Answer every task until the pool closes its end."""

    def say(answer: wire.Answer | wire.ProgressReport) -> None:
        answers.write(wire.pack_answer(answer))
        answers.flush()

    worker = Worker(say, load)
    while head := tasks.read(wire.HEAD_BYTES):
        say(worker.answer(wire.unpack_task(tasks.read(wire.body_bytes(head)))))


def main(load: Load = load) -> None:
    die_with_parent()
    # Signals to the whole group (Ctrl-C, a service manager's stop) are for the server, which lets its work end first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "--nice" in sys.argv:
        os.nice(NICENESS)
    serve(sys.stdin.buffer, private_stdout(), load)


def die_with_parent() -> None:
    """Have the kernel kill this process with its parent, even in the middle of native code.

    Elsewhere than on Linux the worker finds its standard input closed when its task is done, and ends then.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


def private_stdout() -> IO[bytes]:
    """The real standard output, for frames alone: whatever a library prints goes to standard error instead."""
    private = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return os.fdopen(private, "wb")


if __name__ == "__main__":
    main()
