"""One stretch of a channel, decoded window by window, and again where speech was heard that no words came of.

A first hearing takes all windows in batches. Where one of them loops or is a guess its words are dropped; those and
whatever else is unheard are cut anew and heard again, each by itself and with Whisper's whole context; what is still no
text is sampled at rising temperatures. What is unheard after that is a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

from engine.audio.pcm import SAMPLE_BYTES, SAMPLE_RATE
from engine.recognisers.speech.detection import FRAME_SAMPLES, FRAME_SECONDS, SpeechDetector
from engine.recognisers.speech.sentences import later
from engine.recognisers.speech.windows import PADDING, Samples, Span, pieces, samples, spoken, windows
from engine.recognisers.whisper.decoding import Decoder
from engine.recognisers.whisper.quality import (
    MISSED,
    TEMPERATURES,
    DecodingResult,
    Verdict,
    believed,
    filled,
    judge,
    trimmed,
    unheard,
)
from engine.transcript import Gap, GapReason, Word

LONGEST = 20.0
"""Seconds of a window at the first hearing. In longer ones Whisper leaves out more, and shorter ones tell it less."""

_TURN = 0.5
"""Seconds of silence in which a language may change."""

_LONGEST_AGAIN = 10.0
"""Seconds of a window at another hearing."""

_EDGE = 0.2
"""Seconds of sound before and after what is heard again."""

_HEARINGS = 2
"""How often what is unheard is heard again: a second hearing may leave a part of it, which is cut anew."""


@dataclass(frozen=True, slots=True)
class Window:
    """What is decoded at once, and in which language, by Whisper's code. Seconds from the start of the stretch."""

    span: Span
    language: str


class Sound:
    """s16le PCM at 16 kHz, and where Silero hears speech in it."""

    def __init__(self, pcm: bytes) -> None:
        self._samples = samples(pcm)
        padded = pcm + bytes(-len(pcm) % (FRAME_SAMPLES * SAMPLE_BYTES))
        heard = spoken(SpeechDetector()(padded), FRAME_SECONDS)
        longest = LONGEST - 2 * PADDING
        self.seconds = len(self._samples) / SAMPLE_RATE
        self.speech = [piece for one in heard for piece in pieces(one, self._samples, SAMPLE_RATE, longest)]

    def windows(self, *, switching: bool) -> list[Span]:
        """Its speech in windows; where languages may change, whatever is said in one breath is a window of its own."""
        return windows(self.speech, LONGEST, self.seconds, _TURN if switching else inf)

    def part(self, span: Span) -> Samples:
        """The samples within."""
        return self._samples[max(0, int(span.start * SAMPLE_RATE)) : int(span.end * SAMPLE_RATE)]

    def again(self, hole: Span) -> Iterator[Span]:
        """Windows of what is unheard, with some sound around them."""
        for piece in pieces(hole, self._samples, SAMPLE_RATE, _LONGEST_AGAIN):
            yield Span(max(0.0, piece.start - _EDGE), min(self.seconds, piece.end + _EDGE))


class Hearing:
    """Of one stretch. `words` are those that stand so far, in order, each with the code of its window's language; times
    are seconds from the start of the stretch."""

    def __init__(self, decoder: Decoder, hotwords: Sequence[str], sound: Sound) -> None:
        self._decoder = decoder
        self._hotwords = hotwords
        self._sound = sound
        self._windows: Sequence[Window] = ()
        self._loops: list[Span] = []
        self.words: tuple[Word, ...] = ()

    def first(self, heard: Sequence[Window]) -> Iterator[float]:
        """Decode the windows, those of like length together; every item is how many seconds are done."""
        self._windows = heard
        words: list[Word] = []
        done, total = 0.0, sum(window.span.seconds for window in heard)
        for batch in _batches(heard, self._decoder.batch_size):
            kept, _ = self._decode(batch)
            words += kept
            done += sum(window.span.seconds for window in batch)
            yield self._sound.seconds * done / total
        self.words = filled((), words)

    def again(self) -> None:
        """Hear again what is unheard."""
        tried: set[Span] = set()
        for _ in range(_HEARINGS):
            stand, doubtful = believed(self.words)
            holes = [hole for hole in unheard(self._sound.speech, stand) if hole not in tried]
            if not holes:
                return
            tried.update(holes)
            found = self._found([self._again(span) for hole in holes for span in self._sound.again(hole)])
            self.words = filled(filled(stand, found), (word for word in doubtful if not _near(word, found)))

    def gaps(self, channel: int, start: float) -> list[Gap]:
        """What stays unheard, in seconds from the start of the channel, of which the stretch starts at `start`."""
        stand, _ = believed(self.words)
        return [
            Gap(channel, round(start + hole.start, 3), round(start + hole.end, 3), self._reason(hole))
            for hole in unheard(self._sound.speech, stand, MISSED)
        ]

    def _found(self, missed: Sequence[Window]) -> list[Word]:
        """The words of windows that are heard again."""
        words: list[Word] = []
        for temperature in (0.0, *TEMPERATURES):
            decoded = [self._decode([window], temperature, whole=True) for window in missed]
            words += [word for kept, _ in decoded for word in kept]
            missed = [window for _, bad in decoded for window in bad]
        return words

    def _decode(
        self, batch: Sequence[Window], temperature: float = 0.0, *, whole: bool = False
    ) -> tuple[list[Word], list[Window]]:
        """The words of those windows that can be believed, and the windows that are worth another try."""
        parts = [self._sound.part(window.span) for window in batch]
        language = batch[0].language
        decoded = self._decoder.decode(parts, language, self._hotwords, temperature=temperature, whole=whole)
        words: list[Word] = []
        bad: list[Window] = []
        for window, result in zip(batch, decoded, strict=True):
            match judge(result):
                case Verdict.KEEP:
                    words += self._placed(window, result)
                case Verdict.LOOP:
                    self._loops.append(window.span)
                    bad.append(window)
                case Verdict.GUESS:
                    bad.append(window)
        return words, bad

    def _placed(self, window: Window, result: DecodingResult) -> Iterator[Word]:
        """The words of a window where they are in the stretch, without the silence around them."""
        moved = (replace(later(one, window.span.start), language=window.language) for one in result.words)
        return trimmed(moved, self._sound.speech)

    def _again(self, span: Span) -> Window:
        """The window, in the language of the one that it lies in."""
        middle = (span.start + span.end) / 2
        nearest = min(self._windows, key=lambda one: abs(middle - (one.span.start + one.span.end) / 2))
        return Window(span, nearest.language)

    def _reason(self, hole: Span) -> GapReason:
        looped = any(loop.start < hole.end and hole.start < loop.end for loop in self._loops)
        return GapReason.REPETITIVE if looped else GapReason.UNHEARD


def _batches(heard: Sequence[Window], size: int) -> Iterator[Sequence[Window]]:
    """Windows of one language and of like length: a batch is padded to its longest."""
    for language in dict.fromkeys(window.language for window in heard):
        same = sorted((one for one in heard if one.language == language), key=lambda one: one.span.seconds)
        yield from (same[number : number + size] for number in range(0, len(same), size))


def _near(word: Word, others: Iterable[Word]) -> bool:
    return any(other.start < word.end + _EDGE and word.start < other.end + _EDGE for other in others)
