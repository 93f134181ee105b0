"""One channel of a live session: where utterances begin and end, which passes they want, and what is said of them.

Audio is cut as it comes, and waits for its passes of the model, which are made when it is this channel's turn. What is
told is told in order: nothing of the next utterance before the last words of this one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.audio.pcm import SAMPLE_BYTES, SAMPLE_RATE
from engine.events import Final, LiveEvent, LiveOptions, Partial, SpeechStarted, UtteranceEnded
from engine.recognisers.languages import public_code, whisper_code
from engine.recognisers.speakers.known import KnownSpeakers
from engine.recognisers.speech.cutting import PAUSE, Cutter, SpeechPiece
from engine.recognisers.speech.detection import FRAME_SECONDS, SpeechDetector
from engine.recognisers.whisper.agreement import LocalAgreement
from engine.recognisers.whisper.interim import InterimPace
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
    """Speech began: seconds from the start of the channel."""

    at: float


@dataclass(frozen=True, slots=True)
class _Over:
    """A piece that is over, by a pause, by its length or `by_caller`; the audio that ended it came at `due_at`."""

    piece: SpeechPiece
    due_at: float
    by_caller: bool = False


@dataclass(frozen=True, slots=True)
class _NothingHeld:
    """The caller wanted a final result where there was nothing to transcribe."""

    at: float


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
        self._number = number
        self._options = options
        self._pause = _pause(options.endpointing)
        self._cutter = Cutter(is_speech or SpeechDetector(), self._pause, LONGEST)
        self._waiting: deque[_Began | _Over | _NothingHeld] = deque()
        self._under_way: _UnderWay | None = None
        self._agreement = LocalAgreement()
        self._speakers = KnownSpeakers() if options.speakers else None
        self._known = whisper_code(options.language)
        self._supposed = self._known or "en"
        self._due_at = 0.0  # of the latest audio
        self._interim = InterimPace()
        self._told: tuple[str, ...] = ()  # the words of the last Partial
        self._told_until = 0.0  # the end of the last Final
        self._announced = False  # the beginning of this stretch was seen
        self._owing = False  # a Final without its speech_final
        self._last_word_end: float | None = None

    def push(self, pcm: bytes, due_at: float, now: float) -> Iterator[LiveEvent]:
        self._due_at = due_at
        for piece in self._cutter.push(pcm):
            self._over(piece)
        began = self._cutter.speech_start
        if began is not None and not self._announced:
            self._announced = True
            self._interim.speech_began(now)
            self._waiting.append(_Began(began))
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
            self._waiting.append(_NothingHeld(self._cutter.end))
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
        return sum(_seconds(one.piece) for one in self._waiting if isinstance(one, _Over))

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
        return self._interim.reached if self._interim.reached is not None else self._cutter.speech_start or 0.0

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

    def _over(self, piece: SpeechPiece, *, by_caller: bool = False) -> None:
        self._waiting.append(_Over(piece, self._due_at, by_caller))
        self._announced = self._announced and not piece.paused

    def _advance(self) -> Iterator[LiveEvent]:
        """What needs no pass, as far as nothing before it does."""
        while self._waiting and not isinstance(self._waiting[0], _Over):
            match self._waiting.popleft():
                case _Began(at):
                    yield from self._silence(at)
                    if self._options.vad_events:
                        yield SpeechStarted(self._number, _ms(at))
                case _NothingHeld(at):
                    yield Final(
                        self._number, _ms(at), 0.0, (), from_finalize=True, language=public_code(self._supposed)
                    )
        if not self._waiting and self._cutter.speech_start is None:
            yield from self._silence(self._cutter.silent_until)

    def _silence(self, until: float) -> Iterator[LiveEvent]:
        """Nobody speaks since the last word."""
        wait, last = self._options.utterance_end, self._last_word_end
        if last is None:
            return
        if self._owing and until - last >= self._pause * FRAME_SECONDS:
            yield self._final(SpeechPiece(self._told_until, b"", paused=True), ())
        if wait is not None and until - last >= wait:
            self._last_word_end = None
            yield UtteranceEnded(self._number, last)

    def _guess(self, done: Pass, hypothesis: Hypothesis) -> Iterator[LiveEvent]:
        self._interim.reached = done.end
        if self._waiting:
            return  # the stretch is over meanwhile, and its final pass comes
        self._agreement = self._agreement.update(hypothesis.words, done.end - _EDGE)
        words, settled = self._agreement.words, self._agreement.settled
        texts = tuple(word.text for word in words)
        if settled and done.seconds > LONG_SECONDS and not self._speakers:
            yield self._settle(settled)
        elif texts and texts != self._told:
            self._told = texts
            start, seconds, language = _ms(done.start), _ms(done.seconds), public_code(self._supposed)
            yield Partial(self._number, start, seconds, words, language)

    def _settle(self, words: tuple[Word, ...]) -> Final:
        """The settled words of a long stretch, which goes on after them."""
        start = self._cutter.start
        self._agreement = self._agreement.release()
        self._cutter.forget(words[-1].end)
        self._told, self._owing, self._last_word_end = (), True, words[-1].end
        self._told_until = self._cutter.start
        duration = _ms(self._cutter.start - start)
        return Final(self._number, _ms(start), duration, words, language=public_code(self._supposed))

    def _conclude(self, hypothesis: Hypothesis) -> Iterator[LiveEvent]:
        over = self._first
        self._waiting.popleft()
        words = self._agreement.conclude(hypothesis.words)
        if self._speakers:
            words = self._speakers.name(words, hypothesis.voices)
        self._agreement, self._interim.reached, self._told = LocalAgreement(), None, ()
        if words:
            self._known = self._supposed
        if words or over.by_caller or (self._owing and over.piece.paused):
            yield self._final(over.piece, words, by_caller=over.by_caller)

    def _final(self, piece: SpeechPiece, words: tuple[Word, ...], *, by_caller: bool = False) -> Final:
        self._owing = not (piece.paused or by_caller)
        self._told_until = piece.start + _seconds(piece)
        if words:
            self._last_word_end = words[-1].end
        return Final(
            self._number,
            _ms(piece.start),
            _ms(_seconds(piece)),
            words,
            speech_final=piece.paused and self._options.endpointing is not None,
            from_finalize=by_caller,
            language=public_code(self._supposed),
        )


def _pause(endpointing: float | None) -> int:
    """Frames of quiet that end an utterance."""
    if endpointing is None:
        return PAUSE
    return min(max(SHORTEST_PAUSE, round(endpointing / FRAME_SECONDS)), LONGEST_PAUSE)


def _seconds(piece: SpeechPiece) -> float:
    return len(piece.pcm) / SAMPLE_BYTES / SAMPLE_RATE


def _ms(seconds: float) -> float:
    return round(seconds, 3)
