"""FFmpeg's filter graph: frames of whatever shape to blocks of 16 bit PCM."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio.frame import AudioFrame
from av.filter import Graph

from engine.audio import pcm


class Resampler:
    """FFmpeg's filter graph from frames of one shape to blocks of 16 bit PCM: `block_seconds` long, or as they come."""

    def __init__(self, frame: AudioFrame, channels: int, sample_rate: int, block_seconds: float | None) -> None:
        self._shape = _shape(frame)
        self._channels = channels
        self._graph = Graph()
        source = self._graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format.name,
            layout=frame.layout.name,
            time_base=Fraction(1, frame.sample_rate),
        )
        filters = [
            self._graph.add("aresample", str(sample_rate)),
            self._graph.add("aformat", "sample_fmts=s16"),
        ]
        if block_seconds is not None:
            filters.append(self._graph.add("asetnsamples", f"n={int(sample_rate * block_seconds)}:p=0"))
        if channels == 1 and frame.layout.nb_channels > 1:
            # In floating point: the filter's 16 bit arithmetic rounds its weights up, and wraps at full scale.
            filters[:0] = [
                self._graph.add("aformat", "sample_fmts=fltp"),
                self._graph.add("pan", _average(frame.layout.nb_channels)),
            ]
        self._graph.link_nodes(source, *filters, self._graph.add("abuffersink")).configure()

    def fits(self, frame: AudioFrame) -> bool:
        """Whether the frame has the shape that this graph was made for: streams may change it on the way."""
        return _shape(frame) == self._shape

    def push(self, frame: AudioFrame) -> Iterator[tuple[bytes, ...]]:
        frame.pts = None  # broken time stamps must not reach the filters: samples are counted instead
        self._graph.push(frame)
        return self._pull()

    def flush(self) -> Iterator[tuple[bytes, ...]]:
        self._graph.push(None)
        return self._pull()

    def _pull(self) -> Iterator[tuple[bytes, ...]]:
        while True:
            try:
                block = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(block, AudioFrame)
            yield self._channels_of(block)

    def _channels_of(self, block: AudioFrame) -> tuple[bytes, ...]:
        size = block.samples * pcm.SAMPLE_BYTES * self._channels
        samples = memoryview(block.planes[0]).cast("B")[:size].cast("h")
        return tuple(samples[channel :: self._channels].tobytes() for channel in range(self._channels))


def _shape(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _average(channels: int) -> str:
    """The true average, by number: it cannot clip, and unlike a downmix it needs no names for the channels."""
    return "mono|c0<" + "+".join(f"c{index}" for index in range(channels))
