"""One stretch of a channel, decoded window by window, and again where there is speech that no words came of.

The first pass takes all windows in batches. Where one of them loops or is a guess its words are dropped; those and
whatever else is unheard is cut anew and decoded again, each part by itself and with Whisper's whole context, at rising
temperatures until it makes sense. What is unheard after that is a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol

from engine.audio.pcm import SAMPLE_BYTES, SAMPLE_RATE
from engine.recognisers.speech.detection import FRAME_SAMPLES, FRAME_SECONDS, SpeechDetector
from engine.recognisers.speech.sentences import later
from engine.recognisers.speech.windows import PADDING, Samples, Span, pieces, samples, spoken, windows
from engine.recognisers.whisper.decoding import Encoded
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
"""Seconds of a window in the first pass. In longer ones Whisper leaves out more, and shorter ones tell it less."""

_TURN = 0.5
"""Seconds of silence in which a language may change."""

_LONGEST_AGAIN = 10.0
"""Seconds of a window in a later pass."""

_EDGE = 0.2
"""Seconds of sound before and after what is decoded again."""

_RETRIES = 2
"""How often what is unheard is decoded again: a retry may leave a part of it, which is cut anew."""


class WindowDecoder(Protocol):
    """What is needed of a Decoder; the tests have some that fail in known ways."""

    @property
    def batch_size(self) -> int: ...
    def alike(self, shortest: float, longest: float) -> bool: ...
    def encode(self, windows: Sequence[Samples], *, whole: bool = False) -> Encoded: ...
    def decode(
        self, encoded: Encoded, language: str, hotwords: Iterable[str] = (), *, temperature: float = 0.0
    ) -> list[DecodingResult]: ...


@dataclass(frozen=True, slots=True)
class Window:
    """What is decoded at once, and in which language, by Whisper's code. Seconds from the start of the stretch."""

    span: Span
    language: str


class Sound:
    """s16le PCM at 16 kHz, and where Silero finds speech in it."""

    def __init__(self, pcm: bytes) -> None:
        self.samples = samples(pcm)
        padded = pcm + bytes(-len(pcm) % (FRAME_SAMPLES * SAMPLE_BYTES))
        found = spoken(SpeechDetector()(padded), FRAME_SECONDS)
        longest = LONGEST - 2 * PADDING
        self.seconds = len(self.samples) / SAMPLE_RATE
        self.speech = [piece for one in found for piece in pieces(one, self.samples, SAMPLE_RATE, longest)]

    def windows(self, *, switching: bool) -> list[Span]:
        """Its speech in windows; where languages may change, whatever is said in one breath is a window of its own."""
        return windows(self.speech, LONGEST, self.seconds, _TURN if switching else inf)

    def part(self, span: Span) -> Samples:
        return self.samples[max(0, int(span.start * SAMPLE_RATE)) : int(span.end * SAMPLE_RATE)]

    def windows_of(self, hole: Span) -> Iterator[Span]:
        """Windows of what is unheard, with some sound around them."""
        for piece in pieces(hole, self.samples, SAMPLE_RATE, _LONGEST_AGAIN):
            yield Span(max(0.0, piece.start - _EDGE), min(self.seconds, piece.end + _EDGE))


