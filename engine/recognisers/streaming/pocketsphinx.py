"""PocketSphinx while somebody speaks: a light search keeps up and guesses, the full one hears each utterance again.

The second pass costs what transcribing a file does, and gives the same words: it normalises by the whole utterance,
which nobody knows before its end.
"""

from __future__ import annotations

from pocketsphinx import Decoder

from engine.audio.pcm import SAMPLE_RATE
from engine.heard import LiveOptions
from engine.recognisers.cutting import Piece
from engine.recognisers.pocketsphinx import SEARCH, PocketSphinx, words
from engine.recognisers.streaming.base import Growing, Guess
from engine.transcript import Model, Word

_LIGHT = SEARCH | {
    "fwdflat": False,
    "bestpath": False,
    "maxhmmpf": 1500,
    "beam": 1e-40,
    "wbeam": 7e-25,
    "pbeam": 1e-40,
}
"""One pass and fewer hypotheses: a third of the work, and a few words more that are wrong."""


class ListeningPocketSphinx:
    """A decoder of a hundred megabytes for each channel with interim results, and one for all that is final."""

    def __init__(self) -> None:
        self._full = PocketSphinx()
        self._spare: list[Decoder] = []

    @property
    def model(self) -> Model:
        return self._full.model

    def hearer(self, options: LiveOptions) -> Hearer:
        return Hearer(self._full, self._decoder() if options.interim else None, self._spare)

    def _decoder(self) -> Decoder:
        if not self._spare:
            return Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", **_LIGHT)
        decoder = self._spare.pop()
        decoder.reinit_feat()  # forget the voice heard before
        return decoder


class Hearer:
    """Hears one channel. Its light decoder, if it has one, is spare afterwards."""

    language = "en"

    def __init__(self, full: PocketSphinx, light: Decoder | None, spare: list[Decoder]) -> None:
        self._full = full
        self._light = light
        self._spare = spare
        self._until: float | None = None  # how far the light decoder has heard the stretch

    def guess(self, growing: Growing, *, behind: bool) -> Guess | None:  # noqa: ARG002 (what waits must be heard anyway)
        pcm = growing.held(growing.start if self._until is None else self._until)
        if self._light is None or not pcm:
            return None
        if self._until is None:
            self._light.start_utt()
        self._light.process_raw(pcm)
        self._until = growing.end
        return Guess(tuple(words(self._light, growing.start)))

    def release(self) -> None:
        """Nothing is settled before its end."""

    def conclude(self, piece: Piece) -> tuple[Word, ...]:
        self._end()
        return self._full.hear(piece)

    def close(self) -> None:
        self._end()
        if self._light:
            self._spare.append(self._light)
            self._light = None

    def _end(self) -> None:
        if self._light and self._until is not None:
            self._light.end_utt()
        self._until = None
