"""Whisper while somebody speaks: one stretch at a time, quickly while it grows, with care once it is over."""

from __future__ import annotations

from engine.events import LiveOptions
from engine.recognisers.base import Spec
from engine.recognisers.languages import most_probable
from engine.recognisers.speakers.voices import HeardVoices, heard
from engine.recognisers.speakers.weights import load_encoder
from engine.recognisers.speech.sentences import in_order, later
from engine.recognisers.speech.windows import Samples, samples
from engine.recognisers.whisper.decoding import Decoder, Encoded
from engine.recognisers.whisper.passes import Hypothesis, Pass
from engine.recognisers.whisper.quality import DecodingResult, Verdict, judge
from engine.recognisers.whisper.stretch import Sound
from engine.transcript import Model, Word

_SHORTEST = 400
"""Samples: a stretch has at least one frame of the model's."""

_INTERIM_FRAMES, _FINAL_FRAMES = 1000, 1500
"""What a stretch is padded to at least, in frames of 10 ms. With 5 s the model falls into loops, and with 10 s it adds
words to short stretches now and then; with 15 s it understands as much as with 30, at less than half the cost."""

_TEMPERATURES = (0.0, 0.4, 0.8)
"""For a stretch that made no sense: fewer than for a file, because others wait."""


class LiveWhisper:
    """One model, which makes as many passes at once as it is told, each in a thread of its caller's."""

    def __init__(self, spec: Spec, passes: int) -> None:
        """Raises OSError, RuntimeError or ValueError where the files, the device or the compute type are of no use."""
        self._decoder = Decoder(spec, passes)
        self._encoder = load_encoder(spec.voices) if spec.voices else None

    @property
    def model(self) -> Model:
        return self._decoder.model

    def transcribe(self, wanted: Pass, options: LiveOptions) -> Hypothesis:
        """What a stretch says, in the language that is known of its channel or else in the likeliest."""
        sound = samples(wanted.pcm)
        if len(sound) < _SHORTEST:
            return Hypothesis((), wanted.language or "en")
        language = wanted.language or self._language(sound, options)
        words = self._final(sound, language, options) if wanted.final else self._interim(sound, language, options)
        moved = (later(word, wanted.start) for word in words)
        found = tuple(in_order(moved, wanted.start, wanted.end))
        return Hypothesis(found, language, self._voices(wanted) if found and options.speakers else None)

    def _voices(self, wanted: Pass) -> HeardVoices | None:
        """Of what is over: an interim result does not say who speaks."""
        if self._encoder is None or not wanted.final:
            return None
        sound = Sound(wanted.pcm)
        return heard(self._encoder, wanted.start, sound.samples, sound.speech)

    def _language(self, sound: Samples, options: LiveOptions) -> str:
        if not self._decoder.multilingual:
            return "en"
        return most_probable(self._decoder.languages(sound), options.languages)[0]

    def _interim(self, sound: Samples, language: str, options: LiveOptions) -> tuple[Word, ...]:
        """A text that cannot be believed is none: the next one is not far."""
        encoded = self._decoder.encode([sound], shortest=_INTERIM_FRAMES)
        result = self._decode(encoded, language, options, beam_size=1)
        return result.words if judge(result) is Verdict.KEEP else ()

    def _final(self, sound: Samples, language: str, options: LiveOptions) -> tuple[Word, ...]:
        """One that cannot be believed is looked for again with all that the model can do; then only a loop is none."""
        result = self._decode(self._decoder.encode([sound], shortest=_FINAL_FRAMES), language, options)
        if judge(result) in {Verdict.LOOP, Verdict.GUESS}:
            result = self._again(self._decoder.encode([sound], whole=True), language, options)
        return result.words if judge(result) in {Verdict.KEEP, Verdict.GUESS} else ()

    def _again(self, encoded: Encoded, language: str, options: LiveOptions) -> DecodingResult:
        found: list[DecodingResult] = []
        for temperature in _TEMPERATURES:
            found.append(self._decode(encoded, language, options, temperature=temperature))
            if judge(found[-1]) in {Verdict.KEEP, Verdict.SILENT}:
                return found[-1]
        sane = [result for result in found if judge(result) is not Verdict.LOOP]
        return max(sane or found, key=lambda result: result.log_probability)

    def _decode(
        self,
        encoded: Encoded,
        language: str,
        options: LiveOptions,
        *,
        beam_size: int | None = None,
        temperature: float = 0.0,
    ) -> DecodingResult:
        (result,) = self._decoder.decode(
            encoded, language, options.hotwords, beam_size=beam_size, temperature=temperature
        )
        return result
