"""What is told of one channel of a live session, by what was told of it before."""

from __future__ import annotations

from collections.abc import Iterator

from engine.events import Final, LiveEvent, LiveOptions, Partial, SpeechStarted, UtteranceEnded
from engine.recognisers.speech.cutting import SpeechPiece
from engine.transcript import Word


class LiveTelling:
    """All times are seconds from the start of the channel. A `language` is the one that is supposed to be spoken, in
    the words of callers. Silence is `paused` where it is long enough to end an utterance.

    Silence may be told of while it lasts or once it is over, as often as wanted: what comes of it is the same, so that
    who is transcribed late hears of the same ends and beginnings as who is in time.
    """

    def __init__(self, number: int, options: LiveOptions) -> None:
        self._number = number
        self._options = options
        self._guessed: tuple[str, ...] = ()  # the words of the last Partial
        self._until = 0.0  # the end of the last Final
        self._owing = False  # a Final without its speech_final
        self._last_word_end: float | None = None

    def speech_began(self, at: float, language: str, *, paused: bool) -> Iterator[LiveEvent]:
        """After whatever is to be said of the silence before. Without a pause the utterance goes on."""
        yield from self.silence(at, language, paused=paused)
        if paused and self._options.vad_events:
            yield SpeechStarted(self._number, _ms(at))

    def nothing_held(self, at: float, language: str, *, paused: bool) -> Iterator[LiveEvent]:
        """The caller wanted a final result where there was nothing to transcribe."""
        yield from self.silence(at, language, paused=paused)
        self._until = at
        yield Final(self._number, _ms(at), 0.0, (), from_finalize=True, language=language)

    def silence(self, until: float, language: str, *, paused: bool) -> Iterator[LiveEvent]:
        """Nobody speaks since the last stretch. The end of its utterance comes before that no word followed."""
        if self._owing:
            if not paused:
                return
            yield self._final(SpeechPiece(self._until, b"", paused=True), (), language, by_caller=False)
        wait, last = self._options.utterance_end, self._last_word_end
        if wait is not None and last is not None and until - last >= wait:
            self._last_word_end = None
            yield UtteranceEnded(self._number, last)

    def guess(self, start: float, seconds: float, words: tuple[Word, ...], language: str) -> Iterator[Partial]:
        """An interim result, where it says anything else than the one before."""
        texts = tuple(word.text for word in words)
        if texts and texts != self._guessed:
            self._guessed = texts
            yield Partial(self._number, _ms(start), _ms(seconds), words, language)

    def part(self, start: float, until: float, words: tuple[Word, ...], language: str) -> Final:
        """The settled words of a long stretch, which goes on after them."""
        self._guessed, self._owing, self._last_word_end, self._until = (), True, words[-1].end, until
        return Final(self._number, _ms(start), _ms(until - start), words, language=language)

    def stretch_ended(
        self, piece: SpeechPiece, words: tuple[Word, ...], language: str, *, by_caller: bool
    ) -> Iterator[Final]:
        """Its final result, where there is anything to say, or somebody waits for it; an empty one where all that was
        guessed is taken back, which ends nothing: who is late was told of no guess."""
        guessed, self._guessed = self._guessed, ()
        if words or by_caller or (self._owing and piece.paused):
            yield self._final(piece, words, language, by_caller=by_caller)
        elif guessed:
            self._until = piece.start + piece.seconds
            yield Final(self._number, _ms(piece.start), _ms(piece.seconds), (), language=language)

    def _final(self, piece: SpeechPiece, words: tuple[Word, ...], language: str, *, by_caller: bool) -> Final:
        self._owing = not (piece.paused or by_caller)
        self._until = piece.start + piece.seconds
        if words:
            self._last_word_end = words[-1].end
        return Final(
            self._number,
            _ms(piece.start),
            _ms(piece.seconds),
            words,
            speech_final=piece.paused and self._options.endpointing is not None,
            from_finalize=by_caller,
            language=language,
        )


def _ms(seconds: float) -> float:
    return round(seconds, 3)
