"""From the words that Whisper writes to ours: what was said beside how it is written, in segments. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import fsum

from engine.dialects.words import has_unspaced
from engine.transcript import Segment, Word

PAUSE = 0.6
"""Seconds of silence that end a segment."""

SHORTEST_WORD = 0.02
"""Seconds that every word has: an alignment may give one none."""

_SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！", "।", "؟")  # noqa: RUF001 (those of other scripts)
_CLOSING = "\"'”’»)]"  # noqa: RUF001
_SPOKEN_SIGNS = "%&@#"


@dataclass(frozen=True, slots=True)
class WordPiece:
    """What faster-whisper calls a word: `text` has the space before it, where one is written; times in seconds."""

    text: str
    start: float
    end: float
    probability: float


def whole_words(pieces: Iterable[WordPiece]) -> Iterator[Word]:
    """The words that pieces make up. faster-whisper cuts at punctuation, and so within `twenty-three` and `l'eau`; and
    between any two tokens in a language without spaces."""
    held: list[WordPiece] = []
    spaced = True
    for piece in pieces:
        before = "".join(one.text for one in held)
        apart = piece.text[:1].isspace() or before[-1:].isspace()
        if held and (apart or has_unspaced(before + piece.text)):
            yield from _whole(held, spaced=spaced)
            held = []
        if not held:
            spaced = apart or not has_unspaced(before + piece.text)
        held.append(piece)
    yield from _whole(held, spaced=spaced)


def _whole(pieces: Sequence[WordPiece], *, spaced: bool) -> Iterator[Word]:
    if not pieces:
        return
    confidence = fsum(piece.probability for piece in pieces) / len(pieces)
    found = word("".join(piece.text for piece in pieces), pieces[0].start, pieces[-1].end, confidence)
    if found:
        yield replace(found, spaced=spaced)


def word(written: str, start: float, end: float, confidence: float) -> Word | None:
    """A word as it is spoken and as it is written; None for punctuation that stands alone."""
    written = written.strip()
    spoken = _without_punctuation(written).lower()
    if not spoken:
        return None
    return Word(spoken, round(start, 3), round(end, 3), round(min(1.0, max(0.0, confidence)), 4), written)


def later(one: Word, seconds: float) -> Word:
    return replace(one, start=round(one.start + seconds, 3), end=round(one.end + seconds, 3))


def in_order(words: Iterable[Word], earliest: float, latest: float) -> list[Word]:
    """The words within these bounds, one after another, each with some length: an alignment is an estimate.

    Where the bounds have no room for all of them, the first ones begin before, but never before 0.
    """
    found = list(words)
    starts: list[float] = []
    for one in found:
        starts.append(max(one.start, starts[-1] + SHORTEST_WORD if starts else earliest))
    for number in reversed(range(len(found))):
        end = min(max(found[number].end, starts[number] + SHORTEST_WORD), latest)
        latest = max(0.0, min(starts[number], end - SHORTEST_WORD))
        found[number] = replace(found[number], start=round(latest, 3), end=round(end, 3))
    return found


def segments(words: Iterable[Word]) -> Iterator[Segment]:
    """Words cut where a sentence ends, somebody pauses or else begins to speak, or the language changes: Whisper itself
    cuts by its windows, in mid-sentence."""
    held: list[Word] = []
    for one in words:
        if held and _parts(held[-1], one):
            yield Segment(tuple(held))
            held = []
        held.append(one)
    if held:
        yield Segment(tuple(held))


def _parts(before: Word, one: Word) -> bool:
    changed = (one.language, one.speaker) != (before.language, before.speaker)
    return changed or one.start - before.end >= PAUSE or _ends_sentence(before)


def _ends_sentence(one: Word) -> bool:
    return one.written.rstrip(_CLOSING).endswith(_SENTENCE_ENDS)


def _without_punctuation(written: str) -> str:
    start, end = 0, len(written)
    while start < end and _is_silent(written[start]):
        start += 1
    while start < end and _is_silent(written[end - 1]):
        end -= 1
    return written[start:end]


def _is_silent(character: str) -> bool:
    """Whether nobody pronounces it: punctuation, and the notes that Whisper draws for music."""
    return character not in _SPOKEN_SIGNS and unicodedata.category(character)[0:2] in {
        *("Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "So")
    }
