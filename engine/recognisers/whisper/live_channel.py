"""One channel of a session: where utterances begin and end, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from engine.audio.pcm import SAMPLE_BYTES, SAMPLE_RATE
from engine.events import Final, LiveEvent, LiveOptions, Partial, SpeechStarted, UtteranceEnded
from engine.recognisers.speech.cutting import PAUSE, Cutter, Piece
from engine.recognisers.speech.detection import FRAME_SECONDS, SpeechDetector
from engine.transcript import Model, Word

SHORTEST_PAUSE = 9
"""Frames of quiet that an utterance needs to end, whatever was asked: 0.3 s. People wait as long before a hard
consonant, and a recogniser that is cut there guesses at halves of words."""

LONGEST_PAUSE = 94
"""3 s."""

LONGEST = 375
"""Frames after which a stretch ends, pause or not: 12 s. All of it is heard once more then, while others wait."""

LONG_SECONDS = 6.0
"""A stretch so long is not held back for its end: what is settled of it becomes final."""

PARTIAL_SECONDS = 0.25
"""Of audio, between two Partials: each may be a delivery of its own."""


class Growing(Protocol):
    """A stretch of speech that is not over. Times are seconds from the start of the channel, PCM is s16le at 16 kHz."""

    @property
    def start(self) -> float: ...
    @property
    def speech_start(self) -> float | None: ...
    @property
    def end(self) -> float: ...
    def held(self, since: float) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Guess:
    """What the stretch seems to say. The first `settled` words will stay, whatever comes."""

    words: tuple[Word, ...]
    settled: int = 0


class Hearer(Protocol):
    """Hears one channel, a stretch at a time: any number of guesses, then its end."""

    @property
    def language(self) -> str: ...
    def guess(self, growing: Growing, *, behind: bool) -> Guess | None:
        """What is said so far; None where it is not worth the work yet. `behind`: more audio is waiting already."""
        ...

    def release(self) -> None:
        """The settled words of the last guess were told: they are not part of the stretch any more."""
        ...

    def conclude(self, piece: Piece) -> tuple[Word, ...]:
        """The stretch is over: what it says, after what was released."""
        ...

    def close(self) -> None:
        """The session is over."""
        ...


class Listener(Protocol):
    """A recogniser that hears many channels at once."""

    @property
    def model(self) -> Model: ...
    def hearer(self, options: LiveOptions) -> Hearer: ...


class Ear:
    """Push PCM, at most a tenth of a second or so at once, and get what is heard."""

    def __init__(
        self, number: int, hearer: Hearer, options: LiveOptions, is_speech: Callable[[bytes], list[bool]] | None = None
    ) -> None:
        self._number = number
        self._hearer = hearer
        self._options = options
        self._pause = _pause(options.endpointing)
        self._cutter = Cutter(is_speech or SpeechDetector(), self._pause, LONGEST)
        self._told: tuple[str, ...] = ()  # the words of the last Partial
        self._told_at = -PARTIAL_SECONDS
        self._announced = False  # SpeechStarted was said of this stretch
        self._owing = False  # a Final without its speech_final
        self._last_word_end: float | None = None

    def push(self, pcm: bytes, *, behind: bool) -> Iterator[LiveEvent]:
        pieces = list(self._cutter.push(pcm))
        for piece in pieces:
            yield from self._conclude(piece)
        yield from self._listen(behind=behind)

    def finalize(self) -> Iterator[LiveEvent]:
        """What is held is over; the answer comes in any case."""
        pieces = list(self._cutter.cut())
        for piece in pieces:
            yield self._final(piece, self._words(piece), by_caller=True)
        if not pieces:
            yield Final(self._number, self._cutter.end, 0.0, (), from_finalize=True, language=self._hearer.language)

    def finish(self) -> Iterator[LiveEvent]:
        for piece in self._cutter.flush():
            yield from self._conclude(piece)

    def close(self) -> None:
        self._hearer.close()

    def _listen(self, *, behind: bool) -> Iterator[LiveEvent]:
        began = self._cutter.speech_start
        if began is None:
            yield from self._silence()
            return
        yield from self._begin(began)
        if self._options.interim and (guess := self._hearer.guess(self._cutter, behind=behind)):
            yield from self._guessed(guess)

    def _begin(self, at: float) -> Iterator[LiveEvent]:
        if not self._announced:
            self._announced = True
            if self._options.vad_events:
                yield SpeechStarted(self._number, _ms(at))

    def _silence(self) -> Iterator[LiveEvent]:
        wait, last = self._options.utterance_end, self._last_word_end
        if self._owing and last is not None and self._cutter.end - last >= self._pause * FRAME_SECONDS:
            yield self._final(Piece(self._cutter.start, b"", paused=True), ())
        if wait is not None and last is not None and self._cutter.end - last >= wait:
            self._last_word_end = None
            yield UtteranceEnded(self._number, last)

    def _guessed(self, guess: Guess) -> Iterator[LiveEvent]:
        start, end = self._cutter.start, self._cutter.end
        if guess.settled and end - start > LONG_SECONDS:
            yield self._settled(guess)
            return
        texts = tuple(word.text for word in guess.words)
        if texts and texts != self._told and end - self._told_at >= PARTIAL_SECONDS:
            self._told, self._told_at = texts, end
            language = self._hearer.language
            yield Partial(self._number, _ms(start), _ms(end - start), guess.words, guess.settled, language)

    def _settled(self, guess: Guess) -> Final:
        """The settled words of a long stretch, which goes on after them."""
        start, words = self._cutter.start, guess.words[: guess.settled]
        self._hearer.release()
        self._cutter.forget(words[-1].end)
        self._told, self._owing, self._last_word_end = (), True, words[-1].end
        duration = self._cutter.start - start
        return Final(self._number, _ms(start), _ms(duration), words, language=self._hearer.language)

    def _conclude(self, piece: Piece) -> Iterator[LiveEvent]:
        words = self._words(piece)
        if words or (self._owing and piece.paused):
            yield self._final(piece, words)

    def _words(self, piece: Piece) -> tuple[Word, ...]:
        self._told, self._announced = (), self._announced and not piece.paused
        return self._hearer.conclude(piece)

    def _final(self, piece: Piece, words: tuple[Word, ...], *, by_caller: bool = False) -> Final:
        ended = piece.paused and self._options.endpointing is not None
        self._owing = not (piece.paused or by_caller)
        if words:
            self._last_word_end = words[-1].end
        return Final(
            self._number,
            _ms(piece.start),
            _ms(len(piece.pcm) / SAMPLE_BYTES / SAMPLE_RATE),
            words,
            speech_final=ended,
            from_finalize=by_caller,
            language=self._hearer.language,
        )


def _pause(endpointing: float | None) -> int:
    """Frames of quiet that end an utterance."""
    if endpointing is None:
        return PAUSE
    return min(max(SHORTEST_PAUSE, round(endpointing / FRAME_SECONDS)), LONGEST_PAUSE)


def _ms(seconds: float) -> float:
    return round(seconds, 3)
