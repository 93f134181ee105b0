"""A worker with a recogniser that costs nothing and hears no words: `python -m` starts it in place of the real one."""

from __future__ import annotations

from engine.recognisers.base import DecodedAudio, Progress, RecognitionOptions, Spec
from engine.recognisers.workers import worker
from engine.transcript import Channel, Model, Transcript

MODULE = "tests.engine.recognisers.workers.standin"


class Standin:
    def transcribe(
        self, audio: DecodedAudio, options: RecognitionOptions, progress: Progress | None = None
    ) -> Transcript:
        for _ in audio:
            if progress:
                progress(audio.duration, ())
        channels = (Channel(),) * audio.channels
        return Transcript(Model("id", "standin", "1", "none"), audio.duration, audio.source_channels, channels)


def load(spec: Spec) -> Standin:
    return Standin()


if __name__ == "__main__":
    worker.main(load)
