"""One channel of a live session: where utterances begin and end, and which passes they want.

Audio is cut as it comes, and waits for its passes of the model, which are made when it is this channel's turn. What is
told is told in order: nothing of the next utterance before the last words of this one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.events import Final, LiveEvent, LiveOptions
from engine.recognisers.languages import public_code, whisper_code
from engine.recognisers.speakers.known import KnownSpeakers
from engine.recognisers.speech.cutting import PAUSE, Cutter, SpeechPiece
from engine.recognisers.speech.detection import FRAME_SECONDS, SpeechDetector
from engine.recognisers.whisper.agreement import LocalAgreement
from engine.recognisers.whisper.interim import InterimPace
from engine.recognisers.whisper.live_telling import LiveTelling
from engine.recognisers.whisper.passes import Hypothesis, Pass, PassRecord
from engine.transcript import Word

SHORTEST_PAUSE = 9
"""Frames of quiet that an utterance needs to end, whatever was asked: 0.3 s. People wait as long before a hard
consonant, and a recogniser that is cut there guesses at halves of words."""

LONGEST_PAUSE = 94
"""3 s."""

LONGEST = 375
"""Frames after which a stretch ends, pause or not: 12 s."""

LONG_SECONDS = 8.0
"""A stretch so long is not held back for its end: what is settled of it becomes final. Sooner would cost words, because
the pass over all of a stretch errs less; and where it is told who speaks, which only that pass finds out, none is."""

_EDGE = 0.2
"""Seconds before the end of the audio where a word may be half a word."""


@dataclass(frozen=True, slots=True)
class _Began:
    """Speech began, so many seconds from the start of the channel: `paused` where a pause came before it, else speech
    goes on after a cut."""

    at: float
    paused: bool


@dataclass(frozen=True, slots=True)
class _Over:
    """A piece that is over, by a pause, by its length or `by_caller`; the audio that ended it came at `due_at`."""

    piece: SpeechPiece
    due_at: float
    by_caller: bool = False


@dataclass(frozen=True, slots=True)
class _NothingHeld:
    """The caller wanted a final result where there was nothing to transcribe; `paused` where that was a pause."""

    at: float
    paused: bool


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A pass that is being made, and when the last of its audio came."""

    wanted: Pass
    due_at: float


