"""How what was heard is worded, by the caller's wishes: fillers out, phrases replaced, profanity masked, digits. Pure.

Fillers, profanity and digits are English: a channel in another language keeps its words. Whoever searches, searches in
what was heard, not in this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from engine.dialects.deepgram.numerals import as_digits
from engine.dialects.deepgram.recorded_parameters import DeepgramOptions
from engine.dialects.words import substitute
from engine.transcript import Channel, Segment, Word

FILLERS = frozenset({"uh", "um"})
"""Left out unless `filler_words` is set: these two, as Deepgram documents it."""

# A short list of what nobody doubts. Whole words only, so that places and birds keep their names.
_PROFANE = re.compile(
    r"(?:mother|bull|horse)?(?:fuck|shit)(?:s|ed|er|ers|in|ing|head|heads|ty)?"
    r"|bitch(?:es|y)?|bastards?|cunts?|assholes?|arseholes?|dickheads?|god-?damn(?:ed)?|damn(?:ed|it)?|wank(?:er|ers|ing)"
)
_LETTER = re.compile(r"\w")


def worded(channel: Channel, options: DeepgramOptions) -> Channel:
    """The channel as its document shows it. Segments that end up without a word are gone."""
    english = (channel.language or "").lower().partition("-")[0] == "en"
    if english and not options.get("filler_words"):
        channel = _each(channel, _without_fillers)
    channel = substitute(channel, options.get("replace", []))
    if english and options.get("profanity_filter"):
        channel = _each(channel, _masked)
    if english and options.get("numerals"):
        channel = _each(channel, as_digits)
    return channel


def _each(channel: Channel, change: Callable[[Segment], Segment]) -> Channel:
    changed = (change(segment) for segment in channel.segments)
    return replace(channel, segments=tuple(segment for segment in changed if segment.words))


def _without_fillers(segment: Segment) -> Segment:
    return Segment(tuple(_kept(segment.words)))


def _kept(words: Iterable[Word]) -> Iterable[Word]:
    """The words that are no fillers; one that now opens a sentence gets the capital of the filler before it."""
    capital = False
    for word in words:
        if word.text.lower() in FILLERS:
            capital = capital or word.written[:1].isupper()
            continue
        yield replace(word, written=word.written[:1].upper() + word.written[1:]) if capital else word
        capital = False


def _masked(segment: Segment) -> Segment:
    return Segment(tuple(_hidden(word) if _PROFANE.fullmatch(word.text.lower()) else word for word in segment.words))


def _hidden(word: Word) -> Word:
    return replace(word, text=_LETTER.sub("*", word.text), written=_LETTER.sub("*", word.written))
