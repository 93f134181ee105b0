"""One session inside the worker: bytes become channels of PCM, and each channel has an ear."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from engine.audio.pcm import SAMPLE_BYTES, SAMPLE_RATE
from engine.audio.stream import AudioStream, Block
from engine.errors import AudioError
from engine.events import Broken, Final, Finished, LiveEvent, LiveOptions
from engine.recognisers.whisper.live_channel import Ear, Listener
from engine.request import FailureCode

_STEP_BYTES = SAMPLE_RATE // 10 * SAMPLE_BYTES
"""A tenth of a second: no session works on more while others wait."""


class Session:
    """Every call gives steps, each with what was heard in it. After Finished or Broken the session is over."""

    def __init__(self, listener: Listener, options: LiveOptions, max_seconds: float) -> None:
        self._listener = listener
        self._options = options
        self._audio = AudioStream(options.raw, split=options.multichannel, max_seconds=max_seconds)
        self._sum = hashlib.sha256()
        # Where the channels are known they get their ears now: that may take a recogniser a second.
        known = not options.multichannel or options.raw is not None
        self._ears = self._made(options.raw.channels if options.multichannel and options.raw else 1) if known else []

    @property
    def duration(self) -> float:
        return self._audio.duration

    @property
    def channels(self) -> int:
        return max(1, len(self._ears))

    def push(self, data: bytes, *, behind: bool) -> Iterator[tuple[LiveEvent, ...]]:
        """`behind`: more audio is waiting already."""
        self._sum.update(data)
        try:
            for block in self._audio.push(data):
                yield from self._hear(block, behind=behind)
        except AudioError as error:
            yield (Broken(FailureCode.AUDIO, str(error)),)

    def finalize(self, channel: int | None) -> Iterator[tuple[LiveEvent, ...]]:
        """An unknown channel is none."""
        for number, ear in enumerate(self._ears):
            if channel in (None, number):
                yield tuple(ear.finalize())
        if not self._ears:
            yield (Final(channel or 0, 0.0, 0.0, (), from_finalize=True),)

    def finish(self) -> Iterator[tuple[LiveEvent, ...]]:
        try:
            for block in self._audio.finish():
                yield from self._hear(block, behind=True)
        except AudioError as error:
            yield (Broken(FailureCode.AUDIO, str(error)),)
            return
        for ear in self._ears:
            yield tuple(ear.finish())
        yield (Finished(self.duration, self.channels, self._sum.hexdigest()),)

    def close(self) -> None:
        self._audio.close()
        for ear in self._ears:
            ear.close()

    def _hear(self, block: Block, *, behind: bool) -> Iterator[tuple[LiveEvent, ...]]:
        if len(self._ears) != len(block):
            self._ears += self._made(len(block) - len(self._ears), len(self._ears))
        size = len(block[0])
        for start in range(0, size, _STEP_BYTES):
            parts = (pcm[start : start + _STEP_BYTES] for pcm in block)
            more = behind or start + _STEP_BYTES < size
            pushed = [ear.push(part, behind=more) for ear, part in zip(self._ears, parts, strict=True)]
            yield tuple(heard for events in pushed for heard in events)

    def _made(self, count: int, first: int = 0) -> list[Ear]:
        return [Ear(first + n, self._listener.hearer(self._options), self._options) for n in range(count)]
