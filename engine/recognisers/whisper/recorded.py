"""Whisper, run by CTranslate2 through faster-whisper: many languages, on the processor or on a CUDA device.

Importing this takes seconds and hundreds of megabytes, so only the process that hears with it does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ctranslate2
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.vad import VadOptions, get_speech_timestamps

from engine.audio.pcm import SAMPLE_RATE
from engine.recognisers.base import Audio, Options, Progress, Spec, model_id, untold
from engine.recognisers.languages import most_probable, public_code, whisper_code
from engine.recognisers.models.files import find
from engine.recognisers.speech.sentences import in_order, segments, whole_words
from engine.recognisers.speech.windows import Samples, Stretch, Stretches, windows
from engine.transcript import Channel, Model, Transcript, Word

_WINDOWS = 4
"""A stretch holds at least so many windows: two minutes."""

_HOTWORD_TOKENS = 100
"""Tokens that hotwords may take of the 448 that one window has for prompt and text together."""

_NO_SPEECH, _UNLIKELY = 0.6, -1.0
"""Whisper's own rule for text that it made up over silence: beyond both, nothing was said."""


class Whisper:
    """One Whisper model, loaded from its directory. Never fetches anything.

    Raises OSError, RuntimeError or ValueError where the files, the device or the compute type cannot be used.
    """

    def __init__(self, spec: Spec) -> None:
        find(spec.model, Path())  # without its tokenizer, faster-whisper would fetch one
        device, compute_type = placement(spec.device, spec.compute_type, cuda=ctranslate2.get_cuda_device_count() > 0)
        self._spec = spec
        self._whisper = WhisperModel(
            spec.model, device=device, compute_type=compute_type, cpu_threads=spec.threads, local_files_only=True
        )
        name, release = spec.name or Path(spec.model).name, version("faster-whisper")
        self.model = Model(id=model_id(name, release), name=name, version=release, arch="whisper")

    def transcribe(self, audio: Audio, options: Options, progress: Progress = untold) -> Transcript:
        """One Channel per channel, each heard by itself; a Segment per sentence or stretch between pauses."""
        assert audio.sample_rate == SAMPLE_RATE
        ears = [_Ear(self, options) for _ in range(audio.channels)]

        def tell() -> None:
            progress(math.fsum(ear.heard for ear in ears) / len(ears))

        for block in audio:
            for ear, pcm in zip(ears, block, strict=True):
                for _ in ear.push(pcm):
                    tell()
        for ear in ears:
            for _ in ear.flush():
                tell()
        return Transcript(self.model, audio.duration, audio.source_channels, tuple(ear.channel() for ear in ears))

    @property
    def stretch_seconds(self) -> float:
        """How much of a channel is heard at once: whole batches."""
        return max(_WINDOWS, self._spec.batch_size) * self._window / SAMPLE_RATE

    def windows(self, sound: Samples) -> list[tuple[int, int]]:
        """The parts of the sound that are worth hearing, as sample ranges no longer than the model's window."""
        longest = self._window / SAMPLE_RATE
        found = get_speech_timestamps(sound, VadOptions(max_speech_duration_s=longest, min_silence_duration_ms=160))
        return windows([(piece["start"], piece["end"]) for piece in found], self._window)

    def detect(self, sound: Samples, candidates: Sequence[str]) -> tuple[str, float]:
        """The language of the sound, at most a window of it, and how likely it is."""
        if not self._whisper.model.is_multilingual:
            return "en", 1.0
        _, _, probabilities = self._whisper.detect_language(sound)
        code, likelihood = most_probable(probabilities, candidates)
        return code, float(likelihood)

    def hear(
        self,
        sound: Samples,
        parts: Sequence[tuple[int, int]],
        language: str,
        hotwords: Iterable[str],
        beam_size: int | None = None,
    ) -> Iterator[tuple[float, list[Word]]]:
        """Seconds done and the words in them, times from the start of the sound, a batch of windows at a time."""
        heard, _ = BatchedInferencePipeline(self._whisper).transcribe(
            sound,
            language=language,
            beam_size=beam_size or self._spec.beam_size,
            batch_size=self._spec.batch_size,
            word_timestamps=True,
            clip_timestamps=[{"start": start / SAMPLE_RATE, "end": end / SAMPLE_RATE} for start, end in parts],
            initial_prompt=self._spec.prompt or None,
            hotwords=", ".join(self._fitting(hotwords)) or None,
        )
        for segment in heard:
            yield float(segment.end), list(_words(segment))

    def _fitting(self, phrases: Iterable[str]) -> Iterator[str]:
        """The first of the phrases, as many as may stand in the prompt."""
        room = _HOTWORD_TOKENS
        for phrase in phrases:
            room -= len(self._whisper.hf_tokenizer.encode(f" {phrase},", add_special_tokens=False).ids)
            if room < 0:
                return
            yield phrase

    @property
    def _window(self) -> int:
        samples: int = self._whisper.feature_extractor.n_samples
        return samples


