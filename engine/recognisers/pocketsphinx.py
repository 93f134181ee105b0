"""The embedded recogniser: PocketSphinx with the US English model out of its own wheel. Small, and always there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.metadata import version

from pocketsphinx import Decoder, Vad

from engine.recognisers.base import Audio, Options, Progress, model_id, untold
from engine.recognisers.cutting import FRAME_SECONDS, Cutter, Piece
from engine.transcript import Channel, Model, Segment, Transcript, Word

NAME = "pocketsphinx-en-us"
SAMPLE_RATE = 16000
_FRAMES_PER_SECOND = 100

SEARCH = {
    # The language model's weight against the sound. The defaults (6.5, 8.5, 9.5) guess likely sentences; these erred
    # less on the six read sentences they were chosen by (20 wrong of 92 words, not 25). At 4.5 it was worse: 33.
    "lw": 5.5,
    "fwdflatlw": 7.5,
    "bestpathlw": 8.5,
    "maxhmmpf": 5000,  # faster than the default of 30000, at the same number of errors there
}


class PocketSphinx:
    """US English only: options for other languages, and hotwords, are left unheard."""

    def __init__(self) -> None:
        release = version("pocketsphinx")
        self.model = Model(id=model_id(NAME, release), name=NAME, version=release, arch="pocketsphinx")
        self._decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", **SEARCH)

    def transcribe(
        self,
        audio: Audio,
        options: Options,  # noqa: ARG002 (see the class)
        progress: Progress = untold,
    ) -> Transcript:
        """One Channel per channel, a Segment per stretch of speech; a silent channel has none."""
        assert audio.sample_rate == SAMPLE_RATE
        self._decoder.reinit_feat()  # forget the voice and the noise heard before: equal audio gives equal words
        cutters = [Cutter(vad(), SAMPLE_RATE) for _ in range(audio.channels)]
        heard: list[list[Segment]] = [[] for _ in cutters]
        for block in audio:
            for cutter, pcm, segments in zip(cutters, block, heard, strict=True):
                segments += self._segments(cutter.push(pcm))
            progress(audio.duration)
        for cutter, segments in zip(cutters, heard, strict=True):
            segments += self._segments(cutter.flush())
        channels = tuple(Channel(tuple(segments)) for segments in heard)
        return Transcript(self.model, audio.duration, audio.source_channels, channels)

    def hear(self, piece: Piece) -> tuple[Word, ...]:
        """The words of one stretch of speech."""
        self._decoder.start_utt()
        self._decoder.process_raw(piece.pcm, full_utt=True)
        self._decoder.end_utt()
        return tuple(words(self._decoder, piece.start))

    def _segments(self, pieces: Iterator[Piece]) -> Iterator[Segment]:
        for piece in pieces:
            if heard := self.hear(piece):
                yield Segment(heard)


def words(decoder: Decoder, start: float) -> Iterator[Word]:
    """What a decoder has understood so far, of an utterance that starts at `start` seconds."""
    for entry in decoder.seg() if decoder.hyp() else ():
        text = spoken(entry.word)
        if text:
            yield Word(
                text=text,
                start=round(start + entry.start_frame / _FRAMES_PER_SECOND, 3),
                end=round(start + (entry.end_frame + 1) / _FRAMES_PER_SECOND, 3),
                confidence=round(min(1.0, max(0.0, entry.prob)), 4),
            )


def spoken(entry: str) -> str:
    """A dictionary entry as a word: `read(2)` is read; `<sil>`, `[NOISE]` and `++UM++` are nothing."""
    return "" if entry[:1] in "<[+" else re.sub(r"\(\d+\)$", "", entry)


def vad() -> Callable[[bytes], bool]:
    """A judge of consecutive frames of one channel."""
    judge: Callable[[bytes], bool] = Vad(
        mode=Vad.MEDIUM_STRICT, sample_rate=SAMPLE_RATE, frame_length=FRAME_SECONDS
    ).is_speech
    return judge
