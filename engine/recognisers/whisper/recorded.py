"""Recorded audio: every channel in stretches of minutes, each heard until nothing more can be made out of it.

Importing this takes seconds and hundreds of megabytes, so only the process that hears with it does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import fsum

from engine.audio.pcm import SAMPLE_RATE
from engine.recognisers.base import Audio, Options, Progress, Spec, untold
from engine.recognisers.languages import public_code
from engine.recognisers.speech.sentences import in_order, later, segments
from engine.recognisers.speech.windows import Stretch, Stretches
from engine.recognisers.whisper.decoding import Decoder
from engine.recognisers.whisper.hearing import Hearing, Sound, Window
from engine.recognisers.whisper.language import Languages
from engine.transcript import Channel, Gap, Model, Transcript, Word

_WINDOWS = 4
"""A stretch holds at least so many windows of the model: two minutes."""


class Whisper:
    """One Whisper model, loaded from its directory. Never fetches anything.

    Raises OSError, RuntimeError or ValueError where the files, the device or the compute type cannot be used.
    """

    def __init__(self, spec: Spec) -> None:
        self.decoder = Decoder(spec)

    @property
    def model(self) -> Model:
        """What is loaded."""
        return self.decoder.model

    def transcribe(self, audio: Audio, options: Options, progress: Progress = untold) -> Transcript:
        """One Channel per channel, each heard by itself; a Segment per sentence or stretch between pauses."""
        assert audio.sample_rate == SAMPLE_RATE
        listening = [_Listening(self.decoder, options, number) for number in range(audio.channels)]

        def tell() -> None:
            progress(fsum(one.heard for one in listening) / len(listening))

        for block in audio:
            for one, pcm in zip(listening, block, strict=True):
                for _ in one.push(pcm):
                    tell()
        for one in listening:
            for _ in one.flush():
                tell()
        channels = tuple(one.channel() for one in listening)
        gaps = tuple(gap for one in listening for gap in one.gaps)
        return Transcript(self.model, audio.duration, audio.source_channels, channels, gaps=gaps)


class _Listening:
    """Hears one channel. `heard` is how many seconds of it are done, `gaps` what of them could not be made out."""

    def __init__(self, decoder: Decoder, options: Options, number: int) -> None:
        self._decoder = decoder
        self._hotwords = options.hotwords
        self._number = number
        self._languages = Languages(decoder, options)
        seconds = max(_WINDOWS, decoder.batch_size) * decoder.window_seconds
        self._stretches = Stretches(seconds, SAMPLE_RATE)
        self._words: list[Word] = []  # each with Whisper's code of its language
        self.gaps: list[Gap] = []
        self.heard = 0.0

    def push(self, pcm: bytes) -> Iterator[None]:
        """Every item is some progress."""
        return self._hear(self._stretches.push(pcm))

    def flush(self) -> Iterator[None]:
        return self._hear(self._stretches.flush())

    def channel(self) -> Channel:
        """What was heard; words tell their own language where it may change."""
        language, likely = self._languages.told(Counter(word.language for word in self._words))
        switching = self._languages.switching
        told = (replace(word, language=public_code(word.language) if switching else "") for word in self._words)
        return Channel(tuple(segments(told)), language, likely)

    def _hear(self, stretches: Iterator[Stretch]) -> Iterator[None]:
        for stretch in stretches:
            sound = Sound(stretch.pcm)
            if sound.speech:
                yield from self._listen(stretch.start, sound)
            if not self._words:
                self._languages.forget()
            self.heard = stretch.start + sound.seconds
            yield

    def _listen(self, start: float, sound: Sound) -> Iterator[None]:
        spans = sound.windows(switching=self._languages.switching)
        languages = self._languages.of([sound.part(span) for span in spans])
        hearing = Hearing(self._decoder, self._hotwords, sound)
        for done in hearing.first([Window(*pair) for pair in zip(spans, languages, strict=True)]):
            self.heard = start + done
            yield
        hearing.again()
        earliest = self._words[-1].end if self._words else 0.0
        self._words += in_order((later(one, start) for one in hearing.words), earliest, start + sound.seconds)
        self.gaps += hearing.gaps(self._number, start)