class LiveChannel:
    """Push PCM, at most a tenth of a second or so at once. While it `wants` a pass, `begin` one, and
    `complete` it. `due_at` and `since` are monotonic times, as in `passes`.

    One pass is under way at a time. But the last one of a stretch does not wait for an interim one, whose result is
    thrown away then.
    """

    def __init__(
        self, number: int, options: LiveOptions, is_speech: Callable[[bytes], list[bool]] | None = None
    ) -> None:
        self._options = options
        self._cutter = Cutter(is_speech or SpeechDetector(), _pause(options.endpointing), LONGEST)
        self._telling = LiveTelling(number, options)
        self._waiting: deque[_Began | _Over | _NothingHeld] = deque()
        self._under_way: _UnderWay | None = None
        self._agreement = LocalAgreement()
        self._speakers = KnownSpeakers() if options.speakers else None
        self._known = whisper_code(options.language)
        self._supposed = self._known or "en"
        self._due_at = 0.0  # of the latest audio
        self._interim = InterimPace()
        self._reached: float | None = None  # how far passes did, into this stretch
        self._began = False  # the beginning of this stretch was seen

    def push(self, pcm: bytes, due_at: float, now: float) -> Iterator[LiveEvent]:
        self._due_at = due_at
        for piece in self._cutter.push(pcm):
            self._over(piece)
        began = self._cutter.speech_start
        if began is not None and not self._began:
            self._begin_stretch(began, now)
        self._began = began is not None
        if self._has_news:
            self._interim.wait(now)
        yield from self._advance()

    def finalize(self, due_at: float) -> Iterator[LiveEvent]:
        """What is held is over; the answer comes in any case."""
        self._due_at = due_at
        pieces = list(self._cutter.cut())
        for piece in pieces:
            self._over(piece, by_caller=True)
        if not pieces:
            self._waiting.append(_NothingHeld(self._cutter.end, self._cutter.is_paused))
        yield from self._advance()

    def finish(self) -> Iterator[LiveEvent]:
        for piece in self._cutter.flush():
            self._over(piece)
        yield from self._advance()

    @property
    def is_idle(self) -> bool:
        """Whether all was told that there is to tell so far."""
        return not self._waiting and self._under_way is None

    @property
    def waiting_seconds(self) -> float:
        """Seconds of audio that is over and waits for its final pass."""
        return sum(one.piece.seconds for one in self._waiting if isinstance(one, _Over))

    @property
    def waiting_since(self) -> float | None:
        """When the first of that was complete."""
        return next((one.due_at for one in self._waiting if isinstance(one, _Over)), None)

    def wants(self) -> tuple[bool, float] | None:
        """Whether the pass that is wanted now is a final one, and since when; None while none is."""
        if self._waiting:
            return None if self._under_way and self._under_way.wanted.final else (True, self._first.due_at)
        if self._under_way or not self._has_news or self._is_about_to_end:
            return None
        new = self._cutter.end - self._passed_until
        return (False, self._interim.turn_at) if self._interim.is_due(new) else None

    def begin(self) -> Pass:
        """The pass that is wanted, with the audio of this moment."""
        if self._waiting:
            piece = self._first.piece
            wanted, due_at = Pass(piece.start, piece.pcm, final=True, language=self._known), self._first.due_at
        else:
            start = self._cutter.start
            wanted, due_at = Pass(start, self._cutter.held(start), final=False, language=self._known), self._due_at
        self._under_way = _UnderWay(wanted, due_at)
        return wanted

    def complete(
        self, wanted: Pass, hypothesis: Hypothesis, took: float, now: float
    ) -> tuple[PassRecord, list[LiveEvent]]:
        """A pass that was begun took so many seconds and found this: its record, and what is told now."""
        missed, speakers = self._interim.take_missed(), hypothesis.voices is not None
        if not wanted.final:
            self._interim.passed(took, now)
        if self._under_way is None or self._under_way.wanted is not wanted:
            return PassRecord(wanted.final, wanted.seconds, took, now, missed, speakers), []
        done, self._under_way = self._under_way, None
        self._supposed = hypothesis.language
        told = self._conclude(hypothesis) if wanted.final else self._guess(wanted, hypothesis)
        record = PassRecord(wanted.final, wanted.seconds, took, done.due_at, missed, speakers)
        return record, [*told, *self._advance()]

    @property
    def _passed_until(self) -> float:
        """How far passes reached into this stretch, or where its speech began."""
        return self._reached if self._reached is not None else self._cutter.speech_start or 0.0

    @property
    def _has_news(self) -> bool:
        """Whether there is speech that no interim pass has had."""
        spoken = self._cutter.speech_end if self._options.interim and not self._waiting else None
        return spoken is not None and spoken > self._passed_until

    @property
    def _is_about_to_end(self) -> bool:
        """Whether the stretch would be over before an interim pass was."""
        left = self._cutter.silence_left
        return left is not None and left < self._interim.took

    @property
    def _first(self) -> _Over:
        """What waits for its final pass: everything before it was told."""
        first = self._waiting[0]
        assert isinstance(first, _Over)
        return first

    def _begin_stretch(self, at: float, now: float) -> None:
        """What is to be said of the silence before waits for the stretch before that, however late its pass is."""
        paused = self._cutter.is_paused
        if paused:
            self._interim.speech_began(now)
        self._waiting.append(_Began(at, paused))

    def _over(self, piece: SpeechPiece, *, by_caller: bool = False) -> None:
        self._waiting.append(_Over(piece, self._due_at, by_caller))
        self._began = False

    def _advance(self) -> Iterator[LiveEvent]:
        """What needs no pass, as far as nothing before it does."""
        while self._waiting and not isinstance(self._waiting[0], _Over):
            match self._waiting.popleft():
                case _Began(at, paused):
                    yield from self._telling.speech_began(at, self._language, paused=paused)
                case _NothingHeld(at, paused):
                    yield from self._telling.nothing_held(at, self._language, paused=paused)
        if not self._waiting and self._cutter.speech_start is None:
            yield from self._telling.silence(self._cutter.silent_until, self._language, paused=self._cutter.is_paused)

    @property
    def _language(self) -> str:
        return public_code(self._supposed)

    def _guess(self, done: Pass, hypothesis: Hypothesis) -> Iterator[LiveEvent]:
        self._reached = done.end
        if self._waiting:
            return  # the stretch is over meanwhile, and its final pass comes
        self._agreement = self._agreement.update(hypothesis.words, done.end - _EDGE)
        settled = self._agreement.settled
        if settled and done.seconds > LONG_SECONDS and not self._speakers:
            yield self._settle(settled)
        else:
            yield from self._telling.guess(done.start, done.seconds, self._agreement.words, self._language)

    def _settle(self, words: tuple[Word, ...]) -> Final:
        """The settled words of a long stretch, which goes on after them."""
        start = self._cutter.start
        self._agreement = self._agreement.release()
        self._cutter.forget(words[-1].end)
        return self._telling.part(start, self._cutter.start, words, self._language)

    def _conclude(self, hypothesis: Hypothesis) -> Iterator[LiveEvent]:
        over = self._first
        self._waiting.popleft()
        words = self._agreement.conclude(hypothesis.words)
        if self._speakers:
            words = self._speakers.name(words, hypothesis.voices)
        self._agreement, self._reached = LocalAgreement(), None
        if words:
            self._known = self._supposed
        yield from self._telling.stretch_ended(over.piece, words, self._language, by_caller=over.by_caller)


def _pause(endpointing: float | None) -> int:
    """Frames of quiet that end an utterance."""
    if endpointing is None:
        return PAUSE
    return min(max(SHORTEST_PAUSE, round(endpointing / FRAME_SECONDS)), LONGEST_PAUSE)
