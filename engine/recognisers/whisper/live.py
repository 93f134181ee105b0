"""Whisper while somebody speaks: one stretch at a time, quickly while it grows, with care once it is over.

The model's parts are called one by one, because faster-whisper's own `transcribe` pads every stretch to 30 seconds:
to encode those takes most of the time, and a short stretch needs little of it.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import ctranslate2
from faster_whisper import WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import TranscriptionOptions, get_suppressed_tokens
from faster_whisper.transcribe import Word as FoundWord

from engine.events import LiveOptions
from engine.recognisers.base import Spec, model_id
from engine.recognisers.languages import most_probable
from engine.recognisers.models.files import find
from engine.recognisers.speech.sentences import in_order, later, whole_words
from engine.recognisers.speech.windows import samples
from engine.recognisers.whisper.decoding import placement
from engine.recognisers.whisper.passes import Hypothesis, Pass
from engine.transcript import Model, Word

_INTERIM_FRAMES, _FINAL_FRAMES = 1000, 1500
"""The least context that is encoded, in frames of 10 ms. With 5 s of it the model falls into loops; with 15 it
understands as much as with 30, at a third of the time."""

_MARGIN_FRAMES = 100
"""Silence after a stretch, by which the model hears that it is over."""

_FALLBACK = [0.0, 0.4, 0.8]
"""Temperatures for a stretch that made no sense: fewer than for a file, because others wait."""

_REPETITIVE, _UNLIKELY, _NO_SPEECH = 2.4, -1.0, 0.6
"""Whisper's own rules: text that compresses so well is a loop, of such a mean log-probability a guess; and a guess over
what is so probably no speech is none."""

_MOST_TOKENS, _TOKENS_PER_SECOND = 32, 25
"""More than anybody says: a loop ends there."""

_PREPENDED, _APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001 (faster-whisper's own)


class LiveWhisper:
    """One model, which hears as many stretches at once as `passes` says, each in a thread of its caller's."""

    def __init__(self, spec: Spec, passes: int) -> None:
        """Raises OSError, RuntimeError or ValueError where the files, the device or the compute type are of no use."""
        find(spec.model, Path())  # without its tokenizer, faster-whisper would fetch one
        device, compute_type = placement(spec.device, spec.compute_type, cuda=ctranslate2.get_cuda_device_count() > 0)
        self._spec = spec
        self._whisper = WhisperModel(
            spec.model,
            device=device,
            compute_type=compute_type,
            cpu_threads=spec.threads,
            num_workers=passes,
            local_files_only=True,
        )
        name, release = spec.name or Path(spec.model).name, version("faster-whisper")
        self.model = Model(id=model_id(name, release), name=name, version=release, arch="whisper")
        self._tokenizers: dict[str, Tokenizer] = {}

    def hear(self, wanted: Pass, options: LiveOptions) -> Hypothesis:
        """What a stretch says, in the language that is known of its channel or else in the likeliest."""
        sound = samples(wanted.pcm)
        if len(sound) < self._whisper.feature_extractor.n_fft:
            return Hypothesis((), wanted.language or "en")
        features = self._whisper.feature_extractor(sound)[..., :-1]
        encoded = self._encode(features, _FINAL_FRAMES if wanted.final else _INTERIM_FRAMES)
        language = wanted.language or self._detect(encoded, options)
        decoding = _Decoding(features, encoded, self._tokenizer(language), options.hotwords)
        words = self._decode(decoding, careful=wanted.final)
        moved = (later(word, wanted.start) for word in words)
        return Hypothesis(tuple(in_order(moved, wanted.start, wanted.end)), language)

    def _encode(self, features: Any, least: int) -> Any:
        frames = max(least, features.shape[-1] + _MARGIN_FRAMES)
        return self._whisper.encode(pad_or_trim(features, min(frames, self._whisper.feature_extractor.nb_max_frames)))

    def _detect(self, encoded: Any, options: LiveOptions) -> str:
        if not self._whisper.model.is_multilingual:
            return "en"
        found = self._whisper.model.detect_language(encoded)[0]
        return most_probable([(token[2:-2], likelihood) for token, likelihood in found], options.languages)[0]

    def _tokenizer(self, language: str) -> Tokenizer:
        if language not in self._tokenizers:
            multilingual = self._whisper.model.is_multilingual
            self._tokenizers[language] = Tokenizer(self._whisper.hf_tokenizer, multilingual, "transcribe", language)
        return self._tokenizers[language]

    def _decode(self, decoding: _Decoding, *, careful: bool) -> list[Word]:
        """An interim text that makes no sense is none; a final one is looked for with all that the model can do."""
        if not careful:
            text = self._generate(decoding, 1, [0.0])
            return self._aligned(decoding, text.tokens) if text.makes_sense else []
        text = self._generate(decoding, self._spec.beam_size, [0.0])
        if not text.makes_sense:
            encoded = self._encode(decoding.features, self._whisper.feature_extractor.nb_max_frames)
            decoding = decoding._replace(encoded=encoded)
            text = self._generate(decoding, self._spec.beam_size, _FALLBACK)
        return [] if text.is_loop else self._aligned(decoding, text.tokens)

    def _generate(self, decoding: _Decoding, beam_size: int, temperatures: list[float]) -> _Text:
        tokenizer, frames = decoding.tokenizer, decoding.features.shape[-1]
        before = tokenizer.encode(self._spec.prompt) if self._spec.prompt else []
        hotwords = ", ".join(decoding.hotwords) or None
        prompt = self._whisper.get_prompt(tokenizer, before, without_timestamps=True, hotwords=hotwords)
        room = min(self._whisper.max_length - len(prompt), _MOST_TOKENS + frames * _TOKENS_PER_SECOND // 100)
        options = _options(tokenizer, beam_size, temperatures, room)
        found = self._whisper.generate_with_fallback(decoding.encoded, prompt, tokenizer, options)
        result, likelihood, _, ratio = found
        if result.no_speech_prob > _NO_SPEECH and likelihood < _UNLIKELY:
            return _Text([], 0.0, 0.0)
        return _Text(list(result.sequences_ids[0]), likelihood, ratio)

    def _aligned(self, decoding: _Decoding, tokens: list[int]) -> list[Word]:
        if not tokens:
            return []
        frames = decoding.features.shape[-1]
        segment: dict[str, Any] = {"tokens": tokens, "seek": 0, "start": 0.0, "end": frames / 100}
        self._whisper.add_word_timestamps(
            [[segment]], decoding.tokenizer, decoding.encoded, frames, _PREPENDED, _APPENDED, 0.0
        )
        return list(whole_words(FoundWord(**word) for word in segment["words"]))


class _Decoding(NamedTuple):
    """A stretch on its way to words: what it sounds like, in frames of 10 ms, and what the encoder made of it."""

    features: Any
    encoded: Any
    tokenizer: Tokenizer
    hotwords: tuple[str, ...]


class _Text(NamedTuple):
    """What was generated, its mean log-probability, and how well it compresses."""

    tokens: list[int]
    likelihood: float
    ratio: float

    @property
    def is_loop(self) -> bool:
        return self.ratio > _REPETITIVE

    @property
    def makes_sense(self) -> bool:
        return not self.is_loop and self.likelihood >= _UNLIKELY


def _options(tokenizer: Tokenizer, beam_size: int, temperatures: list[float], tokens: int) -> TranscriptionOptions:
    """faster-whisper's own, but for these."""
    return TranscriptionOptions(
        beam_size=beam_size,
        temperatures=temperatures,
        max_new_tokens=tokens,
        suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
        best_of=5,
        patience=1,
        length_penalty=1,
        repetition_penalty=1,
        no_repeat_ngram_size=0,
        log_prob_threshold=_UNLIKELY,
        no_speech_threshold=_NO_SPEECH,
        compression_ratio_threshold=_REPETITIVE,
        condition_on_previous_text=False,
        prompt_reset_on_temperature=0.5,
        initial_prompt=None,
        prefix=None,
        suppress_blank=True,
        without_timestamps=True,
        max_initial_timestamp=1.0,
        word_timestamps=True,
        prepend_punctuations=_PREPENDED,
        append_punctuations=_APPENDED,
        multilingual=False,
        clip_timestamps="0",
        hallucination_silence_threshold=None,
        hotwords=None,
    )