class StretchTranscription:
    """Of one stretch. `words` are those that stand so far, in order, each with the code of its window's language; times
    are seconds from the start of the stretch."""

    def __init__(self, decoder: WindowDecoder, hotwords: Sequence[str], sound: Sound) -> None:
        self._decoder = decoder
        self._hotwords = hotwords
        self._sound = sound
        self._windows: Sequence[Window] = ()
        self._loops: list[Span] = []
        self.words: tuple[Word, ...] = ()

    def decode(self, cut: Sequence[Window]) -> Iterator[float]:
        """Decode the windows, those of like length together; every item is how many seconds are done."""
        self._windows = cut
        words: list[Word] = []
        done, total = 0.0, sum(window.span.seconds for window in cut)
        for batch in self._batches(cut):
            words += self._decoded(batch)
            done += sum(window.span.seconds for window in batch)
            yield self._sound.seconds * done / total
        self.words = filled((), words)

    def decode_again(self) -> None:
        """What is unheard, a few times."""
        tried: set[Span] = set()
        for _ in range(_RETRIES):
            stand, doubtful = believed(self.words)
            holes = [hole for hole in unheard(self._sound.speech, stand) if hole not in tried]
            if not holes:
                return
            tried.update(holes)
            missed = [self._retry(span) for hole in holes for span in self._sound.windows_of(hole)]
            found = [word for window in missed for word in self._decoded_again(window)]
            self.words = filled(filled(stand, found), (word for word in doubtful if not _near(word, found)))

    def gaps(self, channel: int, start: float) -> list[Gap]:
        """What stays unheard, in seconds from the start of the channel, of which the stretch starts at `start`."""
        stand, _ = believed(self.words)
        return [
            Gap(channel, round(start + hole.start, 3), round(start + hole.end, 3), self._reason(hole))
            for hole in unheard(self._sound.speech, stand, MISSED)
        ]

    def _batches(self, cut: Sequence[Window]) -> Iterator[Sequence[Window]]:
        """Windows of one language and of like length."""
        batch: list[Window] = []
        for window in sorted(cut, key=lambda one: (one.language, one.span.seconds)):
            if batch and not self._joins(batch, window):
                yield batch
                batch = []
            batch.append(window)
        if batch:
            yield batch

    def _joins(self, batch: Sequence[Window], window: Window) -> bool:
        first = batch[0]
        if len(batch) == self._decoder.batch_size or window.language != first.language:
            return False
        return self._decoder.alike(first.span.seconds, window.span.seconds)

    def _decoded(self, batch: Sequence[Window]) -> Iterator[Word]:
        """The words of windows of one language, decoded together; of those that cannot be believed there are none."""
        encoded = self._decoder.encode([self._sound.part(window.span) for window in batch])
        results = self._decoder.decode(encoded, batch[0].language, self._hotwords)
        for window, result in zip(batch, results, strict=True):
            if self._judged(window, result) is Verdict.KEEP:
                yield from self._placed(window, result)

    def _decoded_again(self, window: Window) -> Iterator[Word]:
        """The words of one window, at the lowest temperature at which they can be believed."""
        encoded = self._decoder.encode([self._sound.part(window.span)], whole=True)
        for temperature in (0.0, *TEMPERATURES):
            (result,) = self._decoder.decode(encoded, window.language, self._hotwords, temperature=temperature)
            match self._judged(window, result):
                case Verdict.KEEP:
                    yield from self._placed(window, result)
                    return
                case Verdict.SILENT:
                    return

    def _judged(self, window: Window, result: DecodingResult) -> Verdict:
        verdict = judge(result)
        if verdict is Verdict.LOOP:
            self._loops.append(window.span)
        return verdict

    def _placed(self, window: Window, result: DecodingResult) -> Iterator[Word]:
        """The words of a window where they are in the stretch, without the silence around them."""
        moved = (replace(later(one, window.span.start), language=window.language) for one in result.words)
        return trimmed(moved, self._sound.speech)

    def _retry(self, span: Span) -> Window:
        """The window, in the language of the one that it lies in."""
        middle = (span.start + span.end) / 2
        nearest = min(self._windows, key=lambda one: abs(middle - (one.span.start + one.span.end) / 2))
        return Window(span, nearest.language)

    def _reason(self, hole: Span) -> GapReason:
        looped = any(loop.start < hole.end and hole.start < loop.end for loop in self._loops)
        return GapReason.REPETITIVE if looped else GapReason.UNHEARD


def _near(word: Word, others: Iterable[Word]) -> bool:
    return any(other.start < word.end + _EDGE and word.start < other.end + _EDGE for other in others)
