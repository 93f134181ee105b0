"""What of a decoded window can be believed, and where there is speech that no words came of. Pure.

Whisper fails in three ways that its text alone does not show: it leaves out sentences, it repeats itself without end,
and it makes up words where nobody speaks. The numbers of the decoder tell the last two; the first shows where the
voice detector found speech and no word stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from engine.recognisers.speech.windows import Span
from engine.transcript import Word

REPETITIVE = 2.4
"""The compression ratio of text above which it repeats itself: Whisper's own."""

UNLIKELY = -1.0
"""The mean log-probability below which text is a guess: Whisper's own."""

NO_SPEECH, DOUBTED = 0.6, -0.7
"""Where no speech is more probable than that, a text less probable than that is made up over noise. Whisper's own rule
asks for UNLIKELY: over many voices at once that let "Thank you." pass, and no speech down to 0 dB came near to this."""

TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""At which what was decoded badly is decoded again, one after another until it is sane: faster-whisper's own."""

_LONGEST_WORD, _LONGEST_SIGN = 1.0, 0.08
"""Seconds that a word may take, and more for each of its characters: a longer one has swallowed others."""

_NOTHING = 0.02
"""Seconds: a word no longer than that got no time of its own."""

_REACH = 0.2
"""Seconds around a word that count as transcribed: its times are estimates."""

_TOGETHER = 0.35
"""Seconds between two unheard parts that are decoded again as one."""

UNHEARD = 0.5
"""Seconds of speech without a word that are worth another pass."""

MISSED = 1.0
"""Seconds of speech without a word, after all passes, that the caller is told of."""


@dataclass(frozen=True, slots=True)
class DecodingResult:
    """What the decoder made of one window. The words' times are seconds from the start of the window."""

    words: tuple[Word, ...]
    log_probability: float
    compression_ratio: float
    no_speech: float
    temperature: float = 0.0


class Verdict(StrEnum):
    """What to do with a result: words that stay, or why none do."""

    KEEP = "keep"
    SILENT = "silent"
    LOOP = "loop"
    GUESS = "guess"


def judge(result: DecodingResult) -> Verdict:
    """Whether its words can be believed as a whole. LOOP and GUESS are worth another try, SILENT is not."""
    if result.compression_ratio > REPETITIVE:
        return Verdict.LOOP
    if result.no_speech > NO_SPEECH and result.log_probability < DOUBTED:
        return Verdict.SILENT
    return Verdict.GUESS if result.log_probability < UNLIKELY else Verdict.KEEP


def trimmed(words: Iterable[Word], speech: Sequence[Span]) -> Iterator[Word]:
    """The words without the silence before and after their speech: Whisper stretches them over pauses."""
    for word in words:
        own = [span for span in speech if span.start < word.end and span.end > word.start]
        if own:
            start, end = max(word.start, own[0].start - _REACH), min(word.end, own[-1].end + _REACH)
            yield replace(word, start=round(start, 3), end=round(end, 3))
        else:
            yield word


def believed(words: Sequence[Word]) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
    """The words that were spoken where they stand, and those that say nothing of it: one that is too long to be one
    word, with those beside it that got no time. Where a sentence was left out, its neighbours are laid over it."""
    doubtful: set[int] = set()
    for number, word in enumerate(words):
        if word.end - word.start > _LONGEST_WORD + _LONGEST_SIGN * len(word.text):
            doubtful.update({number, *_timeless(words, number, 1), *_timeless(words, number, -1)})
    stand = tuple(word for number, word in enumerate(words) if number not in doubtful)
    return stand, tuple(words[number] for number in sorted(doubtful))


def _timeless(words: Sequence[Word], number: int, step: int) -> Iterator[int]:
    number += step
    while 0 <= number < len(words) and words[number].end - words[number].start <= _NOTHING:
        yield number
        number += step


def unheard(speech: Iterable[Span], words: Iterable[Word], least: float = UNHEARD) -> list[Span]:
    """Where there is speech, `least` seconds of it or more, and no word. Both in order of their times."""
    holes: list[list[Span]] = []
    for rest in _without(speech, [Span(word.start - _REACH, word.end + _REACH) for word in words]):
        if holes and rest.start - holes[-1][-1].end <= _TOGETHER:
            holes[-1].append(rest)
        else:
            holes.append([rest])
    return [Span(hole[0].start, hole[-1].end) for hole in holes if sum(part.seconds for part in hole) >= least]


def _without(speech: Iterable[Span], covered: Sequence[Span]) -> Iterator[Span]:
    """What of the speech is not covered."""
    first = 0
    for span in speech:
        start = span.start
        while first < len(covered) and covered[first].end <= start:
            first += 1
        for cover in covered[first:]:
            if cover.start >= span.end:
                break
            if cover.start > start:
                yield Span(start, cover.start)
            start = max(start, cover.end)
        if start < span.end:
            yield Span(start, span.end)


def filled(words: Sequence[Word], found: Iterable[Word]) -> tuple[Word, ...]:
    """The words, and of those that another pass found the ones that stand between them, in order of time."""
    new = [word for word in found if not any(old.start <= (word.start + word.end) / 2 <= old.end for old in words)]
    return tuple(sorted((*words, *new), key=lambda word: (word.start, word.end)))