class _Ear:
    """Hears one channel. `heard` is how many seconds of it are done."""

    def __init__(self, whisper: Whisper, options: Options) -> None:
        self._whisper = whisper
        self._options = options
        self._stretches = Stretches(whisper.stretch_seconds, SAMPLE_RATE)
        self._asked = whisper_code(options.language)
        self._language, self._confidence = self._asked, 1.0
        self._words: list[Word] = []
        self.heard = 0.0

    def push(self, pcm: bytes) -> Iterator[None]:
        """Every item is some progress."""
        return self._hear(self._stretches.push(pcm))

    def flush(self) -> Iterator[None]:
        return self._hear(self._stretches.flush())

    def channel(self) -> Channel:
        """What was heard; the language of silence is unknown, and English for the sake of an answer."""
        language = public_code(self._language or "en")
        return Channel(tuple(segments(self._words)), language, self._confidence if self._language else 0.0)

    def _hear(self, stretches: Iterator[Stretch]) -> Iterator[None]:
        for stretch in stretches:
            sound, end = stretch.samples, stretch.start + len(stretch.samples) / SAMPLE_RATE
            if parts := self._whisper.windows(sound):
                language = self._known(sound, parts[0])
                for seconds, words in self._whisper.hear(sound, parts, language, self._options.hotwords):
                    moved = (later(one, stretch.start) for one in words)
                    self._words += in_order(moved, self._latest(stretch.start), end)
                    self.heard = max(self.heard, min(stretch.start + seconds, end))
                    yield
            if not self._words:
                self._language = self._asked  # what was detected was no speech
            self.heard = end
            yield

    def _known(self, sound: Samples, first: tuple[int, int]) -> str:
        """The language: the one that was asked for, or that of the first words, from then on."""
        if self._language is None:
            self._language, self._confidence = self._whisper.detect(sound[slice(*first)], self._options.languages)
        return self._language

    def _latest(self, otherwise: float) -> float:
        return max(otherwise, self._words[-1].start) if self._words else otherwise


def placement(device: str, compute_type: str, *, cuda: bool) -> tuple[str, str]:
    """Where to compute and with which numbers. `auto`: on CUDA in float16 where there is a device, else in int8."""
    chosen = ("cuda" if cuda else "cpu") if device == "auto" else device
    if compute_type != "auto":
        return chosen, compute_type
    return chosen, "float16" if chosen == "cuda" else "int8"


def _words(segment: Any) -> Iterator[Word]:
    if segment.no_speech_prob > _NO_SPEECH and segment.avg_logprob < _UNLIKELY:
        return
    yield from whole_words(segment.words or ())


def later(one: Word, seconds: float) -> Word:
    """The word, moved."""
    return replace(one, start=round(one.start + seconds, 3), end=round(one.end + seconds, 3))
