"""One live session inside its worker: bytes become channels of PCM, and channels want passes of the model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from engine.audio.pcm import SAMPLE_BYTES, SAMPLE_RATE
from engine.audio.stream import AudioStream, Block
from engine.errors import AudioError
from engine.events import Broken, Final, Finished, LiveEvent, LiveOptions
from engine.recognisers.whisper.live_channel import LiveChannel
from engine.recognisers.whisper.passes import Hypothesis, Pass, PassRecord
from engine.request import FailureCode

MAX_WAITING_SECONDS = 45.0
"""Seconds of audio that may wait for passes. More stays where it is, until its caller has to wait too: whoever speaks
no faster than people do was told long before that this machine is too slow."""

_STEP_BYTES = SAMPLE_RATE // 10 * SAMPLE_BYTES
"""A tenth of a second of one channel is looked at at once."""

_CATCH_UP = 1.1
"""Audio that comes faster than it was spoken is due when it would have been spoken, and a little earlier: so a network
that faltered is forgiven within half a minute, and nobody is late with a file that is sent in a hurry."""


class WorkerSession:
    """Push bytes, and let the channels have their passes. What is told comes back in order; with Finished or Broken,
    which is the last of it, the session is `over`. Times are monotonic, as in `passes`."""

    def __init__(self, options: LiveOptions, max_seconds: float) -> None:
        self._options = options
        self._audio = AudioStream(options.raw, split=options.multichannel, max_seconds=max_seconds)
        self._sum = hashlib.sha256()
        self._due_at = 0.0
        self._last: Finished | Broken | None = None  # once no more audio comes
        # Where the channels are known they are there now: the caller may want a final result before any audio.
        known = not options.multichannel or options.raw is not None
        self._channels = (
            self._made(options.raw.channels if options.multichannel and options.raw else 1) if known else []
        )
        self.over = False

    @property
    def duration(self) -> float:
        return self._audio.duration

    @property
    def channels(self) -> int:
        return max(1, len(self._channels))

    @property
    def has_room(self) -> bool:
        """Whether more audio may be pushed now."""
        return max((channel.waiting_seconds for channel in self._channels), default=0.0) < MAX_WAITING_SECONDS

    @property
    def waiting_since(self) -> float | None:
        """When the oldest audio was complete that is over and waits for its final pass."""
        return min((since for channel in self._channels if (since := channel.waiting_since) is not None), default=None)

    def push(self, data: bytes, came_at: float, now: float) -> list[LiveEvent]:
        """More bytes of it, which came at that moment."""
        self._sum.update(data)
        return self._taken(self._audio.push(data), came_at, now)

    def finalize(self, channel: int | None, came_at: float) -> list[LiveEvent]:
        """What came so far is over. An unknown channel is none."""
        if not self._channels:
            return [Final(channel or 0, 0.0, 0.0, (), from_finalize=True)]
        meant = [one for number, one in enumerate(self._channels) if channel in {None, number}]
        return [event for one in meant for event in one.finalize(came_at)]

    def finish(self, came_at: float, now: float) -> list[LiveEvent]:
        told = self._taken(self._audio.finish(), came_at, now)
        if self._last:
            return told
        self._last = Finished(self.duration, self.channels, self._sum.hexdigest())
        return self._ended([*told, *(event for one in self._channels for event in one.finish())])

    def wants(self) -> Iterator[tuple[int, bool, float]]:
        """The channels that want a pass, whether it is a final one, and since when."""
        for number, channel in enumerate(self._channels):
            if (wanted := channel.wants()) and (wanted[0] or not self._last):
                yield number, *wanted

    def begin(self, channel: int) -> Pass:
        return self._channels[channel].begin()

    def complete(
        self, channel: int, wanted: Pass, hypothesis: Hypothesis, took: float, now: float
    ) -> tuple[PassRecord, list[LiveEvent]]:
        """What it found, after so many seconds."""
        record, told = self._channels[channel].complete(wanted, hypothesis, took, now)
        return record, self._ended(told)

    def close(self) -> None:
        self._audio.close()

    def _taken(self, blocks: Iterator[Block], came_at: float, now: float) -> list[LiveEvent]:
        """What is told of audio that was taken in. Nothing is, after a fault: what it breaks it ends."""
        told: list[LiveEvent] = []
        try:
            for block in blocks if self._last is None else ():
                told += self._push(block, came_at, now)
        except AudioError as error:
            self._last = Broken(FailureCode.AUDIO, str(error))
        return self._ended(told)

    def _push(self, block: Block, came_at: float, now: float) -> Iterator[LiveEvent]:
        if len(self._channels) != len(block):
            self._channels += self._made(len(block) - len(self._channels), len(self._channels))
        for start in range(0, len(block[0]), _STEP_BYTES):
            parts = [pcm[start : start + _STEP_BYTES] for pcm in block]
            seconds = len(parts[0]) / SAMPLE_BYTES / SAMPLE_RATE
            self._due_at = max(came_at, self._due_at + seconds / _CATCH_UP)
            for channel, part in zip(self._channels, parts, strict=True):
                yield from channel.push(part, self._due_at, now)

    def _ended(self, told: list[LiveEvent]) -> list[LiveEvent]:
        """With the end, once all before it was told."""
        if self._last and not self.over and all(channel.is_idle for channel in self._channels):
            self.over = True
            return [*told, self._last]
        return told

    def _made(self, count: int, first: int = 0) -> list[LiveChannel]:
        return [LiveChannel(first + n, self._options) for n in range(count)]
