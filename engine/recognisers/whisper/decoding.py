"""Whisper's weights at work, run by CTranslate2 through faster-whisper: from windows of sound to text.

Importing this takes seconds and hundreds of megabytes, so only worker processes do. faster-whisper's
own `transcribe` pads every window to 30 s and takes the first text that comes; its parts are called one by one here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_compression_ratio, get_suppressed_tokens, merge_punctuations

from engine.audio.pcm import SAMPLE_RATE
from engine.recognisers.base import Spec, model_id
from engine.recognisers.models.files import find
from engine.recognisers.speech.sentences import WordPiece, whole_words
from engine.recognisers.speech.windows import Samples
from engine.recognisers.whisper.quality import DecodingResult
from engine.transcript import Model

_HOTWORD_TOKENS = 100
"""Tokens that hotwords may take of the 448 that one window has for prompt and text together."""

_BEST_OF = 5
"""Texts that are sampled at a temperature; the most probable is taken."""

_SHORTEST, _MARGIN, _STEP = 1500, 100, 50
"""Frames of 10 ms: what a window is padded to at least, by at least, and in steps of. Encoding the 30 s that Whisper
was trained on costs more than all else for a short window on a processor; below 15 s it gets words wrong. Of 2,120 in
pieces of up to ten seconds (`engine.wer.short`) 69 were with 10 s, and 53 with 15 s as with 20 s, for 5 % and 16 % more
time."""

_TOKENS, _TOKENS_PER_SECOND = 32, 25
"""More than anybody says: there a loop ends."""

_SPREAD = 1.3
"""By what factor the contexts of a batch may differ: a minute of speech takes 14 % less than in one batch of all."""

_SILENCE = 9600
"""Samples after a window, 0.6 s: a sentence that ends in silence gets its full stop."""

_OPENING, _CLOSING = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001 (faster-whisper's own defaults)

_SEED = 7


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the encoder made of windows, and how many frames of 10 ms each of them has."""

    output: Any
    frames: tuple[int, ...]


