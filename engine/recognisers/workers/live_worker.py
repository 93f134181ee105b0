"""The worker process that listens: frames of many sessions come in on its standard input, and what is heard goes out on
its standard output.

One thread reads, so that the engine never waits for a recogniser; the work is done in small steps, in turn.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import IO

from engine.events import Broken, Finished, LiveEvent
from engine.recognisers.base import Spec
from engine.recognisers.whisper.live_channel import Listener
from engine.recognisers.whisper.live_session import Session
from engine.recognisers.workers import live_wire as wire
from engine.recognisers.workers.worker import NICENESS, Unloadable, die_with_parent, load, private_stdout

Load = Callable[[Spec], Listener]
Say = Callable[[int, wire.Answer], None]
_Frame = tuple[int, wire.Message]


def listener(spec: Spec) -> Listener:
    """Load a recogniser for listening. Raises Unloadable."""
    from engine.recognisers.whisper.live import ListeningWhisper

    return ListeningWhisper(load(spec))


class _Seat:
    """A session, and what was sent to it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.waiting: deque[wire.Message] = deque()
        self.steps = self._work()

    def _work(self) -> Iterator[wire.Step | None]:
        """Step after step, without end; None where there is nothing to do. What is begun leaves room for more."""
        while True:
            if not self.waiting:
                yield None
                continue
            message = self.waiting.popleft()
            taken = len(message.data) if isinstance(message, wire.Audio) else 0
            for heard in self._steps(message):
                yield self._step(taken, heard)
                taken = 0
            if taken:
                yield self._step(taken, ())

    def _steps(self, message: wire.Message) -> Iterator[tuple[LiveEvent, ...]]:
        match message:
            case wire.Audio(data):
                yield from self.session.push(data, behind=bool(self.waiting))
            case wire.Finalize(channel):
                yield from self.session.finalize(channel)
            case wire.Finish():
                yield from self.session.finish()

    def _step(self, taken: int, heard: tuple[LiveEvent, ...]) -> wire.Step:
        return wire.Step(taken, self.session.duration, self.session.channels, heard)


class Desk:
    """All sessions of this process: `take` what comes, `work` a step while `busy`."""

    def __init__(self, load: Load, say: Say) -> None:
        self._load = load
        self._say = say
        self._listeners: dict[Spec, Listener] = {}
        self._seats: dict[int, _Seat] = {}
        self._ready: deque[int] = deque()

    @property
    def busy(self) -> bool:
        return bool(self._ready)

    def take(self, number: int, message: wire.Message) -> None:
        match message:
            case wire.Open():
                self._open(number, message)
            case wire.Close():
                self._close(number)
            case _:
                if seat := self._seats.get(number):
                    seat.waiting.append(message)
                    if number not in self._ready:
                        self._ready.append(number)

    def work(self) -> None:
        """One step of the session whose turn it is."""
        number = self._ready.popleft()
        step = next(self._seats[number].steps)
        if step is None:
            return
        self._ready.append(number)
        if step.taken or step.events:
            self._say(number, step)
        if step.events and isinstance(step.events[-1], Finished | Broken):
            self._close(number)

    def _open(self, number: int, message: wire.Open) -> None:
        try:
            if message.spec not in self._listeners:
                self._listeners[message.spec] = self._load(message.spec)
        except Unloadable as error:
            # Paths and devices are the operator's business: they go to the log, and not to the caller.
            print(f"engine: recogniser not loaded: {error}", file=sys.stderr, flush=True)
            self._say(number, wire.Unloadable())
            return
        heard_by = self._listeners[message.spec]
        self._seats[number] = _Seat(Session(heard_by, message.options, message.max_seconds))
        self._say(number, wire.Opened(heard_by.model))

    def _close(self, number: int) -> None:
        if seat := self._seats.pop(number, None):
            seat.session.close()
            with suppress(ValueError):
                self._ready.remove(number)


def serve(messages: IO[bytes], answers: IO[bytes], load: Load = listener) -> None:
    """Hear until the engine closes its end."""

    def say(number: int, answer: wire.Answer) -> None:
        answers.write(wire.pack_answer(number, answer))
        answers.flush()

    inbox: SimpleQueue[_Frame | None] = SimpleQueue()
    threading.Thread(target=_read, args=(messages, inbox), daemon=True).start()
    desk = Desk(load, say)
    while True:
        try:
            while frame := inbox.get(block=not desk.busy):
                desk.take(*frame)
            return
        except Empty:
            desk.work()


def _read(messages: IO[bytes], inbox: SimpleQueue[_Frame | None]) -> None:
    while head := messages.read(wire.HEAD_BYTES):
        length, number, kind = wire.head(head)
        inbox.put((number, wire.unpack_message(kind, messages.read(length))))
    inbox.put(None)


def main(load: Load = listener) -> None:
    die_with_parent()
    # Signals to the whole group (Ctrl-C, a service manager's stop) are for the server, which lets its work end first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "--nice" in sys.argv:
        os.nice(NICENESS)
    serve(sys.stdin.buffer, private_stdout(), load)


if __name__ == "__main__":
    main()
