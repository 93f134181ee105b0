"""The worker process of live sessions: their frames come in on its standard input, and what is told goes out on its
standard output.

Three kinds of threads share the work. One reads, so that the engine never waits, and stamps what came. One takes all
audio in at once, which costs next to nothing. And a few make passes of the models, as many at once as there are cores
for, each the one that is next: what is final first, the longest waiting, then interim results in turn.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from argparse import ArgumentParser
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import IO, Protocol, TypeVar

from engine.errors import EngineError, RecogniserUnavailable
from engine.events import LiveEvent, LiveOptions
from engine.recognisers.base import Spec
from engine.recognisers.whisper.live_session import WorkerSession
from engine.recognisers.whisper.passes import Hypothesis, Pass, PassRecord, Waiting, next_pass
from engine.recognisers.workers import live_wire as wire
from engine.recognisers.workers.calibration import measure
from engine.recognisers.workers.wire import Unloadable
from engine.recognisers.workers.worker import die_with_parent, private_stdout
from engine.transcript import Model

_HUNG = 70  # the exit status of a process in which a pass does not end

T = TypeVar("T")


class PassRecogniser(Protocol):
    """What makes passes, several at once: LiveWhisper; the tests have one that costs nothing."""

    @property
    def model(self) -> Model: ...
    def transcribe(self, wanted: Pass, options: LiveOptions) -> Hypothesis: ...


Load = Callable[[Spec, int], PassRecogniser]
"""Loads a recogniser that makes so many passes at once. Raises RecogniserUnavailable."""

Say = Callable[[int, wire.LiveAnswer], None]

Inbox = SimpleQueue[Callable[[], None] | None]
"""What is to be done on the thread of the sessions; None at the end."""


@dataclass(eq=False, slots=True)
class _Entry:
    """A session, its recogniser, and what came for it and was not taken in yet, with when it came."""

    session: WorkerSession
    recogniser: PassRecogniser
    options: LiveOptions
    waiting: deque[tuple[wire.LiveMessage, float]] = field(default_factory=deque)


class LiveWorker:
    """All sessions of this process. What is said to it is said on one thread, which it never keeps for long: models are
    loaded, measured and asked on others, and what they find comes back by the inbox."""

    def __init__(self, load: Load, say: Say, inbox: Inbox, passes: int) -> None:
        self._load = load
        self._say = say
        self._inbox = inbox
        self._passes = passes
        self._threads = ThreadPoolExecutor(passes + 1)  # one to load
        self._recognisers: dict[Spec, PassRecogniser] = {}
        self._wanted: dict[Spec, list[Callable[[PassRecogniser | None], None]]] = {}  # while they are being loaded
        self._opening: set[int] = set()
        self._sessions: dict[int, _Entry] = {}
        self._making: dict[int, float] = {}  # the passes under way, by their identity, and when they began

    def take(self, number: int, message: wire.LiveMessage, came_at: float) -> None:
        match message:
            case wire.OpenMessage():
                self._opening.add(number)
                self._with(message.spec, partial(self._open, number, message))
            case wire.MeasureMessage():
                self._with(message.spec, partial(self._measure, number, message))
            case wire.CloseMessage():
                self._opening.discard(number)
                self._close(number)
            case _:
                if entry := self._sessions.get(number):
                    entry.waiting.append((message, came_at))
                    self._take_in(number, entry)

    def make_passes(self) -> None:
        """Begin those that are next, as many as there is room for."""
        while len(self._making) < self._passes and (one := next_pass(self._waiting())):
            entry = self._sessions[one.session]
            wanted = entry.session.begin(one.channel)
            self._making[id(wanted)] = time.monotonic()
            make = partial(_timed, entry.recogniser, wanted, entry.options)
            self._outside(make, partial(self._complete, one, entry, wanted))

    def seconds_left(self, stall: float) -> float | None:
        """Seconds until a pass under way has taken so long that it counts as hung; None while there is none."""
        if not self._making:
            return None
        return min(self._making.values()) + stall - time.monotonic()

    def _with(self, spec: Spec, then: Callable[[PassRecogniser | None], None]) -> None:
        """Do it with the recogniser, once that is loaded; with None where it cannot be."""
        if spec in self._recognisers:
            then(self._recognisers[spec])
        elif spec in self._wanted:
            self._wanted[spec].append(then)
        else:
            self._wanted[spec] = [then]
            self._outside(partial(_loaded, self._load, spec, self._passes), partial(self._hold, spec))

    def _hold(self, spec: Spec, recogniser: PassRecogniser | None) -> None:
        if recogniser:
            self._recognisers[spec] = recogniser
        for then in self._wanted.pop(spec):
            then(recogniser)

    def _open(self, number: int, message: wire.OpenMessage, recogniser: PassRecogniser | None) -> None:
        if number not in self._opening:
            return
        self._opening.discard(number)
        if recogniser is None:
            self._say(number, Unloadable())
            return
        session = WorkerSession(message.options, message.max_seconds)
        self._sessions[number] = _Entry(session, recogniser, message.options)
        self._say(number, wire.Opened(recogniser.model))

    def _measure(self, number: int, message: wire.MeasureMessage, recogniser: PassRecogniser | None) -> None:
        if recogniser is None:
            self._say(number, Unloadable())
        else:
            find_out = partial(measure, recogniser.transcribe, self._passes, speakers=bool(message.spec.voices))
            self._outside(find_out, lambda costs: self._say(number, wire.Measured(costs)))

    def _close(self, number: int) -> None:
        if entry := self._sessions.pop(number, None):
            entry.session.close()

    def _take_in(self, number: int, entry: _Entry) -> None:
        session = entry.session
        while entry.waiting and session.has_room and not session.over:
            message, came_at = entry.waiting.popleft()
            match message:
                case wire.AudioMessage(data):
                    self._tell(number, entry, session.push(data, came_at, time.monotonic()), len(data))
                case wire.FinalizeMessage(channel):
                    self._tell(number, entry, session.finalize(channel, came_at))
                case wire.FinishMessage():
                    self._tell(number, entry, session.finish(came_at, time.monotonic()))

    def _waiting(self) -> Iterator[Waiting]:
        for number, entry in self._sessions.items():
            for channel, final, since in entry.session.wants():
                yield Waiting(number, channel, final, since)

    def _complete(self, one: Waiting, entry: _Entry, wanted: Pass, found: tuple[Hypothesis, float]) -> None:
        del self._making[id(wanted)]
        if self._sessions.get(one.session) is entry:
            record, told = entry.session.complete(one.channel, wanted, *found, time.monotonic())
            self._tell(one.session, entry, told, made=record)
            self._take_in(one.session, entry)

    def _tell(
        self, number: int, entry: _Entry, told: list[LiveEvent], taken: int = 0, made: PassRecord | None = None
    ) -> None:
        session = entry.session
        step = wire.LiveProgress(taken, session.duration, session.channels, tuple(told), made, session.waiting_since)
        self._say(number, step)
        if session.over:
            self._close(number)

    def _outside(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Work on another thread; what it raises is raised on this one, and ends the process."""

        def done(future: Future[T]) -> None:
            self._inbox.put(lambda: then(future.result()))

        self._threads.submit(work).add_done_callback(done)