class Decoder:
    """One Whisper model, loaded from its directory, for as many threads at once as `passes` says. Never fetches
    anything.

    Raises OSError, RuntimeError or ValueError where the files, the device or the compute type cannot be used.
    """

    def __init__(self, spec: Spec, passes: int = 1) -> None:
        find(spec.model, Path())  # without its tokenizer, faster-whisper would fetch one
        device, compute_type = placement(spec.device, spec.compute_type, cuda=ctranslate2.get_cuda_device_count() > 0)
        # CTranslate2 seeds its threads when they first sample: the text depends on nothing but the sound.
        ctranslate2.set_random_seed(_SEED)
        self._spec = spec
        self._task, self._before = "transcribe", spec.prompt.strip()
        self._whisper = WhisperModel(
            spec.model,
            device=device,
            compute_type=compute_type,
            cpu_threads=spec.threads,
            num_workers=passes,
            local_files_only=True,
        )
        self._short = device == "cpu"
        name, release = spec.name or Path(spec.model).name, version("faster-whisper")
        self.model = Model(id=model_id(name, release), name=name, version=release, arch="whisper")

    @property
    def multilingual(self) -> bool:
        """Whether it knows more languages than English, and can tell them apart."""
        return bool(self._whisper.model.is_multilingual)

    @property
    def batch_size(self) -> int:
        """Windows that are best decoded at once."""
        return max(1, self._spec.batch_size)

    @property
    def window_seconds(self) -> float:
        """The longest that a window may be: 30 s."""
        return float(self._whisper.feature_extractor.n_samples / SAMPLE_RATE)

    def asked(self, *, translate: bool, prompt: str) -> Decoder:
        """The same weights, which write down in English whatever is said, and have heard `prompt` before; the last 223
        tokens of it."""
        other = copy(self)
        other._task = "translate" if translate else "transcribe"
        other._before = f"{self._before} {prompt}".strip()
        return other

    def alike(self, shortest: float, longest: float) -> bool:
        """Whether windows of these seconds are best decoded at once: all of a batch are padded to the longest."""
        return self._context(int(100 * longest)) <= _SPREAD * self._context(int(100 * shortest))

    def encode(self, windows: Sequence[Samples], *, whole: bool = False, shortest: int = _SHORTEST) -> Encoded:
        """Windows of 16 kHz mono, none longer than `window_seconds`, for as many decodings as are needed. `whole` pads
        them to 30 s as in Whisper's training: slower, and a little surer. Else they are padded to `shortest` frames of
        10 ms at least."""
        features = [self._features(window) for window in windows]
        longest = max(one.shape[-1] for one in features)
        frames = self._whisper.feature_extractor.nb_max_frames if whole else self._context(longest, shortest)
        padded = np.stack([pad_or_trim(one, frames) for one in features])
        return Encoded(self._whisper.encode(padded), tuple(one.shape[-1] for one in features))

    def decode(
        self,
        encoded: Encoded,
        language: str,
        hotwords: Iterable[str] = (),
        *,
        beam_size: int | None = None,
        temperature: float = 0.0,
    ) -> list[DecodingResult]:
        """What each of the windows says, all of them decoded at once.

        `language` is Whisper's own code; English-only models know no other. At a `temperature` texts are sampled in
        place of a beam search. A text ends where it is longer than anybody could have said it.
        """
        tokenizer = Tokenizer(self._whisper.hf_tokenizer, self.multilingual, task=self._task, language=language)
        prompt = self._prompt(tokenizer, hotwords)
        tokens = len(prompt) + _TOKENS + max(encoded.frames) * _TOKENS_PER_SECOND // 100
        found = self._whisper.model.generate(
            encoded.output,
            [prompt] * len(encoded.frames),
            max_length=min(self._whisper.max_length, tokens),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            **self._search(beam_size, temperature),
        )
        texts = [[token for token in one.sequences_ids[0] if token < tokenizer.eot] for one in found]
        return [
            _result(one, tokenizer.decode(text), words, temperature)
            for one, text, words in zip(found, texts, self._aligned(tokenizer, texts, encoded), strict=True)
        ]

    def languages(self, window: Samples) -> list[tuple[str, float]]:
        """Whisper's code of every language and how likely it is spoken in the window; they add up to one."""
        found = self._whisper.model.detect_language(self.encode([window]).output)[0]
        return [(token[2:-2], float(likely)) for token, likely in found]

    def _context(self, frames: int, shortest: int = _SHORTEST) -> int:
        """What windows of up to so many frames are padded to."""
        most: int = self._whisper.feature_extractor.nb_max_frames
        return min(most, max(shortest, -(-(frames + _MARGIN) // _STEP) * _STEP)) if self._short else most

    def _features(self, window: Samples) -> Any:
        return self._whisper.feature_extractor(np.pad(window, (0, _SILENCE)))[..., :-1]

    def _prompt(self, tokenizer: Tokenizer, hotwords: Iterable[str]) -> list[int]:
        before = tokenizer.encode(f" {self._before}") if self._before else []
        phrases = ", ".join(self._fitting(hotwords)) or None
        prompt: list[int] = self._whisper.get_prompt(tokenizer, before, without_timestamps=True, hotwords=phrases)
        return prompt

    def _fitting(self, phrases: Iterable[str]) -> Iterator[str]:
        """The first of the phrases, as many as may stand in the prompt."""
        room = _HOTWORD_TOKENS
        for phrase in phrases:
            room -= len(self._whisper.hf_tokenizer.encode(f" {phrase},", add_special_tokens=False).ids)
            if room < 0:
                return
            yield phrase

    def _search(self, beam_size: int | None, temperature: float) -> dict[str, Any]:
        if temperature:
            return {"beam_size": 1, "num_hypotheses": _BEST_OF, "sampling_topk": 0, "sampling_temperature": temperature}
        return {"beam_size": beam_size or self._spec.beam_size}

    def _aligned(self, tokenizer: Tokenizer, texts: Sequence[list[int]], encoded: Encoded) -> list[Any]:
        """The words of each text with their times. An empty text is given some: CTranslate2 wants all or none."""
        if not any(texts):
            return [[] for _ in texts]
        filler = tokenizer.encode(" a")
        given = [text or filler for text in texts]
        found = self._whisper.find_alignment(tokenizer, given, encoded.output, list(encoded.frames))
        return [words if text else [] for text, words in zip(texts, found, strict=True)]


def placement(device: str, compute_type: str, *, cuda: bool) -> tuple[str, str]:
    """Where to compute and with which numbers. `auto`: on CUDA in float16 where there is a device, else in int8."""
    chosen = ("cuda" if cuda else "cpu") if device == "auto" else device
    if compute_type != "auto":
        return chosen, compute_type
    return chosen, "float16" if chosen == "cuda" else "int8"


def _result(found: Any, text: str, words: list[dict[str, Any]], temperature: float) -> DecodingResult:
    tokens = len(found.sequences_ids[0])
    merge_punctuations(words, _OPENING, _CLOSING)
    pieces = [
        WordPiece(one["word"], float(one["start"]), float(one["end"]), float(one["probability"])) for one in words
    ]
    return DecodingResult(
        words=tuple(whole_words(piece for piece in pieces if piece.text)),
        log_probability=float(found.scores[0]) * tokens / (tokens + 1),
        compression_ratio=float(get_compression_ratio(text.strip())),
        no_speech=float(found.no_speech_prob),
        temperature=temperature,
    )
