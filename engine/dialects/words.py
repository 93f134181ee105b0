"""Works on the words of a transcript: find, replace, search, split into utterances and paragraphs. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import fsum

from engine.transcript import Channel, Segment, Word

PARAGRAPH_PAUSE = 2.0
"""Seconds of silence that begin a new paragraph."""

PARAGRAPH_SENTENCES = 5
"""Sentences after which a paragraph ends without a pause."""

_PUNCTUATION = '.,;:!?"()[]'

# Scripts that have no spaces between words: Thai and Lao; Burmese; CJK signs and punctuation, kana, ideographs and
# their compatible forms; full width; the planes of rare ideographs. Korean has spaces, and Khmer is written with spaces
# by those who transcribe it.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u2e80-\u312f\u31a0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)


@dataclass(frozen=True, slots=True)
class Utterance:
    """Words of one channel without a long silence between them, all of one speaker."""

    channel: int
    words: tuple[Word, ...]


def has_unspaced(text: str) -> bool:
    """Whether any character belongs to a script that has no spaces between words."""
    return _UNSPACED.search(text) is not None


def confidence(words: Sequence[Word]) -> float:
    """The mean confidence of words; 0.0 where there are none."""
    return round(fsum(word.confidence for word in words) / len(words), 6) if words else 0.0


def languages(words: Sequence[Word]) -> list[str]:
    """The languages that words tell of themselves, from the most words to the fewest; none where none tells."""
    return [code for code, _ in Counter(word.language for word in words if word.language).most_common()]


def written(word: Word, punctuate: bool) -> str:
    """A word as it stands in running text."""
    return word.written or word.text if punctuate else word.text


def prose(words: Sequence[Word], punctuate: bool) -> str:
    """Words as running text."""
    return "".join(" " * (word.spaced and number > 0) + written(word, punctuate) for number, word in enumerate(words))


def name(words: Sequence[Word]) -> str:
    """What stands before running text to say whose words it is; nothing where that is not known."""
    return "" if words[0].speaker is None else f"Speaker {words[0].speaker}: "


def substitute(channel: Channel, pairs: Sequence[Sequence[str]]) -> Channel:
    """The channel with each phrase replaced, in the order of the pairs; an empty replacement removes the phrase.

    A phrase of several words becomes one word that spans their time. Phrases do not match across a pause.
    """
    segments = channel.segments
    for find, replacement in pairs:
        segments = tuple(_substitute(segment, find, replacement) for segment in segments)
    return replace(channel, segments=tuple(segment for segment in segments if segment.words))


def matches(words: Sequence[Word], phrase: str) -> Iterator[tuple[int, int]]:
    """Where a phrase stands among words, as half-open ranges that do not overlap; case, punctuation and hyphens do not
    count, nor how a script without spaces was cut into words."""
    wanted, heard = _keys(phrase), [_keys(word.text) for word in words]
    start = 0
    while wanted and start < len(heard):
        end = _end_of_match(wanted, heard, start)
        if end is not None:
            yield start, end
        start = end or start + 1


def utterances(channels: Sequence[Channel], split: float) -> list[Utterance]:
    """The utterances of all channels in the order of time; a silence of `split` seconds or more ends one, and so does
    another speaker."""
    found = [
        Utterance(number, words) for number, channel in enumerate(channels) for words in _runs(channel.words, split)
    ]
    return sorted(found, key=lambda utterance: (utterance.words[0].start, utterance.channel))


def paragraphs(segments: Sequence[Segment]) -> list[list[Segment]]:
    """The sentences of a channel, grouped by speaker, by long pauses and by count."""
    groups: list[list[Segment]] = []
    for sentence in _sentences(segments):
        if not groups or _begins_paragraph(groups[-1], sentence):
            groups.append([])
        groups[-1].append(sentence)
    return groups


def _sentences(segments: Sequence[Segment]) -> list[Segment]:
    """Sentences by their full stops, across segments but not across long pauses and speakers; where the recogniser
    writes no stops, each segment is taken for a sentence."""
    words = [word for segment in segments for word in segment.words]
    if not any(map(_ends_sentence, words)):
        return list(segments)
    found: list[list[Word]] = []
    for word in words:
        if not found or _ends_sentence(found[-1][-1]) or _parts(found[-1][-1], word, PARAGRAPH_PAUSE):
            found.append([])
        found[-1].append(word)
    return [Segment(tuple(sentence)) for sentence in found]


def _ends_sentence(word: Word) -> bool:
    return word.written.rstrip("\"')]")[-1:] in {".", "?", "!"}


def _begins_paragraph(paragraph: Sequence[Segment], segment: Segment) -> bool:
    return len(paragraph) >= PARAGRAPH_SENTENCES or _parts(paragraph[-1].words[-1], segment.words[0], PARAGRAPH_PAUSE)


def _parts(before: Word, word: Word, pause: float) -> bool:
    """Whether somebody else says the word, or so many seconds later."""
    return word.speaker != before.speaker or word.start - before.end >= pause


def _runs(words: Sequence[Word], split: float) -> Iterator[tuple[Word, ...]]:
    run: list[Word] = []
    for word in words:
        if run and _parts(run[-1], word, split):
            yield tuple(run)
            run = []
        run.append(word)
    if run:
        yield tuple(run)


def _substitute(segment: Segment, find: str, replacement: str) -> Segment:
    words: list[Word] = []
    copied = 0
    for start, end in matches(segment.words, find):
        words += segment.words[copied:start]
        words += [_merged(segment.words[start:end], replacement)] if replacement.strip() else []
        copied = end
    return Segment((*words, *segment.words[copied:]))


def _merged(words: Sequence[Word], text: str) -> Word:
    """One word for several. The punctuation behind them stays: it ends a sentence, whatever its last word is."""
    last = words[-1].written
    tail = last[len(last.rstrip(_PUNCTUATION)) :] if text.rstrip(_PUNCTUATION) == text else ""
    return replace(words[0], text=text, end=words[-1].end, confidence=confidence(words), written=text + tail)


def _end_of_match(wanted: Sequence[str], heard: Sequence[Sequence[str]], start: int) -> int | None:
    """Where the phrase ends whose first word is this one; None where it is not said here in whole words."""
    end, matched = start, 0
    while matched < len(wanted):
        if end == len(heard) or not heard[end] or wanted[matched : matched + len(heard[end])] != heard[end]:
            return None
        matched += len(heard[end])
        end += 1
    return end


def _keys(text: str) -> list[str]:
    """What is compared of a text: its words, the halves of a hyphenated one, and each sign of a script without
    spaces."""
    parts = _UNSPACED.sub(r" \g<0> ", text).replace("-", " ").split()
    return [key for part in parts if (key := part.strip(_PUNCTUATION).casefold())]
