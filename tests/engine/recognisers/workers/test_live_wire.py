"""What is said on the pipe arrives as it was said."""

from __future__ import annotations

from engine.events import Broken, Final, Finished, LiveOptions, Partial, SpeechStarted, UtteranceEnded
from engine.recognisers.base import Spec
from engine.recognisers.whisper.passes import Costs, PassRecord
from engine.recognisers.workers import live_wire as wire
from engine.recognisers.workers.wire import Unloadable
from engine.request import FailureCode, RawFormat
from engine.transcript import Model, Word
from tests.cases import cases

WORDS = (Word("good", 0.1, 0.4, 0.9, "Good"), Word("morning", 0.5, 0.9, 0.8))
OPTIONS = LiveOptions(
    "en", ("en", "es"), ("outspoken",), True, RawFormat("pcm_s16le", 8000, 2), True, 0.3, 1.0, True, True
)


def carried(frame: bytes) -> tuple[int, bytes, bytes]:
    length, session, kind = wire.head(frame[: wire.HEAD_BYTES])
    body = frame[wire.HEAD_BYTES :]
    assert len(body) == length
    return session, kind, body


@cases(
    "message",
    [
        wire.OpenMessage(Spec(5, "/m", "m", threads=2), OPTIONS, 60.0),
        wire.OpenMessage(Spec(), LiveOptions(), 60.0),
        wire.MeasureMessage(Spec(5, "/m", "m")),
        wire.AudioMessage(b"\x00\xff" * 100),
        wire.FinalizeMessage(None),
        wire.FinalizeMessage(1),
        wire.FinishMessage(),
        wire.CloseMessage(),
    ],
)
def test_a_message_arrives_as_it_was_sent(message: wire.LiveMessage) -> None:
    session, kind, body = carried(wire.pack_message(7, message))
    assert (session, wire.unpack_message(kind, body)) == (7, message)


@cases(
    "answer",
    [
        wire.Opened(Model("id", "name", "1.0", "arch")),
        Unloadable(),
        wire.Measured(Costs(0.1, 0.2, 0.05)),
        wire.LiveProgress(0, 0.0, 1, (), PassRecord(True, 4.0, 0.3, 17.5, 2), 17.0),
        wire.LiveProgress(0, 0.0, 1, ()),
        wire.LiveProgress(
            320,
            1.5,
            2,
            (
                SpeechStarted(1, 0.2),
                Partial(1, 0.0, 1.0, WORDS, "es"),
                Final(0, 0.0, 1.0, (), True, True),
                UtteranceEnded(0, 1.0),
                Finished(3.0, 2, "ab"),
                Broken(FailureCode.AUDIO, "why"),
            ),
        ),
    ],
)
def test_an_answer_arrives_as_it_was_given(answer: wire.LiveAnswer) -> None:
    session, _, body = carried(wire.pack_answer(7, answer))
    assert (session, wire.unpack_answer(body)) == (7, answer)
