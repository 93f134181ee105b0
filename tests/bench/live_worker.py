"""A recogniser of fixed cost and known output, in the place of the real ones: `python -m` starts it as a worker.

It works for half a millisecond on every piece of audio, and then says one word: the time at which it says so.
"""

from __future__ import annotations

import sys
import time
from typing import IO

from engine.events import Finished, LiveEvent, Partial
from engine.recognisers.whisper.passes import Costs
from engine.recognisers.workers import live_wire as wire
from engine.transcript import Model, Word

MODULE = "tests.bench.live_worker"
WORK_SECONDS = 0.0005
BYTES_PER_SECOND = 32000


def main(incoming: IO[bytes], outgoing: IO[bytes]) -> None:
    """Answer every frame, until the engine is gone."""
    received: dict[int, int] = {}
    while head := incoming.read(wire.HEAD_BYTES):
        length, session, kind = wire.head(head)
        message = wire.unpack_message(kind, incoming.read(length))
        if isinstance(message, wire.AudioMessage):
            received[session] = received.get(session, 0) + len(message.data)
        if (answer := _answer(message, received.get(session, 0) / BYTES_PER_SECOND)) is not None:
            outgoing.write(wire.pack_answer(session, answer))
            outgoing.flush()


def _answer(message: wire.LiveMessage, seconds: float) -> wire.LiveAnswer | None:
    match message:
        case wire.OpenMessage():
            return wire.Opened(Model("id", "fixed", "1", "none"))
        case wire.MeasureMessage():
            return wire.Measured(Costs(WORK_SECONDS, WORK_SECONDS))
        case wire.AudioMessage(data):
            _work()
            word = Word(str(time.monotonic_ns()), seconds, seconds, 1.0)
            return _step(len(data), seconds, Partial(0, 0.0, seconds, (word,)))
        case wire.FinishMessage():
            return _step(0, seconds, Finished(seconds, 1, ""))
        case _:
            return None


def _step(taken: int, seconds: float, event: LiveEvent) -> wire.LiveProgress:
    return wire.LiveProgress(taken, seconds, 1, (event,))


def _work() -> None:
    end = time.perf_counter() + WORK_SECONDS
    while time.perf_counter() < end:
        pass


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
