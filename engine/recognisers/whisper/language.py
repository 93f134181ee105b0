"""Which language is spoken on a channel, window by window."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import fsum

from engine.audio.pcm import SAMPLE_RATE
from engine.recognisers.base import RecognitionOptions
from engine.recognisers.languages import most_probable, public_code, whisper_code
from engine.recognisers.speech.windows import Samples
from engine.recognisers.whisper.decoding import Decoder

_SURE = 0.8
"""How likely a language must be for its first window to settle it."""

_MOST_WINDOWS = 4
"""Windows that are asked at most where none is sure."""

_UNSURE, _SHORT = 0.5, 1.5
"""Where languages change, a window less likely or shorter (in seconds) than this goes with the one before it."""


class Languages:
    """Of one channel: the one that was asked for; or that of its first words, from then on; or, where languages change,
    that of each window by itself. Codes are Whisper's own, but for `told`."""

    def __init__(self, decoder: Decoder, options: RecognitionOptions) -> None:
        self._decoder = decoder
        self._candidates = options.languages
        self._asked = whisper_code(options.language) if decoder.multilingual else "en"
        self.switching = options.code_switching and self._asked is None
        self._known = self._asked
        self._before: str | None = None
        self._likely: dict[str, list[float]] = defaultdict(list)

    def of(self, windows: Sequence[Samples]) -> list[str]:
        """The language of each window; there is speech in every one."""
        if self.switching:
            return [self._switched(window) for window in windows]
        if self._known is None:
            self._known = self._settled(windows)
        return [self._known] * len(windows)

    def forget(self) -> None:
        """Nothing was said after all: what was detected was no speech."""
        self._known, self._before = self._asked, None
        self._likely.clear()

    def told(self, words: Mapping[str, int]) -> tuple[str | None, float | None]:
        """The language that the caller is told of, by its public code, and how likely it is if it was detected. `words`
        counts them by the language of their window; where none was said only what was asked for is known."""
        if not words:
            return None, None
        code = Counter(words).most_common(1)[0][0]
        likely = self._likely[code]
        return public_code(code), fsum(likely) / len(likely) if likely else None

    def _settled(self, windows: Sequence[Samples]) -> str:
        """Of the first window, or of the first few together where none is sure."""
        weights: dict[str, float] = defaultdict(float)
        samples, code, likely = 0, "en", 0.0
        for window in windows[:_MOST_WINDOWS]:
            samples += len(window)
            for one, probability in self._decoder.languages(window):
                weights[one] += probability * len(window)
            code, likely = most_probable([(one, weight / samples) for one, weight in weights.items()], self._candidates)
            if likely >= _SURE:
                break
        self._likely[code] = [likely]
        return code

    def _switched(self, window: Samples) -> str:
        code, likely = most_probable(self._decoder.languages(window), self._candidates)
        if self._before and (likely < _UNSURE or len(window) < _SHORT * SAMPLE_RATE):
            return self._before
        self._likely[code].append(likely)
        self._before = code
        return code
