"""Whisper while somebody speaks: it hears the stretch so far again and again; what two passes agree on is settled."""

from __future__ import annotations

import time

from engine.audio.pcm import SAMPLE_RATE
from engine.events import LiveOptions
from engine.recognisers.languages import public_code, whisper_code
from engine.recognisers.speech.cutting import Piece
from engine.recognisers.speech.sentences import in_order
from engine.recognisers.speech.windows import Samples, samples
from engine.recognisers.whisper.agreement import LocalAgreement
from engine.recognisers.whisper.live_channel import Growing, Guess
from engine.recognisers.whisper.recorded import Whisper, later
from engine.transcript import Model, Word

_EVERY = 0.5
"""Seconds of new audio that are worth a pass."""

_SHARE = 0.5
"""How much of the time a session may spend on guesses: a slow model guesses less often."""

_EDGE = 0.2
"""Seconds before the end of the audio where a word may be half a word."""


class ListeningWhisper:
    """One model for all channels."""

    def __init__(self, whisper: Whisper) -> None:
        self._whisper = whisper

    @property
    def model(self) -> Model:
        return self._whisper.model

    def hearer(self, options: LiveOptions) -> Hearer:
        return Hearer(self._whisper, options)


class Hearer:
    """Hears one channel. Its language, unless it was asked for, is that of the first words, from then on."""

    def __init__(self, whisper: Whisper, options: LiveOptions) -> None:
        self._whisper = whisper
        self._options = options
        self._known = whisper_code(options.language)
        self._supposed = self._known or "en"
        self._agreement = LocalAgreement()
        self._passed: float | None = None
        self._wait = _EVERY

    @property
    def language(self) -> str:
        return public_code(self._supposed)

    def guess(self, growing: Growing, *, behind: bool) -> Guess | None:
        since = growing.speech_start if self._passed is None else self._passed
        if behind or since is None or growing.end - since < self._wait:
            return None
        began = time.perf_counter()
        words = self._hear(growing.start, growing.held(growing.start), beam_size=1)
        self._wait = max(_EVERY, (time.perf_counter() - began) / _SHARE)
        self._passed = growing.end
        self._agreement = self._agreement.hear(words, growing.end - _EDGE)
        return Guess(self._agreement.words, len(self._agreement.settled))

    def release(self) -> None:
        self._agreement = self._agreement.release()

    def conclude(self, piece: Piece) -> tuple[Word, ...]:
        words = self._agreement.conclude(self._hear(piece.start, piece.pcm))
        self._agreement, self._passed = LocalAgreement(), None
        if words:
            self._known = self._supposed
        return words

    def close(self) -> None:
        """Holds nothing of its own."""

    def _hear(self, start: float, pcm: bytes, beam_size: int | None = None) -> tuple[Word, ...]:
        sound = samples(pcm)
        if not len(sound) or not (parts := self._whisper.windows(sound)):
            return ()
        language = self._language(sound[slice(*parts[0])])
        heard = self._whisper.hear(sound, parts, language, self._options.hotwords, beam_size)
        moved = (later(word, start) for _, words in heard for word in words)
        return tuple(in_order(moved, start, start + len(sound) / SAMPLE_RATE))

    def _language(self, sound: Samples) -> str:
        if self._known is None:
            self._supposed, _ = self._whisper.detect(sound, self._options.languages)
        return self._supposed
