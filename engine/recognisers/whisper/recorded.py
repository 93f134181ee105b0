"""Recorded audio: every channel in stretches of minutes, each decoded until nothing more can be made out of it.

Importing this takes seconds and hundreds of megabytes, so only worker processes do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import fsum

from engine.audio.pcm import SAMPLE_RATE
from engine.recognisers.base import DecodedAudio, Progress, RecognitionOptions, Spec
from engine.recognisers.languages import public_code
from engine.recognisers.speakers.encoder import VoiceEncoder
from engine.recognisers.speakers.voices import ChannelVoices
from engine.recognisers.speakers.weights import load_encoder
from engine.recognisers.speech.sentences import in_order, later, segments
from engine.recognisers.speech.windows import Stretch, Stretches
from engine.recognisers.whisper.decoding import Decoder
from engine.recognisers.whisper.language import Languages
from engine.recognisers.whisper.stretch import Sound, StretchTranscription, Window
from engine.transcript import Channel, Gap, Model, Transcript, Word

_WINDOWS = 4
"""A stretch holds at least so many windows of the model: two minutes."""


class Whisper:
    """One Whisper model, loaded from its directory. Never fetches anything.

    Raises OSError, RuntimeError or ValueError where the files, the device or the compute type cannot be used.
    """

    def __init__(self, spec: Spec) -> None:
        self.decoder = Decoder(spec)
        self._encoder = load_encoder(spec.voices) if spec.voices else None

    @property
    def model(self) -> Model:
        return self.decoder.model

    def transcribe(
        self, audio: DecodedAudio, options: RecognitionOptions, progress: Progress | None = None
    ) -> Transcript:
        """One Channel per channel, each by itself; a Segment per sentence or stretch between pauses. `progress` is told
        how many seconds are done, and with `as_it_comes` which words."""
        assert audio.sample_rate == SAMPLE_RATE
        decoder = self.decoder.asked(translate=options.translate, prompt=options.prompt)
        channels = [_ChannelTranscription(decoder, options, number, self._encoder) for number in range(audio.channels)]

        def tell() -> None:
            if progress:
                heard = channels[0].new() if options.as_it_comes and len(channels) == 1 else ()
                progress(fsum(one.done for one in channels) / len(channels), heard)

        for block in audio:
            for one, pcm in zip(channels, block, strict=True):
                for _ in one.push(pcm):
                    tell()
        for one in channels:
            for _ in one.flush():
                tell()
        said = tuple(one.channel() for one in channels)
        gaps = tuple(gap for one in channels for gap in one.gaps)
        return Transcript(self.model, audio.duration, audio.source_channels, said, gaps=gaps)


class _ChannelTranscription:
    """Of one channel. `done` is how many seconds of it are, `gaps` what of them could not be made out."""

    def __init__(
        self, decoder: Decoder, options: RecognitionOptions, number: int, encoder: VoiceEncoder | None
    ) -> None:
        self._decoder = decoder
        self._speakers = options.speakers
        self._voices = ChannelVoices(encoder) if encoder and options.speakers else None
        self._hotwords = options.hotwords
        self._number = number
        self._languages = Languages(decoder, options)
        windows = 1 if options.as_it_comes else max(_WINDOWS, decoder.batch_size)
        seconds = windows * decoder.window_seconds
        self._stretches = Stretches(seconds, SAMPLE_RATE)
        self._words: list[Word] = []  # each with Whisper's code of its language
        self._told = 0
        self.gaps: list[Gap] = []
        self.done = 0.0

    def push(self, pcm: bytes) -> Iterator[None]:
        """Every item is some progress."""
        return self._each(self._stretches.push(pcm))

    def flush(self) -> Iterator[None]:
        return self._each(self._stretches.flush())

    def new(self) -> Sequence[Word]:
        """The words that stand since the last time."""
        new, self._told = self._words[self._told :], len(self._words)
        return new

    def channel(self) -> Channel:
        """What was said; words tell their own language where it may change, and who says them where that was asked."""
        language, likely = self._languages.told(Counter(word.language for word in self._words))
        switching = self._languages.switching
        told = [replace(word, language=public_code(word.language) if switching else "") for word in self._words]
        if self._voices and self._speakers:
            told = self._voices.name(told, self._speakers)
        return Channel(tuple(segments(told)), language, likely)

    def _each(self, stretches: Iterator[Stretch]) -> Iterator[None]:
        for stretch in stretches:
            sound = Sound(stretch.pcm)
            if sound.speech:
                yield from self._transcribe(stretch.start, sound)
                if self._voices:
                    self._voices.hear(stretch.start, sound.samples, sound.speech)
            if not self._words:
                self._languages.forget()
            self.done = stretch.start + sound.seconds
            yield

    def _transcribe(self, start: float, sound: Sound) -> Iterator[None]:
        spans = sound.windows(switching=self._languages.switching)
        languages = self._languages.of([sound.part(span) for span in spans])
        stretch = StretchTranscription(self._decoder, self._hotwords, sound)
        for done in stretch.decode([Window(*pair) for pair in zip(spans, languages, strict=True)]):
            self.done = start + done
            yield
        stretch.decode_again()
        earliest = self._words[-1].end if self._words else 0.0
        self._words += in_order((later(one, start) for one in stretch.words), earliest, start + sound.seconds)
        self.gaps += stretch.gaps(self._number, start)
