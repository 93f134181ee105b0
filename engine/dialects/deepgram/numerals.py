"""English cardinal numbers in words to digits: `two hundred and five` is 205. Pure.

Cardinals only, from zero to the trillions. Ordinals and fractions stay words, whole; of dates, times and sums of money
the cardinals alone become digits. A year read as two numbers becomes two numbers, and a telephone number as many digits
as were said. A lone `one` stays a word, since it is seldom a number. What is punctuated apart is not put together.

text2num is the library for this. It makes `105 100` of `one hundred and five hundred`, and knows no trillions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum

from engine.transcript import Segment, Word

_UNITS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
_TEENS = {
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "thirteen": 13,
    "fourteen": 14,
    "fifteen": 15,
    "sixteen": 16,
    "seventeen": 17,
    "eighteen": 18,
    "nineteen": 19,
}
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_MULTIPLIERS = frozenset({"hundred", *_SCALES})
_NUMBERS = frozenset({"zero", *_UNITS, *_TEENS, *_TENS})
_KNOWN = _NUMBERS | _MULTIPLIERS | {"and"}
_ORDINALS = frozenset(
    {"first", "second", "third", "fifth", "eighth", "ninth", "twelfth"}
    | {f"{number}th" for number in ("four", "six", "seven", *_TEENS, *_MULTIPLIERS) if number != "twelve"}
    | {f"{tens[:-1]}ieth" for tens in _TENS}
)
# Not seconds, which are time.
_FRACTIONS = frozenset({"halves", "quarters", *(f"{ordinal}s" for ordinal in _ORDINALS - {"first", "second"})})

_EDGES = re.compile(r"^(?P<before>[^\w]*).*?(?P<after>[^\w]*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Number:
    """A number as far as it was read: whole scales in `total`, the rest, below 1000, in `group`."""

    total: int = 0
    group: int = 0
    scale: int = 10**15  # the next one must be smaller
    last: str = ""  # the sort of the last word: nothing yet, zero, unit, teen, tens, hundred, scale, and

    @property
    def value(self) -> int:
        return self.total + self.group

    def then(self, word: str) -> _Number | None:
        """The number with one more word; None where that word cannot follow."""
        if word in _UNITS:
            return self._plus(_UNITS[word], "unit", {"", "tens", "hundred", "scale", "and"})
        if word in _TEENS:
            return self._plus(_TEENS[word], "teen", {"", "hundred", "scale", "and"})
        if word in _TENS:
            return self._plus(_TENS[word], "tens", {"", "hundred", "scale", "and"})
        if word in _SCALES:
            return self._times(_SCALES[word])
        return self._otherwise(word)

    def _plus(self, value: int, sort: str, after: set[str]) -> _Number | None:
        return _Number(self.total, self.group + value, self.scale, sort) if self.last in after else None

    def _times(self, scale: int) -> _Number | None:
        if self.group == 0 or scale >= self.scale or self.last == "and":
            return None
        return _Number(self.total + self.group * scale, 0, scale, "scale")

    def _otherwise(self, word: str) -> _Number | None:
        match word:
            case "hundred" if 0 < self.group < 100 and self.last != "and":
                return _Number(self.total, self.group * 100, self.scale, "hundred")
            case "and" if self.last in {"hundred", "scale"}:
                return _Number(self.total, self.group, self.scale, "and")
            case "zero" if not self.last:
                return _Number(last="zero")
            case _:
                return None


def as_digits(segment: Segment) -> Segment:
    """The segment with its cardinal numbers in digits. A number of several words becomes one word that spans their
    time, with the mean of their confidences."""
    words = segment.words
    spelt = [_spelt(word) for word in words]
    written: list[Word] = []
    start = 0
    while start < len(words):
        end, value = _read(words, spelt, start)
        if end > start and _goes_on(words, end):
            written.extend(words[start:end])
            start = end
        elif end == start or (end == start + 1 and value == 1 and _lonely(spelt, start)):
            written.append(words[start])
            start += 1
        else:
            written.append(_merged(words[start:end], value))
            start = end
    return Segment(tuple(written))


def _read(words: Sequence[Word], spelt: Sequence[tuple[str, ...]], start: int) -> tuple[int, int]:
    """Where the number that begins at `start` ends, and its value; `start` itself where none begins.

    A number does not end right before `hundred` or the like if it can end elsewhere: in `one hundred and five hundred`
    there are two.
    """
    limit = next((index + 1 for index in range(start, len(words)) if _ends_clause(words[index])), len(words))
    number: _Number | None = _Number()
    ends: list[tuple[int, int]] = []
    for index in range(start, limit):
        number = _and_then(number, spelt[index])
        if number is None:
            break
        if number.last != "and":
            ends.append((index + 1, number.value))
    whole = [(end, value) for end, value in ends if end == limit or _MULTIPLIERS.isdisjoint(spelt[end][:1])]
    return (whole or ends or [(start, 0)])[-1]


def _goes_on(words: Sequence[Word], end: int) -> bool:
    """Whether what was read up to `end` begins an ordinal (`twenty first`) or a fraction (`two thirds`)."""
    if end == len(words) or _ends_clause(words[end - 1]):
        return False
    last, *following = (word.text.lower().split("-")[-1] for word in words[end - 1 : end + 2])
    after = following[-1] if following[0] == "and" and last in _MULTIPLIERS else following[0]
    return after in _FRACTIONS or (after in _ORDINALS and (last in _TENS or last in _MULTIPLIERS))


def _and_then(number: _Number | None, parts: Sequence[str]) -> _Number | None:
    for part in parts:
        number = number.then(part) if number else None
    return number if parts else None


def _spelt(word: Word) -> tuple[str, ...]:
    """The parts of a number word (`twenty-three` has two); none where the word is not all number."""
    parts = tuple(word.text.lower().split("-"))
    return parts if _KNOWN.issuperset(parts) else ()


def _lonely(spelt: Sequence[tuple[str, ...]], index: int) -> bool:
    neighbours = (*spelt[max(0, index - 1) : index], *spelt[index + 1 : index + 2])
    return not any(_NUMBERS.intersection(parts) for parts in neighbours)


def _ends_clause(word: Word) -> bool:
    return word.written[-1:] in set(".,;:!?")


def _merged(words: Sequence[Word], value: int) -> Word:
    digits = str(value)
    before, after = _edges(words[0].written)[0], _edges(words[-1].written)[1]
    confidence = fsum(word.confidence for word in words) / len(words)
    return replace(words[0], text=digits, end=words[-1].end, confidence=confidence, written=f"{before}{digits}{after}")


def _edges(written: str) -> tuple[str, str]:
    """The punctuation around a word."""
    found = _EDGES.match(written)
    return (found["before"], found["after"]) if found else ("", "")
