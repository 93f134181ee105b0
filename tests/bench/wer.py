"""engine.wer: how much of what was said is heard, by the product and by the library that it stands on, in one run.

Word error rates are in percent, over texts as OpenAI's normaliser for English leaves them. Beside them stands what such
a rate hides: words that are missing, stretches of speech of two seconds and more without a word, and windows of
half a minute whose text repeats itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jiwer
from whisper_normalizer.english import EnglishTextNormalizer

from tests.bench.engine import loaded, speech
from tests.bench.hearing import FASTER_WHISPER, WAYS, Heard, Words, listeners
from tests.bench.stand import Result, Scale
from tests.clips import Line, clip, clips
from tests.clips.sounds import Recording, joined, pieces

COUNTS = ("deleted", "unheard", "loops", "cpu_s")

_SHORT_SECONDS = 10.0
_STRETCH_SECONDS = 2.0
_LONGEST_WORD_SECONDS = 2.0  # what is said to last longer spans a silence, or what was not heard
_WINDOW_SECONDS, _STEP_SECONDS = 30.0, 5.0
_REPETITIVE = 2.4  # Whisper's own rule: how much smaller zlib makes a text that is taken for a loop

_normalised: Callable[[str], str] = EnglishTextNormalizer()


@dataclass(frozen=True, slots=True)
class Score:
    """What one way made of some recordings."""

    words: int
    errors: int
    deleted: int
    unheard: int
    loops: int
    cpu_s: float

    @property
    def percent(self) -> float:
        """Of words wrong."""
        return 100 * self.errors / self.words


def short(scale: Scale) -> Result:
    """Real recordings, and the other clips cut into pieces of ten seconds and less, each heard by itself."""
    as_they_are = [Recording(one.pcm(), one.lines) for one in (*clips("real"), clip("demo"))]
    cut = [piece for one in clips("en") for piece in pieces(one, _SHORT_SECONDS)]
    return rates("short", compared([*as_they_are, *cut][: scale.recordings]))


def noisy(scale: Scale) -> Result:
    """Minutes of speech in noise."""
    return rates("noisy", compared([joined(clips("noisy")).until(scale.recording_seconds)]), counts=True)


def ten_minutes(scale: Scale) -> Result:
    """Clips joined."""
    return rates("ten_minutes", compared([joined(clips("en"), scale.recording_seconds)]), counts=True)


def hour(scale: Scale) -> Result:
    """The same clips over and over, and between them those with noise."""
    both = (*clips("en"), *clips("noisy"))
    return rates("hour", compared([joined(both, 6 * scale.recording_seconds)]), counts=True)


def compared(recordings: Sequence[Recording]) -> dict[str, Score]:
    """What each way makes of them, one way after another, with a model that is warm; the product in a process of its
    own."""
    spec, scores = loaded(workers=1), {}
    for ways in (("product",), FASTER_WHISPER):
        with listeners(ways, spec) as alone:
            for way, one in alone.items():
                one.hear(speech(1.0))
                scores[way] = score(recordings, [one.hear(sound.wav()) for sound in recordings])
    return scores


def rates(name: str, scores: dict[str, Score], *, counts: bool = False) -> Result:
    """Under their keys; `over` is by how many points the product is worse than the library at its best."""
    best = min(scores[way].percent for way in FASTER_WHISPER)
    found = {f"engine.wer.{name}.over": scores["product"].percent - best}
    for way, one in scores.items():
        found[f"engine.wer.{name}.{way}"] = one.percent
        if counts:
            found |= {f"engine.wer.{name}.{way}.{count}": float(getattr(one, count)) for count in COUNTS}
    return found


def goals(name: str, *, counts: bool = False) -> dict[str, str]:
    """The keys that `rates` gives, and what is wanted."""
    named = [f"{way}.{count}" for way in WAYS for count in COUNTS] if counts else []
    wanted = {"over": "<= 0.5"} | dict.fromkeys([*WAYS, *named], "")
    if counts:
        wanted |= {"product.unheard": "<= 0", "product.loops": "<= 0"}
    return {f"engine.wer.{name}.{key}": goal for key, goal in wanted.items()}


def score(recordings: Sequence[Recording], heard: Sequence[Heard]) -> Score:
    """The recordings together."""
    said = [_normalised(one.text) for one in recordings]
    output = jiwer.process_words(said, [_normalised(text_of(one.words)) for one in heard])
    return Score(
        words=output.hits + output.substitutions + output.deletions,
        errors=output.substitutions + output.deletions + output.insertions,
        deleted=output.deletions,
        unheard=sum(unheard(one.lines, found.words) for one, found in zip(recordings, heard, strict=True)),
        loops=sum(loops(one.words) for one in heard),
        cpu_s=sum(one.cpu_seconds for one in heard),
    )


def text_of(words: Words) -> str:
    """As running text."""
    return " ".join(text.strip() for text, _, _ in words)


def unheard(lines: Sequence[Line], words: Words) -> int:
    """Stretches of at least two seconds within a line in which no word was heard."""
    return sum(_gaps(line, words) for line in lines)


def _gaps(line: Line, words: Words) -> int:
    spans = ((start, min(end, start + _LONGEST_WORD_SECONDS)) for _, start, end in words)
    inside = sorted((start, end) for start, end in spans if end > line.start and start < line.end)
    reached, gaps = line.start, 0
    for start, end in [*inside, (line.end, line.end)]:
        gaps += min(start, line.end) - reached >= _STRETCH_SECONDS
        reached = max(reached, end)
    return gaps


def loops(words: Words) -> int:
    """Places where the text of half a minute is more repetitive than speech is. What follows within it is the same."""
    found, until = 0, 0.0
    for at in _steps(words):
        text = text_of([word for word in words if at <= word[1] < at + _WINDOW_SECONDS])
        if at >= until and len(text) / max(1, len(zlib.compress(text.encode()))) > _REPETITIVE:
            found, until = found + 1, at + _WINDOW_SECONDS
    return found


def _steps(words: Words) -> Iterator[float]:
    last = max((start for _, start, _ in words), default=0.0)
    return (number * _STEP_SECONDS for number in range(int(last / _STEP_SECONDS) + 1))