def _timed(recogniser: PassRecogniser, wanted: Pass, options: LiveOptions) -> tuple[Hypothesis, float]:
    """What the pass found, and in how many seconds."""
    began = time.perf_counter()
    return recogniser.transcribe(wanted, options), time.perf_counter() - began


def _loaded(load: Load, spec: Spec, passes: int) -> PassRecogniser | None:
    try:
        return load(spec, passes)
    except RecogniserUnavailable as error:
        # Paths and devices are the operator's business: they go to the log, and not to the caller.
        print(f"engine: recogniser not loaded: {error}", file=sys.stderr, flush=True)
        return None


def load_whisper(spec: Spec, passes: int) -> PassRecogniser:
    """The import waits until here because models and their libraries are large. Raises RecogniserUnavailable."""
    from engine.recognisers.whisper.live import LiveWhisper

    try:
        return LiveWhisper(spec, passes)
    # What CTranslate2 and the tokenizer raise for broken files, a device that is not there, or numbers that it
    # cannot compute with: no second try mends that.
    except (EngineError, OSError, RuntimeError, ValueError) as error:
        raise RecogniserUnavailable(f"{spec.name}: {error}") from error


def serve(messages: IO[bytes], answers: IO[bytes], load: Load, passes: int, stall: float) -> None:
    """Serve sessions until the engine closes its end, or a pass has not ended after `stall` seconds."""

    def say(number: int, answer: wire.LiveAnswer) -> None:
        answers.write(wire.pack_answer(number, answer))
        answers.flush()

    inbox = Inbox()
    worker = LiveWorker(load, say, inbox, passes)
    threading.Thread(target=_read, args=(messages, inbox, worker), daemon=True).start()
    while True:
        left = worker.seconds_left(stall)
        if left is not None and left <= 0:
            print("engine: a pass of a recogniser does not end", file=sys.stderr, flush=True)
            os._exit(_HUNG)
        try:
            todo = [inbox.get(timeout=left)]
        except Empty:
            continue
        todo += [inbox.get() for _ in range(inbox.qsize())]  # all that is there comes before the next pass
        for one in todo:
            if one is None:
                return
            one()
        worker.make_passes()


def _read(messages: IO[bytes], inbox: Inbox, worker: LiveWorker) -> None:
    while head := messages.read(wire.HEAD_BYTES):
        length, number, kind = wire.head(head)
        message = wire.unpack_message(kind, messages.read(length))
        inbox.put(partial(worker.take, number, message, time.monotonic()))
    inbox.put(None)


def main(load: Load = load_whisper) -> None:
    options = ArgumentParser()
    options.add_argument("--nice", type=int, default=0)
    options.add_argument("--passes", type=int, default=1)
    options.add_argument("--stall", type=float, default=60.0)
    chosen = options.parse_args()
    die_with_parent()
    # Signals to the whole group (Ctrl-C, a service manager's stop) are for the server, which lets its work end first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(chosen.nice)
    serve(sys.stdin.buffer, private_stdout(), load, chosen.passes, chosen.stall)
    os._exit(0)  # passes under way are nobody's any more


if __name__ == "__main__":
    main()
